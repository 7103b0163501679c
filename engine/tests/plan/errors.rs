//! Errors say what is wrong, with which op and shapes, and where it was recorded.

use super::{device, f64s};
use engine::ops::elementwise::{Axpby, Identity, Mul};
use engine::ops::logsumexp::LogSumExp;
use engine::{Debugging, Device, Error, HostTensor, Level, Spec, State, Tape, grad};

#[test]
fn variables_of_another_tape_are_refused() {
    let (mut one, mut two) = (Tape::new(), Tape::new());
    let x = one.input("x", Spec::f32(&[3]));
    let y = two.input("y", Spec::f32(&[3]));
    let slot = State::new().add("s", Spec::f32(&[3])).unwrap();
    let errors = [
        two.one(Mul, &[y, x]).unwrap_err(),
        two.spec(x).unwrap_err(),
        two.assign(slot, x).unwrap_err(),
        two.plan(&device(), &[x]).unwrap_err(),
        grad(&mut two, x, &[y]).unwrap_err(),
    ];
    for e in errors {
        assert!(matches!(e, Error::Tape { .. }), "{e}");
        let text = e.to_string();
        assert!(text.contains("another tape") && text.contains("errors.rs:"), "{text}");
    }
    let s = two.one(engine::ops::reduce::SumAll { factor: 1.0 }, &[y]).unwrap();
    assert!(matches!(grad(&mut two, s, &[x]), Err(Error::Tape { .. })));
    let mut plan = two.plan(&device(), &[y]).unwrap();
    let data = [0.0f32; 3];
    let e =
        plan.run(&mut State::new(), &[(x, HostTensor::F32(&data)), (y, HostTensor::F32(&data))]).unwrap_err();
    assert!(e.to_string().contains("another tape"), "{e}");
    assert!(plan.read::<f32>(x).is_err() && plan.read::<f64>(y).is_err());
    // A tape keeps its tag when it moves.
    let moved = two;
    assert!(moved.spec(y).is_ok());
}

#[test]
fn gradients_want_a_real_scalar() {
    let mut tape = Tape::new();
    let x = tape.input("x", Spec::f32(&[3]));
    let n = tape.input("n", Spec::i32(&[1]));
    for v in [x, n] {
        let text = grad(&mut tape, v, &[x]).unwrap_err().to_string();
        assert!(text.contains("scalar") && text.contains("errors.rs:"), "{text}");
    }
}

#[test]
fn binds_are_checked() {
    let mut tape = Tape::new();
    let x = tape.input("image", Spec::f32(&[2, 3]));
    let y = tape.one(Axpby { a: 2.0, b: 0.0 }, &[x]).unwrap();
    let mut plan = tape.plan(&device(), &[y]).unwrap();
    let mut state = State::new();
    let missing = plan.run(&mut state, &[]).unwrap_err().to_string();
    assert!(missing.contains("`image`") && missing.contains("missing"), "{missing}");
    let (short, wide, ints) = ([0.0f32; 5], [0.0f64; 6], [0i32; 6]);
    for (host, what) in [
        (HostTensor::F32(&short), "5 elements of f32"),
        (HostTensor::F64(&wide), "of f64"),
        (HostTensor::I32(&ints), "of i32"),
    ] {
        let text = plan.run(&mut state, &[(x, host)]).unwrap_err().to_string();
        assert!(text.contains("`image`") && text.contains("f32[2×3]") && text.contains(what), "{text}");
    }
    assert!(plan.run(&mut state, &[(x, HostTensor::F32(&[0.0; 6]))]).is_ok());
}

#[test]
fn slots_that_do_not_fit_are_refused() {
    let mut state = State::new();
    let slot = state.add("w", Spec::f32(&[4])).unwrap();
    let mut tape = Tape::new();
    let x = tape.input("x", Spec::f32(&[5]));
    let text = tape.assign(slot, x).unwrap_err().to_string();
    assert!(text.contains("f32[4]") && text.contains("f32[5]") && text.contains("errors.rs:"), "{text}");
    let w = tape.read(slot);
    let y = tape.one(Axpby { a: 2.0, b: 0.0 }, &[w]).unwrap();
    let mut plan = tape.plan(&device(), &[y]).unwrap();
    // A state without the slot, and one whose slot has as many bytes of another kind.
    let mut other = State::new();
    assert!(matches!(plan.run(&mut other, &[]), Err(Error::Bind(_))));
    other.add("n", Spec::i32(&[4])).unwrap();
    assert!(matches!(plan.run(&mut other, &[]), Err(Error::Bind(_))));
    assert!(matches!(plan.run_shared(&other, &[]), Err(Error::Bind(_))));
    assert!(plan.run(&mut state, &[]).is_ok());
}

