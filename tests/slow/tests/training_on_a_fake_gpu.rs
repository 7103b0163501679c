//! Training, sampling and inference on a simulated GPU, which runs CUDA kernels on the CPU, compared with the CPU
//! device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../kernels/tests/fake/mod.rs"]
mod fake;

use engine::{BatchNormBy, Debugging, Device, Precision};
use jempp::config::Config;
use jempp::model::Model;
use jempp::train::recalibrate;
use jempp::train::{Batch, BatchIndices, Options, TrainStep};
use jempp_data::Dataset;
use std::path::Path;

const TASK: &str = "JEMPP_TEST_TASK";

/// Largest difference of a tensor after one iteration, relative to its largest value or the floor. The floor is for the
/// biases before a batch norm: their gradients are zero in exact arithmetic, so only rounding is left.
const STEP: f32 = 5e-5;
/// As [`STEP`], where a rectifier's input is so near zero that rounding decides its sign, which may happen in one step
/// of four: the gradients of the weights then jump.
const JUMP: f32 = 0.05;
const FLOOR: f32 = 0.05;
/// Largest difference of a tensor after one iteration in bf16, where a sum in a different order may round to a
/// neighbouring value and everything computed from it differs as much; and of losses, relative to the larger of the
/// loss and 1.
const STEP_BF16: (f32, f64) = (0.03, 0.01);
/// As [`FLOOR`], where the rounding is that of bf16.
const FLOOR_BF16: f32 = 0.2;

const CONFIG: &[&str] = &[
    "model.image_size=[8,8,1]",
    "model.classes=2",
    "train.batch_size=6",
    "sampler.buffer_size=12",
    "sampler.outer_steps=2",
    "data.pad=0",
];

fn in_child(task: &str) {
    in_child_with(task, fake::With::Compiler);
}

fn in_child_with(task: &str, with: fake::With) {
    if let Some(folder) = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), with) {
        let text = fake::child("in_a_child", TASK, task, &folder);
        assert!(text.contains(&format!("{task} done")), "{text}");
        print!("{text}");
    }
}

#[test]
fn steps_agree_with_the_cpu_from_the_same_state() {
    in_child("steps");
}

#[test]
fn steps_in_bf16_agree_with_the_cpus_bf16() {
    in_child("bf16");
}

#[test]
fn steps_in_bf16_with_libraries_do_too() {
    in_child_with("bf16 with libraries", fake::With::Libraries);
}

#[test]
fn steps_in_bf16_with_cudnns_batch_norm_do_too() {
    in_child_with("bf16 with cuDNN's batch norm", fake::With::Libraries);
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    in_child("twice");
}

#[test]
fn an_iteration_is_one_graph() {
    in_child("graph");
}

#[test]
fn plans_say_how_many_kernels_are_launched() {
    in_child_with("launches", fake::With::Libraries);
}

#[test]
fn a_model_on_the_device_scores_as_on_the_cpu() {
    in_child("model");
}

#[test]
fn in_a_child() {
    let Ok(task) = std::env::var(TASK) else { return };
    match task.as_str() {
        "steps" => steps(),
        "bf16" | "bf16 with libraries" => steps_in_bf16(BatchNormBy::Own),
        "bf16 with cuDNN's batch norm" => steps_in_bf16(BatchNormBy::Cudnn),
        "twice" => twice(),
        "graph" => graph(),
        "launches" => launches(),
        "model" => model(),
        _ => panic!("{task}"),
    }
    println!("{task} done");
}

fn gpu() -> Device {
    Device::cuda(0, Precision::F32, Debugging::default()).unwrap()
}

fn set() -> Dataset {
    let images: Vec<u8> = (0..30 * 64).map(|i| (i * 37 % 251) as u8).collect();
    Dataset::new("tiny", [8, 8, 1], 2, images, (0..30).map(|i| i % 2).collect()).unwrap()
}

fn trainer(device: &Device, more: &[&str]) -> TrainStep {
    let all: Vec<String> = CONFIG.iter().chain(more).map(|s| (*s).to_owned()).collect();
    let config = Config::from_sources("digits", None, &all).unwrap();
    let train: Vec<u32> = (0..30).collect();
    TrainStep::new(&config, device, Some((&set(), &train)), Options::default()).unwrap()
}

