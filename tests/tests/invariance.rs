//! Results do not depend on the number of threads, on the other images of a batch, or on whether inner steps are run
//! one by one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::Device;
use engine::rng::{Philox, Stream};
use jempp::config::Config;
use jempp::model::Model;
use jempp::run::TrainingRun;

fn config(overrides: &[&str]) -> Config {
    let small = ["sampler.buffer_size=200", "sampler.outer_steps=3"];
    let all: Vec<String> = small.iter().chain(overrides).map(|s| (*s).to_owned()).collect();
    Config::from_sources("digits", None, &all).unwrap()
}

/// The bits of every tensor of the state after `n` iterations on `threads` threads.
fn state_after(n: usize, threads: usize, overrides: &[&str]) -> Vec<(String, u64)> {
    let mut s = TrainingRun::new(&config(overrides), &Device::cpu(threads)).unwrap();
    s.time_iterations(n).unwrap();
    let state = s.train_step().state();
    state
        .slots()
        .filter(|(_, slot)| slot.spec.dtype == engine::DType::F32)
        .map(|(name, slot)| {
            let bits = state.get::<f32>(slot).unwrap().iter();
            let hash = bits.fold(0xcbf2_9ce4_8422_2325, |h: u64, v| {
                (h ^ u64::from(v.to_bits())).wrapping_mul(0x0100_0000_01b3)
            });
            (name.to_owned(), hash)
        })
        .collect()
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for overrides in [
        &[][..],
        &["train.p_x_y_weight=0.5", "train.plc=\"eval\""],
        &["model.norm=instance", "model.dropout=0.3"],
        &["model.norm=layer", "model.energy_head=true", "train.p_x_y_weight=0.5"],
        &["model.norm=act", "model.dropout=0.3"],
        &["model.norm=none"],
    ] {
        let one = state_after(6, 1, overrides);
        assert!(one.len() > 25);
        for threads in [2, 3] {
            assert_eq!(one, state_after(6, threads, overrides), "{threads} threads, {overrides:?}");
        }
    }
}

#[test]
fn the_seed_changes_the_weights() {
    let differs = |a: &[(String, u64)], b: &[(String, u64)]| a.iter().zip(b).any(|(x, y)| x != y);
    assert!(differs(&state_after(2, 2, &["seed=1"]), &state_after(2, 2, &["seed=2"])));
}

#[test]
fn the_batch_around_an_image_changes_no_bit() {
    let mut session = TrainingRun::new(&config(&[]), &Device::cpu(2)).unwrap();
    session.time_iterations(3).unwrap();
    let model: Model = session.model().unwrap();
    let mut rng = Philox::new(5, Stream::TEST, 0);
    let n = 75;
    let images: Vec<f32> = (0..n * 64).map(|_| 2.0 * rng.uniform() - 1.0).collect();
    let all = model.scores(&images).unwrap();
    let grads = model.input_grad(&images, None).unwrap();
    for batch in [1, 2, 9, 64] {
        for (k, chunk) in images.chunks(batch * 64).enumerate() {
            let s = model.scores(chunk).unwrap();
            let at = k * batch;
            assert_eq!(s.logits, all.logits[at * 10..at * 10 + s.logits.len()], "batches of {batch}");
            assert_eq!(s.log_density, all.log_density[at..at + s.log_density.len()]);
            let g = model.input_grad(chunk, None).unwrap();
            assert_eq!(g, grads[at * 64..at * 64 + g.len()]);
        }
    }
}

/// Several threads share one model; each gets the result of a single thread.
#[test]
fn threads_share_a_model() {
    let mut session = TrainingRun::new(&config(&[]), &Device::cpu(2)).unwrap();
    session.time_iterations(1).unwrap();
    let model = session.model().unwrap();
    let images = |i: u32| -> Vec<f32> {
        let mut rng = Philox::new(6, Stream::TEST, i);
        (0..(i as usize % 9 + 1) * 64).map(|_| 2.0 * rng.uniform() - 1.0).collect()
    };
    let want: Vec<_> = (0..20).map(|i| model.scores(&images(i)).unwrap()).collect();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (0..20).for_each(|i| assert_eq!(model.scores(&images(i)).unwrap(), want[i as usize])));
        }
    });
}
