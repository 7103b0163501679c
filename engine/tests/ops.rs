//! Every stem of the registry: shape errors, float64 gradients, SIMD levels and threads against the plain form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;

use cases::{Data, Program, close, data, differentiable, each, only_f32, record};
use engine::ops::registry;
use engine::{DType, Debugging, Device, Error, Level, Tape};
use std::collections::BTreeSet;

/// Largest |a − b| / max|b| that float32 may show against float64, for sums of up to a few hundred terms.
const F32: f64 = 2e-6;
/// Gradients in float64 against central differences.
const GRADIENT: f64 = 1e-6;

#[test]
fn misfits_are_refused_with_op_shapes_and_site() {
    for (stem, cases) in registry() {
        assert!(!cases.misfits.is_empty(), "{stem} has no misfit");
        for case in &cases.misfits {
            match record(case, DType::F32, false) {
                Err(e @ Error::Shape { .. }) => {
                    let text = e.to_string();
                    assert!(
                        text.contains(&format!("ops/{stem}.rs")),
                        "{stem}: {text} lacks the recording site"
                    );
                    assert!(text.contains('['), "{stem}: {text} lacks the shapes");
                }
                Err(e) => panic!("{stem} {}: {e} is no shape error", case.name),
                Ok(_) => panic!("{stem} {} was accepted", case.name),
            }
        }
    }
}

#[test]
fn gradients_agree_with_central_differences_in_float64() {
    let device = Device::cpu(1);
    let mut checked = 0;
    each(|what, case| {
        if !differentiable(case) {
            return;
        }
        let program = record(case, DType::F64, true).unwrap_or_else(|e| panic!("{what}: {e}"));
        let data = data(case);
        let n = program.outputs.len();
        let base = program.run(&device, &data, DType::F64);
        let loss = Program { grads: Vec::new(), ..record(case, DType::F64, true).unwrap() };
        for (g, (input, _)) in program.grads.iter().enumerate() {
            let got = &base[n + 1 + g];
            let Data::Real(x) = &data[*input] else { panic!("{what}: no real input") };
            // All elements of small inputs, a fixed sample of larger ones.
            let step = x.len().div_ceil(40).max(1);
            let mut want = got.clone();
            for i in (0..x.len()).step_by(step) {
                let at = |h: f64| {
                    let mut moved = data.clone();
                    let Data::Real(x) = &mut moved[*input] else { panic!("{what}") };
                    x[i] += h;
                    loss.run(&device, &moved, DType::F64)[n][0]
                };
                // Fourth order, so that truncation stays below the tolerance; small, so that no rectifier's input
                // crosses zero within the step.
                let h = 1e-5;
                want[i] = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            }
            close(&format!("{what}: gradient of input {input}"), got, &want, GRADIENT);
            checked += 1;
        }
    });
    assert!(checked > 50, "only {checked} gradients were checked");
}

#[test]
fn simd_levels_agree_with_the_plain_form() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let device = Device::cpu_with(2, level, Debugging { nan: true, validate: true, plan: false });
        if device.as_cpu().unwrap().simd.level() != level {
            println!("skipped {level:?}: this machine does not have it");
            continue;
        }
        let plain = Device::cpu(1);
        each(|what, case| {
            if only_f32(case) {
                return;
            }
            let go = |dtype, device: &Device| {
                record(case, dtype, differentiable(case)).unwrap().run(device, &data(case), dtype)
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
        let program = record(case, DType::F32, differentiable(case)).unwrap();
        let all = devices.each_ref().map(|d| program.run(d, &data(case), DType::F32));
        let bits = |r: &Vec<Vec<f64>>| r.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&all[0]), bits(&all[1]), "{what}: 1 and 2 threads");
        assert_eq!(bits(&all[0]), bits(&all[2]), "{what}: 1 and 3 threads");
    });
}

/// Every op named in `src/ops` is run by some case, forward or as a gradient.
#[test]
fn every_op_has_a_test_and_every_stem_a_benchmark() {
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
    let tapes: Vec<Tape> = registry()
        .iter()
        .flat_map(|(_, c)| c.small.iter())
        .map(|c| {
            let dtype = if only_f32(c) { DType::F32 } else { DType::F64 };
            record(c, dtype, differentiable(c)).unwrap().tape
        })
        .collect();
    let missing: Vec<_> = named.iter().filter(|n| tapes.iter().all(|t| t.count(n) == 0)).collect();
    assert!(missing.is_empty(), "ops without a test case: {missing:?}");
    let idle: Vec<_> = registry().into_iter().filter(|(_, c)| c.bench.is_empty()).map(|(s, _)| s).collect();
    assert!(idle.is_empty(), "stems without a benchmark: {idle:?}");
}
