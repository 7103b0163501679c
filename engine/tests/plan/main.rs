//! The planner, state, gradients, grouped batch norm, errors and printed plans, on small programs.
//!
//! Invariant: no value depends on what the planner decides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batch_norm;
mod errors;
mod fused;
mod gradients;
mod memory;
mod picture;
mod slots;

use engine::ops::elementwise::{Axpby, Mul};
use engine::ops::reduce::SumAll;
use engine::rng::{Philox, Stream};
use engine::{DType, Debugging, Device, HostTensor, Level, Spec, State, Tape, Var};

/// Two threads, every check on.
fn device() -> Device {
    Device::cpu_with(2, Level::Avx512, Debugging { nan: false, validate: true, plan: false })
}

fn f64s(shape: &[usize]) -> Spec {
    Spec::new(shape, DType::F64)
}

/// `n` standard normals, the same for the same `seed`.
fn normals(n: usize, seed: u32) -> Vec<f64> {
    let mut rng = Philox::new(23, Stream::TEST, seed);
    (0..n).map(|_| f64::from(rng.normal())).collect()
}

/// Runs a program of float64 inputs without state.
fn eval(tape: &Tape, outputs: &[Var], inputs: &[(Var, &[f64])]) -> Vec<Vec<f64>> {
    let mut plan = tape.plan(&device(), outputs).unwrap();
    let binds: Vec<(Var, HostTensor)> = inputs.iter().map(|(v, x)| (*v, HostTensor::F64(x))).collect();
    plan.run(&mut State::new(), &binds).unwrap();
    outputs.iter().map(|v| plan.read::<f64>(*v).unwrap().to_vec()).collect()
}

/// Records Σ x·y.
fn dot(tape: &mut Tape, x: Var, y: Var) -> Var {
    let product = tape.one(Mul, &[x, y]).unwrap();
    tape.one(SumAll { factor: 1.0 }, &[product]).unwrap()
}

/// Records x + y.
fn add(tape: &mut Tape, x: Var, y: Var) -> Var {
    tape.one(Axpby { a: 1.0, b: 1.0 }, &[x, y]).unwrap()
}

/// Checks |a − b| ≤ tolerance · max|b|.
fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-12f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * scale, "{what}: element {i} is {g}, not {w} (scale {scale})");
    }
}
