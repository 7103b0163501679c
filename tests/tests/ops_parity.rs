//! Every op compared with PyTorch's float64 values (`tests/fixtures/ops.safetensors`): values and gradients, in float64
//! by the portable code and in float32 at each SIMD level of this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::ops::adam::{self, Adam};
use engine::ops::bn_coeffs::BnCoeffs;
use engine::ops::bn_stats::BnStats;
use engine::ops::conv2d::{Conv2d, Conv2dInputGrad, Geometry};
use engine::ops::counter::Advance;
use engine::ops::elementwise::Mul;
use engine::ops::global_avg_pool::GlobalAvgPool;
use engine::ops::label::GatherLabel;
use engine::ops::leaky_relu::LeakyRelu;
use engine::ops::linear::Linear;
use engine::ops::logsumexp::LogSumExp;
use engine::ops::pyld_step::{Args, PyldStep};
use engine::ops::reduce::SumAll;
use engine::ops::scale_shift_leaky::ScaleShiftLeaky;
use engine::ops::sgd::Sgd;
use engine::ops::softmax_cross_entropy::SoftmaxCrossEntropy;
use engine::rng::Stream;
use engine::{DType, Debugging, Device, HostTensor, Level, Spec, State, Tape, Var, grad};
use jempp_tests::{Fixture, Tensor};
use serde_json::Value;

/// Largest |a − b| over the largest |b| of a tensor: op, float64, float32. The latter is about four times what is
/// observed; the longest sums have the largest errors: convolutions, and batch statistics of a case with mean 100 and
/// standard deviation 1.
const TOLERANCES: [(&str, f64, f64); 12] = [
    ("conv", 1e-13, 6e-6),
    ("bn_train", 1e-13, 6e-6),
    ("bn_eval", 1e-13, 6e-7),
    ("leaky_relu", 0.0, 5e-8),
    ("avg_pool", 1e-13, 1e-6),
    ("linear", 1e-13, 6e-7),
    ("logsumexp", 2e-12, 4e-7),
    ("cross_entropy", 1e-13, 4e-7),
    ("gather_label", 0.0, 0.0),
    ("sgd", 1e-13, 7e-7),
    ("adam", 1e-13, 7e-7),
    ("pyld", 1e-13, 2e-6),
];

/// One case of the fixture, being recorded: inputs are bound by name, results compared by name.
struct Run<'a> {
    fixture: &'a Fixture,
    case: String,
    meta: Value,
    dtype: DType,
    tape: Tape,
    inputs: Vec<(Var, Tensor)>,
    /// (name in the fixture, value)
    results: Vec<(String, Var)>,
}

