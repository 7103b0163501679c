//! Every op of the registry through its CUDA kernels, on a simulated GPU that runs them on the CPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../engine/tests/cases/mod.rs"]
mod cases;
#[path = "../../../kernels/tests/fake/mod.rs"]
mod fake;

use cases::{bits, close, each, record, rounded, spec};
use engine::ops::elementwise::{Axpby, Identity};
use engine::testing::case_inputs;
use engine::{BatchNormBy, DType, Debugging, Device, Error, HostTensor, Precision, Spec, State, Tape};
use std::path::Path;

const TASK: &str = "JEMPP_TEST_TASK";

/// Largest |a − b| / max|b| between the CPU and a GPU, by precision and element type: sums are formed in a different
/// order, and exp and log are different implementations; in bf16 the last bit (2⁻⁷) may differ, and gradients propagate
/// that. Integers and bytes must be equal.
const TOLERANCE: [(Precision, DType, f64); 5] = [
    (Precision::F32, DType::F32, 4e-6),
    (Precision::F32, DType::I32, 0.0),
    (Precision::F32, DType::U8, 0.0),
    (Precision::Bf16, DType::BF16, 0.012),
    (Precision::Bf16, DType::F32, 0.012),
];

fn tolerance(precision: Precision, dtype: DType) -> f64 {
    TOLERANCE.iter().find(|t| (t.0, t.1) == (precision, dtype)).unwrap().2
}

fn gpu() -> Device {
    Device::cuda(0, Precision::F32, Debugging::default()).unwrap()
}

fn in_child(task: &str) {
    in_child_with(task, fake::With::Compiler);
}

fn in_child_with(task: &str, with: fake::With) {
    in_child_of(task, with, &[]);
}

fn in_child_of(task: &str, with: fake::With, more: &[(&str, &std::ffi::OsStr)]) {
    if let Some(folder) = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), with) {
        let text = fake::child_with("in_a_child", TASK, task, &folder, more);
        assert!(text.contains(&format!("{task} done")), "{text}");
        print!("{text}");
    }
}

#[test]
fn every_case_agrees_with_the_cpu_and_replays_to_the_bit() {
    in_child("cases");
}

/// With convolutions and matrix products from (simulated) libraries.
#[test]
fn every_case_agrees_with_libraries_too() {
    in_child_with("libraries", fake::With::Libraries);
}

#[test]
fn every_case_agrees_in_bf16() {
    in_child("cases in bf16");
}

#[test]
fn every_case_agrees_in_bf16_with_libraries_too() {
    in_child_with("libraries in bf16", fake::With::Libraries);
}

/// Batch norm by a (simulated) cuDNN, with own kernels around it.
#[test]
fn batch_norm_by_cudnn_agrees_too() {
    in_child_with("cudnn's batch norm", fake::With::Libraries);
}

#[test]
fn state_lives_on_the_device() {
    in_child("state");
}

#[test]
fn float64_is_refused_with_a_reason() {
    in_child("float64");
}

#[test]
fn out_of_memory_names_the_largest_tensors() {
    in_child_of("memory", fake::With::Compiler, &[("FAKE_MEMORY", "1000000".as_ref())]);
}

#[test]
fn in_a_child() {
    let Ok(task) = std::env::var(TASK) else { return };
    match task.as_str() {
        "cases" | "libraries" => every_case(Precision::F32),
        "cases in bf16" | "libraries in bf16" => every_case(Precision::Bf16),
        "cudnn's batch norm" => batch_norm_by_cudnn(),
        "state" => state(),
        "float64" => float64(),
        "memory" => memory(),
        _ => panic!("{task}"),
    }
    println!("{task} done");
}