#[test]
fn shapes_that_do_not_fit_name_the_line() {
    let mut tape = Tape::new();
    let (x, y) = (tape.input("x", f64s(&[2, 3])), tape.input("y", f64s(&[3, 2])));
    let line = line!() + 1;
    let e = tape.one(Mul, &[x, y]).unwrap_err();
    let text = e.to_string();
    assert!(text.contains("mul") && text.contains("f64[2×3], f64[3×2]"), "{text}");
    assert!(text.contains(&format!("errors.rs:{line}:")), "{text}");
    assert!(tape.is_empty(), "a refused op was recorded");
}

#[test]
fn the_nan_mode_names_op_element_and_line() {
    let debug = Debugging { nan: true, ..Debugging::default() };
    let device = Device::cpu_with(1, Level::Avx512, debug);
    let mut tape = Tape::new();
    let x = tape.input("x", f64s(&[2, 2]));
    let line = line!() + 1;
    let y = tape.one(Mul, &[x, x]).unwrap();
    let z = tape.one(LogSumExp, &[y]).unwrap();
    let mut plan = tape.plan(&device, &[z]).unwrap();
    let e = plan.run(&mut State::new(), &[(x, HostTensor::F64(&[1.0, 2.0, 1e200, 3.0]))]).unwrap_err();
    let text = e.to_string();
    assert!(matches!(e, Error::NonFinite { op: "mul", output: 0, index: 2, .. }), "{text}");
    assert!(text.contains("mul") && text.contains("inf") && text.contains("element 2"), "{text}");
    assert!(text.contains(&format!("errors.rs:{line}:")) && text.contains("f64[2×2]"), "{text}");
    assert!(plan.run(&mut State::new(), &[(x, HostTensor::F64(&[1.0; 4]))]).is_ok());
    // Without the debug mode the run succeeds and returns the NaN.
    let mut plan = tape.plan(&Device::cpu(1), &[z]).unwrap();
    plan.run(&mut State::new(), &[(x, HostTensor::F64(&[1.0, 2.0, f64::NAN, 3.0]))]).unwrap();
    let out = plan.read::<f64>(z).unwrap();
    assert!(out[0].is_finite() && out[1].is_nan());
}

#[test]
fn the_nan_mode_looks_into_slots() {
    let device = Device::cpu_with(1, Level::Avx512, Debugging { nan: true, ..Debugging::default() });
    let mut state = State::new();
    let slot = state.add("w", Spec::f32(&[2])).unwrap();
    state.set(slot, &[1.0f32, 3e38]).unwrap();
    let mut tape = Tape::new();
    let w = tape.read(slot);
    let y = tape.one(Axpby { a: 2.0, b: 0.0 }, &[w]).unwrap();
    tape.assign(slot, y).unwrap();
    let e = tape.plan(&device, &[]).unwrap().run(&mut state, &[]).unwrap_err();
    assert!(matches!(e, Error::NonFinite { op: "axpby", index: 1, .. }), "{e}");
}

#[test]
fn debug_modes_are_parsed() {
    let all = Debugging { nan: true, validate: true, plan: true };
    assert_eq!(Debugging::parse("nan, validate,plan").unwrap(), all);
    assert_eq!(Debugging::parse("").unwrap(), Debugging::default());
    let text = Debugging::parse("nan,nam").unwrap_err();
    assert!(text.contains("`nam`") && text.contains("validate"), "{text}");
}

/// More than any address space holds, so that no system tries to allocate it.
#[test]
fn out_of_memory_names_the_largest_tensors() {
    let huge = Spec::f32(&[1 << 24, 1 << 24]);
    let mut tape = Tape::new();
    let x = tape.input("x", huge);
    let y = tape.one(Identity, &[x]).unwrap();
    match tape.plan(&Device::cpu(1), &[y]) {
        Err(Error::OutOfMemory(e)) => {
            // The input is kept beside the result.
            assert_eq!(e.wanted, 1 << 51);
            assert!(e.to_string().contains("f32[16777216×16777216], 1048576.0 GiB"), "{e}");
        }
        other => panic!("{other:?}"),
    }
    match State::new().add("huge", huge) {
        Err(e @ Error::OutOfMemory(_)) => assert!(e.to_string().contains("slot huge"), "{e}"),
        other => panic!("{other:?}"),
    }
}
