//! A warm start: which tensors it takes over, what it refuses, and that a run goes on without its source.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use core::sync::atomic::{AtomicBool, Ordering};
use jempp::config::{Config, ConfigBuilder, Init};
use jempp::data::{Dataset, Split};
use jempp::network::Network;
use jempp::run::{Folder, Observer, Progress, TrainingRun};
use jempp::train::{TrainStep, adopt_network};
use jempp::{Batch, Device, Error, Model, Trainer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SMALL: [&str; 4] =
    ["sampler.buffer_size=100", "sampler.outer_steps=2", "train.max_iters=6", "train.sample_every=0"];

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
    path.to_str().unwrap().to_owned()
}

/// The configuration for a data set of this size, with the network of the model that training starts from.
fn config(preset: &str, size: [usize; 3], classes: usize, more: &[&str]) -> jempp::Result<Config> {
    let keys: Vec<String> = SMALL.iter().chain(more).map(|s| (*s).to_owned()).collect();
    let mut builder = ConfigBuilder::from_sources(preset, None, &keys)?;
    adopt_network(&mut builder)?;
    builder.fit(size, classes)
}

fn tensors(network: &Network, state: &engine::State) -> BTreeMap<String, Vec<f32>> {
    network.tensors().map(|(name, slot)| (name, state.get::<f32>(slot).unwrap().to_vec())).collect()
}

fn of_step(step: &TrainStep) -> BTreeMap<String, Vec<f32>> {
    tensors(step.network(), step.state())
}

fn of_model(model: &Model) -> BTreeMap<String, Vec<f32>> {
    tensors(model.network(), model.state())
}

/// Collects the notes of a run, and stops it after an iteration.
#[derive(Default)]
struct Notes<'a> {
    said: Vec<String>,
    stop: Option<(u64, &'a AtomicBool)>,
}

