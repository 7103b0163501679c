//! A steady training iteration on the CPU allocates nothing: the host's choice of images and random numbers, sampling,
//! the grouped pass, the update and reading the metrics all count, and so do the loaders.
//!
//! One test only, because the counter covers all threads of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::Device;
use jempp::config::Config;
use jempp::streams;
use jempp::train::{BatchIndices, Options, TrainStep};
use jempp_data::{Dataset, Loader};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations and allocated bytes of `n` iterations, after `warm` others.
fn allocations(device: &Device, overrides: &[&str], warm: usize, n: usize) -> (usize, usize) {
    let small = ["sampler.buffer_size=200", "sampler.outer_steps=3", "train.batch_size=16"];
    let all: Vec<String> = small.iter().chain(overrides).map(|s| (*s).to_owned()).collect();
    let config = Config::from_sources("digits", None, &all).unwrap();
    let size = config.model.image_size;
    let pixels = size.iter().product::<usize>();
    let images: Vec<u8> = (0..100 * pixels).map(|i| (i * 37 % 251) as u8).collect();
    let set = Dataset::new("pattern", size, 10, images, (0..100).map(|i| i % 10).collect()).unwrap();
    let train: Vec<u32> = (0..100).collect();
    let mut trainer = TrainStep::new(&config, device, Some((&set, &train)), Options::default()).unwrap();
    let loader = |stream| Loader::new(train.clone(), 16, 7, stream).unwrap();
    let (mut data, mut labelled) = (loader(streams::SHUFFLE_UNLABELLED), loader(streams::SHUFFLE_LABELLED));
    let mut iterate = |n: usize| {
        for _ in 0..n {
            let picks = BatchIndices { data: data.next_batch(), labelled: labelled.next_batch() };
            let metrics = trainer.step_on(&picks, 0.01).unwrap();
            assert!(metrics.loss.is_finite());
        }
    };
    iterate(warm);
    let region = Region::new(MEMORY);
    iterate(n);
    let change = region.change();
    (change.allocations + change.reallocations, change.bytes_allocated)
}

#[test]
fn a_steady_iteration_allocates_nothing() {
    // The counter works.
    let region = Region::new(MEMORY);
    drop(std::hint::black_box(vec![1u8; 100]));
    assert!(region.change().bytes_allocated >= 100);
    for overrides in [
        &[][..],
        &["train.p_x_y_weight=0.5", "train.plc=\"eval\""],
        &["model.norm=instance", "model.dropout=0.3"],
        &["model.norm=layer", "model.energy_head=true"],
        &["model.norm=act"],
        &["model.norm=none", "train.optimizer=adam"],
        &["train.ema=0.99", "sampler.literal=true"],
        &["train.p_x_weight=0"],
    ] {
        for threads in [1, 2] {
            let found = allocations(&Device::cpu(threads), overrides, 3, 5);
            assert_eq!(
                found,
                (0, 0),
                "allocations and bytes in 5 iterations, {threads} threads, {overrides:?}"
            );
        }
    }
}
