//! Runs jobs one after the other, each in a process of its own with a time limit.
//!
//! What must hold: this process never touches the device, so that nothing which happens there can end it; whatever becomes
//! of a job, the next one begins; a job that is complete in the file of results is not run again.

use super::journal::{self, Fault, Journal, Line};
use super::selftest::Outcome;
use super::{Job, Stage, sanitizer};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The exit code of a job whose device no longer works: the rest of it needs another process.
pub const LOST: u8 = 71;
/// The exit code of a probe that found no GPU.
pub const NO_GPU: u8 = 20;
/// The exit code of a probe whose device, or a library that everything needs, cannot be used.
pub const UNUSABLE: u8 = 4;

/// How often a job is started, at most, in one pass: each time without the check that ended it.
const STARTS: usize = 4;
/// No job is started with less time left than this.
const LEAST: Duration = Duration::from_secs(8);
/// How long a process that was killed may take to be gone. One that waits for a device may never be.
const BURIAL: Duration = Duration::from_secs(5);

/// A pass over the jobs.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The program that runs a job: `gpu-check`.
    pub program: PathBuf,
    /// Arguments that every job is given: the device, and whether sizes are tiny.
    pub common: Vec<String>,
    /// The file of results.
    pub jsonl: PathBuf,
    /// The time that there is for all jobs together.
    pub budget: Option<Duration>,
    /// Faults to be made on purpose, by the stage's name.
    pub faults: Vec<(String, Fault)>,
    /// The Python that has PyTorch.
    pub python: PathBuf,
    /// The folder with `jempp_torch_gpu.py`.
    pub peers: PathBuf,
    /// Whether PyTorch runs a tiny network, on the CPU.
    pub quick: bool,
}

/// How a process ended.
enum End {
    Exited(ExitStatus),
    /// It was ended after this many seconds.
    Killed(u64),
    NotStarted(io::Error),
}

impl End {
    fn code(&self) -> Option<u8> {
        match self {
            Self::Exited(status) => status.code().and_then(|code| u8::try_from(code).ok()),
            _ => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Exited(status) if status.success() => "done".to_owned(),
            Self::Exited(status) => status.to_string(),
            Self::Killed(seconds) => format!("it was ended after {seconds} s"),
            Self::NotStarted(error) => format!("it could not be started: {error}"),
        }
    }
}

impl Pass {
    /// Runs the jobs that are not complete. Returns the probe's exit code if that says that nothing can be run here.
    ///
    /// # Errors
    /// If the file of results cannot be read or written.
    pub fn run(&self, jobs: &[Job]) -> io::Result<Option<u8>> {
        let begun = Instant::now();
        let since = std::fs::metadata(&self.jsonl).map_or(0, |m| m.len());
        for job in jobs {
            // What the probe says about this machine may have been another machine's.
            if job.stage != Stage::Probe && is_complete(&journal::read(&self.jsonl)?, job) {
                println!("\n{job}: complete already");
                continue;
            }
            let left = self.budget.map(|budget| budget.saturating_sub(begun.elapsed()));
            if left.is_some_and(|left| left < LEAST) {
                println!("\n{job}: not begun, as the time is up");
                continue;
            }
            println!("\n{job}: {} s at most", job.limit);
            let code = self.one(job, since, begun)?;
            if job.stage == Stage::Probe && [Some(NO_GPU), Some(UNUSABLE)].contains(&code) {
                return Ok(code);
            }
        }
        Ok(None)
    }

    /// Runs a job, again where it died, without the check that ended it. Returns its last exit code.
    fn one(&self, job: &Job, since: u64, begun: Instant) -> io::Result<Option<u8>> {
        let limit = Duration::from_secs(job.limit);
        let first = Instant::now();
        for start in 1.. {
            let before = journal::read(&self.jsonl)?.len();
            // After a death there is a third more, so that a stage which is only slow does not take the next one's time.
            let mut time = limit.min((limit * 4 / 3).saturating_sub(first.elapsed()));
            if let Some(budget) = self.budget {
                time = time.min(budget.saturating_sub(begun.elapsed() + Duration::from_secs(2)));
            }
            let end = match self.command(job, since) {
                Ok(mut command) => wait(&mut command, time),
                Err(why) => {
                    let mut journal = Journal::open(&self.jsonl, &job.to_string(), Some(since), None)?;
                    let skipped = || (Outcome::Skipped, why, Value::Null);
                    journal.run(job.stage.name(), job.to_string(), skipped).map_err(io::Error::other)?;
                    return Ok(None);
                }
            };
            self.note_end(job, &end)?;
            let over = match end.code() {
                Some(0 | 1 | UNUSABLE | NO_GPU) => true,
                Some(code) => i32::from(code) == sanitizer::FOUND || job.stage == Stage::Torch,
                None => job.stage == Stage::Torch,
            };
            // A process that died before its first check would do so again.
            let progress = journal::read(&self.jsonl)?.len() > before + 1;
            let left = self.budget.map_or(LEAST, |budget| budget.saturating_sub(begun.elapsed()));
            let again = left >= LEAST && first.elapsed() < limit * 7 / 6;
            if over || !progress || !again || start == STARTS {
                return Ok(end.code());
            }
            println!("  The job goes on in a new process, without that check.");
        }
        Ok(None)
    }

