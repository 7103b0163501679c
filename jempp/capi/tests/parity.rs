//! A training step from C compared with PyTorch's values; `tests/tests/parity.rs` tests the same step from Rust.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{here, installed, run};
use jempp::config::ModelConfig;
use jempp::{Config, Device, Model};
use jempp_tests::{Fixture, Tensor};
use std::fs;
use std::process::Command;

/// float32 against PyTorch's float64, relative to the largest element (see `tests/tests/parity.rs`): this fixture has
/// no value at a kink.
const TOLERANCE: f64 = 1e-4;

fn get(f: &Fixture, name: &str) -> Tensor {
    f.tensor(name).unwrap().clone().channels_last()
}

/// `f.layer1.0.bn1.weight` of the published model is `PREFIX.layer1.0.bn1.weight` in the fixtures.
fn named(f: &Fixture, prefix: &str, name: &str) -> Tensor {
    get(f, &format!("{prefix}.{}", name.strip_prefix("f.").unwrap_or(name)))
}

fn close(name: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let error = got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs())) / scale;
    assert!(error <= TOLERANCE, "{name}: error {error:.2e}");
}

fn architecture(f: &Fixture) -> ModelConfig {
    let number = |key: &str| f.meta[key].parse::<f64>().unwrap();
    let mut m = Config::preset("jempp").unwrap().model;
    m.depth = number("depth") as usize;
    m.widen_factor = number("width") as usize;
    let x = get(f, "in.x_data").shape;
    m.image_size = [x[1], x[2], x[3]];
    m.classes = get(f, "eval.logits").shape[1];
    m.bn_momentum = number("bn_momentum");
    m.leak = number("leak");
    m
}

fn toml(f: &Fixture, m: &ModelConfig) -> String {
    let meta = |key: &str| &f.meta[key];
    // TOML floats need a decimal point before an exponent.
    let decay: f64 = meta("weight_decay").parse().unwrap();
    format!(
        "preset = \"jempp\"\n[model]\ndepth = {}\nwiden_factor = {}\nimage_size = {:?}\nclasses = {}\n\
         bn_momentum = {}\nleak = {}\n[train]\nbatch_size = {}\nlr = {}\nmomentum = {}\nweight_decay = {decay}\n\
         warmup_iters = 0\nschedule = \"constant\"\n[sampler]\nouter_steps = {}\ninner_steps = {}\nstep_size = {}\n\
         clip = {}\n",
        m.depth,
        m.widen_factor,
        m.image_size,
        m.classes,
        m.bn_momentum,
        m.leak,
        meta("batch"),
        meta("lr"),
        meta("momentum"),
        meta("outer"),
        meta("inner"),
        meta("alpha"),
        meta("eps"),
    )
}

#[test]
fn a_step_from_c_is_the_step_of_the_fixture() {
    let installed = installed();
    let Some(program) = installed.program(&here().join("tests/c/parity.c")) else { return };
    let f = Fixture::load("wrn10_1_m1.safetensors").unwrap();
    let m = architecture(&f);
    let model = Model::new(&Device::cpu(1), &m, |name, _| Ok(named(&f, "model", name).f32s())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    model.save(&at("before.safetensors")).unwrap();
    fs::write(at("config.toml"), toml(&f, &m)).unwrap();
    let labels = get(&f, "in.labels").ints();
    let (n, pixels) = (labels.len(), m.image_size.iter().product::<usize>());
    let mut input: Vec<u8> = [n as i32, pixels as i32].iter().flat_map(|v| v.to_le_bytes()).collect();
    for name in ["in.x_data", "in.x_labelled", "in.chain_start"] {
        input.extend(get(&f, name).f32s().iter().flat_map(|v| v.to_le_bytes()));
    }
    input.extend(labels.iter().flat_map(|v| v.to_le_bytes()));
    fs::write(at("input"), input).unwrap();
    let files = ["config.toml", "before.safetensors", "input", "output", "after.safetensors"];
    run(Command::new(program).args(files.map(at)));

    let output = fs::read(at("output")).unwrap();
    let output: Vec<f32> = output.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let (chains, metrics) = output.split_at(n * pixels);
    close("step1.x_q", chains, &get(&f, "step1.x_q").data);
    for (name, got) in ["loss", "f_p", "f_q", "ce"].iter().zip(metrics) {
        close(name, &[*got], &get(&f, &format!("step1.{name}")).data);
    }
    assert_eq!(metrics[4], f.meta["lr"].parse::<f32>().unwrap());
    let after = Model::load(&Device::cpu(1), &at("after.safetensors")).unwrap();
    for (name, slot) in after.network().tensors() {
        let got = after.state().get::<f32>(slot).unwrap();
        close(&name, got, &named(&f, "step1.model", &name).data);
    }
}
