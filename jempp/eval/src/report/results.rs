//! The results of a run, read from its folder.

use super::pictures::{Figure, embed};
use crate::samples::Picture;
use crate::scores::DetectionScore;
use crate::summary::{FOLDER, SUMMARY, Summary};
use jempp::config::Config;
use jempp::run::{Best, Ended, Report, RunStatus, run_status};
use jempp::{Error, Result};
use jempp_formats::files::hint;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Classes in the grid by class that training draws, at most.
const TRAINING_ROWS: usize = 100;

/// The results of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResults {
    /// Name of the run folder.
    pub name: String,
    /// What has become of the run.
    pub outcome: Outcome,
    /// Contents of `result.json`, which training writes at its end.
    pub result: Option<Report>,
    /// Results of `jempp-cli eval all`.
    pub summary: Option<Summary>,
    /// The configuration; absent if there is none, or if this version cannot read it.
    #[serde(skip)]
    pub(super) config: Option<Config>,
    /// Contents of `metrics.jsonl`.
    #[serde(skip)]
    pub(super) metrics: String,
    /// Image files, to be embedded.
    #[serde(skip)]
    pub(super) figures: Vec<Figure>,
}

/// What has become of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has ended, for this reason.
    Ended(Ended),
    /// It has more to do, or is being trained.
    Unfinished,
    /// It has diverged, for this reason.
    Diverged(String),
    /// There was no training here, only an evaluation.
    Untrained,
}

impl Outcome {
    /// In few words.
    pub(super) fn short(&self) -> String {
        match self {
            Self::Ended(Ended::Complete) => "complete",
            Self::Ended(Ended::TimeLimit) => "stopped by time",
            Self::Ended(Ended::EarlyStopped) => "stopped early",
            Self::Unfinished => "unfinished",
            Self::Diverged(_) => "diverged",
            Self::Untrained => "evaluated only",
        }
        .to_owned()
    }
}

/// Reads the results of the run in the folder `run`.
///
/// # Errors
/// [`Error::Data`] if it is not a run folder; [`Error::Format`] if a file in it is damaged; [`Error::Io`].
pub fn read(run: &Path) -> Result<RunResults> {
    read_with(run, &run.join(FOLDER))
}

/// Reads a run like [`read`], with the results of `jempp-cli eval all` in another folder, `eval`.
///
/// # Errors
/// Those of [`read`].
pub fn read_with(run: &Path, eval: &Path) -> Result<RunResults> {
    let known = ["metrics.jsonl", "config.toml", FOLDER];
    if !known.iter().any(|f| run.join(f).exists()) && !eval.exists() {
        let at = run.display();
        let why = format!("{at}: there is no run folder here (looked for {})", known.join(", "));
        return Err(Error::Data(why + &hint(run)));
    }
    let [ended, kept] = [run.join("result.json"), eval.join(SUMMARY)];
    let result: Option<Report> = parsed(&ended)?;
    let summary: Option<Summary> = parsed(&kept)?;
    let env: Value = parsed(&run.join("env.json"))?.unwrap_or_default();
    let config = text(&run.join("config.toml"))?;
    let config = config.and_then(|t| Config::from_sources("jempp", Some((&t, "config.toml")), &[]).ok());
    let outcome = match (&result, run_status(run)) {
        (Some(r), _) => Outcome::Ended(r.ended),
        (None, RunStatus::Diverged(why)) => Outcome::Diverged(why),
        (None, _) if run.join("metrics.jsonl").exists() => Outcome::Unfinished,
        (None, _) => Outcome::Untrained,
    };
    let classes = class_names(&env, config.as_ref());
    let figures = match summary.as_ref().and_then(|s| s.samples.as_ref()) {
        Some(samples) => embed(eval, &samples.pictures, &classes),
        None => embed(&run.join("samples"), &training_pictures(run), &classes),
    };
    Ok(RunResults {
        name: name(run),
        outcome,
        result,
        summary,
        config,
        metrics: text(&run.join("metrics.jsonl"))?.unwrap_or_default(),
        figures,
    })
}

/// The folder's name; of `.` and the like, that of the folder it stands for.
fn name(run: &Path) -> String {
    let whole = run.canonicalize().unwrap_or_else(|_| run.to_path_buf());
    let name = run.file_name().or(whole.file_name()).unwrap_or(run.as_os_str());
    name.to_string_lossy().into_owned()
}

fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io(path, e)),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let damaged = |e: serde_json::Error| Error::Format(format!("{}: {e}", path.display()));
    text(path)?.map(|t| serde_json::from_str(&t)).transpose().map_err(damaged)
}

fn class_names(env: &Value, config: Option<&Config>) -> Vec<String> {
    let named = env["class_names"]
        .as_array()
        .map(|all| all.iter().map(|n| n.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>());
    let numbers = || (0..config.map_or(0, |c| c.model.classes)).map(|k| k.to_string()).collect();
    named.filter(|n| !n.is_empty()).unwrap_or_else(numbers)
}

/// The pictures that training draws: those of its end, or else the last ones on the way.
fn training_pictures(run: &Path) -> Vec<Picture> {
    let picture = |file: &str, caption: &str, class_rows: usize| Picture {
        file: file.to_owned(),
        caption: caption.to_owned(),
        class_rows,
    };
    let folder = run.join("samples");
    if folder.join("chains_last.png").exists() {
        return vec![
            picture(
                "chains_by_class.png",
                "Chains of the replay buffer, one row per predicted class, unselected otherwise.",
                TRAINING_ROWS,
            ),
            picture(
                "chains_last.png",
                "Chains of the replay buffer at the end of training, in random order.",
                0,
            ),
        ];
    }
    let names = fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.file_name());
    let mut epochs: Vec<String> = names.filter_map(|n| n.into_string().ok()).collect();
    epochs.retain(|n| n.starts_with("chains_epoch_") && n.ends_with(".png"));
    epochs.sort();
    let last = epochs.pop();
    let caption =
        "The last picture of the chains of the replay buffer before the run ended, in random order.";
    last.map(|file| picture(&file, caption, 0)).into_iter().collect()
}

impl RunResults {
    /// The values of all keys but the seed, by name.
    pub(super) fn settings(&self) -> Option<Vec<(String, String)>> {
        let values = self.config.as_ref()?.values().ok()?;
        let others = values.into_iter().filter(|(key, _)| *key != "seed");
        Some(others.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The best evaluation on the validation images, if there was one.
    pub(super) fn best(&self) -> Option<Best> {
        self.result.as_ref()?.best
    }

    /// Its accuracy.
    pub(super) fn validation(&self) -> Option<f64> {
        self.best().map(|b| b.accuracy)
    }

    pub(super) fn accuracy(&self) -> Option<f64> {
        let trained = self.result.as_ref().map(|r| r.test.classification.accuracy);
        trained.or_else(|| Some(self.summary.as_ref()?.calibration.accuracy.value))
    }

    pub(super) fn ece(&self) -> Option<f64> {
        let trained = self.result.as_ref().map(|r| r.test.classification.ece);
        trained.or_else(|| Some(self.summary.as_ref()?.calibration.plain.ece.value))
    }

    pub(super) fn nll(&self) -> Option<f64> {
        let trained = self.result.as_ref().map(|r| r.test.classification.nll);
        trained.or_else(|| Some(self.summary.as_ref()?.calibration.plain.nll.value))
    }

    /// AUROC of log p(x) against shuffled pixels.
    pub(super) fn auroc(&self) -> Option<f64> {
        let set = "shuffled pixels";
        if let Some(result) = &self.result {
            return result.test.detection.iter().find(|d| d.against == set).map(|d| d.auroc_log_density);
        }
        let found = self.summary.as_ref()?.detection.sets.iter().find(|s| s.set == set)?;
        let density = found.scores.iter().find(|s| s.score == DetectionScore::LogDensity.name())?;
        Some(density.separation.auroc.value)
    }

    /// Largest gap of the last iterations.
    pub(super) fn gap(&self) -> Option<f64> {
        self.result.as_ref()?.gap.map(|g| g[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html;

    #[test]
    fn the_page_of_a_run_that_was_not_evaluated_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("no run folder"));
        let run = dir.path().join("a<b");
        fs::create_dir_all(run.join(FOLDER)).unwrap();
        fs::write(run.join("metrics.jsonl"), "").unwrap();
        let read_run = read(&run).unwrap();
        let page = html(&[read_run.clone(), read_run]);
        assert!(page.contains("a&lt;b") && page.contains("eval all") && page.ends_with("</html>\n"));
        assert!(!page.contains("<script") && !page.contains("src=\"http"));
        fs::write(run.join(FOLDER).join(SUMMARY), "{").unwrap();
        assert_eq!(read(&run).unwrap_err().exit_code(), 6);
    }
}
