//! The norms other than batch norm, and the energy head, compared with PyTorch values
//! (tests/fixtures/norms.safetensors).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::ops::elementwise::Axpby;
use engine::ops::reduce::SumAll;
use engine::ops::softmax_cross_entropy::SoftmaxCrossEntropy;
use engine::{DType, Device, HostTensor, Plan, State, Tape, Var, grad};
use jempp::config::{Config, ModelConfig, NormKind};
use jempp::model::Model;
use jempp::network::{BnMode, Network, Objective};
use jempp::train::{Batch, Options, TrainStep};
use jempp_formats::container::Container;
use jempp_tests::{Fixture, Tensor};

/// Largest error relative to the largest element of a tensor, by float type. The fixture keeps the inputs of all leaky
/// ReLUs at least 5e-6 away from 0, so that float32 falls on the same side of each kink.
const TOLERANCE: [(DType, f64); 2] = [(DType::F64, 1e-6), (DType::F32, 1e-4)];
/// The scale for a gradient that is zero up to rounding, relative to the gradient of its layer's weight: a
/// convolution's bias before an instance norm. PyTorch's own float32 shows errors of up to 5e-5 of that.
const ZERO: [(DType, f64); 2] = [(DType::F64, 1e-3), (DType::F32, 1e-2)];

const CASES: [(&str, NormKind, bool); 5] = [
    ("instance", NormKind::Instance, false),
    ("layer", NormKind::Layer, false),
    ("act", NormKind::Act, false),
    ("none", NormKind::None, false),
    ("energy", NormKind::Layer, true),
];

fn of<T: Copy>(table: [(DType, T); 2], dtype: DType) -> T {
    table.iter().find(|t| t.0 == dtype).unwrap().1
}

fn fixture() -> Fixture {
    Fixture::load("norms.safetensors").unwrap()
}

fn get(f: &Fixture, name: &str) -> Tensor {
    f.tensor(name).unwrap_or_else(|e| panic!("{e}")).clone().channels_last()
}

fn model_config(norm: NormKind, energy_head: bool) -> ModelConfig {
    let base = Config::preset("jempp").unwrap().model;
    ModelConfig { depth: 10, widen_factor: 1, image_size: [8, 10, 3], classes: 5, norm, energy_head, ..base }
}

/// The initial value of the tensor with the published name: the case's own if it has one, else the common one.
fn start(f: &Fixture, case: &str, name: &str) -> Tensor {
    let name = name.strip_prefix("f.").unwrap_or(name);
    let own = format!("{case}.model.{name}");
    let common = format!("model.{name}");
    get(f, if f.tensor(&own).is_ok() { &own } else { &common })
}

fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, v| m.max(v.abs()))
}

fn close(what: &str, got: &[f64], want: &[f64], floor: f64, tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let error =
        got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / largest(want).max(floor);
    assert!(error <= tolerance, "{what}: error {error:.2e} above {tolerance:.0e}");
}

fn read(plan: &Plan, v: Var, dtype: DType) -> Vec<f64> {
    match dtype {
        DType::F64 => plan.fetch::<f64>(v).unwrap(),
        _ => plan.fetch::<f32>(v).unwrap().into_iter().map(f64::from).collect(),
    }
}

