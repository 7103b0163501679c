//! The choice of images where not all are evaluated.

use engine::rng::Philox;
use jempp::streams;
use jempp_data::eval_stream;

/// All of `indices`, or `n` of them drawn at random by `seed`.
pub(crate) fn random_subset(indices: &[u32], n: Option<usize>, seed: u64) -> Vec<u32> {
    let mut indices = indices.to_vec();
    if let Some(n) = n.filter(|n| *n < indices.len()) {
        // The images of folders are sorted by class, so the first n would not represent all classes.
        Philox::new(seed, streams::EVAL, eval_stream::SUBSET).shuffle(&mut indices);
        indices.truncate(n);
    }
    indices
}
