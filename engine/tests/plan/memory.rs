//! Reuse of memory: random programs give the same bits whether the planner may reuse memory or not.

use super::device;
use engine::ops::batch::{ConcatRows, EmbedRows, SliceRows};
use engine::ops::bn_stats::BnStats;
use engine::ops::conv2d::{Conv2d, Conv2dInputGrad, Geometry};
use engine::ops::elementwise::{Axpby, Identity, Mul};
use engine::ops::leaky_relu::LeakyRelu;
use engine::ops::pyld_step::{Args, PyldStep};
use engine::rng::Stream;
use engine::{HostTensor, Plan, Spec, State, Tape, Var};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

const CHANNELS: [usize; 2] = [2, 5];

/// What to record: (op, first operand, second operand, parameter), each taken modulo what there is.
type Choice = (u8, u16, u16, u16);

struct Program {
    tape: Tape,
    inputs: Vec<(Var, Spec)>,
    /// Everything recorded, inputs included.
    values: Vec<Var>,
}

/// Values in [−1, 1], the same for the same input.
fn content(spec: Spec, seed: usize) -> Vec<f32> {
    (0..spec.len()).map(|i| ((i * 37 + seed * 101) % 199) as f32 / 99.0 - 1.0).collect()
}

/// Filters whose taps sum to less than one, so that values stay in [−1, 1] along any program.
fn filters(spec: Spec, seed: usize) -> Vec<f32> {
    content(spec, seed).into_iter().map(|v| v / spec.row_len() as f32).collect()
}

fn record(choices: &[Choice]) -> Program {
    let mut tape = Tape::new();
    let mut inputs = Vec::new();
    let mut input = |tape: &mut Tape, name: &str, shape: &[usize]| {
        let spec = Spec::f32(shape);
        let v = tape.input(name, spec);
        inputs.push((v, spec));
        v
    };
    let mut weights = Vec::new();
    for k in CHANNELS {
        for c in CHANNELS {
            let w = input(&mut tape, "w", &[k, 3, 3, c]);
            weights.push((k, c, w));
        }
    }
    let mut values = vec![
        input(&mut tape, "x", &[2, 3, 4, CHANNELS[0]]),
        input(&mut tape, "y", &[3, 3, 4, CHANNELS[1]]),
        input(&mut tape, "z", &[2, 3, 4, CHANNELS[0]]),
    ];
    for choice in choices {
        let new = step(&mut tape, &weights, &values, *choice);
        values.extend(new);
    }
    Program { tape, inputs, values }
}

fn step(tape: &mut Tape, weights: &[(usize, usize, Var)], values: &[Var], choice: Choice) -> Vec<Var> {
    let (op, a, b, p) = (choice.0, usize::from(choice.1), usize::from(choice.2), usize::from(choice.3));
    let x = values[a % values.len()];
    let spec = tape.spec(x).unwrap();
    let alike: Vec<Var> = values.iter().copied().filter(|v| tape.spec(*v).unwrap() == spec).collect();
    let (y, rows) = (alike[b % alike.len()], spec.first());
    let is_image = spec.rank() == 4;
    let geometry = Geometry { stride: 1, pad: 1 };
    let into = |c: usize| weights.iter().copied().filter(|w| w.1 == c).collect::<Vec<_>>();
    let args = Args {
        inner: 2,
        step_size: 0.1,
        clip: 1.0,
        boxed: true,
        sgld_lr: 0.0,
        noise: 0.0,
        clip_after_noise: false,
    };
    let out = match op % 12 {
        0 | 1 => tape.record(Axpby { a: 0.5, b: -0.25 }, &[x, y]),
        2 => tape.record(Axpby { a: -0.75, b: 0.0 }, &[x]),
        3 => tape.record(Mul, &[x, y]),
        4 => tape.record(LeakyRelu { leak: 0.2 }, &[x]),
        5 => tape.record(Identity, &[x]),
        6 => tape.record(PyldStep { args, stream: Stream::TEST }, &[x, y]),
        7 => tape.record(SliceRows { start: p % rows, rows: 1 + b % (rows - p % rows) }, &[x]),
        8 if rows < 6 => tape.record(EmbedRows { start: p % 2, of: rows + 1 + p % 2 }, &[x]),
        9 if rows < 6 => tape.record(ConcatRows, &[x, y]),
        10 if is_image => {
            let fit = into(spec.last());
            let (k, _, w) = fit[p % fit.len()];
            let like = spec.with_shape(&[rows, 3, 4, k]);
            let residual = values.iter().copied().find(|v| tape.spec(*v).unwrap() == like && p % 3 > 0);
            let op = Conv2d { geometry, bias: false, residual: residual.is_some() };
            let ins: Vec<Var> = [x, w].into_iter().chain(residual).collect();
            tape.record(op, &ins).and_then(|y| tape.record(Axpby { a: 0.5, b: 0.0 }, &y))
        }
        11 if is_image && p % 2 == 0 => {
            // One of the two outputs is never used.
            let out = tape.record(BnStats { groups: vec![rows] }, &[x]);
            out.map(|o| vec![o[p / 2 % 2]])
        }
        _ if is_image => {
            let fit: Vec<_> = weights.iter().copied().filter(|w| w.0 == spec.last()).collect();
            let (_, c, w) = fit[p % fit.len()];
            let op = Conv2dInputGrad { geometry, x: spec.with_shape(&[rows, 3, 4, c]) };
            tape.record(op, &[x, w]).and_then(|y| tape.record(Axpby { a: 0.5, b: 0.0 }, &y))
        }
        _ => tape.record(Axpby { a: 0.5, b: 0.5 }, &[x, y]),
    };
    out.unwrap()
}

