//! Several runs, one after another, into the folders of one folder, with one table at the end: `train --seeds` and `sweep`.
//!
//! Invariant: `series.json` in the folder says which runs there are; what has become of each follows from its own folder. So a
//! series that was interrupted goes on where it stopped, and a run that has ended is never repeated.

mod plan;

use super::train::{StopFlag, prepare, resumed, trained};
use super::{json, print};
use crate::args::Global;
use crate::invocation;
use crate::progress::note;
use jempp::run::{Folder, Limits, RunStatus, run_status};
use jempp::{Error, Result};
use jempp_eval::report::{html, read, text_table};
use jempp_formats::files::write_atomic;
use plan::Job;
pub(crate) use plan::Series;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Name of the file with the runs.
const FILE: &str = "series.json";

/// Whether the folder is that of a series.
pub(super) fn is_series(folder: &Path) -> bool {
    folder.join(FILE).is_file()
}

/// Starts a series in the folder `out`, or in the next free one below `runs`.
pub(super) fn run(
    global: &Global,
    series: &Series,
    out: Option<&Path>,
    limits: Limits,
    as_json: bool,
) -> Result<ExitCode> {
    let folder = create(out, &series.kind)?;
    let text = format!("{:#}\n", json(series)?);
    write_atomic(&folder.join(FILE), |w| w.write_all(text.as_bytes()))?;
    work(global, series, &folder, limits, as_json)
}

/// Goes on with the series in a folder.
pub(super) fn resume(global: &Global, folder: &Path, limits: Limits, as_json: bool) -> Result<ExitCode> {
    let path = folder.join(FILE);
    let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Data(format!(
            "{}: not the folder of a sweep or of `train --seeds`, as there is no {FILE} in it",
            folder.display()
        )),
        _ => Error::io(&path, e),
    })?;
    let series: Series =
        serde_json::from_str(&text).map_err(|e| Error::Format(format!("{}: {e}", path.display())))?;
    work(global, &series, folder, limits, as_json)
}

/// Creates the folder.
fn create(out: Option<&Path>, kind: &str) -> Result<PathBuf> {
    let make = |path: &Path| match fs::create_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        other => other.map(|()| true).map_err(|e| Error::io(path, e)),
    };
    let parent = out.map_or(Some(Path::new("runs")), Path::parent);
    if let Some(parent) = parent.filter(|p| *p != Path::new("")) {
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
    }
    if let Some(out) = out {
        return if make(out)? { Ok(out.to_path_buf()) } else { Err(Error::Exists(out.to_path_buf())) };
    }
    for i in 1..=u32::MAX {
        let path = Path::new("runs").join(format!("{kind}-{i:03}"));
        if make(&path)? {
            return Ok(path);
        }
    }
    Err(Error::Internal("no free number of a series".into()))
}

/// Does what is left of the series, and prints the table.
fn work(global: &Global, series: &Series, folder: &Path, limits: Limits, as_json: bool) -> Result<ExitCode> {
    let stop = StopFlag::on_signals()?;
    let (n, mut failure) = (series.jobs.len(), None);
    for (i, job) in series.jobs.iter().enumerate() {
        let of = format!("run {} of {n}: {}", i + 1, job.folder);
        match one(global, series, job, folder, limits, (&of, &stop)) {
            Ok(()) => {}
            Err(Error::Cancelled) => {
                let (program, at) = (invocation::program(), invocation::path(folder));
                note(global, &format!("stopped; to go on:\n  {program} train --resume {at}"));
                return Ok(stop.exit_code());
            }
            // A setting that does not work is a result too.
            Err(e @ (Error::Diverged(_) | Error::OutOfMemory(_))) => {
                note(global, &format!("{of}: {e}"));
                failure = Some(e);
            }
            Err(e) => return Err(e),
        }
    }
    let folders = series.jobs.iter().map(|j| folder.join(&j.folder)).filter(|f| f.is_dir());
    let runs = folders.map(|f| read(&f)).collect::<Result<Vec<_>>>()?;
    if let (Some(e), false) = (failure, runs.iter().any(|r| r.result.is_some())) {
        return Err(e);
    }
    let (page, text) = (folder.join("report.html"), html(&runs));
    write_atomic(&page, |w| w.write_all(text.as_bytes()))?;
    if as_json {
        print(&format!("{}\n", json(&runs)?))?;
    } else {
        print(&format!("\n{}\nreport             {}\n", text_table(&runs), page.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Does one run, or what is left of it.
fn one(
    global: &Global,
    series: &Series,
    job: &Job,
    parent: &Path,
    limits: Limits,
    (of, stop): (&str, &StopFlag),
) -> Result<()> {
    let path = parent.join(&job.folder);
    let (mut training, folder, warnings) = match run_status(&path) {
        RunStatus::Ended(_) => {
            note(global, &format!("{of}: has ended"));
            return Ok(());
        }
        RunStatus::Diverged(why) => return Err(Error::Diverged(why)),
        RunStatus::Unfinished => resumed(global, &path, &[])?,
        status @ (RunStatus::Missing | RunStatus::Started) => {
            let training = prepare(global, series.sources.builder(global, &job.overrides)?)?;
            if matches!(status, RunStatus::Started) {
                // Nothing to go on from. The lock shows that no other process is at it.
                drop(Folder::open(&path)?);
                fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
            }
            (training, Folder::create(&path)?, Vec::new())
        }
    };
    note(global, of);
    training.limit(&limits);
    trained(global, training, &folder, &warnings, stop).map(|_| ())
}
