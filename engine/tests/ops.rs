//! Every op of the registry: shape errors, gradients in float64, SIMD levels against float64, any number of threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;

use cases::{bits, close, each, only_f32, record};
use engine::op::{Cpu, Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, real};
use engine::ops::elementwise::Mul;
use engine::ops::registry;
use engine::testing::{
    Case, CaseProgram, FillWith, GradientError, case_inputs, check_gradients, is_differentiable,
};
use engine::{DType, Debugging, Device, Error, Level, Node, Spec, Tape, Var};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Largest |a − b| / max|b| that float32 may show against float64, for sums of up to a few hundred terms.
const F32: f64 = 2e-6;

#[test]
fn invalid_inputs_are_refused_with_op_shapes_and_line() {
    for (op, cases) in registry() {
        assert!(!cases.invalid.is_empty(), "{op} has no invalid case");
        for case in &cases.invalid {
            match CaseProgram::record(case, DType::F32, false) {
                Err(e @ Error::Shape { .. }) => {
                    let text = e.to_string();
                    assert!(text.contains(&format!("ops/{op}.rs")), "{op}: {text} lacks the line");
                    assert!(text.contains('['), "{op}: {text} lacks the shapes");
                }
                Err(e) => panic!("{op} {}: {e} is not a shape error", case.name),
                Ok(_) => panic!("{op} {} was accepted", case.name),
            }
        }
    }
}

#[test]
fn gradients_agree_with_central_differences_in_float64() {
    let mut checked = 0;
    each(|what, case| {
        if is_differentiable(case) {
            checked += check_gradients(case).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    });
    assert!(checked > 50, "only {checked} gradients were checked");
}

/// y = x², with a gradient that is wrong by a factor.
#[derive(Debug)]
struct WrongGradient;

impl Op for WrongGradient {
    fn name(&self) -> &'static str {
        "wrong_gradient"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        Ok(x.to_vec())
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            let x = io.input::<T>(0)?;
            io.output::<T>(0)?.iter_mut().zip(x).for_each(|(y, x)| *y = x * x);
            Ok(())
        }))
    }
    fn vjp(
        &self,
        t: &mut Tape,
        node: &Node,
        dy: &[Option<Var>],
        want: &GradRequest,
    ) -> engine::Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(Mul, &[node.inputs[0], dy]))?])
    }
}

#[test]
fn a_wrong_gradient_is_found_and_named() {
    let case = |fill| Case::new("square", &[(&[2, 3], fill)], |t, x| t.record(WrongGradient, x));
    let error = check_gradients(&case(FillWith::Normal)).unwrap_err();
    assert!(matches!(error, GradientError::Mismatch { input: 0, .. }), "{error}");
    assert!(error.to_string().contains("case `square`: the gradient of input 0"), "{error}");
    let error = check_gradients(&case(FillWith::Fixed)).unwrap_err();
    assert!(matches!(error, GradientError::NothingToCheck(_)), "{error}");
    let refused = Case::new("refused", &[(&[2], FillWith::Normal), (&[2], FillWith::Fixed)], |t, x| {
        t.record(WrongGradient, x)
    });
    let error = check_gradients(&refused).unwrap_err().to_string();
    assert!(error.contains("takes 1 input, got 2") && error.contains("ops.rs:"), "{error}");
}

#[test]
fn simd_levels_agree_with_float64() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let device = Device::cpu_with(2, level, Debugging { nan: true, validate: true, plan: false });
        if device.instruction_set() != Some(level) {
            println!("skipped {level:?}: this machine does not have it");
            continue;
        }
        let plain = Device::cpu(1);
        each(|what, case| {
            if only_f32(case) {
                return;
            }
            let go = |dtype, device: &Device| {
                record(case, dtype).unwrap().run(device, &case_inputs(case), dtype).unwrap()
            };
            let (got, want) = (go(DType::F32, &device), go(DType::F64, &plain));
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                close(&format!("{what}, {level:?}, output {i}"), g, w, 10.0 * F32);
            }
        });
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let devices = [1, 2, 3].map(Device::cpu);
    each(|what, case| {
        let program = record(case, DType::F32).unwrap();
        let all = devices.each_ref().map(|d| program.run(d, &case_inputs(case), DType::F32).unwrap());
        assert_eq!(bits(&all[0]), bits(&all[1]), "{what}: 1 and 2 threads");
        assert_eq!(bits(&all[0]), bits(&all[2]), "{what}: 1 and 3 threads");
    });
}

/// Every op named in `src/ops` is run by some case, forward or as a gradient.
#[test]
fn every_op_has_a_test_and_a_benchmark() {
    let mut named = BTreeSet::new();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ops");
    for file in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for part in text.split("fn name(&self) -> &'static str {").skip(1) {
            let body = part.split('}').next().unwrap();
            named.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    assert!(named.len() > 35, "{named:?}");
    let tapes: Vec<Arc<Tape>> = registry()
        .iter()
        .flat_map(|(_, c)| c.small.iter())
        .map(|c| {
            let dtype = if only_f32(c) { DType::F32 } else { DType::F64 };
            record(c, dtype).unwrap().tape
        })
        .collect();
    let missing: Vec<_> = named.iter().filter(|n| tapes.iter().all(|t| t.count(n) == 0)).collect();
    assert!(missing.is_empty(), "ops without a test case: {missing:?}");
    let idle: Vec<_> = registry().into_iter().filter(|(_, c)| c.bench.is_empty()).map(|(s, _)| s).collect();
    assert!(idle.is_empty(), "ops without a benchmark: {idle:?}");
}