impl Program {
    fn run(&self, plan: &mut Plan, outputs: &[Var]) -> Vec<Vec<u32>> {
        let data: Vec<Vec<f32>> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(i, (_, s))| if i < 4 { filters(*s, i) } else { content(*s, i) })
            .collect();
        let binds: Vec<(Var, HostTensor)> =
            self.inputs.iter().zip(&data).map(|((v, _), x)| (*v, HostTensor::F32(x))).collect();
        // Run twice: a run must not depend on what the previous one left in memory.
        for _ in 0..2 {
            plan.run(&mut State::new(), &binds).unwrap();
        }
        let bits = |v: &Var| plan.read::<f32>(*v).unwrap().iter().map(|x| x.to_bits()).collect();
        outputs.iter().map(bits).collect()
    }
}

#[test]
fn random_programs_give_the_same_bits_with_and_without_reuse() {
    let (reused, apart) = (Cell::new(0), Cell::new(0));
    let choices = vec(any::<Choice>(), 1..30);
    let mut runner = TestRunner::new(Config { cases: 300, ..Config::default() });
    let ran = runner.run(&(choices, vec(any::<u16>(), 1..4)), |(choices, picks)| {
        let program = record(&choices);
        let mut outputs: Vec<Var> =
            picks.iter().map(|p| program.values[usize::from(*p) % program.values.len()]).collect();
        outputs.push(program.values[program.values.len() - 1]);
        let mut plan = program.tape.plan(&device(), &outputs).unwrap();
        let mut all = program.tape.plan(&device(), &program.values).unwrap();
        prop_assert!(plan.bytes() >= plan.live_bytes());
        prop_assert_eq!(plan.bytes(), plan.used_bytes());
        prop_assert_eq!(all.bytes(), all.used_bytes());
        prop_assert!(plan.len() <= all.len(), "dead nodes run");
        reused.set(reused.get() + plan.bytes());
        apart.set(apart.get() + all.bytes());
        let got = program.run(&mut plan, &outputs);
        let want = program.run(&mut all, &outputs);
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            prop_assert!(
                w.iter().all(|v| f32::from_bits(*v).is_finite()),
                "output {i} read unwritten memory"
            );
            prop_assert_eq!(g, w, "output {}", i);
        }
        Ok(())
    });
    ran.unwrap();
    assert!(reused.get() * 10 < apart.get() * 7, "{} of {} bytes: no reuse", reused.get(), apart.get());
}

#[test]
fn a_chain_of_layers_needs_the_memory_of_two_its_input_and_a_workspace() {
    let mut tape = Tape::new();
    let spec = Spec::f32(&[32, 16, 16, 16]);
    let (x, w) = (tape.input("x", spec), tape.input("w", Spec::f32(&[16, 3, 3, 16])));
    let conv = Conv2d { geometry: Geometry { stride: 1, pad: 1 }, bias: false, residual: false };
    let mut y = x;
    for _ in 0..20 {
        y = tape.one(conv, &[y, w]).unwrap();
        y = tape.one(LeakyRelu { leak: 0.2 }, &[y]).unwrap();
    }
    let plan = tape.plan(&device(), &[y]).unwrap();
    assert!(plan.bytes() < 4 * spec.bytes(), "{} bytes for tensors of {}", plan.bytes(), spec.bytes());
    assert!(plan.bytes() >= plan.live_bytes() && plan.bytes() == plan.used_bytes());
}

#[test]
fn in_place_ops_take_no_memory_and_dead_nodes_do_not_run() {
    let mut tape = Tape::new();
    let spec = Spec::f32(&[1000]);
    let x = tape.input("x", spec);
    let mut y = x;
    for _ in 0..10 {
        y = tape.one(Axpby { a: 0.5, b: 0.0 }, &[y]).unwrap();
        tape.one(Mul, &[y, y]).unwrap();
    }
    let plan = tape.plan(&device(), &[y]).unwrap();
    assert_eq!((plan.len(), plan.count("mul")), (10, 0));
    // The input is kept, for the next run; all else shares one place.
    assert_eq!(plan.bytes(), 2 * spec.bytes().next_multiple_of(64));
    let mut plan = tape.plan(&device(), &[x, y]).unwrap();
    let data = content(spec, 0);
    plan.run(&mut State::new(), &[(x, HostTensor::F32(&data))]).unwrap();
    assert_eq!(plan.read::<f32>(x).unwrap(), data);
    assert_eq!(plan.read::<f32>(y).unwrap()[7], data[7] / 1024.0);
}

#[test]
fn fan_out_is_not_overwritten() {
    let mut tape = Tape::new();
    let x = tape.input("x", Spec::f32(&[3]));
    let y = tape.one(Axpby { a: 2.0, b: 0.0 }, &[x]).unwrap();
    let z = tape.one(Axpby { a: 1.0, b: 1.0 }, &[y, x]).unwrap();
    let w = tape.one(Mul, &[y, z]).unwrap();
    // Both operands are the same value: it cannot be overwritten while it is read.
    let v = tape.one(Axpby { a: 1.0, b: 1.0 }, &[w, w]).unwrap();
    let mut plan = tape.plan(&device(), &[v]).unwrap();
    plan.run(&mut State::new(), &[(x, HostTensor::F32(&[1.0, -2.0, 3.0]))]).unwrap();
    assert_eq!(plan.read::<f32>(v).unwrap(), [12.0, 48.0, 108.0]);
}
