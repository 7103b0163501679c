//! `gpu-check`: which parts of CUDA this machine has, whether the device computes correctly, and how fast.
//!
//! What must hold: it runs on a machine that has neither a GPU, nor CUDA, nor Rust, and says so instead of failing; the
//! process that starts the stages never touches the device itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use benches::gpu::runner::{self, LOST, NO_GPU, Pass, UNUSABLE};
use benches::gpu::selftest::Outcome;
use benches::gpu::{self, Fault, Job, Journal, Size, Stage, Wanted, journal, needs, report, stages};
use clap::Parser as _;
use kernels::gpu::NoCuda;
use serde_json::json;

/// Reports which parts of CUDA this machine has, checks that the GPU computes correctly, and measures how fast.
///
/// Each stage runs in a process of its own with a time limit, and each result is written to FILE as soon as it is there.
/// Run again with the same FILE it does only what is missing or has failed.
///
/// Libraries are looked for in the folders that JEMPP_CUDA_PATH names (separated by colons), then on the loader's path,
/// in CUDA's and the system's usual folders, and in Python environments (VIRTUAL_ENV, CONDA_PREFIX, python3 on PATH).
///
/// Exit codes: 0 all is well, or there is no GPU; always with --collect · 1 a check failed or a stage did not end · 2 wrong
/// usage · 4 the device asked for is not there or does not open, or NVRTC, cuBLAS or cuDNN is missing, or, with --require,
/// there is no GPU or a check was skipped · 7 FILE could not be read or written
#[derive(clap::Parser)]
#[command(version)]
struct Options {
    /// The device to check.
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// Exit with 4 if there is no GPU or a check was skipped.
    #[arg(long)]
    require: bool,
    /// Only compare results; time nothing.
    #[arg(long)]
    no_speed: bool,
    /// Tiny sizes only: everything runs once, and the times mean nothing.
    #[arg(long)]
    quick: bool,
    /// Time PyTorch on the same work too.
    #[arg(long)]
    torch: bool,
    /// Also run small cases of our kernels under compute-sanitizer, last.
    #[arg(long)]
    sanitizer: bool,
    /// Measure all that there is time for, PyTorch included, and exit with 0 whatever happens.
    #[arg(long)]
    collect: bool,
    /// Where results are collected, one JSON object a line; without it, in a temporary file.
    #[arg(long, value_name = "FILE")]
    jsonl: Option<PathBuf>,
    /// Begin no stage after this time, and end the one that runs then.
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,
    /// The most time for a stage, in place of its own limit.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Only these stages, after the probe.
    #[arg(long, value_name = "STAGE")]
    only: Vec<Stage>,
    /// The Python that has PyTorch.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// The folder with jempp_torch_gpu.py; without it benches/peers, here or above this program.
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// Run one stage in this process.
    #[arg(long)]
    stage: Option<Stage>,
    /// The stage's precision.
    #[arg(long, requires = "stage", value_parser = ["f32", "tf32", "bf16"])]
    precision: Option<String>,
    /// The stage's network.
    #[arg(long, requires = "stage", value_name = "NAME")]
    network: Option<String>,
    /// How iterations run: with cuDNN's batch norm, or with nothing beside the chain steps.
    #[arg(long, requires = "stage", value_parser = [stages::CUDNN_NORM, stages::ONE_STREAM])]
    mode: Option<String>,
    /// Print what FILE says, as Markdown, and run nothing.
    #[arg(long, value_name = "FILE", conflicts_with = "stage")]
    summary: Option<PathBuf>,
    /// Print what this program needs of a machine, and run nothing.
    #[arg(long)]
    needs: bool,
    /// What was tried in lines from this byte on is not tried again.
    #[arg(long, hide = true)]
    since: Option<u64>,
    /// End a stage on purpose: STAGE=hang, crash or exit.
    #[arg(long, hide = true, value_parser = fault)]
    fault: Vec<(String, Fault)>,
}