/// Records and runs everything that the fixture holds for a case, and checks it.
fn check(f: &Fixture, (case, norm, energy): (&str, NormKind, bool), dtype: DType, mode: &BnMode) {
    let device = Device::cpu(2);
    let mut state = State::on(&device);
    let net = Network::with_dtype(&mut state, &model_config(norm, energy), dtype).unwrap();
    for (name, slot) in net.tensors() {
        let t = start(f, case, &name);
        match dtype {
            DType::F64 => state.set(slot, &t.data).unwrap(),
            _ => state.set(slot, &t.f32s()).unwrap(),
        }
    }
    let labels = get(f, "in.labels").ints();
    let mut tape = Tape::new();
    let x = tape.input("x", net.images(labels.len()));
    let y = tape.input("labels", engine::Spec::i32(&[labels.len()]));
    let heads = net.forward(&mut tape, x, mode).unwrap().heads;
    let density = Objective::LogDensity.record(&mut tape, heads).unwrap();
    let joint = Objective::Label(y).record(&mut tape, heads).unwrap();
    let ce = tape.one(SoftmaxCrossEntropy, &[heads.logits, y]).unwrap();
    let mean = 1.0 / labels.len() as f64;
    let parts = [(ce, mean), (density, 0.3 * mean), (density, 1.0), (joint, 1.0)];
    let [a, b, all, all_joint] = parts.map(|(v, factor)| tape.one(SumAll { factor }, &[v]).unwrap());
    let loss = tape.one(Axpby { a: 1.0, b: 1.0 }, &[a, b]).unwrap();
    let wrt: Vec<Var> = net.parameters.iter().map(|p| tape.read(p.slot)).collect();
    let grads = grad(&mut tape, loss, &wrt).unwrap();
    let dx = grad(&mut tape, all, &[x]).unwrap()[0];
    let dy = grad(&mut tape, all_joint, &[x]).unwrap()[0];
    let named = [
        ("logits", heads.logits),
        ("log_density", density),
        ("loss", loss),
        ("input_grad", dx),
        ("input_grad_label", dy),
    ];
    let outputs: Vec<Var> = named.iter().map(|n| n.1).chain(grads.iter().copied()).collect();
    let mut plan = tape.plan(&device, &outputs).unwrap();
    let images = get(f, "in.x");
    let narrow = images.f32s();
    let host = if dtype == DType::F64 { HostTensor::F64(&images.data) } else { HostTensor::F32(&narrow) };
    plan.run_shared(&state, &[(x, host), (y, HostTensor::I32(&labels))]).unwrap();
    let tolerance = of(TOLERANCE, dtype);
    for (name, v) in named {
        let name = format!("{case}.{name}");
        close(&name, &read(&plan, v, dtype), &get(f, &name).data, 0.0, tolerance);
    }
    let grads: Vec<_> =
        net.parameters.iter().zip(&grads).map(|(p, g)| (p.name.clone(), read(&plan, *g, dtype))).collect();
    gradients(f, case, &grads, dtype);
}

/// Checks gradients of all parameters, by name.
fn gradients(f: &Fixture, case: &str, grads: &[(String, Vec<f64>)], dtype: DType) {
    assert!(!grads.is_empty());
    for (p, g) in grads {
        let name = p.strip_prefix("f.").unwrap_or(p);
        let whole = format!("{case}.grad.{name}");
        let key = if f.tensor(&whole).is_ok() { whole } else { format!("{case}.grad4.{name}") };
        let want = get(f, &key).data;
        // ActNorm has no weight with that name.
        let weight = p.replace(".bias", ".weight");
        let beside = grads.iter().find(|(q, _)| *q == weight).map_or(0.0, |(_, g)| largest(g));
        // For large filters the fixture has only the gradients of the first outputs, which come first in memory as
        // well.
        close(&key, &g[..want.len()], &want, of(ZERO, dtype) * beside, of(TOLERANCE, dtype));
    }
}

#[test]
fn forward_and_gradients_are_those_of_pytorch() {
    let f = fixture();
    for case in CASES {
        for dtype in [DType::F64, DType::F32] {
            check(&f, case, dtype, &BnMode::Running);
            check(&f, case, dtype, &BnMode::Train(vec![2, 1]));
        }
    }
}

