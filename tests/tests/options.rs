//! Presets on the digits with a small network, and averaged weights from training to the served model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use core::sync::atomic::AtomicBool;
use engine::Device;
use jempp::checkpoint;
use jempp::config::ConfigBuilder;
use jempp::model::Model;
use jempp::run::{Folder, Report, Silent, TrainingRun};
use jempp::train::recalibrate;
use jempp_data::Reading;

const SMALL: [&str; 5] = [
    "data.dataset=digits",
    "model.depth=10",
    "model.widen_factor=1",
    "train.warmup_iters=50",
    "train.decay_epochs=[6, 8]",
];

fn train(preset: &str, more: &[&str]) -> (tempfile::TempDir, Report) {
    let overrides: Vec<String> = SMALL.iter().chain(more).map(|s| (*s).to_owned()).collect();
    let builder = ConfigBuilder::from_sources(preset, None, &overrides).unwrap();
    let data = jempp_data::load_with(&builder.data(), Reading::default()).unwrap();
    let config = builder.fit(data.set.size(), data.set.classes()).unwrap();
    assert_eq!((config.model.image_size, config.model.classes, config.data.flip), ([8, 8, 1], 10, false));
    let session = TrainingRun::with_data(&config, &Device::cpu(0), data.set, data.split).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(&dir.path().join("run")).unwrap();
    let report = session.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap();
    println!(
        "{preset}: {:?}, gap {:?}, {} s",
        report.test.classification, report.gap, report.training_seconds
    );
    (dir, report)
}

#[test]
fn softmax_classifies_the_digits() {
    let (_keep, r) = train("softmax", &["train.epochs=10"]);
    assert!(r.test.classification.accuracy >= 0.95, "{:?}", r.test);
    assert!(r.gap.is_none() && r.grids.is_empty());
}

/// As published, except for the network's size, a smaller buffer and a larger learning rate.
#[test]
fn jem_classifies_the_digits_and_its_chains_follow() {
    let (_keep, r) = train("jem", &["train.epochs=10", "train.lr=2e-3", "sampler.buffer_size=1000"]);
    assert!(r.test.classification.accuracy >= 0.9, "{:?}", r.test);
    let [mean, worst] = r.gap.unwrap();
    assert!(mean.abs() < 1.0 && worst < 2.0, "gap {mean}, largest {worst}");
    // Chains may leave the box, but stay near it.
    let c = checkpoint::load(&r.checkpoint).unwrap();
    let buffer = c.trainer.images("replay_buffer", [1000, 8, 8, 1]).unwrap();
    let most = buffer.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(most > 1.0 && most < 5.0, "largest pixel {most}");
}

#[test]
fn the_average_of_the_weights_is_what_is_served() {
    let (_keep, r) = train("softmax", &["train.epochs=4", "train.lr=0.05", "train.ema=0.95"]);
    let c = checkpoint::load(&r.checkpoint).unwrap();
    let device = Device::cpu(0);
    let model = Model::load(&device, &r.folder).unwrap();
    for p in &model.network().parameters {
        let [served, average, raw] = [
            (&c.model, p.name.clone()),
            (&c.trainer, format!("ema.{}", p.name)),
            (&c.trainer, p.name.clone()),
        ]
        .map(|(file, name)| file.get(&name).unwrap().data.clone());
        assert!(served == average && served != raw, "{}", p.name);
    }
    // Batch norm's statistics are recomputed with the averaged weights.
    let config = model.config().unwrap().unwrap();
    let (set, split) = jempp_data::load(&config.data, Reading::default()).unwrap();
    let network = model.network();
    let want = recalibrate::statistics(&device, network, model.state(), &set, &split.train, 64, 0).unwrap();
    assert!(!want.is_empty());
    for (norm, (mean, var)) in network.norms.iter().zip(&want) {
        assert_eq!(model.state().get::<f32>(norm.mean).unwrap(), mean, "{}", norm.name);
        assert_eq!(model.state().get::<f32>(norm.var).unwrap(), var, "{}", norm.name);
    }
    assert!(r.test.classification.accuracy >= 0.9, "{:?}", r.test);
}