impl Run<'_> {
    fn number(&self, key: &str) -> f64 {
        self.meta[key].as_f64().unwrap_or_else(|| panic!("{} lacks {key}", self.case))
    }

    fn size(&self, key: &str) -> usize {
        self.meta[key].as_u64().unwrap_or_else(|| panic!("{} lacks {key}", self.case)) as usize
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.fixture.tensor(&format!("{}.{name}", self.case)).unwrap().clone().channels_last()
    }

    fn input(&mut self, name: &str) -> Var {
        let t = self.tensor(name);
        let dtype = if name == "labels" { DType::I32 } else { self.dtype };
        let v = self.tape.input(name, Spec::new(&t.shape, dtype));
        self.inputs.push((v, t));
        v
    }

    fn result(&mut self, name: &str, v: Var) {
        self.results.push((name.to_owned(), v));
    }

    fn one(&mut self, op: impl engine::op::Op, inputs: &[Var]) -> Var {
        self.tape.one(op, inputs).unwrap_or_else(|e| panic!("{}: {e}", self.case))
    }

    /// y, and the gradients of ⟨y, dy⟩ for the named inputs.
    fn value_and_grads(&mut self, y: Var, wrt: &[(&str, Var)]) {
        let dy = self.input("dy");
        let product = self.one(Mul, &[y, dy]);
        let l = self.one(SumAll { factor: 1.0 }, &[product]);
        self.result("y", y);
        self.grads(l, wrt);
    }

    fn grads(&mut self, l: Var, wrt: &[(&str, Var)]) {
        let vars: Vec<Var> = wrt.iter().map(|w| w.1).collect();
        for (g, (name, _)) in grad(&mut self.tape, l, &vars).unwrap().into_iter().zip(wrt) {
            self.results.push((format!("d{name}"), g));
        }
    }

    fn check(&self, device: &Device, tolerance: f64) -> f64 {
        let outputs: Vec<Var> = self.results.iter().map(|r| r.1).collect();
        let mut plan = self.tape.plan(device, &outputs).unwrap();
        let narrow: Vec<Vec<f32>> = self.inputs.iter().map(|(_, t)| t.f32s()).collect();
        let ints: Vec<Vec<i32>> = self.inputs.iter().map(|(_, t)| t.ints()).collect();
        let binds: Vec<(Var, HostTensor)> = (0..self.inputs.len())
            .map(|i| {
                let (v, t) = &self.inputs[i];
                match self.tape.spec(*v).unwrap().dtype {
                    DType::F64 => (*v, HostTensor::F64(&t.data)),
                    DType::I32 => (*v, HostTensor::I32(&ints[i])),
                    _ => (*v, HostTensor::F32(&narrow[i])),
                }
            })
            .collect();
        plan.run(&mut State::new(), &binds).unwrap();
        let results = self.results.iter().map(|(name, v)| {
            let got = match plan.read::<f64>(*v) {
                Ok(x) => x.to_vec(),
                Err(_) => plan.read::<f32>(*v).unwrap().iter().map(|x| f64::from(*x)).collect(),
            };
            close(&format!("{}.{name}, {device}", self.case), &got, &self.tensor(name), tolerance)
        });
        results.fold(0.0, f64::max)
    }
}

/// Checks |got − want| relative to the largest |want|, and returns the largest ratio.
fn close(what: &str, got: &[f64], want: &Tensor, tolerance: f64) -> f64 {
    assert_eq!(got.len(), want.data.len(), "{what}");
    let scale = want.data.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let mut worst = 0.0f64;
    for (i, (g, w)) in got.iter().zip(&want.data).enumerate() {
        let error = (g - w).abs() / scale;
        // A gradient that is zero in exact arithmetic has no scale of its own.
        assert!(
            error <= tolerance || (g - w).abs() < 1e-30,
            "{what}: element {i} is {g}, not {w} ({error:.1e})"
        );
        worst = worst.max(error);
    }
    worst
}

/// float64, then float32 at each SIMD level available.
fn devices() -> Vec<(DType, Device)> {
    let debug = Debugging { nan: true, validate: true, plan: false };
    let mut all = vec![(DType::F64, Device::cpu_with(2, Level::Avx512, debug))];
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let device = Device::cpu_with(2, level, debug);
        if device.as_cpu().unwrap().simd.level() == level {
            all.push((DType::F32, device));
        } else {
            println!("skipped {level:?}: this machine does not have it");
        }
    }
    all
}