/// Chains, loss and gradients of a training step with the energy head.
#[test]
fn a_training_step_with_the_energy_head_is_that_of_pytorch() {
    let f = fixture();
    let images = get(&f, "in.x").f32s();
    let opposite: Vec<f32> = images.iter().map(|v| -v).collect();
    let labels = get(&f, "in.labels").ints();
    for dtype in [DType::F64, DType::F32] {
        let mut c = Config::preset("jempp").unwrap();
        c.model = model_config(NormKind::Layer, true);
        (c.train.batch_size, c.sampler.outer_steps, c.sampler.clip) = (labels.len(), 1, 0.02);
        let options = Options { dtype, keep_gradients: true, ..Options::default() };
        let mut trainer = TrainStep::new(&c, &Device::cpu(2), None, options).unwrap();
        fill(&mut trainer, |name| start(&f, "energy", name));
        let (x, chain_start) = (&images, Some(&opposite[..]));
        let m = trainer.step(&Batch { x_data: x, x_labelled: x, labels: &labels, chain_start }, 0.1).unwrap();
        let tolerance = of(TOLERANCE, dtype);
        let chains: Vec<f64> = trainer.chains().unwrap().into_iter().map(f64::from).collect();
        close("energy.step.x_q", &chains, &get(&f, "energy.step.x_q").data, 0.0, tolerance);
        close("energy.step.loss", &[m.loss], &get(&f, "energy.step.loss").data, 0.0, tolerance);
        let mean = get(&f, "energy.log_density").data.iter().sum::<f64>() / labels.len() as f64;
        close("f(x)", &[m.log_density_data], &[mean], 0.0, tolerance);
        gradients(&f, "energy.step", &trainer.gradients().unwrap(), dtype);
    }
}

/// Sets all tensors except those of ActNorm.
fn fill(trainer: &mut TrainStep, values: impl Fn(&str) -> Tensor) {
    let tensors: Vec<_> = trainer.network().tensors().collect();
    for (name, slot) in tensors.iter().filter(|(n, _)| !n.ends_with(".loc") && !n.ends_with(".scale")) {
        let t = values(name);
        match slot.spec.dtype {
            DType::F64 => trainer.state_mut().set(*slot, &t.data).unwrap(),
            _ => trainer.state_mut().set(*slot, &t.f32s()).unwrap(),
        }
    }
}

/// The first step sets loc and scale as PyTorch's first forward pass does, from the images for p(x); later steps do
/// not.
#[test]
fn the_first_batch_sets_actnorm() {
    let f = fixture();
    let images = get(&f, "in.x").f32s();
    let labels = get(&f, "in.labels").ints();
    let mirrored: Vec<f32> = images.iter().map(|v| -v).collect();
    for p_x in [1.0, 0.0] {
        for dtype in [DType::F64, DType::F32] {
            let mut c = Config::preset("jempp").unwrap();
            c.model = model_config(NormKind::Act, false);
            (c.train.batch_size, c.train.p_x_weight, c.sampler.outer_steps) = (labels.len(), p_x, 1);
            let options = Options { dtype, ..Options::default() };
            let mut trainer = TrainStep::new(&c, &Device::cpu(2), None, options).unwrap();
            let tensors: Vec<_> = trainer.network().tensors().collect();
            fill(&mut trainer, |name| start(&f, "act", name));
            // One batch holds the images that initialise ActNorm, the other mirrored ones; the roles swap where p(x) is
            // not trained.
            let (x_data, x_labelled) = if p_x > 0.0 { (&images, &mirrored) } else { (&mirrored, &images) };
            let chain_start = Some(&mirrored[..]).filter(|_| p_x > 0.0);
            let batch = Batch { x_data, x_labelled, labels: &labels, chain_start };
            trainer.step(&batch, 0.0).unwrap();
            let now = |t: &TrainStep| -> Vec<Vec<f64>> {
                let read = |slot| match dtype {
                    DType::F64 => t.state().fetch::<f64>(slot).unwrap(),
                    _ => t.state().fetch::<f32>(slot).unwrap().into_iter().map(f64::from).collect(),
                };
                tensors.iter().map(|(_, slot)| read(*slot)).collect()
            };
            let after = now(&trainer);
            let mut seen = 0;
            for ((name, _), got) in tensors.iter().zip(&after) {
                let key = format!("act_init.{}", name.strip_prefix("f.").unwrap_or(name));
                if let Ok(want) = f.tensor(&key) {
                    close(&key, got, &want.data, 0.0, of(TOLERANCE, dtype));
                    seen += 1;
                }
            }
            assert_eq!(seen, 2 * 7);
            let again = Batch { x_data: x_labelled, x_labelled: x_data, ..batch };
            trainer.step(&again, 0.0).unwrap();
            assert_eq!(now(&trainer), after, "a second batch changes nothing at a learning rate of 0");
        }
    }
}

