//! Fused convolutions in whole iterations: what is recorded, and that results differ from unfused ones by rounding only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::{DType, Device};
use jempp::config::Config;
use jempp::train::{Batch, Options, TrainStep};
use jempp_data::Dataset;

/// Largest |a − b| of gradients and tensors after an iteration, relative to the largest value or the floor, fused against
/// unfused: sums whose chunks end elsewhere, which is a few units in the last place times what norms and products make of
/// it. The floor is for the biases before a batch norm: their gradients, zero in exact arithmetic, are rounding only.
const TOLERANCE: [(DType, f64); 2] = [(DType::F64, 1e-12), (DType::F32, 2e-5)];
const FLOOR: f64 = 0.05;

const CONFIG: &[&str] = &[
    "model.image_size=[8,8,1]",
    "model.classes=2",
    "train.batch_size=6",
    "sampler.buffer_size=12",
    "sampler.outer_steps=2",
    "data.pad=0",
];

const VARIANTS: &[&[&str]] = &[
    &[],
    &["train.p_x_y_weight=0.5", "train.plc=\"eval\""],
    &["model.dropout=0.3"],
    &["model.norm=instance"],
    &["model.norm=layer", "model.energy_head=true"],
    &["model.norm=act"],
    &["model.norm=none"],
    &["train.bn=frozen", "train.energy_loss=bce"],
    &["train.sam_rho=0.1", "train.clip_grad_norm=1"],
];

fn trainer(device: &Device, more: &[&str], options: Options) -> TrainStep {
    let all: Vec<String> = CONFIG.iter().chain(more).map(|s| (*s).to_owned()).collect();
    let config = Config::from_sources("digits", None, &all).unwrap();
    let images: Vec<u8> = (0..30 * 64).map(|i| (i * 37 % 251) as u8).collect();
    let set = Dataset::new("tiny", [8, 8, 1], 2, images, (0..30).map(|i| i % 2).collect()).unwrap();
    let train: Vec<u32> = (0..30).collect();
    let data = Some((&set, &train[..])).filter(|_| options.dtype == DType::F32);
    TrainStep::new(&config, device, data, options).unwrap()
}

fn images(n: usize) -> Vec<f32> {
    (0..n * 64).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect()
}

/// Gradients, then every tensor of the state, after one iteration; `given`: with chains that start from given images.
fn results(trainer: &mut TrainStep, given: bool) -> Vec<(String, Vec<f64>)> {
    let (x, labels) = (images(6), [0, 1, 0, 1, 0, 1]);
    let start: Option<Vec<f32>> = given.then(|| x.iter().map(|v| -v).collect());
    let batch = Batch { x_data: &x, x_labelled: &x, labels: &labels, chain_start: start.as_deref() };
    trainer.step(&batch, 0.1).unwrap();
    let mut all = trainer.gradients().unwrap();
    let state = trainer.state();
    all.extend(state.slots().filter_map(|(name, slot)| {
        let values = match slot.spec.dtype {
            DType::F64 => state.fetch::<f64>(slot).unwrap(),
            DType::F32 => state.fetch::<f32>(slot).unwrap().into_iter().map(f64::from).collect(),
            _ => return None,
        };
        Some((name.to_owned(), values))
    }));
    all
}

#[test]
fn iterations_agree_with_unfused_ones() {
    let device = Device::cpu(2);
    let mut bad = false;
    for more in VARIANTS {
        for (dtype, tolerance) in TOLERANCE {
            // float64 has no buffer, and float32 takes no given start with chains for p(x, y).
            let given = dtype == DType::F64;
            if given && more.iter().any(|m| m.starts_with("train.p_x_y_weight")) {
                continue;
            }
            let run = |unfused| {
                let options = Options { dtype, keep_gradients: true, unfused, branches: None };
                results(&mut trainer(&device, more, options), given)
            };
            let (got, want) = (run(false), run(true));
            assert!(got.len() > 50);
            let mut worst = (0.0, String::new());
            for ((name, got), (_, want)) in got.iter().zip(&want) {
                let scale = want.iter().fold(FLOOR, |m, v| m.max(v.abs()));
                let off = got.iter().zip(want).map(|(g, w)| (g - w).abs() / scale).fold(0.0, f64::max);
                if off > worst.0 {
                    worst = (off, name.clone());
                }
            }
            println!("{dtype} {more:?}: {:.1e} in {}", worst.0, worst.1);
            bad |= worst.0 > tolerance;
        }
    }
    assert!(!bad);
}

/// In the chain step and the training step of three blocks with two shortcuts: everything that can be fused is, and what
/// cannot is not; unfused, batch norm in train mode is one op. Dropout comes between a convolution and the next statistics;
/// ActNorm has none; without a norm, and in bf16, which rounds what is normalised, there is nothing.
#[test]
fn what_can_be_fused_is_and_nothing_else() {
    let counts = |device: &Device, more: &[&str], unfused: bool| {
        let dump = trainer(device, more, Options { unfused, ..Options::default() }).dump();
        let of = |op: &str| dump.lines().filter(|l| l.split_whitespace().nth(1) == Some(op)).count();
        ["fused_conv2d", "conv2d", "bn_stats", "scale_shift_leaky", "batch_norm"].map(of)
    };
    let device = Device::cpu(1);
    for (more, want) in [
        (&[][..], [14, 4, 0, 2, 0]),
        (&["model.norm=instance"], [14, 4, 0, 2, 0]),
        (&["model.norm=layer"], [14, 4, 0, 2, 0]),
        (&["model.dropout=0.3"], [14, 4, 6, 2, 0]),
        (&["model.norm=act"], [12, 6, 0, 2, 0]),
        (&["model.norm=none"], [0, 18, 0, 0, 0]),
    ] {
        assert_eq!(counts(&device, more, false), want, "{more:?}");
    }
    let unfused = [0, 18, 0, 0, 14];
    assert_eq!(counts(&device, &[], true), unfused);
    assert_eq!(counts(&Device::cpu(1).emulating_bf16(), &[], false), unfused);
}

/// Normalised tensors are stored nowhere: with images enough to outweigh what kernels work with, a fifth of the
/// memory is saved and more.
#[test]
fn fused_programs_take_less_memory() {
    let bytes = |unfused| {
        let small = ["train.batch_size=64", "sampler.buffer_size=64"].map(str::to_owned);
        let config = Config::from_sources("digits", None, &small).unwrap();
        let options = Options { unfused, ..Options::default() };
        TrainStep::new(&config, &Device::cpu(1), None, options).unwrap().footprint().program_bytes
    };
    let (fused, unfused) = (bytes(false), bytes(true));
    assert!(fused < unfused * 4 / 5, "{fused} and {unfused} bytes");
}
