//! Sharpness-aware minimisation, clipped gradients, frozen batch norm, the ramp of log p(x) and its noise, in whole
//! iterations. `tests/tests/modern.rs` compares them with PyTorch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::{DType, Device};
use jempp::config::Config;
use jempp::train::{BatchIndices, Counters, Options, StepMetrics, TrainStep, Trainer};
use jempp_data::Dataset;

fn trainer(device: &Device, more: &[&str]) -> TrainStep {
    let small = [
        "model.image_size=[8,8,1]",
        "model.classes=2",
        "train.batch_size=6",
        "sampler.buffer_size=12",
        "sampler.outer_steps=2",
        "data.pad=1",
        "data.flip=true",
    ];
    let all: Vec<String> = small.iter().chain(more).map(|s| (*s).to_owned()).collect();
    let config = Config::from_sources("digits", None, &all).unwrap();
    let images: Vec<u8> = (0..30 * 64).map(|i| (i * 37 % 251) as u8).collect();
    let set = Dataset::new("tiny", [8, 8, 1], 2, images, (0..30).map(|i| i % 2).collect()).unwrap();
    let train: Vec<u32> = (0..30).collect();
    let options = Options { keep_gradients: true, ..Options::default() };
    TrainStep::new(&config, device, Some((&set, &train)), options).unwrap()
}

/// Iterations from iteration `first` on.
fn steps(t: &mut TrainStep, first: u64, n: usize) -> Vec<StepMetrics> {
    t.set_counters(Counters { iteration: first, ..t.counters() }).unwrap();
    let batch = BatchIndices { data: &[0, 7, 3, 12, 29, 11], labelled: &[1, 8, 4, 13, 28, 10] };
    (0..n).map(|_| t.step_on(&batch, 0.05).unwrap()).collect()
}

/// All float32 tensors of the state, by name.
fn tensors(t: &TrainStep) -> Vec<(String, Vec<f32>)> {
    let floats = t.state().slots().filter(|(_, slot)| slot.spec.dtype == DType::F32);
    floats.map(|(name, slot)| (name.to_owned(), t.state().fetch(slot).unwrap())).collect()
}

fn only(of: &[(String, Vec<f32>)], part: &str) -> Vec<Vec<f32>> {
    let all: Vec<_> = of.iter().filter(|(name, _)| name.contains(part)).map(|(_, v)| v.clone()).collect();
    assert!(!all.is_empty(), "{part}");
    all
}

/// A perturbation that rounds to nothing changes nothing: the second pass sees the same chains, images, masks of dropout
/// and batch statistics, and leaves the running statistics alone.
#[test]
fn the_second_pass_is_the_first_at_other_weights() {
    let base = ["train.energy_l2=0", "model.dropout=0.3", "train.p_x_y_weight=0.5", "train.ema=0.9"];
    for device in [Device::cpu(2), Device::cpu(2).emulating_bf16()] {
        let run = |rho| {
            let mut t = trainer(&device, &[&base[..], &[rho]].concat());
            (steps(&mut t, 0, 3), tensors(&t))
        };
        let (plain, same) = (run("train.sam_rho=0"), run("train.sam_rho=1e-30"));
        assert_eq!(plain.0, same.0);
        assert!(plain.1 == same.1, "{device}");
    }
}

/// At a visible radius the weights move elsewhere; metrics, chains and running statistics are those of the first pass.
#[test]
fn perturbed_weights_matter_for_the_gradient_only() {
    let run = |more: &[&str]| {
        let mut t = trainer(&Device::cpu(1), more);
        (steps(&mut t, 0, 1), tensors(&t))
    };
    let (plain, sam) = (run(&[]), run(&["train.sam_rho=0.5"]));
    assert_eq!(plain.0, sam.0);
    for part in ["running_", "replay_buffer", "chain"] {
        assert!(only(&plain.1, part) == only(&sam.1, part), "{part}");
    }
    assert!(only(&plain.1, "velocity") != only(&sam.1, "velocity"));
    let adam = |rho| run(&["train.optimizer=adam", "train.ema=0.9", rho]).1;
    assert!(only(&adam("train.sam_rho=0"), "ema.") != only(&adam("train.sam_rho=0.5"), "ema."));
}

/// With `train.sam_every` = 2 the even iterations are those of ASAM, the odd ones ordinary.
#[test]
fn iterations_take_turns() {
    let run = |more: &[&str], first| {
        let mut t = trainer(&Device::cpu(1), more);
        steps(&mut t, first, 1);
        tensors(&t)
    };
    let (rho, every) = ("train.sam_rho=0.5", "train.sam_every=2");
    for first in [0, 1, 2, 3] {
        let as_one: &[&str] = if first % 2 == 0 { &[rho] } else { &[] };
        assert!(run(&[rho, every], first) == run(as_one, first), "iteration {first}");
    }
    let [plain, sam, both] =
        [&[][..], &[rho], &[rho, every]].map(|more: &[&str]| trainer(&Device::cpu(1), more).footprint());
    assert_eq!(both.flops, (plain.flops + sam.flops) / 2);
    assert!(both.program_bytes > sam.program_bytes && sam.flops > plain.flops);
}

