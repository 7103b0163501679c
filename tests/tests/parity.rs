//! The model and its training step against PyTorch values (tests/fixtures).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::ops::reduce::SumAll;
use engine::{DType, Device, Host, Slot, Spec, Tape, grad};
use jempp::config::Config;
use jempp::model::{BnMode, Objective};
use jempp::train::{Batch, Options, Trainer};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;

/// A fixture with images and filters turned to the memory layout.
struct Fixture {
    tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
    meta: HashMap<String, String>,
}

impl Fixture {
    fn load(name: &str) -> Self {
        let path = format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let meta = header.metadata().clone().unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file
            .iter()
            .map(|(name, t)| {
                let data: Vec<f64> = match t.dtype() {
                    Dtype::F32 => t
                        .data()
                        .chunks(4)
                        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                        .collect(),
                    _ => {
                        t.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
                    }
                };
                (name.to_owned(), (t.shape().to_vec(), channels_last(t.shape(), data)))
            })
            .collect();
        Self { tensors, meta }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("the fixture lacks {name}")).1
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.get(name).iter().map(|v| *v as f32).collect()
    }

    fn number(&self, key: &str) -> f64 {
        self.meta[key].parse().unwrap()
    }

    fn config(&self) -> Config {
        let mut c = Config::preset("jempp").unwrap();
        let x = &self.tensors["in.x_data"].0;
        c.model.depth = self.number("depth") as usize;
        c.model.widen_factor = self.number("width") as usize;
        c.model.image_size = [x[2], x[3], x[1]];
        c.model.classes = self.tensors["eval.logits"].0[1];
        c.model.bn_momentum = self.number("bn_momentum");
        c.model.leak = self.number("leak");
        c.train.batch_size = x[0];
        c.train.momentum = self.number("momentum");
        c.train.weight_decay = self.number("weight_decay");
        c.sampler.outer_steps = self.number("outer") as usize;
        c.sampler.inner_steps = self.number("inner") as usize;
        c.sampler.step_size = self.number("alpha");
        c.sampler.clip = self.number("eps");
        c
    }
}

fn channels_last(shape: &[usize], data: Vec<f64>) -> Vec<f64> {
    let &[n, c, h, w] = shape else { return data };
    let mut out = Vec::with_capacity(data.len());
    for i in 0..n {
        for p in 0..h * w {
            out.extend((0..c).map(|k| data[(i * c + k) * h * w + p]));
        }
    }
    out
}

/// Largest error, relative to the largest element, by float type.
///
/// `kinked` is what float32 is held to where rounding decides on which side of a leaky ReLU's kink a value falls:
/// in `wrn10_1` some lie within 4e-8 of it, and PyTorch's own float32 is off by 3e-3 (input gradient), 5e-3
/// (gradients), 2e-3 (weights), 4e-3 (losses of step 3). `zero` scales the floor for biases whose gradient is zero but
/// for rounding: against 1e-3 of the weight's gradient PyTorch's float32 shows 7e-4 (`wrn10_1_m1`) and 8e-3.
#[derive(Clone, Copy)]
struct Tolerance {
    all: f64,
    kinked: f64,
    zero: f64,
}

const DOUBLE: Tolerance = Tolerance { all: 1e-6, kinked: 1e-6, zero: 1e-3 };
const SINGLE: Tolerance = Tolerance { all: 1e-4, kinked: 1e-4, zero: 1e-2 };
const SINGLE_AT_KINKS: Tolerance = Tolerance { all: 1e-4, kinked: 1e-2, zero: 1e-2 };

struct Run<'a> {
    fixture: &'a Fixture,
    trainer: Trainer,
    dtype: DType,
    tolerance: Tolerance,
}

fn values(trainer: &Trainer, slot: Slot) -> Vec<f64> {
    match slot.spec.dtype {
        DType::F64 => trainer.state().get::<f64>(slot).unwrap().to_vec(),
        _ => trainer.state().get::<f32>(slot).unwrap().iter().map(|v| f64::from(*v)).collect(),
    }
}

fn set(trainer: &mut Trainer, slot: Slot, x: &[f64]) {
    match slot.spec.dtype {
        DType::F64 => trainer.state_mut().set(slot, x).unwrap(),
        _ => trainer.state_mut().set(slot, &x.iter().map(|v| *v as f32).collect::<Vec<_>>()).unwrap(),
    }
}

