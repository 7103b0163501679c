//! Runs into which faults are planted: each goes back to a good state, or ends as diverged.

use super::divergence::Fault;
use super::*;
use crate::network::{get, set};
use engine::rng::{Philox, Stream};
use std::path::Path;

const SMALL: [&str; 7] = [
    "sampler.buffer_size=100",
    "sampler.outer_steps=1",
    "train.batch_size=32",
    "train.max_iters=130",
    "train.sample_every=0",
    "train.log_every=1",
    "train.tensorboard=true",
];

fn prepared(more: &[&str]) -> TrainingRun {
    let keys: Vec<String> = SMALL.iter().chain(more).map(|s| (*s).to_owned()).collect();
    TrainingRun::new(&Config::from_sources("digits", None, &keys).unwrap(), &Device::cpu(1)).unwrap()
}

fn go(run: TrainingRun, dir: &Path) -> Result<Report> {
    run.run(&Folder::create(dir).unwrap(), &mut Silent, &AtomicBool::new(false))
}

/// Writes NaN into an element of the tensor whose name begins with `name`.
fn spoil(step: &mut TrainStep, name: &str) {
    let all = step.network().tensors().chain(step.extra_slots());
    let slot = all.filter(|(n, _)| n.starts_with(name)).last().unwrap().1;
    let mut values = get(step.state(), slot).unwrap();
    let middle = values.len() / 2;
    values[middle] = f32::NAN;
    set(step.state_mut(), slot, &values).unwrap();
}

/// What is planted: into the loss, a gradient, the replay buffer, the running statistics, the averages of the weights.
const FAULTS: [fn(&mut TrainStep); 5] = [
    |s| spoil(s, "class_output.bias"),
    |s| spoil(s, "velocity.f.layer2.0.conv1.weight"),
    |s| spoil(s, "replay_buffer"),
    |s| spoil(s, "f.layer1.0.bn2.running_var"),
    |s| spoil(s, "ema.f.conv1.weight"),
];

fn lines(dir: &Path, event: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let all = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    all.filter(|l| l["event"] == event).collect()
}

/// Runs with a fault of each kind after random iterations. Every run must end well after one rollback.
fn recovers(n: u32) {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Philox::new(5, Stream::TEST, 0);
    for k in 0..n {
        let at = 1 + u64::from(rng.below(129));
        let mut run = prepared(&["train.ema=0.9", "train.checkpoint_every=1"]);
        run.fault = Some(Fault { at, plant: FAULTS[k as usize % FAULTS.len()] });
        let path = dir.path().join(k.to_string());
        let report = go(run, &path).unwrap();
        assert_eq!((report.rollbacks, report.iterations), (1, 130), "{k} at {at}");
        let [event] = &lines(&path, "rollback")[..] else { panic!("one event") };
        let [from, to] = ["from", "to"].map(|key| event[key].as_u64().unwrap());
        assert!(to <= at && from >= at && event["lr_factor"] == 0.5, "{event}");
        let steps: Vec<u64> = lines(&path, "step").iter().map(|l| l["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=130).collect::<Vec<_>>(), "{k}: each iteration once");
        let saved = crate::checkpoint::load(&path.join("ckpt/last")).unwrap();
        saved.model.check_finite().and_then(|()| saved.trainer.check_finite()).unwrap();
    }
}

#[test]
fn values_that_are_not_finite_are_left_behind() {
    recovers(5);
}

#[test]
#[ignore = "a hundred runs"]
fn a_hundred_faults_are_left_behind() {
    recovers(100);
}

#[test]
fn a_run_that_may_not_go_back_ends_with_5_and_its_checkpoints_are_good() {
    let dir = tempfile::tempdir().unwrap();
    for (name, key) in [("stop", "train.on_divergence=stop"), ("spent", "train.max_rollbacks=0")] {
        let mut run = prepared(&[key, "train.checkpoint_every=1"]);
        run.fault = Some(Fault { at: 120, plant: FAULTS[0] });
        let path = dir.path().join(name);
        let e = go(run, &path).unwrap_err();
        assert!(
            e.exit_code() == 5
                && e.to_string().contains("`class_output.bias` is not finite after iteration 120"),
            "{e}"
        );
        assert!(e.to_string().contains("What helps"), "{e}");
        assert_eq!(lines(&path, "diverged").len(), 1);
        let (c, _) = crate::checkpoint::load_last(&path.join("ckpt")).unwrap();
        // With states to go back to, the checkpoint is one that was survived by 50 iterations.
        assert_eq!(c.step, if name == "stop" { 88 } else { 50 }, "{name}");
        c.trainer.check_finite().unwrap();
    }
}

/// Stops the run after an iteration.
struct StopAt<'a>(u64, &'a AtomicBool);

impl Observer for StopAt<'_> {
    fn iteration(&mut self, p: &Progress) {
        if p.iterations[0] == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

/// A run is stopped before the fault and after the rollback; it ends to the bit like one that is not.
#[test]
fn rollbacks_are_resumed_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let fault = || Some(Fault { at: 112, plant: FAULTS[2] });
    let fresh = || TrainingRun { fault: fault(), ..prepared(&["train.max_iters=170"]) };
    let whole = dir.path().join("whole");
    let want = go(fresh(), &whole).unwrap();
    assert_eq!(want.rollbacks, 1);
    let to = lines(&whole, "rollback")[0]["to"].as_u64().unwrap();
    assert_eq!(to, 50);

    let path = dir.path().join("broken");
    let stopped = |run: TrainingRun, folder: &Folder, at: u64| {
        let stop = AtomicBool::new(false);
        assert!(matches!(run.run(folder, &mut StopAt(at, &stop), &stop), Err(Error::Cancelled)));
    };
    // A stop takes effect an iteration later.
    stopped(fresh(), &Folder::create(&path).unwrap(), 106);
    let (run, folder, _) = TrainingRun::resume(&path, &Device::cpu(2), &[]).unwrap();
    stopped(TrainingRun { fault: fault(), ..run }, &folder, 109);
    drop(folder);
    let (run, folder, _) = TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap();
    let run = TrainingRun { fault: fault(), ..run };
    // The failure shows some iterations later; this stop comes after the rollback.
    let stop = AtomicBool::new(false);
    struct AfterRollback<'a>(bool, &'a AtomicBool);
    impl Observer for AfterRollback<'_> {
        fn warn(&mut self, _: &str) {
            self.0 = true;
        }
        fn iteration(&mut self, p: &Progress) {
            if self.0 && p.iterations[0] == 73 {
                self.1.store(true, Ordering::Relaxed);
            }
        }
    }
    assert!(run.run(&folder, &mut AfterRollback(false, &stop), &stop).is_err());
    drop(folder);
    let (run, folder, _) = TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap();
    let got = run.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!((got.test, got.rollbacks), (want.test, 1));
    let files = |dir: &Path| {
        let c = crate::checkpoint::load(&dir.join("ckpt/last")).unwrap();
        (c.model, c.trainer, c.state)
    };
    assert!(files(&path) == files(&whole));
    assert_eq!(lines(&path, "rollback"), lines(&whole, "rollback"));
}