fn every_case(precision: Precision) {
    let gpu = Device::cuda(0, precision, Debugging::default()).unwrap();
    let compared = compare(&gpu, precision, |_| true);
    assert!(compared > 20, "{compared}");
    let without = gpu.as_gpu().unwrap().notes().len();
    let libraries = std::env::var(TASK).is_ok_and(|task| task.starts_with("libraries"));
    // No bf16 matrix product goes to cuBLAS.
    let missing = if precision == Precision::Bf16 { 1 } else { 2 };
    assert_eq!(without, if libraries { 0 } else { missing }, "{:?}", gpu.as_gpu().unwrap().notes());
}

fn batch_norm_by_cudnn() {
    for precision in [Precision::F32, Precision::Bf16] {
        let gpu = Device::cuda(0, precision, Debugging::default()).unwrap();
        gpu.set_batch_norm(BatchNormBy::Cudnn);
        gpu.as_gpu().unwrap().require_libraries();
        let before = gpu.as_gpu().unwrap().launches();
        assert_eq!(compare(&gpu, precision, |what| what.starts_with("batch_norm")), 4);
        let launches = gpu.as_gpu().unwrap().launches() - before;
        let own = Device::cuda(0, precision, Debugging::default()).unwrap();
        compare(&own, precision, |what| what.starts_with("batch_norm"));
        assert_ne!(launches, own.as_gpu().unwrap().launches(), "by the same kernels");
    }
}

/// Compares the cases whose names are wanted with the CPU's; returns their number.
fn compare(gpu: &Device, precision: Precision, wanted: impl Fn(&str) -> bool) -> u32 {
    let mut compared = 0;
    let (cpu, low) = (Device::cpu(1), precision == Precision::Bf16);
    let mut worst = (0.0f64, String::new());
    each(|what, case| {
        if low && case.bf16.is_empty() || !wanted(what) {
            return;
        }
        compared += 1;
        let real = if low { DType::BF16 } else { DType::F32 };
        let program = record(case, real).unwrap();
        let data = if low { rounded(case) } else { case_inputs(case) };
        let want = program.run(&cpu, &data, real).unwrap();
        // A plain run, a captured one, and two replays.
        let got = program.run_repeatedly(gpu, &data, real, 4).unwrap();
        for (i, want) in want.iter().enumerate() {
            let dtype = program.outputs.get(i).map_or(DType::F32, |v| spec(&program, *v).dtype);
            close(&format!("{what}, result {i}"), &got[0][i], want, tolerance(precision, dtype));
            let scale = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
            let off = got[0][i].iter().zip(want).map(|(g, w)| (g - w).abs() / scale).fold(0.0, f64::max);
            if off > worst.0 {
                worst = (off, format!("{what}, result {i}"));
            }
        }
        for replay in &got[1..] {
            assert_eq!(bits(&got[0]), bits(replay), "{what}: plain and captured");
        }
    });
    println!("largest difference {:.1e} in {}", worst.0, worst.1);
    compared
}