impl<'a> Run<'a> {
    fn new(fixture: &'a Fixture, dtype: DType, tolerance: Tolerance, change: impl Fn(&mut Config)) -> Self {
        let mut config = fixture.config();
        change(&mut config);
        let options = Options { dtype, keep_gradients: true };
        let mut trainer = Trainer::new(&config, &Device::cpu(2), None, options).unwrap();
        let tensors: Vec<(String, Slot)> = trainer.network().tensors().collect();
        for (name, slot) in tensors {
            set(&mut trainer, slot, fixture.get(&fixture_name("model", &name)));
        }
        Self { fixture, trainer, dtype, tolerance }
    }

    /// max|a − b| / max(max|b|, floor).
    fn close(&self, name: &str, got: &[f64], floor: f64) {
        self.within(name, got, floor, self.tolerance.all);
    }

    fn within(&self, name: &str, got: &[f64], floor: f64, tolerance: f64) {
        let want = self.fixture.get(name);
        assert_eq!(got.len(), want.len(), "{name}");
        let scale = want.iter().fold(floor, |m, v| m.max(v.abs()));
        let error = got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / scale;
        assert!(error <= tolerance, "{name}: error {error:.2e} above {tolerance:.0e}");
    }

    /// logits, log density and input gradients of x_labelled.
    fn evaluate(&self, prefix: &str, mode: &BnMode, with_labels: bool) {
        let mut tape = Tape::new();
        let net = self.trainer.network();
        let n = net.config.image_size;
        let batch = self.fixture.get("in.labels").len();
        let x = tape.input("x", Spec::new(&[batch, n[0], n[1], n[2]], self.dtype));
        let labels = tape.input("labels", Spec::i32(&[batch]));
        let f = net.forward(&mut tape, x, mode).unwrap();
        let lse = Objective::LogDensity.record(&mut tape, f.logits).unwrap();
        let total = tape.one(SumAll { factor: 1.0 }, &[lse]).unwrap();
        let dx = grad(&mut tape, total, &[x]).unwrap()[0];
        let y = Objective::Label(labels).record(&mut tape, f.logits).unwrap();
        let total = tape.one(SumAll { factor: 1.0 }, &[y]).unwrap();
        let dy = grad(&mut tape, total, &[x]).unwrap()[0];
        assert_eq!(tape.count("conv2d_weight_grad") + tape.count("linear_weight_grad"), 0);
        let outs = [("logits", f.logits), ("log_density", lse), ("input_grad", dx), ("input_grad_label", dy)];
        let mut plan = tape.plan(self.trainer.device(), &outs.map(|o| o.1)).unwrap();
        let images = self.fixture.get("in.x_labelled");
        let narrow = self.fixture.f32("in.x_labelled");
        let l: Vec<i32> = self.fixture.get("in.labels").iter().map(|v| *v as i32).collect();
        let host = if self.dtype == DType::F64 { Host::F64(images) } else { Host::F32(&narrow) };
        plan.run_shared(self.trainer.state(), &[(x, host), (labels, Host::I32(&l))]).unwrap();
        for (name, v) in &outs[..if with_labels { 4 } else { 3 }] {
            let got = match self.dtype {
                DType::F64 => plan.read::<f64>(*v).unwrap().to_vec(),
                _ => plan.read::<f32>(*v).unwrap().iter().map(|v| f64::from(*v)).collect(),
            };
            let kinked = prefix == "train" && name.contains("grad");
            let tolerance = if kinked { self.tolerance.kinked } else { self.tolerance.all };
            self.within(&format!("{prefix}.{name}"), &got, 0.0, tolerance);
        }
    }

    fn step(&mut self, lr: f64) -> [f64; 4] {
        let f = self.fixture;
        let labels: Vec<i32> = f.get("in.labels").iter().map(|v| *v as i32).collect();
        let batch = Batch {
            x_data: &f.f32("in.x_data"),
            x_labelled: &f.f32("in.x_labelled"),
            labels: &labels,
            chain_start: Some(&f.f32("in.chain_start")),
        };
        let m = self.trainer.step(&batch, lr).unwrap();
        [m.loss, m.log_density_data, m.log_density_chain, m.ce]
    }

