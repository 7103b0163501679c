//! How the weights move: learning rates, Adam and the average of the weights in a trainer, and JEM's chain step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::ops::pyld_step::{Args, PyldStep};
use engine::rng::Stream;
use engine::{DType, Device, HostTensor, Slot, Spec, State, Tape};
use jempp::config::Config;
use jempp::train::{Batch, Counters, Options, TrainStep};
use jempp_data::Dataset;

const LABELS: [i32; 6] = [0, 1, 0, 1, 0, 1];

fn trainer(overrides: &[&str]) -> TrainStep {
    let small = [
        "model.image_size=[4,4,1]",
        "model.classes=2",
        "train.batch_size=6",
        "sampler.buffer_size=20",
        "sampler.outer_steps=2",
    ];
    let all: Vec<String> = small.iter().chain(overrides).map(|s| (*s).to_owned()).collect();
    let config = Config::from_sources("digits", None, &all).unwrap();
    let images: Vec<u8> = (0..30 * 16).map(|i| (i * 37 % 251) as u8).collect();
    let set = Dataset::new("tiny", [4, 4, 1], 2, images, (0..30).map(|i| i % 2).collect()).unwrap();
    let train: Vec<u32> = (0..30).collect();
    TrainStep::new(&config, &Device::cpu(1), Some((&set, &train)), Options::default()).unwrap()
}

fn step(t: &mut TrainStep, lr: f64) {
    let x: Vec<f32> = (0..6 * 16).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect();
    let batch = Batch { x_data: &x, x_labelled: &x, labels: &LABELS, chain_start: None };
    t.step(&batch, lr).unwrap();
}

fn slot(t: &TrainStep, name: &str) -> Slot {
    t.extra_slots().into_iter().chain(t.network().tensors()).find(|(n, _)| n == name).unwrap().1
}

fn values(t: &TrainStep, name: &str) -> Vec<f32> {
    t.state().get::<f32>(slot(t, name)).unwrap().to_vec()
}

/// The learning rate after `done` iterations of 110, 20 an epoch.
fn rate(t: &mut TrainStep, done: u64) -> f64 {
    t.set_counters(Counters { iteration: done, ..Counters::default() }).unwrap();
    t.learning_rate(20, 110)
}

#[test]
fn learning_rates_have_known_values() {
    let of = |schedule: &str| {
        trainer(&[schedule, "train.lr=0.1", "train.warmup_iters=10", "train.decay_epochs=[1, 3]"])
    };
    let quarter = 0.5 * (1.0 + core::f64::consts::FRAC_1_SQRT_2);
    for (schedule, known) in [
        ("train.schedule=steps", [(10, 0.1), (19, 0.1), (20, 0.02), (59, 0.02), (60, 0.004), (109, 0.004)]),
        ("train.schedule=constant", [(10, 0.1), (19, 0.1), (20, 0.1), (59, 0.1), (60, 0.1), (109, 0.1)]),
        (
            "train.schedule=cosine",
            [(10, 0.1), (35, 0.1 * quarter), (60, 0.05), (85, 0.1 * (1.0 - quarter)), (110, 0.0), (200, 0.0)],
        ),
    ] {
        let mut t = of(schedule);
        for (done, want) in [(0, 0.0), (5, 0.05), (9, 0.09)].into_iter().chain(known) {
            let got = rate(&mut t, done);
            assert!((got - want).abs() < 1e-15, "{schedule} after {done}: {got}, not {want}");
        }
    }
    let mut t =
        trainer(&["train.schedule=cosine", "train.lr=0.1", "train.lr_min=0.02", "train.warmup_iters=0"]);
    for (done, want) in [(0, 0.1), (55, 0.06), (110, 0.02)] {
        assert!((rate(&mut t, done) - want).abs() < 1e-15);
    }
    // A warm-up as long as the run never reaches the cosine.
    let mut t = trainer(&["train.schedule=cosine", "train.warmup_iters=110"]);
    assert!((rate(&mut t, 109) - 0.1 * 109.0 / 110.0).abs() < 1e-15);
}