    /// The command that runs a job, or the reason why it cannot be run.
    fn command(&self, job: &Job, since: u64) -> Result<Command, String> {
        if job.stage == Stage::Torch {
            return self.torch(job);
        }
        let mut command = match job.stage {
            Stage::Sanitizer => sanitizer::command(&self.program)?,
            _ => Command::new(&self.program),
        };
        command.args(["--stage", job.stage.name()]).args(&self.common);
        command.arg("--jsonl").arg(&self.jsonl).args(["--since", &since.to_string()]);
        let values = [("--precision", &job.precision), ("--network", &job.network), ("--mode", &job.mode)];
        for (name, value) in values {
            command.args(value.iter().flat_map(|value| [name, value.as_str()]));
        }
        for (_, fault) in self.faults.iter().filter(|(stage, _)| stage == job.stage.name()) {
            command.args(["--fault", &format!("{}={fault:?}", job.stage.name()).to_lowercase()]);
        }
        Ok(command)
    }

    fn torch(&self, job: &Job) -> Result<Command, String> {
        let script = self.peers.join("jempp_torch_gpu.py");
        if !script.is_file() {
            return Err(format!("{} is not there; --peers names its folder", script.display()));
        }
        let mut command = Command::new(&self.python);
        command.arg(script).arg("--jsonl").arg(&self.jsonl).args(["--job", &job.to_string()]);
        let values = [("--precision", &job.precision), ("--mode", &job.mode), ("--network", &job.network)];
        for (name, value) in values {
            command.args(value.iter().flat_map(|value| [name, value.as_str()]));
        }
        if self.quick {
            command.args(["--quick", "--device", "cpu"]);
        }
        Ok(command)
    }

    /// Writes down how a process ended, and what the sanitizer has found.
    fn note_end(&self, job: &Job, end: &End) -> io::Result<()> {
        let mut journal = Journal::open(&self.jsonl, &job.to_string(), None, None)?;
        let words = end.words();
        if words != "done" && end.code() != Some(NO_GPU) {
            println!("  {job}: {words}");
        }
        journal.write("ended", json!({ "how": words, "code": end.code() }))?;
        if job.stage == Stage::Sanitizer {
            let (status, detail) = match end.code() {
                Some(0) => (Outcome::Ok, "no error"),
                Some(code) if i32::from(code) == sanitizer::FOUND => {
                    (Outcome::Failed, "errors, see the output")
                }
                _ => return Ok(()),
            };
            let checked =
                journal.run("compute-sanitizer", "memcheck", || (status, detail.to_owned(), Value::Null));
            checked.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Whether a job has run to its end and every check of it has passed.
#[must_use]
pub fn is_complete(lines: &[Line], job: &Job) -> bool {
    let job = job.to_string();
    let finished = lines.iter().any(|line| line.is("finished", &job));
    finished && journal::checks(lines, &job).iter().all(|check| check.text("status") == "ok")
}

/// Runs a command for at most `time`; it, and what it has started, is then ended.
fn wait(command: &mut Command, time: Duration) -> End {
    let begun = Instant::now();
    let mut child = match own_group(command).spawn() {
        Ok(child) => child,
        Err(error) => return End::NotStarted(error),
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return End::Exited(status),
            Err(error) => return End::NotStarted(error),
            Ok(None) => {}
        }
        if begun.elapsed() >= time {
            kill(&mut child);
            return End::Killed(begun.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn own_group(command: &mut Command) -> &mut Command {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command
}

fn kill(child: &mut Child) {
    // The standard library ends one process only, and PyTorch's compiler starts more.
    let group = format!("kill -KILL -{}", child.id());
    let _ = Command::new("sh").args(["-c", &group]).status();
    let _ = child.kill();
    let begun = Instant::now();
    while begun.elapsed() < BURIAL {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The folder with PyTorch's scripts: in the working directory, or beside the folder that the program was built in.
#[must_use]
pub fn peers(program: &Path) -> PathBuf {
    let here = PathBuf::from("benches/peers");
    let built = program.ancestors().map(|folder| folder.join("benches/peers"));
    std::iter::once(here.clone()).chain(built).find(|folder| folder.is_dir()).unwrap_or(here)
}

#[cfg(test)]
mod tests;
