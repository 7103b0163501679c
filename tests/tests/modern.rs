//! The switches of later recipes compared with PyTorch in float64 (`fixtures/make_modern.py`): ASAM, clipping, the
//! binary cross-entropy of f, frozen batch norm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::{DType, Device};
use jempp::config::{Config, EnergyLoss, Optimizer, TrainBn};
use jempp::train::{Batch, Options, TrainStep};
use jempp_tests::{Fixture, Tensor};
use serde_json::Value;

/// Largest |a − b|, relative to the largest value of its kind in the tensor, or 1.
const TOLERANCE: f64 = 1e-10;

fn get(f: &Fixture, name: &str) -> Tensor {
    f.tensor(name).unwrap().clone().channels_last()
}

/// The configuration of a case.
fn config(start: &Fixture, case: &Value) -> Config {
    let number = |key: &str| start.meta[key].parse::<f64>().unwrap();
    let mut c = Config::preset("jempp").unwrap();
    let x = get(start, "in.x_data").shape;
    (c.model.depth, c.model.widen_factor) = (10, 1);
    (c.model.image_size, c.model.classes) = ([x[1], x[2], x[3]], number("classes") as usize);
    (c.model.bn_momentum, c.model.leak) = (number("bn_momentum"), number("leak"));
    c.train.batch_size = x[0];
    (c.train.momentum, c.train.weight_decay) = (number("momentum"), number("weight_decay"));
    c.sampler.outer_steps = number("outer") as usize;
    c.sampler.inner_steps = number("inner") as usize;
    (c.sampler.step_size, c.sampler.clip) = (number("alpha"), number("eps"));
    let of = |key: &str| case[key].as_f64().unwrap_or(0.0);
    let is = |key: &str| case[key].as_bool().unwrap_or(false);
    (c.train.sam_rho, c.train.clip_grad_norm, c.train.energy_l2) = (of("rho"), of("clip"), of("l2"));
    c.train.p_x_weight = case["p_x"].as_f64().unwrap_or(1.0);
    c.train.energy_loss = if is("bce") { EnergyLoss::Bce } else { EnergyLoss::Cd };
    c.train.bn = if is("frozen") { TrainBn::Frozen } else { TrainBn::Batch };
    c.train.optimizer = if is("adam") { Optimizer::Adam } else { Optimizer::Sgd };
    c
}

/// A tensor in memory, K×R×S×C or of one or two axes, in the order of its file.
fn in_file_order(shape: &[usize], data: Vec<f64>) -> Vec<f64> {
    let [k, r, s, c] = *shape else { return data };
    // The transpose of pixels and channels is the same either way.
    Tensor { shape: vec![k, r * s, c, 1], data }.channels_last().data
}

fn digest(shape: &[usize], x: Vec<f64>) -> [f64; 3] {
    let x = in_file_order(shape, x);
    let turned = x.iter().enumerate().map(|(i, v)| v * (i as f64).cos());
    [x.iter().sum(), x.iter().map(|v| v * v).sum(), turned.sum()]
}

/// Compares rows of digests with those of the fixture.
fn compare(f: &Fixture, name: &str, got: &[[f64; 3]]) {
    let want = f.tensor(name).unwrap();
    assert_eq!(want.shape, [got.len(), 3], "{name}");
    for k in 0..3 {
        let column = want.data.iter().skip(k).step_by(3);
        let scale = column.clone().fold(1.0f64, |m, v| m.max(v.abs()));
        for (i, (got, want)) in got.iter().zip(column).enumerate() {
            let error = (got[k] - want).abs() / scale;
            assert!(error <= TOLERANCE, "{name}, tensor {i}, figure {k}: {} not {want}, {error:.1e}", got[k]);
        }
    }
}

fn check_case(name: &str, unfused: bool) {
    let (start, f) =
        (Fixture::load("wrn10_1_m1.safetensors").unwrap(), Fixture::load("modern.safetensors").unwrap());
    let case: Value = serde_json::from_str(&f.meta[name]).unwrap();
    let options = Options { dtype: DType::F64, keep_gradients: true, unfused, branches: None };
    let mut t = TrainStep::new(&config(&start, &case), &Device::cpu(2), None, options).unwrap();
    let tensors: Vec<_> = t.network().tensors().collect();
    for (name, slot) in &tensors {
        let stored = format!("model.{}", name.strip_prefix("f.").unwrap_or(name));
        t.state_mut().set(*slot, &get(&start, &stored).data).unwrap();
    }
    let input = |name: &str| get(&start, name).f32s();
    let labels = get(&start, "in.labels").ints();
    for step in 1..=case["steps"].as_u64().unwrap() {
        let batch = Batch {
            x_data: &input("in.x_data"),
            x_labelled: &input("in.x_labelled"),
            labels: &labels,
            chain_start: Some(&input("in.chain_start")),
        };
        let lr = case["lr"].as_f64().unwrap_or_else(|| start.meta["lr"].parse().unwrap());
        let m = t.step(&batch, lr).unwrap();
        let at = |what: &str| format!("{name}.step{step}.{what}");
        for (what, got) in
            [("loss", m.loss), ("f_p", m.log_density_data), ("f_q", m.log_density_chain), ("ce", m.ce)]
        {
            let want = f.tensor(&at(what)).unwrap().data[0];
            let error = (got - want).abs() / want.abs().max(1.0);
            assert!(error <= TOLERANCE, "{}: {got}, not {want}: {error:.1e}", at(what));
        }
        let slots = || t.network().parameters.iter().map(|p| p.slot);
        let of = |slot: engine::Slot| digest(slot.spec.shape(), t.state().fetch(slot).unwrap());
        compare(&f, &at("weights"), &slots().map(of).collect::<Vec<_>>());
        let running = tensors.iter().filter(|(name, _)| name.contains("running"));
        compare(&f, &at("running"), &running.map(|(_, slot)| of(*slot)).collect::<Vec<_>>());
        let gradients = t.gradients().unwrap();
        let gradients =
            gradients.iter().zip(slots()).map(|((_, g), slot)| digest(slot.spec.shape(), g.clone()));
        compare(&f, &at("gradients"), &gradients.collect::<Vec<_>>());
        let chain = t.state().slots().find(|(name, _)| *name == "chain").unwrap().1;
        compare(&f, &at("x_q"), &[of(chain)]);
    }
}

#[test]
fn every_case_is_that_of_pytorch() {
    for name in ["sam", "sam_adam", "clip", "bce", "frozen", "all"] {
        for unfused in [false, true] {
            check_case(name, unfused);
        }
    }
}
