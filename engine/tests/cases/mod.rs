//! The registry's cases: what the tests of ops share.
#![allow(dead_code)]

use engine::ops::registry;
use engine::testing::{Case, CaseInput, CaseProgram, FillWith, case_inputs};
use engine::{DType, Spec, Var, bf16};

/// A case recorded with gradients if it has any.
pub(crate) fn record(case: &Case, real: DType) -> engine::Result<CaseProgram> {
    CaseProgram::record(case, real, engine::testing::is_differentiable(case))
}

/// The spec of a value of a program.
pub(crate) fn spec(program: &CaseProgram, v: Var) -> Spec {
    program.tape.spec(v).unwrap()
}

/// The inputs with every input of `Case::bf16` rounded to bf16, so that programs of either type begin with the same values.
pub(crate) fn rounded(case: &Case) -> Vec<CaseInput> {
    let mut all = case_inputs(case);
    for i in &case.bf16 {
        if let CaseInput::Real(x) = &mut all[*i] {
            x.iter_mut().for_each(|v| *v = f64::from(bf16::from_f64(*v).to_f32()));
        }
    }
    all
}

pub(crate) fn only_f32(case: &Case) -> bool {
    case.inputs.iter().any(|(_, f)| *f == FillWith::Bytes)
}

pub(crate) fn each(mut f: impl FnMut(&str, &Case)) {
    for (op, cases) in registry() {
        assert!(!cases.small.is_empty(), "{op} has no test case");
        cases.small.iter().for_each(|c| f(&format!("{op}: {}", c.name), c));
    }
}

/// The bits of all results of a run.
pub(crate) fn bits(results: &[Vec<f64>]) -> Vec<u64> {
    results.iter().flatten().map(|v| v.to_bits()).collect()
}

pub(crate) fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * scale, "{what}: element {i} is {g}, not {w} (scale {scale})");
    }
}
