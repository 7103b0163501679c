//! Metrics compared with scikit-learn, SciPy and the definitions (metrics.json), and PGD with foolbox
//! (pgd.safetensors).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::Device;
use jempp::config::{Config, ModelConfig};
use jempp::metrics::LabelledLogits;
use jempp::metrics::scaled;
use jempp::model::{Loss, Model};
use jempp::temperature::TemperatureFit;
use jempp_eval::attack::Norm;
use jempp_eval::calibration::mce;
use jempp_eval::ood::ranking::Ranking;
use jempp_tests::{Fixture, Tensor};
use serde_json::Value;

/// Tolerance of metrics, absolute.
const METRIC: f64 = 1e-9;
/// Tolerance of temperatures, relative; the loss is flat at its minimum.
const TEMPERATURE: f64 = 1e-6;
/// Tolerance of the NLL at that temperature, absolute: scaled logits are rounded to float32.
const SCALED: f64 = 1e-7;
/// Tolerance of PGD iterates, absolute, in [−1, 1]; foolbox computes in float32 with pixels in [0, 1].
const ITERATE: f32 = 4e-7;
/// Tolerance of gradients, relative to the largest component of the image's gradient; the fixture avoids the network's
/// kinks.
const GRADIENT: f32 = 1e-4;

fn metrics() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/metrics.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn close(what: &str, got: f64, want: &Value, tolerance: f64) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= tolerance, "{what}: {got} {want}");
}

#[test]
fn detection_agrees_with_scikit_learn() {
    let all = metrics();
    let cases = all["detection"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for c in cases {
        let s = Ranking::new(&numbers(&c["inside"]), &numbers(&c["outside"])).unwrap().separation();
        let named =
            [("auroc", s.auroc), ("fpr95", s.fpr95), ("aupr_in", s.aupr_in), ("aupr_out", s.aupr_out)];
        named.iter().for_each(|(name, got)| close(name, *got, &c[*name], METRIC));
    }
}

#[test]
fn calibration_agrees_with_scikit_learn_and_the_definitions() {
    let all = metrics();
    let cases = all["calibration"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for c in cases {
        let logits: Vec<f32> = numbers(&c["logits"]).iter().map(|v| *v as f32).collect();
        let labels: Vec<u16> = numbers(&c["labels"]).iter().map(|v| *v as u16).collect();
        let (classes, bins) = (c["classes"].as_u64().unwrap() as usize, c["bins"].as_u64().unwrap() as usize);
        let p = LabelledLogits::new(&logits, classes, &labels).unwrap();
        let table = p.reliability(bins).unwrap();
        let named = [
            ("accuracy", p.accuracy()),
            ("ece", p.ece(bins).unwrap()),
            ("mce", mce(&table)),
            ("nll", p.nll()),
            ("brier", p.brier()),
        ];
        named.iter().for_each(|(name, got)| close(name, *got, &c[*name], METRIC));
        let t = TemperatureFit::new(&logits, classes, &labels).unwrap().max_likelihood;
        close("temperature", t, &c["temperature"], TEMPERATURE * t);
        let at = scaled(&logits, t);
        close("loss", LabelledLogits::new(&at, classes, &labels).unwrap().nll(), &c["scaled_nll"], SCALED);
    }
}

fn images(f: &Fixture, name: &str) -> Vec<f32> {
    f.tensor(name).unwrap_or_else(|e| panic!("{e}")).clone().channels_last().f32s()
}

/// Pixels in [0, 1] scaled to the model's [−1, 1].
fn scaled_pixels(pixels: Vec<f32>) -> Vec<f32> {
    pixels.into_iter().map(|p| (2.0 * f64::from(p) - 1.0) as f32).collect()
}

/// From each of foolbox's iterates, our gradient and our step give foolbox's gradient and its next iterate.
#[test]
fn steps_are_those_of_foolbox() {
    let f = Fixture::load("pgd.safetensors").unwrap();
    let model = fixture_model();
    let (x0, labels) = (scaled_pixels(images(&f, "images")), f.tensor("labels").unwrap().ints());
    let px = x0.len() / labels.len();
    for norm in [Norm::Linf, Norm::L2] {
        let name = norm.name();
        let fact = |key: &str| f.meta[&format!("{name}.{key}")].parse::<f64>().unwrap();
        let (epsilon, length) = (2.0 * fact("epsilon"), 2.0 * fact("step"));
        let mut moved = 0.0f64;
        for k in 0..fact("steps") as usize {
            let [x, next] = [k, k + 1].map(|k| scaled_pixels(images(&f, &format!("{name}.x.{k}"))));
            let g = images(&f, &format!("{name}.g.{k}"));
            // With respect to pixels in [0, 1] gradients are twice as large.
            let (_, own) = model.loss_grad(&x, &labels, Loss::CrossEntropy).unwrap();
            for (i, (g, own)) in g.chunks(px).zip(own.chunks(px)).enumerate() {
                let size = g.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let error = g.iter().zip(own).map(|(g, o)| (g - 2.0 * o).abs()).fold(0.0, f32::max);
                assert!(size > 0.0 && error <= GRADIENT * size, "{name} {k} {i}: {error} of {size}");
            }
            let mut ours = x.clone();
            for i in 0..labels.len() {
                let row = i * px..(i + 1) * px;
                norm.step(&mut ours[row.clone()], &g[row.clone()], length);
                norm.project(&mut ours[row.clone()], &x0[row.clone()], epsilon);
                moved = moved.max(norm.distance(&ours[row.clone()], &x0[row]));
            }
            let error = ours.iter().zip(&next).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error <= ITERATE, "{name} {k}: {error}");
        }
        // An iterate reached the boundary of the ball, so the projection was tested.
        assert!(moved > 0.99 * epsilon, "{name}: {moved} of {epsilon}");
    }
}

fn fixture_model() -> Model {
    let f = Fixture::load("wrn10_1_m1.safetensors").unwrap();
    let base = Config::preset("jempp").unwrap().model;
    let config = ModelConfig {
        depth: 10,
        widen_factor: 1,
        image_size: [16, 16, 3],
        classes: 7,
        bn_momentum: 0.1,
        ..base
    };
    let get = |name: &str| -> Tensor {
        let short = format!("model.{}", name.strip_prefix("f.").unwrap_or(name));
        let name = if f.has(&short) { short } else { format!("model.{name}") };
        f.tensor(&name).unwrap_or_else(|e| panic!("{e}")).clone().channels_last()
    };
    Model::new(&Device::cpu(2), &config, |name, _| Ok(get(name).f32s())).unwrap()
}
