//! `jempp-cli devices`.

use super::{bytes, print};
use crate::args::{Devices, Global};
use jempp::devices::{CpuInfo, cpu};
use jempp::engine::Device;
use jempp::engine::gpu::{LibraryReport, NoCuda, Report, Status, probe};
use jempp::{Error, Result};
use serde_json::{Value, json};

/// Lists the devices, then fails if the `--device` asked for is not among them.
pub(crate) fn run(global: &Global, a: &Devices) -> Result<()> {
    let cpu = cpu(&Device::cpu_from_env(global.threads).map_err(Error::Config)?)
        .ok_or_else(|| Error::Internal("the CPU device has no CPU backend".into()))?;
    let report = probe();
    if a.json {
        print(&format!("{}\n", as_json(&cpu, &report)))?;
    } else {
        print(&text(&cpu, &report))?;
    }
    global.device().map(|_| ())
}

fn text(cpu: &CpuInfo, report: &Report) -> String {
    let mut out = String::from("CPU\n");
    let name = cpu.model.as_deref().unwrap_or("unknown model");
    out +=
        &format!("  {name}: {} of {} threads, {}\n", cpu.threads, cpu.available_threads, cpu.instruction_set);
    out += "\nGPUs\n";
    for d in report.devices.iter().flatten() {
        let (major, minor) = d.compute_capability;
        let (n, memory) = (d.multiprocessors, bytes(d.memory));
        out += &format!(
            "  cuda:{}  {}: {memory}, compute capability {major}.{minor}, {n} multiprocessors\n",
            d.ordinal, d.name
        );
    }
    match &report.devices {
        // Without a driver, the list of libraries says why.
        Err(NoCuda::Missing { library, .. }) => {
            out += &format!("  none: {library} was not found, see below\n")
        }
        Err(why) => out += &format!("  none: {}\n", why.brief()),
        Ok(all) if all.is_empty() => out += "  none\n",
        Ok(_) => out += "  (use --device cuda:N; not yet tested on hardware, run gpu-check first)\n",
    }
    out += "\nCUDA libraries\n";
    for library in &report.libraries {
        out += &library_text(library);
    }
    if report.libraries.iter().any(|l| matches!(l.status, Status::Unavailable(_))) {
        out += "\nSearched, in this order:\n";
        report.places.iter().for_each(|place| out += &format!("  {place}\n"));
    }
    report.notes.iter().for_each(|note| out += &format!("Note: {note}.\n"));
    out
}

fn library_text(library: &LibraryReport) -> String {
    let name = format!("{:<14}", library.name);
    match &library.status {
        Status::Found { path, version, note } => {
            let note = note.as_ref().map(|n| format!("  {:<14} {n}\n", "")).unwrap_or_default();
            format!("  {name} {version}  {}\n{note}", path.display())
        }
        Status::Unavailable(why) => format!("  {name} for {}: {}\n", library.purpose, why.brief()),
    }
}

fn as_json(cpu: &CpuInfo, report: &Report) -> Value {
    let gpus = report.devices.iter().flatten().map(|d| {
        let (major, minor) = d.compute_capability;
        json!({
            "ordinal": d.ordinal, "name": d.name, "memory_bytes": d.memory,
            "compute_capability": format!("{major}.{minor}"), "multiprocessors": d.multiprocessors,
        })
    });
    let libraries = report.libraries.iter().map(|l| match &l.status {
        Status::Found { path, version, note } => json!({
            "name": l.name, "purpose": l.purpose, "version": version.to_string(),
            "path": path.display().to_string(), "note": note,
        }),
        Status::Unavailable(why) => {
            json!({ "name": l.name, "purpose": l.purpose, "version": null, "missing": why.brief() })
        }
    });
    json!({
        "cpu": cpu,
        "gpus": gpus.collect::<Vec<_>>(),
        "no_gpu": report.devices.as_ref().err().map(ToString::to_string),
        "cuda_driver_version": report.driver_version.map(|v| v.to_string()),
        "libraries": libraries.collect::<Vec<_>>(),
        "looked_in": report.places,
        "notes": report.notes,
    })
}
