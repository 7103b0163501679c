//! A run that is stopped and resumed ends bit for bit like an uninterrupted one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use core::sync::atomic::{AtomicBool, Ordering};
use engine::Device;
use engine::rng::{Philox, Stream};
use jempp::Error;
use jempp::checkpoint;
use jempp::config::Config;
use jempp::run::{Folder, Limits, Observer, Progress, Report, Silent, TrainingRun, latest_unfinished};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SMALL: [&str; 5] = [
    "sampler.buffer_size=100",
    "sampler.outer_steps=2",
    "train.max_iters=60",
    "train.checkpoint_every=1",
    "train.sample_every=0",
];

fn overrides(more: &[&str]) -> Vec<String> {
    SMALL.iter().chain(more).map(|s| (*s).to_owned()).collect()
}

fn session(more: &[&str]) -> TrainingRun {
    TrainingRun::new(&Config::from_sources("digits", None, &overrides(more)).unwrap(), &Device::cpu(2))
        .unwrap()
}

/// Requests a stop once a given iteration is done.
struct StopAt<'a>(u64, &'a AtomicBool);

impl Observer for StopAt<'_> {
    fn iteration(&mut self, p: &Progress) {
        if p.iterations[0] >= self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

fn until(session: TrainingRun, folder: &Folder, at: u64) -> Result<Report, Error> {
    let stop = AtomicBool::new(false);
    session.run(folder, &mut StopAt(at, &stop), &stop)
}

/// The files of the last checkpoint, byte for byte; they hold the whole state.
fn last(path: &Path) -> (Vec<u8>, Vec<u8>, serde_json::Value) {
    let dir = path.join("ckpt").join("last");
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let state = serde_json::from_slice(&read(checkpoint::STATE)).unwrap();
    (read(checkpoint::MODEL), read(checkpoint::TRAINER), state)
}

/// Runs once without a stop, and once with a stop after each of the iterations `at`; both must leave the same files.
fn interrupted(more: &[&str], at: &[u64]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let whole = Folder::create(&dir.path().join("whole")).unwrap();
    let unbroken = session(more).run(&whole, &mut Silent, &AtomicBool::new(false)).unwrap();

    let path = dir.path().join("broken");
    let folder = Folder::create(&path).unwrap();
    assert!(matches!(until(session(more), &folder, at[0]), Err(Error::Cancelled)));
    drop(folder);
    for stop in &at[1..] {
        let (s, folder, warnings) = TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(matches!(until(s, &folder, *stop), Err(Error::Cancelled)));
    }
    let (s, folder, _) = TrainingRun::resume(&path, &Device::cpu(3), &[]).unwrap();
    let resumed = s.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!(resumed.test, unbroken.test);
    let (a, b) = (last(&path), last(whole.path()));
    assert_eq!(a.2, b.2, "state.json");
    assert!(a.1 == b.1, "weights, moments, averages and buffer");
    assert!(a.0 == b.0, "the model");
    (dir, path)
}

#[test]
fn ten_interruptions_change_no_bit() {
    let mut rng = Philox::new(4, Stream::TEST, 0);
    let mut at: Vec<u64> = (0..10).map(|_| 1 + u64::from(rng.below(58))).collect();
    at.sort_unstable();
    at.dedup();
    assert!(at.len() >= 8, "{at:?}");
    let (_keep, path) = interrupted(&[], &at);

    // Each iteration is in the metrics exactly once, in order.
    let text = std::fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    let steps: Vec<u64> = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
        .filter(|v| v["event"] == "step")
        .map(|v| v["step"].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
    assert_eq!(steps.last(), Some(&60));
}

/// With every norm, dropout and the energy head: from the first iteration on, in which ActNorm is initialised.
#[test]
fn a_broken_run_of_any_norm_changes_no_bit() {
    for norm in ["batch", "instance", "layer", "act", "none"] {
        let norm = format!("model.norm={norm}");
        let more = [&norm, "model.dropout=0.2", "model.energy_head=true", "train.max_iters=8"];
        let dir = tempfile::tempdir().unwrap();
        let whole = Folder::create(&dir.path().join("whole")).unwrap();
        let unbroken = session(&more).run(&whole, &mut Silent, &AtomicBool::new(false)).unwrap();
        let path = dir.path().join("broken");
        let folder = Folder::create(&path).unwrap();
        assert!(matches!(until(session(&more), &folder, 1), Err(Error::Cancelled)));
        drop(folder);
        let (s, folder, _) = TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap();
        assert!(matches!(until(s, &folder, 5), Err(Error::Cancelled)));
        drop(folder);
        let (s, folder, _) = TrainingRun::resume(&path, &Device::cpu(3), &[]).unwrap();
        let resumed = s.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap();
        assert_eq!(resumed.test, unbroken.test, "{norm}");
        assert!(last(&path) == last(whole.path()), "{norm}");
        assert_eq!(resumed.bn.is_some(), norm == "model.norm=batch");
    }
}

#[test]
fn adam_averages_and_the_cosine_go_on_to_the_bit() {
    let more = ["train.optimizer=adam", "train.lr=1e-3", "train.ema=0.9", "train.schedule=cosine"];
    interrupted(&[&more[..], &["train.max_iters=30", "train.warmup_iters=5"]].concat(), &[1, 4, 17]);
}

const STAGES: &str = "stage=[{epochs=1, train.p_x_weight=0, train.ema=0.9, train.warmup_iters=0}, \
                      {epochs=1, train.optimizer=\"adam\", train.lr=1e-3, train.warmup_iters=5, train.batch_size=32}, \
                      {epochs=2, train.lr=0.02, train.schedule=\"cosine\", data.sigma=0.2}]";

/// Stopped within each stage and at both boundaries, after iterations 22 and 66; a stop takes effect an iteration later.
#[test]
fn stages_are_resumed_where_they_stopped_to_the_bit() {
    let more = [STAGES, "train.max_iters=90"];
    let (_keep, path) = interrupted(&more, &[9, 21, 40, 65, 80]);
    let text = std::fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let stages: Vec<_> = lines.iter().filter(|l| l["event"] == "stage").collect();
    let told: Vec<_> =
        stages.iter().map(|l| (l["stage"].as_u64().unwrap(), l["after"].as_u64().unwrap())).collect();
    assert_eq!(told, [(2, 22), (3, 66)]);
    // Each schedule begins with its stage: the third has the preset's warm-up of 50 iterations.
    let rate =
        |step: u64| lines.iter().find(|l| l["event"] == "step" && l["step"] == step).unwrap()["lr"].as_f64();
    assert_eq!((rate(20), rate(30)), (Some(0.1), Some(1e-3)));
    let third = rate(70).unwrap();
    assert!((third - 0.02 * 3.0 / 50.0).abs() < 1e-9, "{third}");
}

/// The second stage begins as a run from the first would.
#[test]
fn a_stage_begins_with_the_model_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let weights = |path: &Path| {
        let c = checkpoint::load(&path.join("ckpt/last")).unwrap();
        let tensors =
            c.model.tensors.iter().filter(|t| t.name.starts_with("f.") || t.name.starts_with("class"));
        tensors.map(|t| (t.name.clone(), t.data.clone())).collect::<Vec<_>>()
    };
    let first = ["train.p_x_weight=0", "train.ema=0.5", "train.max_iters=22"];
    let alone = Folder::create(&dir.path().join("alone")).unwrap();
    session(&first).run(&alone, &mut Silent, &AtomicBool::new(false)).unwrap();
    // A rate too small to move a weight shows where the second stage began; its running statistics do move.
    let stages = "stage=[{epochs=1, train.p_x_weight=0, train.ema=0.5}, \
                  {epochs=1, train.lr=1e-30, train.weight_decay=0}]";
    let staged = Folder::create(&dir.path().join("staged")).unwrap();
    let run = session(&[stages, "train.max_iters=25"]);
    let report = run.run(&staged, &mut Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!(report.iterations, 25);
    assert!(weights(staged.path()) == weights(alone.path()));
    let c = checkpoint::load(&staged.path().join("ckpt/last")).unwrap();
    assert!(c.trainer.get("replay_buffer").is_some() && c.trainer.get("ema.f.conv1.weight").is_none());
}

/// Ramps and turns depend on the iteration; the second pass of ASAM on its chains and masks.
#[test]
fn sharpness_aware_minimisation_goes_on_to_the_bit() {
    let sam = ["train.sam_rho=0.5", "train.sam_every=2", "train.clip_grad_norm=2", "model.dropout=0.1"];
    let more = ["train.p_x_warmup_iters=15", "train.ema=0.9", "train.max_iters=20", "train.warmup_iters=5"];
    interrupted(&[&sam[..], &more].concat(), &[1, 4, 11]);
}

#[test]
fn finished_and_missing_runs_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train-001");
    drop(Folder::create(&path).unwrap());
    let e = TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap_err();
    assert_eq!(e.exit_code(), 3, "{e}");
    assert!(latest_unfinished(dir.path()).is_err());
    let folder = Folder::open(&path).unwrap();
    assert!(until(session(&["train.max_iters=4"]), &folder, 2).is_err());
    drop(folder);
    assert_eq!(latest_unfinished(dir.path()).unwrap(), path);
    let (s, folder, _) = TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap();
    s.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap();
    drop(folder);
    assert!(latest_unfinished(dir.path()).is_err(), "a finished run is no unfinished one");
    let e = TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap_err();
    assert!(e.to_string().contains("train.epochs") && e.exit_code() == 3, "{e}");
    // A finished run can be resumed with more iterations, but not with another network.
    assert!(TrainingRun::resume(&path, &Device::cpu(1), &["train.max_iters=9".to_owned()]).is_ok());
    let wider = ["train.max_iters=9", "model.widen_factor=2"].map(str::to_owned);
    assert_eq!(TrainingRun::resume(&path, &Device::cpu(1), &wider).unwrap_err().exit_code(), 6);
}

#[test]
fn limits_end_a_run_early_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, limits: Limits| {
        let folder = Folder::create(&dir.path().join(name)).unwrap();
        let mut s = session(&["train.epochs=3", "train.max_iters=0"]);
        s.limit(&limits);
        s.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap()
    };
    assert_eq!(run("batches", Limits { batches: Some(2), time: None }).iterations, 6);
    let timed = run("time", Limits { batches: None, time: Some(Duration::from_nanos(1)) });
    assert_eq!(timed.iterations, 1);
    assert!(timed.checkpoint.is_dir() && timed.test.classification.n == 360);
}

/// While a process trains in a folder no other may; afterwards any may.
#[test]
fn a_run_has_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let folder = Folder::create(&path).unwrap();
    assert!(matches!(until(session(&[]), &folder, 1), Err(Error::Cancelled)));
    let Err(e) = TrainingRun::resume(&path, &Device::cpu(1), &[]) else { panic!("two processes in one run") };
    assert!(e.to_string().contains("another process") && e.exit_code() == 3, "{e}");
    drop(folder);
    TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap();
}
