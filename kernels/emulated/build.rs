//! Compiles every kernel file of `kernels/cuda` for the CPU, each as a translation unit of its own.
//!
//! Invariant: a missing C++ compiler, or a system without `ucontext`, is not an error; the crate then says why it
//! cannot run kernels. A kernel that does not compile is an error.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rustc-check-cfg=cfg(emulated)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../cuda");
    let why = match obstacle() {
        Some(why) => why,
        None => {
            compile()?;
            println!("cargo::rustc-cfg=emulated");
            String::new()
        }
    };
    println!("cargo::rustc-env=JEMPP_NOT_EMULATED={why}");
    Ok(())
}

/// Why kernels cannot be compiled here, on one line.
fn obstacle() -> Option<String> {
    let system = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system != "linux" {
        return Some(format!(
            "threads are emulated with ucontext, which is used on Linux only, not on {system}"
        ));
    }
    let compiler = match cc::Build::new().cpp(true).try_get_compiler() {
        Ok(compiler) => compiler,
        Err(why) => return Some(format!("there is no C++ compiler: {why}").replace('\n', " ")),
    };
    let path = compiler.path().display();
    match compiler.to_command().arg("--version").output() {
        Ok(out) if out.status.success() => None,
        Ok(out) => Some(format!("the C++ compiler {path} does not run: {}", out.status)),
        Err(why) => Some(format!("there is no C++ compiler {path}: {why}")),
    }
}

fn compile() -> io::Result<()> {
    let cuda = PathBuf::from("../cuda");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).debug(false).warnings(false);
    build.include(&cuda).include(cuda.join("emulate"));
    // The kernels state each operation explicitly, so the compiler must not fuse any.
    build.flag("-ffp-contract=off").flag("-Wall").flag("-Wno-unknown-pragmas").flag("-Wno-unused-function");
    build.file(cuda.join("emulate/emulate.cpp"));

    let mut table = "#include \"emulate.h\"\n".to_owned();
    let mut list = String::new();
    for file in sources(&[cuda.join("emulate"), cuda])? {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let kernels = kernels(&fs::read_to_string(&file)?);
        // In an unnamed namespace, since files use the same names for different things.
        let mut unit = format!("#include \"emulate.h\"\nnamespace {{\n#include \"{stem}.cu\"\n}}\n");
        let _ = writeln!(unit, "extern const emulate::Kernel kernels_of_{stem}[] = {{");
        for name in &kernels {
            let _ = writeln!(unit, "    emulate::Caller<&{name}>::kernel(\"{name}\"),");
        }
        unit.push_str("};\n");
        write_if_changed(&out.join(format!("{stem}.cpp")), &unit)?;
        build.file(out.join(format!("{stem}.cpp")));
        let _ = writeln!(table, "extern const emulate::Kernel kernels_of_{stem}[];");
        let _ = writeln!(list, "    {{\"{stem}\", kernels_of_{stem}, {}}},", kernels.len());
    }
    let _ = write!(
        table,
        "extern \"C\" {{\nstruct File {{ const char* stem; const emulate::Kernel* kernels; uint64_t count; }};\n\
         extern const File jempp_emulated_files[] = {{\n{list}    {{nullptr, nullptr, 0}},\n}};\n}}\n"
    );
    write_if_changed(&out.join("table.cpp"), &table)?;
    build.file(out.join("table.cpp"));
    build.compile("jempp_emulated");
    Ok(())
}

fn sources(folders: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "cu") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The names of a file's kernels. In a macro a name ends in `##S`, for `f32` and `bf16`.
fn kernels(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in source.split("__global__ void").skip(1) {
        let rest = rest.trim_start_matches([' ', '\n', '\\']);
        let rest = match rest.strip_prefix("__launch_bounds__(") {
            Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest),
            None => rest,
        };
        let name: String = rest
            .trim_start_matches([' ', '\n', '\\'])
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "_#".contains(*c))
            .collect();
        match name.strip_suffix("##S") {
            Some(name) => found.extend(["f32", "bf16"].map(|s| format!("{name}{s}"))),
            None => found.push(name),
        }
    }
    found
}

fn write_if_changed(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text)
}
