//! bf16 on the CPU, the reference for a GPU's: every op that takes bf16, against float32.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;

use cases::{close, each, record, rounded, spec};
use engine::ops::cast::Cast;
use engine::ops::conv2d::{Conv2d, Geometry};
use engine::ops::elementwise::Axpby;
use engine::ops::sgd::Sgd;
use engine::testing::{CaseProgram, FillWith};
use engine::{DType, Debugging, Device, Error, HostTensor, Level, Plan, Spec, State, Tape, Var, bf16};

/// The error of one rounding to bf16, relative to the largest value: half of 2⁻⁷.
const ONCE: f64 = 0.00391;
/// Largest |a − b| / max|b| of gradients: intermediate values are rounded too, at most four times.
const GRADIENT: f64 = 4.0 * ONCE;

fn checked() -> Device {
    Device::cpu_with(2, Level::Avx512, Debugging { nan: true, validate: true, plan: false })
}

/// Both programs start from the same values. Float32 outputs of bf16 programs, such as statistics and sums, come from the
/// same operations on the same values: they must be equal to the bit.
#[test]
fn every_case_follows_float32() {
    let device = checked();
    let (mut cases, mut exact) = (0, 0);
    each(|what, case| {
        if case.bf16.is_empty() {
            return;
        }
        let data = rounded(case);
        let go = |dtype| {
            let p = record(case, dtype).unwrap();
            let results = p.run(&device, &data, dtype).unwrap();
            (p, results)
        };
        let ((low, got), (_, want)) = (go(DType::BF16), go(DType::F32));
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let what = format!("{what}, result {i}");
            match low.outputs.get(i) {
                Some(v) if spec(&low, *v).dtype == DType::F32 => {
                    close(&what, got, want, 0.0);
                    exact += 1;
                }
                Some(_) => close(&what, got, want, 2.0 * ONCE),
                None => close(&what, got, want, GRADIENT),
            }
        }
        cases += 1;
    });
    assert!(cases > 35 && exact > 10, "{cases} cases, {exact} results in float32");
}

/// bf16 inputs that the op does not take (weights, coefficients, logits) are refused when the op is recorded.
#[test]
fn other_inputs_are_refused_in_bf16() {
    let mut refused = 0;
    each(|what, case| {
        let real = |i: &usize| {
            !matches!(case.inputs[*i].1, FillWith::Below(_) | FillWith::Ints(_) | FillWith::Bytes)
        };
        let all: Vec<usize> = (0..case.inputs.len()).filter(real).collect();
        if all == case.bf16 {
            return;
        }
        let everything = case.clone().bf16(&all);
        match CaseProgram::record(&everything, DType::BF16, false) {
            Err(Error::Shape { .. }) => refused += 1,
            Err(e) => panic!("{what}: {e}"),
            Ok(_) => panic!("{what}: accepted in bf16"),
        }
    });
    assert!(refused > 30, "{refused}");
}

fn run(tape: &Tape, read: &[Var], state: &mut State, binds: &[(Var, HostTensor<'_>)]) -> Plan {
    let mut plan = tape.plan(&checked(), read).unwrap();
    plan.run(state, binds).unwrap();
    plan
}

fn low(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|v| bf16::from_f32(*v)).collect()
}

/// Ties go to even, infinities stay, and the conversion back is exact.
#[test]
fn casts_round_to_nearest_even() {
    let x = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -3.4e38, 1e-40, f32::MIN_POSITIVE];
    let want = [1.0, 1.0, 1.0 + 4.0 / 256.0, f32::from_bits(0xff80_0000), 9.183_55e-41, f32::MIN_POSITIVE];
    let mut tape = Tape::new();
    let v = tape.input("x", Spec::f32(&[6]));
    let narrow = tape.one(Cast { to: DType::BF16 }, &[v]).unwrap();
    let wide = tape.one(Cast { to: DType::F32 }, &[narrow]).unwrap();
    let mut plan = tape.plan(&Device::cpu(1), &[narrow, wide]).unwrap();
    plan.run(&mut State::new(), &[(v, HostTensor::F32(&x))]).unwrap();
    assert_eq!(plan.fetch::<bf16>(narrow).unwrap(), low(&want));
    let back = plan.fetch::<f32>(wide).unwrap();
    assert!(back.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-45 || *a == b), "{back:?}");
}

