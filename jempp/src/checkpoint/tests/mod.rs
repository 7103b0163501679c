//! Containers and their files.

mod headers;

use super::*;
use std::fs;
use std::path::Path;

/// A model and a trainer that tell which save they come from.
fn content(tag: u64) -> (Container, Container) {
    let weights = (0..54).map(|i| (i as f32).sin() * tag as f32).collect();
    let mut model = Container::new([
        Tensor::f32("conv1.weight", [2, 3, 3, 3], weights),
        Tensor::i64("bn1.num_batches_tracked", [], vec![tag as i64]),
    ]);
    model.meta.insert("arch".into(), "wrn".into());
    let trainer = Container::new([
        Tensor::u8("buffer", [2, 3, 4, 4], (0..96).map(|i| (i * tag) as u8).collect()),
        Tensor::i32("order", [4], vec![3, 1, tag as i32, 0]),
    ]);
    (model, trainer)
}