fn images(n: usize) -> Vec<f32> {
    (0..n * 64).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect()
}

/// With log p(x), and with log p(x, y) as well. Where a rectifier's input is zero up to rounding, it may fall on either
/// side of the kink, so some steps may show a jump; with a slope that hardly changes at zero none may. Without batch
/// norm, a usual learning rate makes a network trained on six images diverge.
fn steps() {
    for (more, least, lr) in [
        // Winograd convolutions on the CPU differ from the direct ones of the device by rounding, 2e-6: enough to put
        // inputs of a rectifier on the other side of its kink in every other step. Without a kink all steps must agree.
        (&[][..], 2, 0.1),
        (&["train.p_x_y_weight=1"], 2, 0.1),
        (&["model.leak=0.999"], 4, 0.1),
        (&["train.p_x_y_weight=1", "model.leak=0.999"], 4, 0.1),
        (&["model.norm=\"instance\"", "model.dropout=0.2", "model.leak=0.999"], 4, 0.01),
        (
            &["model.norm=\"layer\"", "model.energy_head=true", "train.p_x_y_weight=1", "model.leak=0.999"],
            4,
            0.01,
        ),
        (&["model.norm=\"act\"", "model.dropout=0.2", "model.leak=0.999"], 4, 0.01),
        (&["model.norm=\"none\"", "model.energy_head=true", "model.leak=0.999"], 4, 0.01),
        (&["train.sam_rho=0.1", "train.clip_grad_norm=1", "model.leak=0.999"], 4, 0.1),
        (
            &["train.bn=frozen", "train.energy_loss=bce", "train.p_x_warmup_iters=3", "model.leak=0.999"],
            4,
            0.01,
        ),
    ] {
        let (mut cpu, mut gpu) = (trainer(&Device::cpu(1), more), trainer(&gpu(), more));
        assert!(gpu.max_difference(&cpu, 1e-3).unwrap().0 < 1e-5, "both start from the same draws");
        let x = images(6);
        let batch = Batch { x_data: &x, x_labelled: &x, labels: &[0, 1, 1, 0, 1, 0], chain_start: None };
        let mut near = 0;
        for i in 0..4 {
            gpu.copy_state(&cpu).unwrap();
            assert_eq!(gpu.max_difference(&cpu, 1e-3).unwrap().0, 0.0);
            let (want, got) = (cpu.step(&batch, lr).unwrap(), gpu.step(&batch, lr).unwrap());
            assert!((want.loss - got.loss).abs() < 1e-4 * want.loss.abs().max(1.0), "{want:?} {got:?}");
            assert_eq!((want.accuracy, want.step), (got.accuracy, got.step));
            let (off, name) = gpu.max_difference(&cpu, FLOOR).unwrap();
            println!(
                "step {i}: loss {:.6} and {:.6}; largest difference {off:.1e} in {name}",
                want.loss, got.loss
            );
            assert!(off < JUMP, "{name} differs by {off:e}");
            near += u32::from(off < STEP);
        }
        assert!(near >= least, "only {near} of 4 steps agree, {more:?}");
        assert_eq!(gpu.chains().unwrap().len(), 6 * 64);
        assert_eq!(gpu.buffer().unwrap().unwrap().len(), 12 * 64);
    }
}

