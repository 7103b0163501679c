//! Stopping a run by a signal.
#![cfg(unix)]

use super::{Place, TINY};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A child process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an endless training run, sends it `signal` once it has begun, and returns its exit code and its messages. `more` are
/// further arguments, and `run` the folder of the run.
fn stopped_by(place: &Place, (out, run): (&str, &str), more: &[&str], signal: &str) -> (i32, String) {
    let endless = ["train.max_iters=0", "train.epochs=1000000", "train.sample_every=0"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_jempp-cli"));
    command.current_dir(place.path()).args(["train", "--out", out]).args(TINY).args(endless).args(more);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut running = Running(child);
    let (start, metrics) = (Instant::now(), place.path().join(run).join("metrics.jsonl"));
    while !std::fs::read_to_string(&metrics).is_ok_and(|t| t.lines().count() > 1) {
        assert!(start.elapsed() < Duration::from_secs(30), "training did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    let mut messages = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
    (running.0.wait().unwrap().code().unwrap_or(-1), messages)
}

#[test]
fn a_stopped_run_is_saved() {
    let place = Place::empty();
    for (out, signal, code) in [("a", "INT", 130), ("b", "TERM", 143)] {
        let (got, messages) = stopped_by(&place, (out, out), &[], signal);
        assert_eq!(got, code);
        // It is no error, and the last line is the command to go on with.
        assert!(!messages.contains("error"), "{messages}");
        let last = messages.lines().last().unwrap();
        assert!(last.starts_with("  ") && last.ends_with(&format!("train --resume {out}")), "{messages}");
        let i = place.run(&["inspect", out, "--json"]).json();
        assert!(i["step"].as_u64().unwrap() > 1);
        assert_eq!(i["checkpoint"], format!("{out}/ckpt/step_{}", i["step"]));
        let log = std::fs::read_to_string(place.path().join(out).join("log.txt")).unwrap();
        assert!(log.contains("stopped after iteration"), "{log}");
        place.run(&["sample", "-q", "--model", out, "--n", "2", "--steps", "1", "--start", "buffer"]).ok();
    }
}

#[test]
fn a_stopped_series_names_the_command_that_goes_on() {
    let place = Place::empty();
    let (code, messages) = stopped_by(&place, ("two", "two/seed=4"), &["--seeds", "4..5"], "INT");
    assert_eq!(code, 130, "{messages}");
    assert!(messages.contains("run 1 of 2: seed=4") && !messages.contains("seed=5"), "{messages}");
    assert!(messages.lines().last().unwrap().ends_with("train --resume two"), "{messages}");
    assert!(!place.path().join("two/report.html").exists() && !place.path().join("two/seed=5").exists());
}