fn fault(text: &str) -> Result<(String, Fault), String> {
    let (stage, kind) = text.split_once('=').ok_or("STAGE=hang, STAGE=crash or STAGE=exit")?;
    let kinds = [("hang", Fault::Hang), ("crash", Fault::Crash), ("exit", Fault::Exit)];
    let kind = kinds.iter().find(|(name, _)| *name == kind).ok_or("hang, crash or exit")?;
    Ok((stage.to_owned(), kind.1))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let code = if options.needs {
        print_needs()
    } else if let Some(file) = &options.summary {
        print_summary(file, &options)
    } else if let Some(stage) = options.stage {
        one_stage(stage, &options)
    } else {
        all_stages(&options)
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(Trouble { text, code }) => {
            eprintln!("gpu-check: {text}");
            ExitCode::from(code)
        }
    }
}

/// Why the program ends, and its exit code.
struct Trouble {
    text: String,
    code: u8,
}

impl Trouble {
    fn file(file: &Path) -> impl Fn(std::io::Error) -> Self + use<'_> {
        move |error| Self { text: format!("{}: {error}", file.display()), code: 7 }
    }
}

fn print_needs() -> Result<u8, Trouble> {
    let file = std::env::current_exe().unwrap_or_default();
    let bytes = std::fs::read(&file).map_err(Trouble::file(&file))?;
    let needs = needs::of(&bytes);
    let glibc = needs.glibc.map_or("none".to_owned(), |(major, minor)| format!("{major}.{minor}"));
    println!(
        "gpu-check {}, {}, {:.1} MiB",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        bytes.len() as f64 / 1048576.0
    );
    println!("GNU C library {glibc} or newer; {}", needs.libraries.join(", "));
    Ok(0)
}

fn wanted(options: &Options) -> Wanted {
    Wanted {
        quick: options.quick,
        speed: !options.no_speed,
        torch: options.torch || options.collect || options.summary.is_some(),
        sanitizer: options.sanitizer,
    }
}

fn jobs(options: &Options) -> Vec<Job> {
    let mut jobs = stages::plan(wanted(options));
    jobs.retain(|j| options.only.is_empty() || j.stage == Stage::Probe || options.only.contains(&j.stage));
    jobs.iter_mut().for_each(|job| job.limit = options.limit.unwrap_or(job.limit));
    jobs
}

fn print_summary(file: &Path, options: &Options) -> Result<u8, Trouble> {
    // A file that is not there has no lines; here that is a mistake.
    std::fs::metadata(file).map_err(Trouble::file(file))?;
    let lines = journal::read(file).map_err(Trouble::file(file))?;
    print!("{}", gpu::summary::summary(&lines, &jobs(options)));
    Ok(0)
}

/// Runs every stage in a process of its own.
fn all_stages(options: &Options) -> Result<u8, Trouble> {
    let program = std::env::current_exe();
    let program = program.map_err(|e| Trouble { text: format!("this program's own file: {e}"), code: 7 })?;
    let temporary = std::env::temp_dir().join(format!("gpu-check-{}.jsonl", std::process::id()));
    let jsonl = options.jsonl.clone().unwrap_or_else(|| temporary.clone());
    let mut common = vec!["--device".to_owned(), options.device.to_string()];
    common.extend(options.quick.then(|| "--quick".to_owned()));
    let pass = Pass {
        common,
        jsonl: jsonl.clone(),
        budget: options.budget.map(Duration::from_secs),
        faults: options.fault.clone(),
        python: options.python.clone(),
        peers: options.peers.clone().unwrap_or_else(|| runner::peers(&program)),
        quick: options.quick,
        program,
    };
    let jobs = jobs(options);
    let stopped = pass.run(&jobs).map_err(Trouble::file(&jsonl))?;
    let lines = journal::read(&jsonl).map_err(Trouble::file(&jsonl))?;
    let code = match stopped {
        Some(NO_GPU) => {
            let _ = std::fs::remove_file(&temporary);
            if options.require { UNUSABLE } else { 0 }
        }
        Some(code) => code,
        None => {
            println!("\n{}\nResults: {}", gpu::summary::summary(&lines, &jobs), jsonl.display());
            verdict(&lines, &jobs, options.require)
        }
    };
    Ok(if options.collect { 0 } else { code })
}