/// A whole iteration from the same state, and the same bits when repeated; with a rectifier that has no kink, so that
/// all steps count.
fn steps_in_bf16(by: BatchNormBy) {
    let low = || {
        let device = Device::cuda(0, Precision::Bf16, Debugging::default()).unwrap();
        device.set_batch_norm(by);
        device
    };
    for more in [
        &["model.leak=0.999"][..],
        &["model.leak=0.999", "train.p_x_y_weight=1", "sampler.literal=true"],
        &["model.leak=0.999", "model.norm=layer", "model.dropout=0.2"],
        &["model.leak=0.999", "train.sam_rho=0.1", "train.sam_every=2", "train.clip_grad_norm=1"],
    ] {
        let (mut cpu, mut gpu) = (trainer(&Device::cpu(1).emulating_bf16(), more), trainer(&low(), more));
        let mut again = trainer(&low(), more);
        let x = images(6);
        let batch = Batch { x_data: &x, x_labelled: &x, labels: &[0, 1, 1, 0, 1, 0], chain_start: None };
        for i in 0..4 {
            gpu.copy_state(&cpu).unwrap();
            again.copy_state(&cpu).unwrap();
            let (want, got) = (cpu.step(&batch, 0.1).unwrap(), gpu.step(&batch, 0.1).unwrap());
            assert_eq!(again.step(&batch, 0.1).unwrap(), got);
            assert_eq!(again.max_difference(&gpu, FLOOR).unwrap().0, 0.0);
            let (off, name) = gpu.max_difference(&cpu, FLOOR_BF16).unwrap();
            println!("step {i}: loss {:.6} and {:.6}; difference {off:.1e} in {name}", want.loss, got.loss);
            assert!(
                (want.loss - got.loss).abs() < STEP_BF16.1 * want.loss.abs().max(1.0),
                "{want:?} {got:?}"
            );
            assert!(off < STEP_BF16.0, "{name} differs by {off:e}");
        }
        // The bf16 copies of the weights, which the optimiser writes on the device.
        for p in &gpu.network().parameters {
            let Some(copy) = p.bf16 else { continue };
            let rounded = |v: &f32| engine::bf16::from_f32(*v);
            let want: Vec<_> = gpu.state().fetch::<f32>(p.slot).unwrap().iter().map(rounded).collect();
            assert!(gpu.state().fetch::<engine::bf16>(copy).unwrap() == want, "{}", p.name);
        }
    }
}

/// Iterations on images by index: the first is plain launches, the second is captured, and the others replay one graph.
/// All agree with the CPU's, and bit for bit with plain launches.
fn graph() {
    // Data and labelled images run beside the chains; the simulated driver takes turns in which of them it runs first.
    let more = [
        "model.leak=0.999",
        "sampler.noise=0.01",
        "data.sigma=0.1",
        "data.flip=true",
        "data.pad=1",
        "train.plc=alltrain1",
    ];
    let pick = |i: u32| [0u32, 7, 3, 12, 29, 11].map(|p| (p + i) % 30);
    let (mut cpu, mut gpu_) = (trainer(&Device::cpu(1), &more), trainer(&gpu(), &more));
    assert!(gpu_.runs_beside() && !cpu.runs_beside());
    let watched = Device::cuda(0, Precision::F32, Debugging { nan: true, ..Debugging::default() }).unwrap();
    let mut plain = trainer(&watched, &more);
    for i in 0..5 {
        let (data, labelled) = (pick(i), pick(2 * i + 1));
        let batch = BatchIndices { data: &data, labelled: &labelled };
        gpu_.copy_state(&cpu).unwrap();
        plain.copy_state(&cpu).unwrap();
        let want = cpu.step_on(&batch, 0.1).unwrap();
        let got = gpu_.step_on(&batch, 0.1).unwrap();
        assert_eq!(plain.step_on(&batch, 0.1).unwrap(), got);
        assert!((want.loss - got.loss).abs() < 1e-4 * want.loss.abs().max(1.0), "{want:?} {got:?}");
        let (off, name) = gpu_.max_difference(&cpu, FLOOR).unwrap();
        assert!(off < STEP, "step {i}: {name} differs by {off:e}");
        assert_eq!(gpu_.max_difference(&plain, 1e-3).unwrap().0, 0.0, "replayed and plain launches");
        assert_eq!(gpu_.capture_refused(), None);
    }
    // Two iterations in flight before the metrics of the first are read.
    let data = pick(0);
    let batch = BatchIndices { data: &data, labelled: &data };
    plain.copy_state(&gpu_).unwrap();
    let want = [plain.step_on(&batch, 0.1).unwrap(), plain.step_on(&batch, 0.1).unwrap()];
    gpu_.launch(&batch, 0.1).unwrap();
    gpu_.launch(&batch, 0.1).unwrap();
    assert_eq!(gpu_.in_flight(), 2);
    assert!(gpu_.step_on(&batch, 0.1).is_err(), "metrics are taken in order");
    assert_eq!(want, [gpu_.take_metrics().unwrap(), gpu_.take_metrics().unwrap()]);
    assert!(gpu_.take_metrics().is_err());
}

