//! `gpu-check`: which parts of CUDA this machine has, and whether the device computes correctly.
//!
//! What must hold: it runs on a machine that has neither a GPU, nor CUDA, nor Rust, and says so instead of failing.

use std::fmt::Write as _;
use std::process::ExitCode;

use benches::gpu::selftest::{self, Outcome, Record};
use benches::gpu::{self, Check, Size};
use clap::Parser as _;
use engine::{Debugging, Device};
use kernels::gpu::libraries::Status;
use kernels::gpu::{LibraryReport, NoCuda, Report};
use serde_json::{Value, json};

/// Reports which parts of CUDA this machine has and checks that the GPU computes correctly.
///
/// Libraries are looked for in the folders that JEMPP_CUDA_PATH names (separated by colons), then on the loader's path,
/// in CUDA's and the system's usual folders, and in Python environments (VIRTUAL_ENV, CONDA_PREFIX, python3 on PATH).
///
/// Exit codes: 0 all is well, or there is no GPU · 1 a check failed · 2 wrong usage · 4 the device asked for is not
/// there or does not open, or, with --require, there is no GPU or a check was skipped · 7 FILE could not be written
#[derive(clap::Parser)]
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
    /// Time tiny sizes only: everything runs once, and the times mean nothing.
    #[arg(long, conflicts_with = "no_speed")]
    quick: bool,
    /// Do not repeat the comparisons under compute-sanitizer, where that is found.
    #[arg(long)]
    no_sanitizer: bool,
    /// Write the report to FILE too ('-': to standard output, in place of the text).
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();

    let report = kernels::gpu::probe();
    let devices = gpu::each_precision(|p| Device::cuda(options.device, p, Debugging::default()));
    let gpu = devices.as_ref().map(|d| d.first().and_then(Device::as_gpu));
    let mut found = Found { trouble: devices.as_ref().err(), ..Found::default() };
    found.records = match gpu {
        Ok(Some(gpu)) => selftest::run(Ok(gpu)),
        Ok(None) => Vec::new(),
        Err(why) => selftest::run(Err(why)),
    };
    if let Ok(devices) = &devices {
        found.checks = gpu::against_the_cpu(devices);
        if !options.no_speed {
            let size = if options.quick { Size::Small } else { Size::Real };
            found.checks.extend(gpu::timed(devices, size));
        }
        for note in devices.iter().filter_map(Device::as_gpu).flat_map(|gpu| gpu.notes()) {
            if !found.notes.contains(&note) {
                found.notes.push(note);
            }
        }
        if let (false, Some(device)) = (options.no_sanitizer, devices.first()) {
            match gpu::sanitized(device) {
                Ok(check) => found.checks.push(check),
                Err(why) => found.notes.push(why),
            }
        }
    }

    let document = as_json(&report, &found);
    match options.json.as_deref() {
        Some("-") => println!("{document:#}"),
        Some(file) => {
            print!("{}", as_text(&report, &found));
            if let Err(error) = std::fs::write(file, format!("{document:#}\n")) {
                eprintln!("gpu-check: {file} could not be written: {error}");
                return ExitCode::from(7);
            }
        }
        None => print!("{}", as_text(&report, &found)),
    }
    // A machine without a GPU is fine; one without the GPU that was asked for, or whose GPU does not open, is not.
    let refused = matches!(found.trouble, Some(NoCuda::NoSuchDevice { .. } | NoCuda::Open { .. }));
    ExitCode::from(exit_code(&found.outcomes(), options.require || refused))
}

/// The results of all checks.
#[derive(Default)]
struct Found<'a> {
    /// Why there is no device.
    trouble: Option<&'a NoCuda>,
    /// The checks of the CUDA libraries.
    records: Vec<Record>,
    /// The project's own checks.
    checks: Vec<Check>,
    notes: Vec<String>,
}

impl Found<'_> {
    fn outcomes(&self) -> Vec<Outcome> {
        self.records.iter().map(|r| r.status).chain(self.checks.iter().map(|c| c.status)).collect()
    }
}

fn exit_code(outcomes: &[Outcome], require: bool) -> u8 {
    let any = |outcome| outcomes.contains(&outcome);
    match () {
        () if any(Outcome::Failed) => 1,
        () if require && any(Outcome::Skipped) => 4,
        () => 0,
    }
}

