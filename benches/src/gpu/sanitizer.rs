//! NVIDIA's compute-sanitizer, which watches a program's accesses to device memory.

use std::path::{Path, PathBuf};
use std::process::Command;

const TOOL: &str = "compute-sanitizer";
/// The tool's exit code if it found something.
pub(super) const FOUND: i32 = 99;

/// A command that runs `program` under it; why not, where it is not found.
pub(super) fn command(program: &Path) -> Result<Command, String> {
    let missing =
        || format!("{TOOL} was not found on PATH nor in CUDA's folders (CUDA_HOME, /usr/local/cuda*)");
    let mut command = Command::new(find().ok_or_else(missing)?);
    command.args(["--tool", "memcheck", "--error-exitcode", &FOUND.to_string()]).arg(program);
    Ok(command)
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
