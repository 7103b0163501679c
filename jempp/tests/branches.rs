//! An iteration in two shares, data and labelled images apart from the chains, does what one program for all groups does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::{DType, Device};
use jempp::config::Config;
use jempp::train::{Batch, Options, TrainStep};
use jempp_data::Dataset;

/// Largest |a − b| of a tensor after two iterations, relative to its largest value or the floor: gradients are added in another
/// order. The floor is for the biases before a batch norm, whose gradients are rounding only.
const TOLERANCE: [(DType, f64); 2] = [(DType::F64, 1e-11), (DType::F32, 5e-5)];
const FLOOR: f64 = 0.05;

const CONFIG: &[&str] = &[
    "model.image_size=[8,8,1]",
    "model.classes=2",
    "train.batch_size=6",
    "sampler.buffer_size=12",
    "sampler.outer_steps=2",
    "data.pad=0",
    "train.plc=alltrain1",
    "train.optimizer=sgd",
];

fn trainer(more: &[&str], options: Options) -> TrainStep {
    let all: Vec<String> = CONFIG.iter().chain(more).map(|s| (*s).to_owned()).collect();
    let config = Config::from_sources("digits", None, &all).unwrap();
    let images: Vec<u8> = (0..30 * 64).map(|i| (i * 37 % 251) as u8).collect();
    let set = Dataset::new("tiny", [8, 8, 1], 2, images, (0..30).map(|i| i % 2).collect()).unwrap();
    let train: Vec<u32> = (0..30).collect();
    let data = Some((&set, &train[..])).filter(|_| options.dtype == DType::F32);
    TrainStep::new(&config, &Device::cpu(2), data, options).unwrap()
}

/// Metrics, then every tensor that lasts, after two iterations.
fn results(trainer: &mut TrainStep, given: bool) -> Vec<(String, Vec<f64>)> {
    let x: Vec<f32> = (0..6 * 64).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect();
    let start: Option<Vec<f32>> = given.then(|| x.iter().map(|v| -v).collect());
    let labels = [0, 1, 0, 1, 0, 1];
    let batch = Batch { x_data: &x, x_labelled: &x, labels: &labels, chain_start: start.as_deref() };
    trainer.step(&batch, 0.1).unwrap();
    let m = trainer.step(&batch, 0.1).unwrap();
    let metrics = vec![m.loss, m.ce, m.accuracy, m.log_density_data, m.log_density_chain];
    let mut all = vec![("metrics".to_owned(), metrics)];
    let state = trainer.state();
    for (name, slot) in state.slots().filter(|(name, _)| !name.starts_with("ahead.")) {
        let values = match slot.spec.dtype {
            DType::F64 => state.fetch::<f64>(slot).unwrap(),
            DType::F32 => state.fetch::<f32>(slot).unwrap().into_iter().map(f64::from).collect(),
            _ => continue,
        };
        all.push((name.to_owned(), values));
    }
    all
}

#[test]
fn two_shares_are_one_iteration() {
    for more in [
        &[][..],
        &["model.norm=layer", "model.energy_head=true"],
        &["model.norm=none", "train.ema=0.9"],
        &["train.bn=frozen", "train.energy_loss=bce", "train.p_x_warmup_iters=4"],
        &["train.energy_l2=0.1", "train.labelled_batch_size=6"],
    ] {
        for (dtype, tolerance) in TOLERANCE {
            for unfused in [false, true] {
                let run = |branches| {
                    let options = Options { dtype, unfused, branches: Some(branches), ..Options::default() };
                    // Without a kink, so that rounding cannot put a value on its other side.
                    let mut t = trainer(&[more, &["model.leak=0.999"]].concat(), options);
                    assert_eq!(t.runs_beside(), branches, "{more:?}");
                    results(&mut t, dtype == DType::F64)
                };
                let (one, two) = (run(false), run(true));
                assert_eq!(one.len(), two.len());
                for ((name, a), (other, b)) in one.iter().zip(&two) {
                    assert_eq!(name, other);
                    let scale = a.iter().fold(FLOOR, |m, v| m.max(v.abs()));
                    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max);
                    assert!(off <= tolerance, "{more:?} {dtype:?}: {name} differs by {off:e}");
                }
            }
        }
    }
}

#[test]
fn what_needs_all_gradients_or_places_is_not_divided() {
    for more in [
        &["train.sam_rho=0.1"][..],
        &["train.clip_grad_norm=1"],
        &["model.dropout=0.1"],
        &["train.plc=eval"],
        &["train.plc=alltrain2"],
        &["train.p_x_y_weight=0.5"],
        &["train.optimizer=adam"],
        &["train.p_x_weight=0"],
    ] {
        let options = Options { branches: Some(true), ..Options::default() };
        assert!(!trainer(more, options).runs_beside(), "{more:?}");
    }
    let kept = Options { branches: Some(true), keep_gradients: true, ..Options::default() };
    assert!(!trainer(&[], kept).runs_beside());
}