fn as_text(report: &Report, found: &Found<'_>) -> String {
    let mut text = String::from("Libraries\n");
    for library in &report.libraries {
        let (version, place) = match &library.status {
            Status::Found { path, version, .. } => (version.to_string(), path.display().to_string()),
            Status::Unavailable(NoCuda::Unusable { path, reason, .. }) => {
                ("unusable".to_owned(), format!("{path}: {reason}"))
            }
            Status::Unavailable(_) => ("not found".to_owned(), format!("({})", library.purpose)),
        };
        line(&mut text, &format!("  {:<14} {version:<10} {place}", library.name));
        if let Status::Found { note: Some(note), .. } = &library.status {
            line(&mut text, &format!("  {:<14} {:<10} {note}", "", ""));
        }
    }

    line(&mut text, "\nDevices");
    match &report.devices {
        Ok(devices) => {
            for device in devices {
                let (major, minor) = device.compute_capability;
                let gib = device.memory as f64 / f64::from(1 << 30);
                line(
                    &mut text,
                    &format!(
                        "  cuda:{}  {}, {gib:.1} GiB, compute capability {major}.{minor}, {} multiprocessors",
                        device.ordinal, device.name, device.multiprocessors
                    ),
                );
            }
        }
        Err(_) => line(&mut text, "  none"),
    }

    match found.trouble {
        Some(why) => no_gpu(&mut text, why),
        None => table(&mut text, found),
    }
    places(&mut text, report);
    text
}

/// The message where there is no GPU to check.
fn no_gpu(text: &mut String, why: &NoCuda) {
    match why {
        NoCuda::NoSuchDevice { .. } | NoCuda::Open { .. } => {
            line(text, "\nThe device asked for cannot be checked.")
        }
        _ => line(text, "\nThere is no GPU to check here. That is fine: everything runs on the CPU too."),
    }
    line(text, &format!("{}.", why.brief()));
}

/// Where libraries were searched for, if one was not found.
fn places(text: &mut String, report: &Report) {
    let missing = |library: &LibraryReport| matches!(library.status, Status::Unavailable(_));
    if report.libraries.iter().any(missing) {
        line(text, "\nLibraries were looked for in, in this order:");
        for place in &report.places {
            line(text, &format!("  {place}"));
        }
    }
    for note in &report.notes {
        line(text, &format!("Note: {note}."));
    }
}

fn table(text: &mut String, found: &Found<'_>) {
    line(text, "\nChecks");
    for record in &found.records {
        let outcome = record.status.as_str();
        line(text, &format!("  {:<34} {outcome:<8} {:>8.1} ms  {}", record.name, record.ms, record.detail));
    }
    let mut group = "";
    for check in &found.checks {
        if check.group != group {
            group = check.group;
            line(text, &format!("\n{group}"));
        }
        let (name, outcome) = (&check.name, check.status.as_str());
        line(text, &format!("  {name:<50} {outcome:<8} {:>8.1} ms  {}", check.ms, check.detail));
    }
    for note in &found.notes {
        line(text, &format!("\nNote: {note}."));
    }
    let outcomes = found.outcomes();
    let count = |outcome| outcomes.iter().filter(|o| **o == outcome).count();
    let (ok, failed, skipped) = (count(Outcome::Ok), count(Outcome::Failed), count(Outcome::Skipped));
    line(text, &format!("\n{ok} ok, {failed} failed, {skipped} skipped"));
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

fn as_json(report: &Report, found: &Found<'_>) -> Value {
    let devices = report.devices.iter().flatten().map(|device| {
        let (major, minor) = device.compute_capability;
        json!({
            "ordinal": device.ordinal,
            "name": device.name,
            "memory_bytes": device.memory,
            "compute_capability": format!("{major}.{minor}"),
            "multiprocessors": device.multiprocessors,
        })
    });
    let checks = found.records.iter().map(|record| {
        json!({
            "name": record.name,
            "status": record.status.as_str(),
            "detail": record.detail,
            "ms": record.ms,
        })
    });
    json!({
        "gpu_check": env!("CARGO_PKG_VERSION"),
        "driver_cuda_version": report.driver_version.map(|version| version.to_string()),
        "libraries": report.libraries.iter().map(library_json).collect::<Vec<_>>(),
        "devices": devices.collect::<Vec<_>>(),
        "no_gpu": found.trouble.map(ToString::to_string),
        "looked_in": report.places,
        "notes": report.notes,
        "checks": checks.collect::<Vec<_>>(),
        "programs": found.checks.iter().map(Check::json).collect::<Vec<_>>(),
        "device_notes": found.notes,
    })
}

fn library_json(library: &LibraryReport) -> Value {
    let mut value = json!({ "name": library.name, "purpose": library.purpose });
    let more = match &library.status {
        Status::Found { path, version, note } => {
            json!({ "version": version.to_string(), "path": path.display().to_string(), "note": note })
        }
        Status::Unavailable(why) => json!({ "version": null, "missing": why.to_string() }),
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Options as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn exit_codes_are_as_documented() {
        let mixed = [Outcome::Ok, Outcome::Skipped];
        assert_eq!((exit_code(&mixed, false), exit_code(&mixed, true)), (0, 4));
        let failed = [Outcome::Skipped, Outcome::Failed];
        assert_eq!((exit_code(&failed, false), exit_code(&failed, true)), (1, 1));
        let ok = [Outcome::Ok];
        assert_eq!((exit_code(&ok, false), exit_code(&ok, true)), (0, 0));
    }
}
