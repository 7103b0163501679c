//! The file in which results are collected, one JSON object a line.
//!
//! What must hold: a check's name is on the disk before it runs and its result before the next one begins, so that
//! whatever ends the process, the file says what was found and what was under way; nothing in the file is ever
//! overwritten; a line that was torn is no obstacle to reading the others.

use super::selftest::Outcome;
use super::{Found, Wrong};
use crate::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One line of the file.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it begins, in bytes.
    pub at: u64,
    /// What it says: `event`, `job` and more.
    pub value: Value,
}

impl Line {
    /// A text of the line; empty where it has none of that name.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.value[name].as_str().unwrap_or_default()
    }

    /// Whether it is such an event of this job.
    #[must_use]
    pub fn is(&self, event: &str, job: &str) -> bool {
        self.text("event") == event && self.text("job") == job
    }
}

/// Reads every whole line; a file that is not there has none.
///
/// # Errors
/// If the file cannot be read.
pub fn read(file: &Path) -> io::Result<Vec<Line>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut at = 0;
    let mut lines = Vec::new();
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if let Ok(value) = serde_json::from_slice::<Value>(line) {
            lines.push(Line { at, value });
        }
        at += line.len() as u64;
    }
    Ok(lines)
}

/// The last line of each check of a job, in the order in which the checks first ran. Where it is `started`, the process
/// ended during that check.
#[must_use]
pub fn checks<'a>(lines: &'a [Line], job: &str) -> Vec<&'a Line> {
    let mut order: Vec<&Line> = Vec::new();
    for line in lines.iter().filter(|l| l.is("started", job) || l.is("check", job)) {
        let same =
            |l: &&mut &Line| l.text("group") == line.text("group") && l.text("name") == line.text("name");
        match order.iter_mut().find(same) {
            Some(last) => *last = line,
            None => order.push(line),
        }
    }
    order
}

/// A fault to be made on purpose, at a job's first check: how the rehearsal ends processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Never ends.
    Hang,
    /// Ends by a signal.
    Crash,
    /// Ends with an exit code.
    Exit,
}

/// What is known of a check before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It has passed.
    Passed,
    /// It has failed, was skipped or did not end, in this pass.
    Tried,
}

/// Runs the checks of a job, each of them once, and writes down what they find.
pub struct Journal {
    file: File,
    job: String,
    known: BTreeMap<(String, String), Known>,
    fault: Option<Fault>,
    /// Number of checks asked for, passed and tried ones included.
    asked: usize,
    outcomes: Vec<Outcome>,
    /// Why no further check makes sense.
    stopped: Option<String>,
    alive: Box<dyn Fn() -> core::result::Result<(), String>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("job", &self.job).field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the file for a job. Checks that have passed, and those that were tried in lines from byte `since` on, are not
    /// run again.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn open(path: &Path, job: &str, since: Option<u64>, fault: Option<Fault>) -> io::Result<Self> {
        let lines = read(path)?;
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let end = file.seek(SeekFrom::End(0))?;
        if end > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(end - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        let since = since.unwrap_or(end);
        let known = checks(&lines, job).into_iter().filter_map(|line| {
            let known = match line.text("status") {
                "ok" => Known::Passed,
                _ if line.at >= since => Known::Tried,
                _ => return None,
            };
            Some(((line.text("group").to_owned(), line.text("name").to_owned()), known))
        });
        Ok(Self {
            known: known.collect(),
            file,
            job: job.to_owned(),
            fault,
            asked: 0,
            outcomes: Vec::new(),
            stopped: None,
            alive: Box::new(|| Ok(())),
        })
    }

    /// Asked after each check that failed: whether the device still works. After an error that stays, such as an access
    /// to an illegal address, no later check of this process could pass.
    pub fn watch(&mut self, alive: impl Fn() -> core::result::Result<(), String> + 'static) {
        self.alive = Box::new(alive);
    }

    /// Forgets which checks have passed, for checks that are run to be watched.
    pub fn forget(&mut self) {
        self.known.retain(|_, known| *known == Known::Tried);
    }

    /// The job's name.
    #[must_use]
    pub fn job(&self) -> &str {
        &self.job
    }

    /// How the checks that were run ended.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Why the rest of the job must be run in another process.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Appends an event of this job and waits until it is on the disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, event: &str, more: Value) -> io::Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
        let mut line = json!({ "event": event, "job": self.job, "at": (at * 1e3).round() / 1e3 });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()
    }

    /// Runs a check, unless it has passed or been tried.
    ///
    /// # Errors
    /// If the file cannot be written: then there is no point in going on.
    pub fn check(
        &mut self,
        group: &str,
        name: impl Into<String>,
        f: impl FnOnce() -> Result<Found>,
    ) -> Result<()> {
        self.run(group, name, || match f() {
            Ok(Ok((detail, data))) => (Outcome::Ok, detail, data),
            Ok(Err(Wrong { text, data })) => (Outcome::Failed, text, data),
            Err(error) => (Outcome::Failed, error.to_string(), Value::Null),
        })
    }

    /// As [`Journal::check`], for checks that may be skipped.
    ///
    /// # Errors
    /// As [`Journal::check`].
    pub fn run(
        &mut self,
        group: &str,
        name: impl Into<String>,
        f: impl FnOnce() -> (Outcome, String, Value),
    ) -> Result<()> {
        let name = name.into();
        let first = self.asked == 0;
        self.asked += 1;
        if self.stopped.is_some() || self.known.contains_key(&(group.to_owned(), name.clone())) {
            return Ok(());
        }
        let failed = |e: io::Error| crate::Error::Device(format!("the results could not be written: {e}"));
        self.write("started", json!({ "group": group, "name": name })).map_err(failed)?;
        if let (true, Some(fault)) = (first, self.fault) {
            make(fault);
        }
        let start = Instant::now();
        let (status, detail, data) = f();
        let ms = start.elapsed().as_secs_f64() * 1e3;
        let line = json!({
            "group": group, "name": name, "status": status.as_str(), "detail": detail, "data": data, "ms": ms,
        });
        self.write("check", line).map_err(failed)?;
        println!("  {name:<50} {:<8} {ms:>8.1} ms  {detail}", status.as_str());
        self.outcomes.push(status);
        if status == Outcome::Failed
            && let Err(why) = (self.alive)()
        {
            println!("  The device no longer works: {why}");
            self.write("lost", json!({ "detail": why })).map_err(failed)?;
            self.stopped = Some(why);
        }
        Ok(())
    }
}

fn make(fault: Fault) {
    match fault {
        Fault::Hang => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        Fault::Crash => std::process::abort(),
        Fault::Exit => std::process::exit(3),
    }
}

#[cfg(test)]
mod tests;
