//! What a machine has of CUDA, as text and as JSON.

use kernels::gpu::libraries::{Id, Status};
use kernels::gpu::{LibraryReport, NoCuda, Report};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Libraries without which nothing that is measured would mean anything.
const NEEDED: [Id; 3] = [Id::Nvrtc, Id::Cublas, Id::Cudnn];

/// Libraries and devices; `trouble`: why the device cannot be checked.
#[must_use]
pub fn text(report: &Report, trouble: Option<&NoCuda>) -> String {
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

    if let Some(why) = trouble {
        no_gpu(&mut text, why);
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

/// What is missing of the libraries that everything needs.
#[must_use]
pub fn missing(report: &Report) -> Option<String> {
    let missing = |id: &Id| match report.library(*id).map(|l| &l.status) {
        Some(Status::Unavailable(why)) => Some(why.brief()),
        _ => None,
    };
    let all: Vec<String> = NEEDED.iter().filter_map(missing).collect();
    (!all.is_empty()).then(|| all.join("\n"))
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

/// The report as a JSON object.
#[must_use]
pub fn json(report: &Report, trouble: Option<&NoCuda>) -> Value {
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
    json!({
        "gpu_check": env!("CARGO_PKG_VERSION"),
        "driver_cuda_version": report.driver_version.map(|version| version.to_string()),
        "libraries": report.libraries.iter().map(library_json).collect::<Vec<_>>(),
        "devices": devices.collect::<Vec<_>>(),
        "no_gpu": trouble.map(ToString::to_string),
        "looked_in": report.places,
        "notes": report.notes,
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