/// The exit code that the results give.
fn verdict(lines: &[journal::Line], jobs: &[Job], require: bool) -> u8 {
    let (mut failed, mut skipped) = (false, false);
    for job in jobs.iter().filter(|job| !runner::is_complete(lines, job)) {
        let checks = journal::checks(lines, &job.to_string());
        // A job that was skipped has no other line than that; anything else that is not complete is a failure.
        let only_skipped =
            checks.iter().all(|c| ["ok", "skipped"].contains(&c.text("status"))) && !checks.is_empty();
        (failed, skipped) = (failed || !only_skipped, skipped || only_skipped);
    }
    match () {
        () if failed => 1,
        () if require && skipped => UNUSABLE,
        () => 0,
    }
}

/// Runs one stage here. Its exit code tells the process that started it whether another one should go on.
fn one_stage(stage: Stage, options: &Options) -> Result<u8, Trouble> {
    let (precision, network, mode) =
        (options.precision.clone(), options.network.clone(), options.mode.clone());
    let job = Job { stage, precision, network, mode, limit: 0 };
    let temporary = std::env::temp_dir().join(format!("gpu-check-{}.jsonl", std::process::id()));
    let file = options.jsonl.clone().unwrap_or(temporary);
    let fault = options.fault.iter().find(|(name, _)| name == stage.name()).map(|(_, fault)| *fault);
    let opened = Journal::open(&file, &job.to_string(), options.since, fault);
    let mut journal = opened.map_err(Trouble::file(&file))?;
    if stage == Stage::Probe
        && let Some(code) = probe(options, &mut journal).map_err(Trouble::file(&file))?
    {
        return Ok(code);
    }
    if stage == Stage::Sanitizer {
        journal.forget();
    }
    let size = if options.quick { Size::Small } else { Size::Real };
    let ran = stages::run(&job, options.device, size, &mut journal);
    ran.map_err(|error| Trouble { text: error.to_string(), code: UNUSABLE })?;
    if journal.stopped().is_some() {
        return Ok(LOST);
    }
    journal.write("finished", json!({})).map_err(Trouble::file(&file))?;
    Ok(u8::from(journal.outcomes().contains(&Outcome::Failed)))
}

/// Says what this machine has. The exit code if nothing can be run here.
fn probe(options: &Options, journal: &mut Journal) -> std::io::Result<Option<u8>> {
    let found = kernels::gpu::probe();
    let opened = kernels::gpu::open(options.device);
    let trouble = opened.as_ref().err();
    print!("{}", report::text(&found, trouble));
    journal.write("report", json!({ "report": report::json(&found, trouble) }))?;
    Ok(match trouble {
        Some(NoCuda::NoSuchDevice { .. } | NoCuda::Open { .. }) => Some(UNUSABLE),
        Some(_) => Some(NO_GPU),
        None => report::missing(&found).map(|why| {
            println!("\nNothing is measured without them:\n{why}");
            UNUSABLE
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Options as clap::CommandFactory>::command().debug_assert();
        assert!(fault("parity=hang").is_ok_and(|f| f == ("parity".to_owned(), Fault::Hang)));
        assert!(fault("parity").is_err() && fault("parity=burn").is_err());
    }

    #[test]
    fn exit_codes_are_as_documented() {
        let jobs = stages::plan(Wanted::default());
        let code = |first: &str, require| {
            let mut lines = Vec::new();
            for (i, job) in jobs.iter().map(Job::to_string).enumerate() {
                let status = if i == 0 { first } else { "ok" };
                lines.push(json!({ "event": "check", "job": job, "name": "a", "status": status }));
                lines.push(json!({ "event": "finished", "job": job }));
            }
            let lines: Vec<_> = lines.into_iter().map(|value| journal::Line { at: 0, value }).collect();
            (verdict(&lines, &jobs, require), verdict(&lines[2..], &jobs, require))
        };
        assert_eq!((code("ok", true).0, code("skipped", false).0, code("skipped", true).0), (0, 0, 4));
        assert_eq!((code("failed", false).0, code("failed", true).0, code("ok", false).1), (1, 1, 1));
    }
}