/// The first step of Adam is lr·g/(|g| + ε√(…)): lr in size, but where the gradient is as small as ε.
#[test]
fn adam_moves_all_weights_by_the_learning_rate_at_first() {
    let mut t = trainer(&["train.optimizer=adam", "train.weight_decay=0"]);
    let name = "class_output.weight";
    let before = values(&t, name);
    step(&mut t, 1e-3);
    for (a, b) in before.iter().zip(values(&t, name)) {
        assert!(((a - b).abs() - 1e-3).abs() < 2e-5, "{a} to {b}");
    }
    let done = t.state().slots().find(|(n, _)| *n == "adam.done").unwrap().1;
    step(&mut t, 1e-3);
    assert_eq!(t.state().get::<i32>(done).unwrap(), [2]);
    t.set_counters(Counters { iteration: 70, ..t.counters() }).unwrap();
    assert_eq!(t.state().get::<i32>(done).unwrap(), [70]);
    let names: Vec<String> = t.extra_slots().into_iter().map(|(n, _)| n).collect();
    assert!(names.contains(&format!("adam.first.{name}")) && names.contains(&format!("adam.second.{name}")));
    assert!(!names.iter().any(|n| n.starts_with("velocity") || n.starts_with("ema")));
}

#[test]
fn averages_have_known_values_and_are_what_is_served() {
    let mut t = trainer(&["train.ema=0.75"]);
    let (name, average) = ("f.layer1.0.conv1.weight", "ema.f.layer1.0.conv1.weight");
    let mut want = values(&t, name);
    assert_eq!(values(&t, average), want);
    for _ in 0..3 {
        step(&mut t, 0.1);
        let w = values(&t, name);
        want.iter_mut().zip(&w).for_each(|(a, w)| *a = 0.75 * *a + 0.25 * w);
        assert_eq!(values(&t, average), want);
        assert_ne!(w, want);
    }
    let served: Vec<(String, Slot)> = t.served().collect();
    assert_eq!(served.len(), t.network().tensors().count());
    for ((n, s), (own, raw)) in served.iter().zip(t.network().tensors()) {
        let is_statistic = n.contains("running");
        assert_eq!((n, *s == raw), (&own, is_statistic), "{n}");
        assert!(is_statistic || *s == slot(&t, &format!("ema.{n}")));
    }
    // Without averages the parameters themselves; and the average does not change how they move.
    let mut plain = trainer(&[]);
    assert!(plain.served().eq(plain.network().tensors()));
    (0..3).for_each(|_| step(&mut plain, 0.1));
    assert_eq!(values(&plain, name), values(&t, name));
}

/// x ← x + α·g, whatever the size of either.
#[test]
fn a_step_without_bounds_is_plain_ascent() {
    let args = Args {
        inner: 1,
        step_size: 0.5,
        clip: 0.0,
        boxed: false,
        sgld_lr: 0.0,
        noise: 0.0,
        clip_after_noise: false,
    };
    let (x, g) = ([0.9, -3.0, 0.25, 1e6], [40.0, -1.0, 0.0, 1e6]);
    let run = |args| {
        let mut t = Tape::new();
        let spec = Spec::new(&[4], DType::F64);
        let (xv, gv) = (t.input("x", spec), t.input("g", spec));
        let y = t.one(PyldStep { args, stream: Stream::TEST }, &[xv, gv]).unwrap();
        let mut p = t.plan(&Device::cpu(1), &[y]).unwrap();
        p.run(&mut State::new(), &[(xv, HostTensor::F64(&x)), (gv, HostTensor::F64(&g))]).unwrap();
        p.read::<f64>(y).unwrap().to_vec()
    };
    assert_eq!(run(args), [20.9, -3.5, 0.25, 1.5e6]);
    // Each bound alone.
    assert_eq!(run(Args { clip: 2.0, ..args }), [1.9, -3.5, 0.25, 1e6 + 1.0]);
    assert_eq!(run(Args { boxed: true, ..args }), [1.0, -1.0, 0.25, 1.0]);
}

/// Chains of the preset `jem` leave the box, and one inner step at a time is the same.
#[test]
fn chains_of_jem_are_not_bounded() {
    let jem = [
        "sampler.in_box=false",
        "sampler.clip=0",
        "sampler.inner_steps=3",
        "sampler.step_size=10",
        "sampler.noise=0",
    ];
    let chains = |literal: &str| {
        let mut t = trainer(&[&jem[..], &[literal]].concat());
        step(&mut t, 0.0);
        t.chains().unwrap()
    };
    let (collapsed, literal) = (chains("sampler.literal=false"), chains("sampler.literal=true"));
    assert!(collapsed.iter().any(|v| v.abs() > 1.0));
    assert!(collapsed.iter().zip(&literal).all(|(a, b)| (a - b).abs() < 1e-4), "{collapsed:?} {literal:?}");
}
