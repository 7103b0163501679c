//! Repeats the comparisons in a process that runs under NVIDIA's compute-sanitizer.

use super::{Check, Found, check};
use crate::{Error, Result};
use engine::Device;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOL: &str = "compute-sanitizer";
/// The tool's exit code if it found something.
const FOUND: i32 = 99;

/// `Err`: why it could not be run.
pub(super) fn check_with(device: &Device) -> Result<Check, String> {
    let missing =
        || format!("{TOOL} was not found on PATH nor in CUDA's folders (CUDA_HOME, /usr/local/cuda*)");
    let tool = find().ok_or_else(missing)?;
    let ordinal = device.as_gpu().map_or(0, |gpu| gpu.device().ordinal);
    Ok(check("compute-sanitizer", "memcheck of every comparison", || run(&tool, ordinal)))
}

/// The tool's path: on PATH, or in CUDA's usual folders.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        folders.extend(std::env::var_os(name).map(PathBuf::from).map(|home| home.join("bin")));
    }
    let versions = std::fs::read_dir("/usr/local").into_iter().flatten().flatten().map(|e| e.path());
    let cuda = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("cuda"));
    let mut versions: Vec<PathBuf> = versions.filter(cuda).collect();
    versions.sort();
    for home in versions.iter().rev() {
        folders.extend([home.join("bin"), home.join(TOOL)]);
    }
    folders.iter().map(|folder| folder.join(TOOL)).find(|file| file.is_file())
}

fn run(tool: &Path, ordinal: usize) -> Result<Found> {
    let fail = |e: std::io::Error| Error::Device(format!("{}: {e}", tool.display()));
    let me = std::env::current_exe().map_err(fail)?;
    let output = Command::new(tool)
        .args(["--tool", "memcheck", "--error-exitcode", &FOUND.to_string()])
        .arg(me)
        .args(["--no-speed", "--no-sanitizer", "--device", &ordinal.to_string()])
        .output()
        .map_err(fail)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.lines().rev().find(|l| l.contains("ERROR SUMMARY")).unwrap_or("it gave no summary");
    let summary = summary.trim_start_matches(['=', ' ']).to_owned();
    if output.status.success() {
        return Ok(Ok((summary.clone(), json!({ "summary": summary, "tool": tool.display().to_string() }))));
    }
    let first: Vec<&str> = text.lines().filter(|l| l.starts_with("=====")).take(12).collect();
    Ok(Err(format!("{summary}\n{}", first.join("\n"))))
}