/// s ← 2·s + x, where the old s is an output as well; the graph is replayed, and a second state gets a graph of its
/// own.
fn state() {
    let device = gpu();
    let mut state = State::on(&device);
    let slot = state.add("s", Spec::f32(&[5])).unwrap();
    let labels = state.add("labels", Spec::i32(&[3])).unwrap();
    state.set(slot, &[1.0f32, 2.0, 3.0, 4.0, 5.0]).unwrap();
    state.set_at(labels, 1, &[7i32, 8]).unwrap();
    assert_eq!(state.fetch::<i32>(labels).unwrap(), [0, 7, 8]);
    assert!(state.get::<f32>(slot).is_err() && state.get_mut::<f32>(slot).is_err());
    let before = state.duplicate().unwrap();

    let mut tape = Tape::new();
    let x = tape.input("x", Spec::f32(&[5]));
    let old = tape.read(slot);
    let new = tape.one(Axpby { a: 2.0, b: 1.0 }, &[old, x]).unwrap();
    tape.assign(slot, new).unwrap();
    let kept = tape.one(Identity, &[old]).unwrap();
    let mut plan = tape.plan(&device, &[kept]).unwrap();
    let ones = [1.0f32; 5];
    let mut want = [1.0f32, 2.0, 3.0, 4.0, 5.0];
    for _ in 0..5 {
        plan.run(&mut state, &[(x, HostTensor::F32(&ones))]).unwrap();
        assert_eq!(plan.fetch::<f32>(kept).unwrap(), want);
        want = want.map(|v| 2.0 * v + 1.0);
        assert_eq!(state.fetch::<f32>(slot).unwrap(), want);
    }
    assert_eq!(plan.capture_refused(), None);
    // Another state with the same slots: the graph captured for the first must not be replayed on it.
    let mut other = before;
    plan.run(&mut other, &[(x, HostTensor::F32(&ones))]).unwrap();
    assert_eq!(other.fetch::<f32>(slot).unwrap(), [3.0, 5.0, 7.0, 9.0, 11.0]);
    assert_eq!(state.fetch::<f32>(slot).unwrap(), want);
    // A state in the host's memory is refused.
    let mut host = State::new();
    host.add("s", Spec::f32(&[5])).unwrap();
    assert!(plan.run(&mut host, &[(x, HostTensor::F32(&ones))]).is_err());
    // A state of another `Gpu` is refused.
    let nan = Debugging { nan: true, ..Debugging::default() };
    let mut plan = tape.plan(&Device::cuda(0, Precision::F32, nan).unwrap(), &[kept]).unwrap();
    assert!(plan.run(&mut state, &[(x, HostTensor::F32(&ones))]).is_err(), "another Gpu's state");
}

fn float64() {
    let mut tape = Tape::new();
    let x = tape.input("x", Spec::new(&[3], DType::F64));
    let y = tape.one(Axpby { a: 2.0, b: 0.0 }, &[x]).unwrap();
    match tape.plan(&gpu(), &[y]) {
        Err(e @ Error::Unsupported { op: "axpby", .. }) => assert!(e.to_string().contains("float64"), "{e}"),
        other => panic!("{other:?}"),
    }
}

/// A GPU of 1 MB: 400 kB of state, and a program of three tensors of 400 kB each.
fn memory() {
    let device = gpu();
    let mut state = State::on(&device);
    let slot = state.add("weights", Spec::f32(&[100, 1000])).unwrap();
    let free = device.free_memory().unwrap();
    assert_eq!(free, 600_000);
    let mut tape = Tape::new();
    let x = tape.input("x", Spec::f32(&[100, 1000]));
    let w = tape.read(slot);
    let y = tape.one(Axpby { a: 2.0, b: 1.0 }, &[x, w]).unwrap();
    let z = tape.one(Axpby { a: 2.0, b: 1.0 }, &[x, y]).unwrap();
    let Err(Error::OutOfMemory(s)) = tape.plan(&device, &[z, y]) else { panic!("it fits, but should not") };
    assert!(s.wanted >= 1_200_000 && s.free == Some(600_000) && s.program_bytes == s.wanted, "{s:?}");
    assert_eq!((s.state_bytes, s.batch_that_fits(100)), (400_000, Some(32)));
    let text = s.to_string();
    // With the padding of each tensor to 256 bytes.
    for part in [
        "Fake of the tests: 1172 KiB wanted, 586 KiB free",
        "Largest: 2 × axpby f32[100×1000], 782 KiB",
        "state takes 391 KiB",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Allocating state fails likewise.
    match state.add("buffer", Spec::f32(&[1000, 1000])) {
        Err(Error::OutOfMemory(s)) => {
            let text = s.to_string();
            assert!(text.contains("slot buffer f32[1000×1000]") && text.contains("slot weights"), "{text}");
            assert_eq!((s.wanted, s.program_bytes, s.state_bytes), (4_000_000, 0, 400_000));
        }
        other => panic!("{other:?}"),
    }
    // A smaller program still fits.
    let mut tape = Tape::new();
    let w = tape.read(slot);
    let y = tape.one(Axpby { a: 2.0, b: 0.0 }, &[w]).unwrap();
    tape.plan(&device, &[y]).unwrap().run(&mut state, &[]).unwrap();
}