#[test]
fn gradients_are_clipped_to_their_joint_norm() {
    let norm = |more: &[&str]| {
        let mut t = trainer(&Device::cpu(1), more);
        steps(&mut t, 0, 1);
        let all = t.gradients().unwrap();
        all.iter().flat_map(|(_, g)| g).map(|g| g * g).sum::<f64>().sqrt()
    };
    let whole = norm(&[]);
    assert!(whole > 0.1, "{whole}");
    assert!((norm(&["train.clip_grad_norm=0.1"]) - 0.1).abs() < 1e-5);
    assert_eq!(norm(&["train.clip_grad_norm=1e6"]), whole);
}

/// Running statistics are used by data, chains and labelled images, and stay; scale and shift are trained.
#[test]
fn frozen_statistics_stay() {
    for more in [&[][..], &["train.plc=eval"], &["train.p_x_y_weight=1"], &["train.sam_rho=0.5"]] {
        let mut t = trainer(&Device::cpu(1), &[&["train.bn=frozen", "model.dropout=0.2"], more].concat());
        let (before, chains) = (tensors(&t), t.chains().unwrap());
        assert!(steps(&mut t, 0, 2).iter().all(|m| m.loss.is_finite()), "{more:?}");
        let after = tensors(&t);
        assert!(only(&before, "running_") == only(&after, "running_"), "{more:?}");
        for part in ["bn1.weight", "bn2.bias", "conv1.weight"] {
            assert!(only(&before, part) != only(&after, part), "{part} {more:?}");
        }
        assert_ne!(chains, t.chains().unwrap());
        assert!(!before.iter().any(|(name, _)| name.starts_with("chain.")), "no accumulators");
        let dump = t.dump();
        let reads = |op: &str| dump.lines().any(|l| l.split_whitespace().nth(1) == Some(op));
        assert!(!reads("bn_running_update") && !reads("bn_stats"));
    }
    // What the statistics are matters.
    let loss = |mean: f32| {
        let mut t = trainer(&Device::cpu(1), &["train.bn=frozen"]);
        let slot = t.network().norms[0].mean;
        t.state_mut().set(slot, &[mean; 16]).unwrap();
        steps(&mut t, 0, 1)[0].loss
    };
    assert_ne!(loss(0.0), loss(0.5));
}

/// In iteration i of a ramp over n, the weight of log p(x) is i/n of its value.
#[test]
fn the_weight_of_p_x_is_ramped_up() {
    let loss = |more: &[&str], first| steps(&mut trainer(&Device::cpu(1), more), first, 1)[0];
    for (bce, label) in [("train.energy_loss=cd", "cd"), ("train.energy_loss=bce", "bce")] {
        for (first, weight) in [(1u64, "0.125"), (4, "0.5"), (8, "1"), (9, "1")] {
            let ramped = loss(&["train.p_x_warmup_iters=8", bce], first);
            let plain = loss(&[&format!("train.p_x_weight={weight}"), bce], first);
            assert!((ramped.loss - plain.loss).abs() < 1e-6, "{label} {first}: {ramped:?} {plain:?}");
            assert_eq!(ramped.gap(), plain.gap());
        }
        // At iteration 0 only the penalty and the cross-entropy are left.
        let m = loss(&["train.p_x_warmup_iters=8", "train.energy_l2=0", bce], 0);
        assert!((m.loss - m.ce).abs() < 1e-6, "{m:?}");
    }
}

#[test]
fn images_for_p_x_have_their_own_noise() {
    let f = |more: &[&str]| {
        let m = steps(&mut trainer(&Device::cpu(1), more), 0, 1)[0];
        (m.log_density_data, m.ce)
    };
    let (base, less) = (f(&["data.sigma=0.3"]), f(&["data.sigma=0.3", "data.p_x_sigma=0"]));
    assert!(base.0 != less.0 && base.1 == less.1);
    assert_eq!(f(&["data.sigma=0.3", "data.p_x_sigma=0.3"]), base);
    let alone = f(&["data.sigma=0", "data.p_x_sigma=0.3"]);
    assert!(alone.0 == base.0 && alone.1 != base.1);
    let plain = ["data.sigma=0.3", "data.p_x_augment=false"];
    assert_ne!(f(&[&plain[..], &["data.p_x_sigma=0.3"]].concat()).0, f(&plain).0);
}

/// Frozen statistics are also those of the model that is evaluated, with an average of the weights too; otherwise these
/// are recalibrated.
#[test]
fn models_keep_frozen_statistics() {
    for (bn, kept) in [("train.bn=frozen", true), ("train.bn=batch", false)] {
        let keys =
            ["train.ema=0.5", "train.batch_size=20", "sampler.buffer_size=50", "sampler.outer_steps=1", bn];
        let config = Config::from_sources("digits", None, &keys.map(str::to_owned)).unwrap();
        let (set, split) = jempp_data::digits::load().unwrap();
        let trainer = Trainer::with_data(&config, &Device::cpu(1), set, split).unwrap();
        let model = trainer.model().unwrap();
        let named = if kept { "running" } else { "recalibrated" };
        assert_eq!(model.metadata.get("bn").map(String::as_str), Some(named));
        let network = trainer.train_step().network();
        let both = network.norms.iter().zip(&model.network().norms);
        let same = both.into_iter().all(|(a, b)| {
            let mine = trainer.train_step().state().fetch::<f32>(a.mean).unwrap();
            mine == model.state().fetch::<f32>(b.mean).unwrap()
        });
        assert_eq!(same, kept, "{bn}");
    }
}