/// The first iteration is plain launches; those are the ones that plans count.
fn launches() {
    for more in
        [&[][..], &["train.p_x_y_weight=1", "model.dropout=0.2"], &["train.optimizer=adam", "train.plc=eval"]]
    {
        for precision in [Precision::F32, Precision::Bf16] {
            let device = Device::cuda(0, precision, Debugging::default()).unwrap();
            let mut t = trainer(&device, more);
            let programs = t.programs();
            let of = |(times, plan): &(u64, &engine::Plan)| {
                times * plan.nodes().map(|n| n.2.launches).sum::<u64>()
            };
            let said: u64 = programs.iter().map(of).sum();
            let before = device.as_gpu().unwrap().launches();
            let rows = [0, 7, 3, 12, 29, 11];
            t.step_on(&BatchIndices { data: &rows, labelled: &rows }, 0.1).unwrap();
            let launched = device.as_gpu().unwrap().launches() - before;
            println!("{more:?}, {precision:?}: {launched} launches");
            assert_eq!(launched, said, "{more:?}, {precision:?}");
        }
    }
}

/// Programs are captured after their first run; Adam's step count must move in the graph all the same.
fn twice() {
    let sam = ["train.sam_rho=0.1", "train.sam_every=2", "train.clip_grad_norm=1", "train.energy_loss=bce"];
    for more in [&[][..], &["train.optimizer=adam", "train.ema=0.9"], &sam] {
        let run = || {
            let mut t = trainer(&gpu(), &[&["sampler.noise=0.01"], more].concat());
            let x = images(6);
            let batch = Batch { x_data: &x, x_labelled: &x, labels: &[0, 1, 1, 0, 1, 0], chain_start: None };
            for _ in 0..3 {
                t.step(&batch, 0.01).unwrap();
            }
            t
        };
        let (a, b) = (run(), run());
        assert_eq!(a.max_difference(&b, 1e-3).unwrap().0, 0.0);
        let done = a.state().slots().find(|(name, _)| *name == "adam.done");
        assert_eq!(done.is_some(), more.contains(&"train.optimizer=adam"));
        if let Some((_, slot)) = done {
            assert_eq!(a.state().fetch::<i32>(slot).unwrap(), [3]);
        }
    }
}

fn model() {
    let config =
        Config::from_sources("digits", None, &CONFIG.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
            .unwrap();
    let start = trainer(&Device::cpu(1), &[]);
    let make = |device: &Device| {
        Model::new(device, &config.model, |name, _| {
            let slot = start.network().tensors().find(|(n, _)| n == name).unwrap().1;
            Ok(start.state().fetch::<f32>(slot).unwrap())
        })
        .unwrap()
    };
    let (cpu, gpu) = (make(&Device::cpu(1)), make(&gpu()));
    let x = images(5);
    let close = |a: &[f32], b: &[f32]| {
        let scale = b.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * scale));
    };
    for _ in 0..3 {
        close(&gpu.logits(&x).unwrap(), &cpu.logits(&x).unwrap());
        close(&gpu.input_grad(&x, None).unwrap(), &cpu.input_grad(&x, None).unwrap());
    }
    // Two threads at once.
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| (0..3).for_each(|_| close(&gpu.logits(&x).unwrap(), &cpu.logits(&x).unwrap())));
        }
    });
    let all: Vec<u32> = (0..30).collect();
    let of =
        |m: &Model| recalibrate::statistics(m.device(), m.network(), m.state(), &set(), &all, 10, 0).unwrap();
    for ((m, v), (cm, cv)) in of(&gpu).iter().zip(&of(&cpu)) {
        close(m, cm);
        close(v, cv);
    }
}