/// s ← x ∗ w + s, written in place, and written elsewhere because s is read once more.
#[test]
fn values_in_place_equal_those_out_of_place() {
    let spec = Spec::new(&[1, 3, 3, 2], DType::BF16);
    let start: Vec<f32> = (0..18).map(|i| (i as f32 - 7.0) / 9.0).collect();
    let filters: Vec<f32> = (0..4).map(|i| i as f32 / 3.0 - 0.4).collect();
    let go = |keep: bool| {
        let mut state = State::new();
        let slot = state.add("s", spec).unwrap();
        state.set(slot, &low(&start)).unwrap();
        let mut tape = Tape::new();
        let x = tape.input("x", spec);
        let w = tape.input("w", Spec::new(&[2, 1, 1, 2], DType::BF16));
        let old = tape.read(slot);
        let geometry = Geometry { stride: 1, pad: 0 };
        let new = tape.one(Conv2d { geometry, bias: false, residual: true }, &[x, w, old]).unwrap();
        tape.assign(slot, new).unwrap();
        let kept = tape.one(Axpby { a: 1.0, b: 0.0 }, &[old]).unwrap();
        let read: &[Var] = if keep { &[kept] } else { &[] };
        run(
            &tape,
            read,
            &mut state,
            &[(x, HostTensor::BF16(&low(&start))), (w, HostTensor::BF16(&low(&filters)))],
        );
        state.fetch::<bf16>(slot).unwrap()
    };
    let (in_place, elsewhere) = (go(false), go(true));
    assert_eq!(in_place, elsewhere);
    for (i, v) in elsewhere.iter().enumerate() {
        let at = |k: usize| low(&start)[i - i % 2 + k].to_f32();
        let w = |k: usize| low(&filters)[i % 2 * 2 + k].to_f32();
        let want = low(&start)[i].to_f32() + at(0) * w(0) + at(1) * w(1);
        assert!((v.to_f32() - want).abs() <= 0.004 * want.abs().max(1e-3), "{i}: {v} {want}");
    }
}

/// The copy is the new weight, rounded; weight and velocity equal those of a step without a copy.
#[test]
fn sgd_rounds_its_copy_once() {
    let n = 37;
    let values = |k: f32| (0..n).map(|i| (i as f32 * k).sin()).collect::<Vec<f32>>();
    let step = |copy| {
        let mut state = State::new();
        let spec = Spec::f32(&[n]);
        let slots = ["w", "v"].map(|name| state.add(name, spec).unwrap());
        let third = state.add("copy", spec.with_dtype(DType::BF16)).unwrap();
        state.set(slots[0], &values(1.3)).unwrap();
        state.set(slots[1], &values(0.7)).unwrap();
        let mut tape = Tape::new();
        let (g, lr) = (tape.input("g", spec), tape.input("lr", Spec::f32(&[])));
        let (w, v) = (tape.read(slots[0]), tape.read(slots[1]));
        let op = Sgd::one(0.9, 4e-4, copy);
        let new = tape.record(op, &[w, v, g, lr]).unwrap();
        assert_eq!(new.len(), 2 + usize::from(copy));
        for (slot, v) in slots.into_iter().chain([third]).zip(&new) {
            tape.assign(slot, *v).unwrap();
        }
        run(&tape, &[], &mut state, &[(g, HostTensor::F32(&values(2.1))), (lr, HostTensor::F32(&[0.1]))]);
        let masters = slots.map(|s| state.fetch::<f32>(s).unwrap());
        (masters, state.fetch::<bf16>(third).unwrap())
    };
    let ((with, copy), (without, _)) = (step(true), step(false));
    assert_eq!(with, without);
    assert_eq!(copy, low(&with[0]));
}

#[test]
fn infinities_in_bf16_are_found() {
    let mut tape = Tape::new();
    let x = tape.input("x", Spec::f32(&[3]));
    let y = tape.one(Cast { to: DType::BF16 }, &[x]).unwrap();
    let mut plan = tape.plan(&checked(), &[y]).unwrap();
    // The largest float32 rounds to infinity.
    match plan.run(&mut State::new(), &[(x, HostTensor::F32(&[1.0, f32::MAX, 2.0]))]) {
        Err(Error::NonFinite { op: "cast", index: 1, value, .. }) => assert!(value.is_infinite()),
        other => panic!("{other:?}"),
    }
}