/// In train mode, too: these norms, unlike batch norm, treat each image independently.
#[test]
fn the_batch_around_an_image_changes_no_bit() {
    let f = fixture();
    let images = get(&f, "in.x").f32s();
    let pixels = 8 * 10 * 3;
    for (case, norm, energy) in CASES {
        let device = Device::cpu(2);
        let mut state = State::on(&device);
        let net = Network::new(&mut state, &model_config(norm, energy)).unwrap();
        for (name, slot) in net.tensors() {
            state.set(slot, &start(&f, case, &name).f32s()).unwrap();
        }
        let run = |images: &[f32], groups: Vec<usize>| {
            let mut tape = Tape::new();
            let x = tape.input("x", net.images(images.len() / pixels));
            let heads = net.forward(&mut tape, x, &BnMode::Train(groups)).unwrap().heads;
            let density = Objective::LogDensity.record(&mut tape, heads).unwrap();
            let total = tape.one(SumAll { factor: 1.0 }, &[density]).unwrap();
            let dx = grad(&mut tape, total, &[x]).unwrap()[0];
            let mut plan = tape.plan(&device, &[heads.logits, density, dx]).unwrap();
            plan.run_shared(&state, &[(x, HostTensor::F32(images))]).unwrap();
            [heads.logits, density, dx].map(|v| plan.fetch::<f32>(v).unwrap())
        };
        let all = run(&images, vec![2, 1]);
        for i in 0..3 {
            let alone = run(&images[i * pixels..][..pixels], vec![1]);
            for (a, b) in alone.iter().zip(&all) {
                assert_eq!(a[..], b[i * a.len()..][..a.len()], "{case}, image {i}");
            }
        }
    }
}

/// The published files have both heads: a model with an energy head loads it, and a model without one ignores it.
#[test]
fn files_with_and_without_the_energy_head_load() {
    let f = fixture();
    let model = |energy| {
        let config = model_config(NormKind::Layer, energy);
        Model::new(&Device::cpu(1), &config, |name, _| Ok(start(&f, "energy", name).f32s())).unwrap()
    };
    let images = get(&f, "in.x").f32s();
    let (with, without) = (model(true), model(false));
    let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<_>>();
    let scores = with.scores(&images).unwrap();
    close("energy", &wide(scores.log_density.clone()), &get(&f, "energy.log_density").data, 0.0, 1e-4);
    let dx = with.input_grad(&images, None).unwrap();
    close("energy, gradient", &wide(dx), &get(&f, "energy.input_grad").data, 0.0, 1e-4);
    let dy = with.input_grad(&images, Some(&get(&f, "in.labels").ints())).unwrap();
    close("energy, gradient by label", &wide(dy), &get(&f, "energy.input_grad_label").data, 0.0, 1e-4);
    assert_eq!(without.logits(&images).unwrap(), scores.logits);
    assert_ne!(without.log_density(&images).unwrap(), scores.log_density);

    let load = |c: &Container| Model::from_container(&Device::cpu(1), c);
    let file = with.to_container().unwrap();
    assert_eq!(load(&file).unwrap().scores(&images).unwrap(), scores);
    // The tensors of the energy model, with the architecture of one without that head, as in the published files.
    let mut published = file.clone();
    published
        .meta
        .insert("architecture".into(), without.to_container().unwrap().meta["architecture"].clone());
    assert_eq!(load(&published).unwrap().scores(&images).unwrap(), without.scores(&images).unwrap());
    // An architecture saved before these keys existed means batch norm.
    let mut plain = without.to_container().unwrap();
    let mut keys: serde_json::Value = serde_json::from_str(&plain.meta["architecture"]).unwrap();
    for key in ["norm", "dropout", "energy_head"] {
        assert!(keys.as_object_mut().unwrap().remove(key).is_some());
    }
    plain.meta.insert("architecture".into(), keys.to_string());
    let e = load(&plain).unwrap_err().to_string();
    assert!(e.contains("running_mean"), "{e}");
    // A model with an energy head is refused if its weights are missing.
    let mut bare = without.to_container().unwrap();
    bare.meta.insert("architecture".into(), file.meta["architecture"].clone());
    let e = load(&bare).unwrap_err().to_string();
    assert!(e.contains("energy_output.weight"), "{e}");
}
