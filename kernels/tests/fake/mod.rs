//! A fake GPU for tests: a driver whose device is the CPU, running the project's kernels on `cuda/emulate`, and a
//! compiler that compiles nothing. Tests of other crates include this file by its path.
//!
//! What must hold: a process can load one driver only, so a fake one is loaded in a child process.

#![allow(dead_code)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

fn kernels_folder() -> PathBuf {
    // Seen from the crate whose test this is: this one, or another of the workspace.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut folders = above.map(|folder| folder.join("kernels"));
    folders.find(|folder| folder.join("cuda").is_dir()).expect("the folder of the kernels")
}

/// Runs the C++ compiler; false, having said so, if there is none.
fn compile(what: &str, args: &[&str], files: &[PathBuf], out: &Path, soname: &str) -> bool {
    let cuda = kernels_folder().join("cuda");
    let built = Command::new("c++")
        .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-w"])
        .arg(format!("-Wl,-soname,{soname}"))
        .args(args)
        .arg("-I")
        .arg(&cuda)
        .arg("-I")
        .arg(cuda.join("emulate"))
        .args(files)
        .arg("-o")
        .arg(out)
        .output();
    let Ok(output) = built else {
        println!("skipped: there is no c++ to build {what} with");
        return false;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// Another name for a file, as libraries have them: two copies would be two libraries.
fn alias(file: &Path, name: &str) {
    std::os::unix::fs::symlink(file.file_name().unwrap(), file.with_file_name(name)).unwrap();
}

/// Builds a driver without kernels into `folder`; false where there is no C++ compiler.
pub(crate) fn driver(folder: &Path, defines: &[&str]) -> bool {
    let source = kernels_folder().join("tests/fake/driver.cpp");
    let out = folder.join("libcuda.so");
    let built = compile("a driver", defines, &[source], &out, "libcuda.so.1");
    if built {
        alias(&out, "libcuda.so.1");
    }
    built
}

/// What comes with the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    /// Only the driver is fake: NVRTC is the real one, if there is one.
    RealCompiler,
    /// A fake NVRTC.
    Compiler,
    /// A fake NVRTC, cuDNN and cuBLAS.
    Libraries,
}

/// A folder with a driver that runs all kernels; kept in `keep` between runs and
/// built anew when a source has changed. `None`, having said so, where there is no C++ compiler.
pub(crate) fn gpu(keep: &Path, with: With) -> Option<PathBuf> {
    let compiler = with != With::RealCompiler;
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _mine = ONE_AT_A_TIME.lock();
    let here = kernels_folder();
    let mut sources: Vec<PathBuf> = Vec::new();
    for folder in ["cuda", "cuda/emulate", "tests/fake"] {
        for entry in fs::read_dir(here.join(folder)).unwrap() {
            sources.push(entry.unwrap().path());
        }
    }
    sources.retain(|path| path.is_file());
    sources.sort();
    let texts: Vec<(String, String)> = sources
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&here).unwrap().display().to_string();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    let folder = keep.join(format!("fake-gpu-{with:?}-{:016x}", fingerprint(&texts)));
    if folder.join("libcuda.so.1").is_file() {
        return Some(folder);
    }
    // Beside, then renamed: tests of several crates may be at it at once.
    let beside = keep.join(format!("fake-gpu-{with:?}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&beside);
    fs::create_dir_all(&beside).unwrap();
    fs::write(beside.join("all.cpp"), all_kernels(&texts)).unwrap();
    let files =
        [here.join("tests/fake/driver.cpp"), here.join("cuda/emulate/emulate.cpp"), beside.join("all.cpp")];
    let out = beside.join("libcuda.so");
    if !compile("a GPU", &["-DFAKE_KERNELS"], &files, &out, "libcuda.so.1") {
        return None;
    }
    if compiler {
        let (source, out) = (here.join("tests/fake/nvrtc.cpp"), beside.join("libnvrtc.so.13"));
        compile("a compiler", &[], &[source], &out, "libnvrtc.so.13");
        alias(&out, "libnvrtc.so");
    }
    libraries(&beside, with == With::Libraries);
    alias(&out, "libcuda.so.1");
    if fs::rename(&beside, &folder).is_err() {
        // Another test was faster.
        let _ = fs::remove_dir_all(&beside);
    }
    Some(folder)
}

/// cuBLAS and cuDNN: either plain loops or empty; found before the real ones of this machine, which could not work with
/// the fake driver.
fn libraries(folder: &Path, full: bool) {
    let bare = folder.join("bare.cpp");
    fs::write(&bare, "").unwrap();
    for (name, soname) in [("cublas", "libcublas.so.13"), ("cudnn", "libcudnn.so.9")] {
        let loops = kernels_folder().join(format!("tests/fake/{name}.cpp"));
        let (source, out) = (if full { &loops } else { &bare }, folder.join(soname));
        compile(name, &["-O3"], std::slice::from_ref(source), &out, soname);
        alias(&out, &format!("lib{name}.so"));
    }
}

fn fingerprint(texts: &[(String, String)]) -> u64 {
    let bytes = texts.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// One file with every kernel, each source in a namespace of its own, and the table of all of them.
fn all_kernels(texts: &[(String, String)]) -> String {
    let mut text = "#include \"emulate.h\"\n".to_owned();
    let mut table = "extern const emulate::Kernel all_kernels[] = {\n".to_owned();
    for name in texts.iter().filter_map(|(name, _)| name.strip_prefix("cuda/")) {
        if name.ends_with(".cuh") {
            let _ = writeln!(text, "#include \"{name}\"");
        }
    }
    for (path, source) in texts {
        let stem = path.strip_prefix("cuda/").and_then(|p| p.strip_suffix(".cu"));
        let Some(stem) = stem.filter(|stem| !stem.contains('/')) else { continue };
        let _ = writeln!(text, "namespace file_{stem} {{\n#include \"{stem}.cu\"\n}}");
        for name in names(source) {
            let _ = writeln!(table, "    emulate::Caller<&file_{stem}::{name}>::kernel(\"{name}\"),");
        }
    }
    text + &table + "    {nullptr, nullptr, nullptr, 0},\n};\n"
}

/// The names of a file's kernels. In a macro a name ends in `##S`, for `f32` and `bf16`.
fn names(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in source.split("__global__ void").skip(1) {
        let blank = [' ', '\n', '\\'];
        let rest = rest.trim_start_matches(blank);
        let rest = match rest.strip_prefix("__launch_bounds__(") {
            Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest),
            None => rest,
        };
        let letter = |c: &char| c.is_ascii_alphanumeric() || "_#".contains(*c);
        let name: String = rest.trim_start_matches(blank).chars().take_while(letter).collect();
        match name.strip_suffix("##S") {
            Some(name) => found.extend(["f32", "bf16"].map(|s| format!("{name}{s}"))),
            None => found.push(name),
        }
    }
    found
}

/// Runs test `test` of this program in a child with the fake of `folder`; what it prints.
pub(crate) fn child(test: &str, variable: &str, task: &str, folder: &Path) -> String {
    child_with(test, variable, task, folder, &[])
}

/// Like [`child`], with more environment variables.
pub(crate) fn child_with(
    test: &str,
    variable: &str,
    task: &str,
    folder: &Path,
    more: &[(&str, &std::ffi::OsStr)],
) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(variable, task);
    environment(&mut command, folder);
    command.envs(more.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Makes a command find the fake of `folder` first. Code cached by the fake compiler must not be loaded on a real
/// device, so it has a cache of its own.
pub(crate) fn environment(command: &mut Command, folder: &Path) {
    let first = |name| {
        let mut path = folder.as_os_str().to_owned();
        if let Some(old) = std::env::var_os(name) {
            path.push(":");
            path.push(old);
        }
        path
    };
    command
        .env("LD_LIBRARY_PATH", first("LD_LIBRARY_PATH"))
        .env("JEMPP_CUDA_PATH", first("JEMPP_CUDA_PATH"))
        .env("JEMPP_CACHE_DIR", folder.join("cache"));
}