    fn losses(&mut self, step: usize) {
        let lr = self.fixture.number("lr");
        let got = self.step(lr);
        for (name, v) in ["loss", "f_p", "f_q", "ce"].iter().zip(got) {
            self.close(&format!("step{step}.{name}"), &[v], 0.0);
        }
    }

    /// Chains, gradients, weights and running statistics after step 1.
    fn after_step_1(&self) {
        let chains: Vec<f64> = self.trainer.chains().unwrap().iter().map(|v| f64::from(*v)).collect();
        self.close("step1.x_q", &chains, 0.0);
        for (name, got) in self.trainer.gradients().unwrap() {
            let name = fixture_name("step1.grad", &name);
            // A convolution's bias before a batch norm has a gradient that is zero up to rounding: it is measured
            // against the gradient of its layer's weight.
            let weight = name.replace(".bias", ".weight");
            let floor =
                self.tolerance.zero * self.fixture.get(&weight).iter().fold(0.0f64, |m, v| m.max(v.abs()));
            self.within(&name, &got, floor, self.tolerance.kinked);
        }
        for (name, slot) in self.trainer.network().tensors() {
            let tolerance = if name.contains("running") { self.tolerance.all } else { self.tolerance.kinked };
            self.within(&fixture_name("step1.model", &name), &values(&self.trainer, slot), 0.0, tolerance);
        }
    }
}

/// `f.layer1.0.bn1.weight` of the published model is `PREFIX.layer1.0.bn1.weight` in the fixtures.
fn fixture_name(prefix: &str, name: &str) -> String {
    format!("{prefix}.{}", name.strip_prefix("f.").unwrap_or(name))
}

fn whole_fixture(name: &str, dtype: DType, tolerance: Tolerance) {
    let f = Fixture::load(name);
    let batch = f.get("in.labels").len();
    let mut run = Run::new(&f, dtype, tolerance, |_| {});
    run.evaluate("eval", &BnMode::Running, true);
    run.evaluate("train", &BnMode::Train(vec![batch]), false);
    run.losses(1);
    run.after_step_1();
    let mut one = Run::new(&f, dtype, tolerance, |c| c.sampler.outer_steps = 1);
    one.step(0.0);
    let chains: Vec<f64> = one.trainer.chains().unwrap().iter().map(|v| f64::from(*v)).collect();
    one.close("pyld.after_1", &chains, 0.0);
}

#[test]
fn float64_reproduces_three_steps_of_the_32_pixel_fixture() {
    whole_fixture("wrn10_1.safetensors", DType::F64, DOUBLE);
    let f = Fixture::load("wrn10_1.safetensors");
    let mut run = Run::new(&f, DType::F64, DOUBLE, |_| {});
    (1..=3).for_each(|s| run.losses(s));
}

#[test]
fn float64_reproduces_the_momentum_fixture() {
    whole_fixture("wrn10_1_m1.safetensors", DType::F64, DOUBLE);
}

#[test]
fn float32_reproduces_the_momentum_fixture() {
    whole_fixture("wrn10_1_m1.safetensors", DType::F32, SINGLE);
}

#[test]
fn float32_reproduces_the_32_pixel_fixture() {
    whole_fixture("wrn10_1.safetensors", DType::F32, SINGLE_AT_KINKS);
    let f = Fixture::load("wrn10_1.safetensors");
    let mut run = Run::new(&f, DType::F32, SINGLE_AT_KINKS, |_| {});
    run.losses(1);
    run.tolerance.all = 1e-3;
    run.losses(2);
    run.tolerance.all = run.tolerance.kinked;
    run.losses(3);
}

#[test]
fn the_literal_loop_equals_the_collapsed_step() {
    let f = Fixture::load("wrn10_1_m1.safetensors");
    for (sgld, outer) in [(0.0, 1), (0.3, 2)] {
        let go = |literal| {
            let mut run = Run::new(&f, DType::F64, DOUBLE, |c| {
                c.sampler.literal = literal;
                c.sampler.sgld_lr = sgld;
                c.sampler.outer_steps = outer;
            });
            let m = run.step(0.05);
            (run.trainer.chains().unwrap(), m)
        };
        let (a, b) = (go(false), go(true));
        assert!(a.0.iter().zip(&b.0).all(|(x, y)| (x - y).abs() < 1e-6));
        assert!(a.1.iter().zip(b.1).all(|(x, y)| (x - y).abs() < 1e-9));
    }
}