impl Observer for Notes<'_> {
    fn note(&mut self, text: &str) {
        self.said.push(text.to_owned());
    }

    fn iteration(&mut self, p: &Progress) {
        if let Some((at, stop)) = self.stop
            && p.iterations[0] >= at
        {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// A run folder of a softmax classifier of the digits, after six iterations.
fn classifier(dir: &Path) -> PathBuf {
    let c = config("digits", [8, 8, 1], 10, &["train.p_x_weight=0", "train.warmup_iters=0"]).unwrap();
    let path = dir.join("softmax");
    let folder = Folder::create(&path).unwrap();
    let run = TrainingRun::new(&c, &Device::cpu(1)).unwrap();
    run.run(&folder, &mut Notes::default(), &AtomicBool::new(false)).unwrap();
    path
}

#[test]
fn a_classifier_becomes_an_energy_based_model_and_its_file_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let source = classifier(dir.path());
    let from = format!("train.from={}", source.display());
    let c = config("digits", [8, 8, 1], 10, &[&from]).unwrap();
    let device = Device::cpu(1);
    let start = |c: &Config| TrainingRun::new(c, &device).unwrap();
    let model = Model::load(&device, &source).unwrap();
    let run = start(&c);
    assert_eq!(of_step(run.train_step()), of_model(&model));
    for (name, slot) in run.train_step().extra_slots() {
        let zero = run.train_step().state().get::<f32>(slot).unwrap().iter().all(|v| *v == 0.0);
        assert_eq!(zero, name.starts_with("velocity."), "{name}");
    }

    let train = |run: TrainingRun, name: &str, at: Option<u64>| {
        let stop = AtomicBool::new(false);
        let folder = Folder::create(&dir.path().join(name)).unwrap();
        let mut notes = Notes { stop: at.map(|at| (at, &stop)), ..Notes::default() };
        (run.run(&folder, &mut notes, &stop), notes.said)
    };
    let whole = train(run, "whole", None).0.unwrap();
    let (stopped, said) = train(start(&c), "broken", Some(2));
    assert!(matches!(stopped, Err(Error::Cancelled)) && said.iter().all(|s| !s.contains("head")), "{said:?}");
    let broken = dir.path().join("broken");
    let env: serde_json::Value =
        serde_json::from_slice(&std::fs::read(broken.join("env.json")).unwrap()).unwrap();
    assert_eq!((&env["from"]["path"], &env["from"]["step"]), (&source.to_str().into(), &6.into()));
    let recorded = std::fs::read_to_string(broken.join("config.toml")).unwrap();
    assert!(recorded.contains(&format!("from = {:?}", source.to_str().unwrap())), "{recorded}");

    std::fs::remove_dir_all(&source).unwrap();
    let e = TrainingRun::resume(&broken, &device, &["train.from=elsewhere".into()]).unwrap_err();
    assert!(matches!(&e, Error::Config(why) if why.contains("train.from")), "{e}");
    let (run, folder, _) = TrainingRun::resume(&broken, &device, &[]).unwrap();
    let resumed = run.run(&folder, &mut Notes::default(), &AtomicBool::new(false)).unwrap();
    assert_eq!(resumed.test, whole.test);
    let e = TrainingRun::new(&c, &device).unwrap_err();
    assert!(e.exit_code() == 3 && e.to_string().contains("there is no model"), "{e}");
}

/// 32×32 photographs of this many classes, a gradient each.
fn photographs(classes: usize) -> (Dataset, Split) {
    let n = 70 * classes;
    let pixel = |i: usize| ((i / 3072 * 37 + i % 3072 / 7) % 256) as u8;
    let labels = (0..n).map(|i| (i % classes) as u16).collect();
    let images: Vec<u8> = (0..n * 3072).map(pixel).collect();
    let set = Dataset::new("gradients", [32, 32, 3], classes, images, labels).unwrap();
    let all = |r: core::ops::Range<usize>| r.map(|i| i as u32).collect::<Vec<u32>>();
    (set, Split { train: all(0..n - 10), valid: Vec::new(), test: all(n - 10..n) })
}

#[test]
fn published_checkpoints_are_started_from_whole() {
    for name in ["wrn10_1_official.pt", "wrn10_1_official_legacy.pt"] {
        let from = format!("train.from={}", fixture(name));
        // Depth and width are the file's, as no source gives them.
        let c = config("jempp", [32, 32, 3], 10, &[&from]).unwrap();
        assert_eq!((c.model.depth, c.model.widen_factor), (10, 1));
        let (set, split) = photographs(10);
        let run = TrainingRun::with_data(&c, &Device::cpu(2), set, split).unwrap();
        let model = Model::load(&Device::cpu(1), fixture(name).as_ref()).unwrap();
        assert_eq!(of_step(run.train_step()), of_model(&model), "{name}");
    }
}

#[test]
fn another_number_of_classes_gets_a_head_of_its_own() {
    let from = format!("train.from={}", fixture("wrn10_1_official.pt"));
    let c = config("jempp", [32, 32, 3], 4, &[&from, "train.max_iters=1", "train.batch_size=8"]).unwrap();
    let (set, split) = photographs(4);
    let run = TrainingRun::with_data(&c, &Device::cpu(2), set, split).unwrap();
    let model = Model::load(&Device::cpu(1), fixture("wrn10_1_official.pt").as_ref()).unwrap();
    let (mine, theirs) = (of_step(run.train_step()), of_model(&model));
    for (name, values) in &mine {
        assert_eq!(values == &theirs[name], !name.starts_with("class_output."), "{name}");
    }
    assert!(mine["class_output.weight"].iter().any(|v| *v != 0.0));
    let dir = tempfile::tempdir().unwrap();
    let mut notes = Notes::default();
    let folder = Folder::create(&dir.path().join("run")).unwrap();
    run.run(&folder, &mut notes, &AtomicBool::new(false)).unwrap();
    assert!(notes.said.iter().any(|s| s.contains("10 classes, this training 4")), "{:?}", notes.said);
}

#[test]
fn what_does_not_fit_is_named_with_both_shapes() {
    let from = format!("train.from={}", fixture("wrn10_1_official.pt"));
    let refused = |more: &[&str], parts: &[&str]| {
        let keys = [&[from.as_str()], more].concat();
        let (set, split) = photographs(10);
        let e = config("jempp", [32, 32, 3], 10, &keys)
            .and_then(|c| TrainingRun::with_data(&c, &Device::cpu(1), set, split).map(|_| ()))
            .unwrap_err();
        let text = e.to_string();
        assert!(e.exit_code() == 3 && parts.iter().all(|p| text.contains(p)), "{text}");
    };
    refused(
        &["model.widen_factor=2"],
        &["`f.layer1.0.conv1.weight`: [32, 16, 3, 3] here, [16, 16, 3, 3] in the model", "more tensors"],
    );
    refused(
        &["model.depth=16"],
        &["`f.layer1.1.bn1.weight`: [16] here, none in the model", "leave the keys"],
    );
    refused(&["model.norm=layer"], &["model.norm = \"layer\", the model has \"batch\""]);
    refused(&["model.leak=0.1"], &["model.leak = 0.1, the model has 0.2"]);
}

/// ActNorm is set by the first batch of a training from scratch only.
#[test]
fn actnorm_of_the_model_stays() {
    let (device, dir) = (Device::cpu(1), tempfile::tempdir().unwrap());
    let keys = ["model.norm=act", "train.lr=1e-9", "train.schedule=constant", "sampler.init=uniform"];
    let c = config("digits", [8, 8, 1], 10, &[&keys[..], &["train.batch_size=4"]].concat()).unwrap();
    let x: Vec<f32> = (0..4 * 64).map(|i| (i % 5) as f32 / 5.0).collect();
    let batch = Batch { x_data: &x, x_labelled: &x, labels: &[1, 2, 3, 4], chain_start: None };
    let mut t = Trainer::new(&c, &device).unwrap();
    t.step(&batch).unwrap();
    let loc = |t: &Trainer| of_step(t.train_step())["f.bn1.loc"].clone();
    let want = loc(&t);
    let mut warm = Trainer::new(&c, &device).unwrap();
    warm.load_model(&t.model().unwrap()).unwrap();
    warm.save(dir.path()).unwrap();
    let mut resumed = Trainer::resume(dir.path(), &device).unwrap();
    for t in [&mut warm, &mut resumed] {
        let dark: Vec<f32> = x.iter().map(|v| v - 1.0).collect();
        t.step(&Batch { x_data: &dark, x_labelled: &dark, ..batch }).unwrap();
        assert!(loc(t).iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

fn hosted() -> Config {
    let keys = ["train.batch_size=4", "train.schedule=constant", "eval.recalibration_batches=1"];
    let mut c = config("digits", [8, 8, 1], 10, &keys).unwrap();
    c.sampler.init = Init::Informative;
    c
}

/// Three images of each class, each class of its own shade.
fn shades() -> (Vec<f32>, Vec<i32>) {
    let labels: Vec<i32> = (0..30).map(|i| i % 10).collect();
    let pixel =
        |i: usize| labels[i / 64] as f32 / 5.0 - 0.9 + (i / 640) as f32 * 0.01 * ((i % 3) as f32 - 1.0);
    ((0..30 * 64).map(pixel).collect(), labels)
}

#[test]
fn a_host_gives_images_to_restart_from() {
    let (device, dir) = (Device::cpu(1), tempfile::tempdir().unwrap());
    let mut t = Trainer::new(&hosted(), &device).unwrap();
    let (images, labels) = shades();
    let batch =
        Batch { x_data: &images[..256], x_labelled: &images[..256], labels: &labels[..4], chain_start: None };
    assert!(t.step(&batch).is_err(), "there is nothing to start from yet");
    t.set_init_images(&images, &labels).unwrap();
    // The buffer holds draws of each class, in class order.
    let buffer = t.train_step().buffer().unwrap().unwrap();
    assert_eq!(buffer.len(), 100 * 64);
    for (i, row) in buffer.chunks(64).enumerate() {
        let mean = row.iter().sum::<f32>() / 64.0;
        assert!((mean - ((i / 10) as f32 / 5.0 - 0.9)).abs() < 0.02, "{i}: {mean}");
    }
    t.step(&batch).unwrap();
    t.save(dir.path()).unwrap();
    let samples = t.model().unwrap().start_samples().unwrap().unwrap().clone();
    assert!((samples.means[64] + 0.7).abs() < 1e-2);
    let mut again = Trainer::resume(dir.path(), &device).unwrap();
    for _ in 0..3 {
        assert_eq!(t.step(&batch).unwrap(), again.step(&batch).unwrap());
    }
    assert_eq!(again.model().unwrap().start_samples().unwrap(), Some(&samples));
    assert_eq!(of_step(t.train_step()), of_step(again.train_step()));
}

#[test]
fn a_model_brings_its_start_samples() {
    let device = Device::cpu(1);
    let mut first = Trainer::new(&hosted(), &device).unwrap();
    let (images, labels) = shades();
    first.set_init_images(&images, &labels).unwrap();
    let model = first.model().unwrap();
    let mut t = Trainer::new(&hosted(), &device).unwrap();
    t.load_model(&model).unwrap();
    assert_eq!(of_step(t.train_step()), of_model(&model));
    let batch =
        Batch { x_data: &images[..256], x_labelled: &images[..256], labels: &labels[..4], chain_start: None };
    t.step(&batch).unwrap();
    let means = |m: Model| m.start_samples().unwrap().unwrap().means.clone();
    assert_eq!(means(t.model().unwrap()), means(model));
    // As `train.from`.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    first.model().unwrap().save(&path).unwrap();
    let mut c = hosted();
    c.train.from = path.to_str().unwrap().to_owned();
    let mut t = Trainer::new(&c, &device).unwrap();
    assert_eq!(of_step(t.train_step()), of_step(first.train_step()));
    t.step(&batch).unwrap();
}

#[test]
fn images_that_cannot_be_restarted_from_are_refused() {
    let device = Device::cpu(1);
    let (images, labels) = shades();
    let refused = |t: &mut Trainer, images: &[f32], labels: &[i32], part: &str| {
        let e = t.set_init_images(images, labels).unwrap_err();
        assert!(e.exit_code() == 3 && e.to_string().contains(part), "{e}");
    };
    let mut t = Trainer::new(&hosted(), &device).unwrap();
    refused(&mut t, &images[1..], &labels, "1919 values for 30 images of 64");
    refused(&mut t, &images[..64], &labels[..1], "no image of class 1");
    refused(&mut t, &[&images[..64 * 29], &[1.5; 64]].concat(), &labels, "1.5 in image 29");
    refused(&mut t, &[&images[..64 * 29], &[f32::NAN; 64]].concat(), &labels, "NaN in image 29");
    refused(&mut t, &images, &[&labels[..29], &[10]].concat(), "label 10");
    let mut c = hosted();
    c.sampler.init = Init::Uniform;
    refused(&mut Trainer::new(&c, &device).unwrap(), &images, &labels, "noise");
    c.train.p_x_weight = 0.0;
    c.sampler.init = Init::Informative;
    refused(&mut Trainer::new(&c, &device).unwrap(), &images, &labels, "no chains");
    let (set, split) = jempp::data::digits::load().unwrap();
    refused(&mut Trainer::with_data(&hosted(), &device, set, split).unwrap(), &images, &labels, "data set");
}