/// On a CPU the state is looked at after every iteration, which must not cost a hundredth of it.
#[test]
#[ignore = "a measurement"]
fn looking_at_the_state_is_cheap() {
    let keys =
        ["train.max_iters=0", "train.batch_size=64", "sampler.outer_steps=10", "sampler.buffer_size=1000"];
    let mut run = prepared(&keys);
    let least = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
    let iteration = least(run.time_iterations(30).unwrap());
    let look = || {
        let start = Instant::now();
        assert_eq!(run.step.health(false).unwrap().not_finite, None);
        start.elapsed().as_secs_f64()
    };
    let health = least((0..100).map(|_| look()).collect());
    let start = Instant::now();
    Guard::new(&run.step, None).unwrap();
    let snapshot = start.elapsed().as_secs_f64() / 50.0;
    let share = (health + snapshot) / iteration;
    eprintln!(
        "iteration {:.1} ms, look {:.3} ms, snapshot {:.3} ms each: {:.2} %",
        1e3 * iteration,
        1e3 * health,
        1e3 * snapshot,
        100.0 * share
    );
    assert!(share < 0.01, "{share}");
}

/// Overrides for a run of a few epochs with validation images, in which each epoch is evaluated.
const JUDGED: [&str; 6] = [
    "train.max_iters=0",
    "train.batch_size=200",
    "train.epochs=4",
    "data.valid_size=200",
    "train.checkpoint_every=100",
    "train.warmup_iters=3",
];

fn epochs_judged(dir: &Path) -> Vec<(u64, u64, f64)> {
    let of = |l: &serde_json::Value| {
        (l["step"].as_u64().unwrap(), l["epoch"].as_u64().unwrap(), l["accuracy"].as_f64().unwrap())
    };
    lines(dir, "valid").iter().map(of).collect()
}

#[test]
fn the_best_checkpoint_is_that_of_the_best_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let report = go(prepared(&JUDGED), &path).unwrap();
    let judged = epochs_judged(&path);
    assert_eq!(judged.iter().map(|j| (j.0, j.1)).collect::<Vec<_>>(), [(6, 1), (12, 2), (18, 3), (24, 4)]);
    let best = judged.iter().fold(judged[0], |b, j| if j.2 > b.2 { *j } else { b });
    let want = Best { step: best.0, epoch: best.1, accuracy: best.2 };
    assert_eq!((report.best, report.ended, report.planned_iterations), (Some(want), Ended::Complete, 24));
    let saved = crate::checkpoint::load(&path.join("ckpt/best")).unwrap();
    assert_eq!(saved.step, best.0);
    // Without validation images there is none.
    let none = go(prepared(&["train.max_iters=5"]), &dir.path().join("none")).unwrap();
    assert_eq!(none.best, None);
    assert!(!dir.path().join("none/ckpt/best").exists());
}

