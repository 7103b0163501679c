//! Every stem of the registry: shape errors, float64 gradients, SIMD levels and threads against the plain form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::ops::elementwise::Mul;
use engine::ops::reduce::SumAll;
use engine::ops::{Case, Fill, registry};
use engine::rng::{Philox, Stream};
use engine::{DType, Debugging, Device, Error, Host, Level, Spec, State, Tape, Var, grad};
use std::collections::BTreeSet;

/// Largest |a − b| / max|b| that float32 may show against float64, for sums of up to a few hundred terms.
const F32: f64 = 2e-6;
/// Gradients in float64 against central differences.
const GRADIENT: f64 = 1e-6;

#[derive(Clone, Debug)]
enum Data {
    Real(Vec<f64>),
    Int(Vec<i32>),
    Byte(Vec<u8>),
}

fn data(case: &Case) -> Vec<Data> {
    let mut rng = Philox::new(17, Stream::Test, case.name.len() as u32);
    let real = |n: usize, f: &mut dyn FnMut() -> f64| Data::Real((0..n).map(|_| f()).collect());
    case.inputs
        .iter()
        .map(|(shape, fill)| {
            let n = shape.iter().product();
            match fill {
                Fill::Normal | Fill::Fixed => real(n, &mut || f64::from(rng.normal())),
                Fill::Positive => real(n, &mut || 0.5 + f64::from(rng.uniform())),
                Fill::Below(k) => Data::Int((0..n).map(|_| rng.below(*k as u32) as i32).collect()),
                Fill::Ints(v) => Data::Int(v.clone()),
                Fill::Bytes => Data::Byte((0..n).map(|_| rng.below(256) as u8).collect()),
            }
        })
        .collect()
}

struct Program {
    inputs: Vec<Var>,
    outputs: Vec<Var>,
    loss: Option<Var>,
    grads: Vec<(usize, Var)>,
    tape: Tape,
}

/// Records the case with real inputs of `dtype`; the loss is a fixed random combination of all its outputs.
fn record(case: &Case, dtype: DType, with_grad: bool) -> engine::Result<Program> {
    let mut tape = Tape::new();
    let inputs: Vec<Var> = case
        .inputs
        .iter()
        .map(|(shape, fill)| {
            let dtype = match fill {
                Fill::Below(_) | Fill::Ints(_) => DType::I32,
                Fill::Bytes => DType::U8,
                _ => dtype,
            };
            tape.input("x", Spec::new(shape, dtype))
        })
        .collect();
    let outputs = (case.record)(&mut tape, &inputs)?;
    let (mut loss, mut grads) = (None, Vec::new());
    if with_grad {
        for (i, y) in outputs.iter().enumerate() {
            let spec = tape.spec(*y)?;
            // A quadratic term, so that the gradient of the output differs from element to element.
            let square = tape.one(Mul, &[*y, *y])?;
            let a = tape.one(SumAll { factor: 0.3 + i as f64 }, &[square])?;
            let b = tape.one(SumAll { factor: 1.0 / spec.len() as f64 }, &[*y])?;
            for v in [a, b] {
                let sum = |l| tape.one(engine::ops::elementwise::Axpby { a: 1.0, b: 1.0 }, &[l, v]);
                loss = Some(loss.map_or(Ok(v), sum)?);
            }
        }
        let wrt: Vec<usize> = (0..inputs.len())
            .filter(|i| matches!(case.inputs[*i].1, Fill::Normal | Fill::Positive))
            .collect();
        let vars: Vec<Var> = wrt.iter().map(|i| inputs[*i]).collect();
        if let Some(l) = loss {
            grads = wrt.into_iter().zip(grad(&mut tape, l, &vars)?).collect();
        }
    }
    Ok(Program { inputs, outputs, loss, grads, tape })
}

impl Program {
    /// Runs and returns outputs, then loss, then gradients, as float64.
    fn run(&self, device: &Device, data: &[Data], dtype: DType) -> Vec<Vec<f64>> {
        let mut read = self.outputs.clone();
        read.extend(self.loss);
        read.extend(self.grads.iter().map(|g| g.1));
        let mut plan = self.tape.plan(device, &read).unwrap();
        let narrow: Vec<Vec<f32>> = data
            .iter()
            .map(|d| if let Data::Real(x) = d { x.iter().map(|v| *v as f32).collect() } else { Vec::new() })
            .collect();
        let binds: Vec<(Var, Host)> = (0..data.len())
            .map(|i| {
                let host = match (&data[i], dtype) {
                    (Data::Real(x), DType::F64) => Host::F64(x),
                    (Data::Real(_), _) => Host::F32(&narrow[i]),
                    (Data::Int(x), _) => Host::I32(x),
                    (Data::Byte(x), _) => Host::U8(x),
                };
                (self.inputs[i], host)
            })
            .collect();
        plan.run(&mut State::new(), &binds).unwrap();
        read.iter()
            .map(|v| match plan.read::<f64>(*v) {
                Ok(x) => x.to_vec(),
                Err(_) => plan.read::<f32>(*v).unwrap().iter().map(|x| f64::from(*x)).collect(),
            })
            .collect()
    }
}

fn differentiable(case: &Case) -> bool {
    case.inputs.iter().any(|(_, f)| matches!(f, Fill::Normal | Fill::Positive))
}

fn only_f32(case: &Case) -> bool {
    case.inputs.iter().any(|(_, f)| *f == Fill::Bytes)
}

fn each(mut f: impl FnMut(&str, &Case)) {
    for (stem, cases) in registry() {
        assert!(!cases.small.is_empty(), "{stem} has no test case");
        cases.small.iter().for_each(|c| f(&format!("{stem}: {}", c.name), c));
    }
}

fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * scale, "{what}: element {i} is {g}, not {w} (scale {scale})");
    }
}

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
