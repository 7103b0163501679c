//! The tests that every op should have: values, gradients in float64, shape errors.

use custom_op::{Softplus, SoftplusGrad};
use engine::ops::reduce::SumAll;
use engine::testing::{Case, FillWith, check_gradients};
use engine::{Device, Error, HostTensor, Spec, State, Tape, grad};

#[test]
fn values_are_those_of_the_formula_and_do_not_overflow() {
    let mut tape = Tape::new();
    let x = tape.input("x", Spec::f32(&[4]));
    let y = tape.one(Softplus, &[x]).unwrap();
    let mut plan = tape.plan(&Device::cpu(1), &[y]).unwrap();
    plan.run(&mut State::new(), &[(x, HostTensor::F32(&[0.0, 1.0, -100.0, 100.0]))]).unwrap();
    let want = [std::f32::consts::LN_2, 1.313_261_7, 0.0, 100.0];
    for (got, want) in plan.read::<f32>(y).unwrap().iter().zip(want) {
        assert!((got - want).abs() < 1e-6, "{got}, not {want}");
    }
}

#[test]
fn gradients_agree_with_differences_in_float64() {
    let case = Case::new("softplus", &[(&[3, 5], FillWith::Normal)], |tape, x| tape.record(Softplus, x));
    assert_eq!(check_gradients(&case).unwrap(), 1);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let mut tape = Tape::new();
    let (x, n) = (tape.input("x", Spec::f32(&[3])), tape.input("n", Spec::i32(&[3])));
    let error = tape.one(SoftplusGrad, &[x, n]).unwrap_err();
    assert!(matches!(error, Error::Shape { op: "softplus_grad", .. }), "{error}");
    assert!(error.to_string().contains("softplus.rs:"), "{error}");
}

#[test]
fn there_is_no_second_gradient() {
    let mut tape = Tape::new();
    let x = tape.input("x", Spec::f32(&[3]));
    let sum = |tape: &mut Tape, v| tape.one(SumAll { factor: 1.0 }, &[v]).unwrap();
    let y = tape.one(Softplus, &[x]).unwrap();
    let y = sum(&mut tape, y);
    let dx = grad(&mut tape, y, &[x]).unwrap()[0];
    let squares = sum(&mut tape, dx);
    let error = grad(&mut tape, squares, &[x]).unwrap_err();
    assert!(matches!(error, Error::NoSecondOrder { op: "softplus_grad", .. }), "{error}");
}