#[test]
fn early_stopping_ends_a_run_that_no_longer_improves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    // With a learning rate of next to nothing the accuracy stays as it is.
    let still = ["train.lr=1e-12", "train.energy_l2=0", "train.early_stop_patience=2", "train.epochs=9"];
    let report = go(prepared(&[&JUDGED[..], &still].concat()), &path).unwrap();
    let judged = epochs_judged(&path);
    let best = report.best.unwrap();
    assert_eq!((report.ended, judged.len() as u64), (Ended::EarlyStopped, best.epoch + 2), "{judged:?}");
    assert!(report.iterations < report.planned_iterations);
    let again = TrainingRun::resume(&path, &Device::cpu(1), &[]).unwrap_err();
    assert!(again.exit_code() == 3 && again.to_string().contains("train.early_stop_patience"), "{again}");
    assert!(path.join("result.json").exists());
    assert!(latest_unfinished(dir.path()).is_err());
    let more = ["train.early_stop_patience=3".to_owned()];
    let (run, folder, _) = TrainingRun::resume(&path, &Device::cpu(1), &more).unwrap();
    assert!(!path.join("result.json").exists(), "it has not ended");
    let stop = AtomicBool::new(false);
    let report = run.run(&folder, &mut StopAt(report.iterations + 1, &stop), &stop).unwrap_err();
    assert!(matches!(report, Error::Cancelled));
    // It needs validation images.
    let keys: Vec<String> = SMALL.iter().chain(&still).map(|s| (*s).to_owned()).collect();
    let config = Config::from_sources("digits", None, &keys).unwrap();
    let e = TrainingRun::new(&config, &Device::cpu(1)).unwrap_err().to_string();
    assert!(e.contains("data.valid_size"), "{e}");
}

#[test]
fn a_run_at_its_time_limit_is_evaluated_and_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let keys = [&JUDGED[..], &["train.epochs=40"]].concat();
    let mut run = prepared(&keys);
    run.limit(&Limits { time: Some(Duration::from_nanos(1)), batches: None });
    let report = go(run, &path).unwrap();
    assert_eq!((report.ended, report.iterations, report.planned_iterations), (Ended::TimeLimit, 1, 240));
    // The picture is named after the epoch that the run is in.
    assert!(report.grids[0].ends_with("samples/chains_epoch_0001.png"), "{:?}", report.grids);
    assert_eq!(latest_unfinished(dir.path()).unwrap(), path);
    let resume = |more: &str| TrainingRun::resume(&path, &Device::cpu(1), &[more.to_owned()]).unwrap();
    let (mut run, folder, _) = resume("train.max_iters=0");
    run.limit(&Limits { time: Some(Duration::from_nanos(1)), batches: None });
    let second = run.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap();
    drop(folder);
    assert!(second.training_seconds > report.training_seconds && second.iterations == 2);
    let (run, folder, _) = resume("train.max_iters=4");
    let last = run.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap();
    assert!(last.training_seconds > second.training_seconds);
    assert_eq!((last.ended, last.iterations), (Ended::Complete, 4));
    assert!(latest_unfinished(dir.path()).is_err());
}

/// Keeps the warnings.
struct Warnings(Vec<String>);

impl Observer for Warnings {
    fn warn(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[test]
fn a_large_gap_is_warned_of_long_before_it_counts_as_divergence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let mut run = prepared(&["train.collapse_gap=100000", "train.lr=1e-12", "train.energy_l2=0"]);
    // Logits far apart: a steep energy, which the chains climb.
    run.fault = Some(Fault {
        at: 5,
        plant: |s| {
            let slot = s.network().tensors().find(|(n, _)| n == "class_output.weight").unwrap().1;
            let steep: Vec<f32> = get(s.state(), slot).unwrap().iter().map(|w| w * 3000.0).collect();
            set(s.state_mut(), slot, &steep).unwrap();
        },
    });
    let mut seen = Warnings(Vec::new());
    let result = run.run(&Folder::create(&path).unwrap(), &mut seen, &AtomicBool::new(false));
    let told = lines(&path, "warning");
    assert!(
        told.len() == 1 && seen.0.iter().any(|w| told[0]["text"] == w.as_str()),
        "{result:?} {seen:?}",
        seen = seen.0
    );
    assert!(told[0]["text"].as_str().unwrap().contains("beyond ±100000 it counts as divergence"), "{told:?}");
}
