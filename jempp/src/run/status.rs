//! What has become of a run, as its folder says.

use super::{Ended, Report};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// What has become of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunStatus {
    /// There is no such folder.
    Missing,
    /// It has begun and has no checkpoint yet, or is being trained for the first time.
    Started,
    /// It has a checkpoint and more to do: it was interrupted or has reached a time limit, or is being trained.
    Unfinished,
    /// It has ended: all iterations are done, or early stopping has ended it.
    Ended(Box<Report>),
    /// It has diverged: after which iteration, and why.
    Diverged(String),
}

/// What has become of the run in `folder`.
pub fn run_status(folder: &Path) -> RunStatus {
    if !folder.is_dir() {
        return RunStatus::Missing;
    }
    match result(folder) {
        Some(report) if report.ended == Ended::TimeLimit => return RunStatus::Unfinished,
        Some(report) => return RunStatus::Ended(Box::new(report)),
        None => {}
    }
    if let Some(reason) = divergence(&fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default()) {
        return RunStatus::Diverged(reason);
    }
    let saved = fs::read_dir(folder.join("ckpt")).is_ok_and(|mut entries| entries.next().is_some());
    if saved { RunStatus::Unfinished } else { RunStatus::Started }
}

/// The result in a run folder, if it has one that can be read.
fn result(folder: &Path) -> Option<Report> {
    let text = fs::read_to_string(folder.join("result.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// Why a run has diverged, from the text of its `metrics.jsonl`; `None` if it has not, or was resumed since.
fn divergence(metrics: &str) -> Option<String> {
    let lines = metrics.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let event = lines.rev().find(|l| l["event"] == "diverged")?;
    let (step, reason) = (event["step"].as_u64()?, event["reason"].as_str()?);
    Some(format!("after iteration {step}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_from_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        assert_eq!(run_status(&run), RunStatus::Missing);
        fs::create_dir(&run).unwrap();
        assert_eq!(run_status(&run), RunStatus::Started);
        fs::create_dir_all(run.join("ckpt/step_3")).unwrap();
        fs::write(run.join("metrics.jsonl"), "{\"event\":\"step\",\"step\":3}\n").unwrap();
        assert_eq!(run_status(&run), RunStatus::Unfinished);
        let line = r#"{"event":"diverged","step":9,"reason":"the loss is NaN"}"#;
        fs::write(run.join("metrics.jsonl"), line).unwrap();
        assert_eq!(run_status(&run), RunStatus::Diverged("after iteration 9: the loss is NaN".into()));
        // A damaged result is none.
        fs::write(run.join("metrics.jsonl"), "").unwrap();
        fs::write(run.join("result.json"), "{").unwrap();
        assert_eq!(run_status(&run), RunStatus::Unfinished);
    }
}