/// Runs all cases of an op as recorded by `record`.
fn each(stem: &str, record: impl Fn(&mut Run<'_>)) {
    let fixture = Fixture::load("ops.safetensors").unwrap();
    let (_, double, single) = TOLERANCES.into_iter().find(|t| t.0 == stem).unwrap();
    for (dtype, device) in devices() {
        let tolerance = if dtype == DType::F64 { double } else { single };
        let mut worst = 0.0f64;
        for (case, meta) in fixture.cases(stem).unwrap() {
            let mut run = Run {
                fixture: &fixture,
                case,
                meta,
                dtype,
                tape: Tape::new(),
                inputs: Vec::new(),
                results: Vec::new(),
            };
            record(&mut run);
            worst = worst.max(run.check(&device, tolerance));
        }
        println!("{stem:14} {dtype} on {device}: {worst:.1e}");
    }
}

#[test]
fn convolutions() {
    each("conv", |r| {
        let geometry = Geometry { stride: r.size("stride"), pad: r.size("pad") };
        let [x, w, b] = ["x", "w", "b"].map(|n| r.input(n));
        let y = r.one(Conv2d { geometry, bias: true, residual: false }, &[x, w, b]);
        r.value_and_grads(y, &[("x", x), ("w", w), ("b", b)]);
    });
}

#[test]
fn batch_norm_in_training() {
    each("bn_train", |r| {
        let groups = vec![r.size("n")];
        let [x, gamma, beta] = ["x", "gamma", "beta"].map(|n| r.input(n));
        let stats = r.tape.record(BnStats { groups: groups.clone() }, &[x]).unwrap();
        let scale = r.one(BnCoeffs { eps: r.number("eps") }, &[stats[1], gamma]);
        let op = ScaleShiftLeaky { groups, leak: r.number("leak") };
        let y = r.one(op, &[x, stats[0], scale, beta]);
        r.result("mean", stats[0]);
        r.result("var_biased", stats[1]);
        r.value_and_grads(y, &[("x", x), ("gamma", gamma), ("beta", beta)]);
        assert_eq!(r.tape.count("bn_leaky_grad"), 1);
    });
}

#[test]
fn batch_norm_in_evaluation() {
    each("bn_eval", |r| {
        let [x, gamma, beta, mean, var] =
            ["x", "gamma", "beta", "running_mean", "running_var"].map(|n| r.input(n));
        let scale = r.one(BnCoeffs { eps: r.number("eps") }, &[var, gamma]);
        let op = ScaleShiftLeaky { groups: vec![r.size("n")], leak: r.number("leak") };
        let y = r.one(op, &[x, mean, scale, beta]);
        r.value_and_grads(y, &[("x", x), ("gamma", gamma), ("beta", beta)]);
    });
}

#[test]
fn rectifiers_and_pools() {
    each("leaky_relu", |r| {
        let x = r.input("x");
        let y = r.one(LeakyRelu { leak: r.number("leak") }, &[x]);
        r.value_and_grads(y, &[("x", x)]);
    });
    each("avg_pool", |r| {
        let x = r.input("x");
        let y = r.one(GlobalAvgPool, &[x]);
        r.value_and_grads(y, &[("x", x)]);
    });
}

#[test]
fn linear_layers() {
    each("linear", |r| {
        let [x, w, b] = ["x", "w", "b"].map(|n| r.input(n));
        let y = r.one(Linear, &[x, w, b]);
        r.value_and_grads(y, &[("x", x), ("w", w), ("b", b)]);
    });
}

#[test]
fn heads() {
    each("logsumexp", |r| {
        let x = r.input("x");
        let y = r.one(LogSumExp, &[x]);
        r.value_and_grads(y, &[("x", x)]);
    });
    each("gather_label", |r| {
        let [x, labels] = ["x", "labels"].map(|n| r.input(n));
        let y = r.one(GatherLabel, &[x, labels]);
        r.value_and_grads(y, &[("x", x)]);
    });
    each("cross_entropy", |r| {
        let [x, labels] = ["x", "labels"].map(|n| r.input(n));
        let each = r.one(SoftmaxCrossEntropy, &[x, labels]);
        let loss = r.one(SumAll { factor: 1.0 / r.number("n") }, &[each]);
        r.result("loss", loss);
        r.grads(loss, &[("x", x)]);
    });
}

#[test]
fn three_steps_of_sgd() {
    each("sgd", |r| {
        let op = Sgd::one(r.number("momentum"), r.number("weight_decay"), false);
        let mut w = r.input("w0");
        let spec = r.tape.spec(w).unwrap();
        let mut m = r.one(engine::ops::elementwise::Fill { spec, value: 0.0 }, &[]);
        for step in 1..=3 {
            let g = r.input(&format!("g{step}"));
            let rate = r.meta["lr"][step - 1].as_f64().unwrap();
            let spec = Spec::new(&[], r.dtype);
            let lr = r.one(engine::ops::elementwise::Fill { spec, value: rate }, &[]);
            let out = r.tape.record(op.clone(), &[w, m, g, lr]).unwrap();
            (w, m) = (out[0], out[1]);
            r.result(&format!("w{step}"), w);
            if r.number("momentum") > 0.0 {
                r.result(&format!("m{step}"), m);
            }
        }
    });
}

#[test]
fn five_steps_of_adam() {
    each("adam", |r| {
        let [beta1, beta2, eps, decay] = ["beta1", "beta2", "eps", "weight_decay"].map(|k| r.number(k));
        let op = Adam::one(adam::Args { beta1, beta2, eps, decay }, false);
        let mut w = r.input("w0");
        let spec = r.tape.spec(w).unwrap();
        let mut m = r.one(engine::ops::elementwise::Fill { spec, value: 0.0 }, &[]);
        let mut v = r.one(engine::ops::elementwise::Fill { spec, value: 0.0 }, &[]);
        let mut done = r.tape.input("done", Spec::i32(&[1]));
        r.inputs.push((done, Tensor { shape: vec![1], data: vec![0.0] }));
        for step in 1..=5 {
            let g = r.input(&format!("g{step}"));
            let rate = r.meta["lr"][step - 1].as_f64().unwrap();
            let spec = Spec::new(&[], r.dtype);
            let lr = r.one(engine::ops::elementwise::Fill { spec, value: rate }, &[]);
            let out = r.tape.record(op.clone(), &[w, m, v, g, lr, done]).unwrap();
            (w, m, v, done) = (out[0], out[1], out[2], r.one(Advance { by: 1 }, &[done]));
            for (name, var) in [("w", w), ("m", m), ("v", v)] {
                r.result(&format!("{name}{step}"), var);
            }
        }
    });
}

/// The clipping constants of a case, with `inner` steps at once.
fn pyld_args(r: &Run<'_>, inner: u32) -> PyldStep {
    let args = Args {
        inner,
        step_size: r.number("alpha"),
        clip: r.number("eps"),
        boxed: true,
        sgld_lr: 0.0,
        noise: 0.0,
        clip_after_noise: false,
    };
    PyldStep { args, stream: Stream::TEST }
}

#[test]
fn pyld_steps_as_a_loop_and_collapsed() {
    each("pyld", |r| {
        let [x0, w, p] = ["x0", "w", "p"].map(|n| r.input(n));
        let geometry = Geometry { stride: 1, pad: 1 };
        let spec = r.tape.spec(x0).unwrap();
        let transpose = Conv2dInputGrad { geometry, x: spec };
        let inner = r.size("inner");
        // As published: each inner step computes its gradient anew.
        let mut x = x0;
        for i in 1..=inner {
            let g = r.one(transpose, &[p, w]);
            x = r.one(pyld_args(r, 1), &[x, g]);
            r.result(&format!("x{i}"), x);
        }
        // All inner steps at once, with the one gradient that they share.
        let g = r.one(transpose, &[p, w]);
        let at_once = r.one(pyld_args(r, inner as u32), &[x0, g]);
        r.result("g", g);
        r.result(&format!("x{inner}"), at_once);
    });
}

/// An op in the fixture that this file does not test would otherwise go unnoticed.
#[test]
fn every_stem_of_the_fixture_is_here() {
    let fixture = Fixture::load("ops.safetensors").unwrap();
    for name in fixture.names() {
        let stem = name.split('.').next().unwrap();
        assert!(TOLERANCES.iter().any(|t| t.0 == stem), "{stem} is not tested");
    }
    for (stem, ..) in TOLERANCES {
        assert!(!fixture.cases(stem).unwrap().is_empty());
    }
}
