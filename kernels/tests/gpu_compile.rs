//! The kernels compile for every architecture that is meant, where the run-time compiler is found. It needs no GPU.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kernels::gpu::libraries::{Id, Status};
use kernels::gpu::nvrtc::Compiler;
use kernels::gpu::nvrtc::sources::{HEADERS, SOURCES, source};
use kernels::gpu::{GpuError, probe};

fn compiler() -> Option<Compiler> {
    match Compiler::new() {
        Ok(compiler) => Some(compiler),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

/// What the assembler says of one kernel.
struct Usage {
    kernel: String,
    registers: u32,
    shared: u32,
    spilled: u32,
}

/// The kernels in a log of `--ptxas-options=-v`.
fn usages(log: &str) -> Vec<Usage> {
    let before = |line: &str, what: &str| -> u32 {
        let Some((front, _)) = line.split_once(what) else { return 0 };
        let digits = front.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
        digits.parse().unwrap()
    };
    let mut all: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap().to_owned();
            all.push(Usage { kernel, registers: 0, shared: 0, spilled: 0 });
        }
        if let Some(last) = all.last_mut() {
            last.registers += before(line, " registers");
            last.shared += before(line, " bytes smem");
            last.spilled += before(line, " bytes spill stores") + before(line, " bytes spill loads");
            // A local array that is indexed at run time lives in memory, which is as slow as a spill.
            last.spilled += before(line, " bytes stack frame");
        }
    }
    all
}

#[test]
fn every_kernel_compiles_without_warnings_or_spills() {
    let Some(compiler) = compiler() else { return };
    println!("registers and bytes of shared memory, by kernel (NVRTC {})", compiler.version());
    for capability in [(8, 0), (9, 0), (10, 0)] {
        let wanted = capability.0 * 10 + capability.1;
        if !compiler.architectures().contains(&wanted) {
            println!("skipped: NVRTC {} does not know sm_{wanted}", compiler.version());
            continue;
        }
        let mut count = 0;
        for &(file, source) in SOURCES {
            let image = compiler.compile(file, source, capability).unwrap();
            assert_eq!(image.target(), format!("sm_{wanted}"));
            assert_eq!(&image.bytes()[..4], b"\x7fELF", "machine code comes as ELF");
            assert!(!image.log().contains("warning"), "{file}: {}", image.log());
            let kernels = usages(image.log());
            assert_eq!(
                kernels.len(),
                image.log().matches("registers").count(),
                "the log was not understood: {}",
                image.log()
            );
            for k in &kernels {
                println!("sm_{wanted} {:<36} {:>4} {:>7}", k.kernel, k.registers, k.shared);
                assert!(k.registers > 0, "{}: {}", k.kernel, image.log());
                assert_eq!(k.spilled, 0, "{} spills: {}", k.kernel, image.log());
                // Blocks of 256 threads must fit at least twice; the finals have 1024 threads and 64 registers.
                let limit = if k.kernel.ends_with("_final") { 64 } else { 128 };
                assert!(k.registers <= limit, "{} takes {} registers", k.kernel, k.registers);
            }
            count += kernels.len();
        }
        println!("sm_{wanted}: {count} kernels in {} files", SOURCES.len());
    }
}

#[test]
fn every_file_of_kernels_is_in_the_program() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cuda");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.is_file())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut known: Vec<String> = SOURCES.iter().chain(HEADERS).map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    known.sort();
    assert_eq!(names, known);
}

#[test]
fn an_architecture_not_yet_known_gets_ptx() {
    let Some(compiler) = compiler() else { return };
    let newest = compiler.architectures().iter().max().unwrap();
    let text = source("logsumexp.cu").unwrap();
    let image = compiler.compile("logsumexp.cu", text, (99, 0)).unwrap();
    assert_eq!(image.target(), format!("compute_{newest}"));
    assert!(String::from_utf8_lossy(image.bytes()).contains(".entry logsumexp_rows_f32"));
    assert_eq!(image.bytes().last(), Some(&0), "the driver reads PTX up to a NUL");
    assert!(matches!(compiler.compile("x.cu", "", (1, 0)), Err(GpuError::Compile { .. })));
}

#[test]
fn a_source_that_does_not_compile_gives_the_log() {
    let Some(compiler) = compiler() else { return };
    let source = "#include \"common.cuh\"\nextern \"C\" __global__ void k(float* x) { x[0] = nothing; }\n";
    let error = compiler.compile("bad.cu", source, (9, 0)).unwrap_err().to_string();
    for part in ["bad.cu(2)", "nothing", "sm_90"] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert!(matches!(compiler.compile("nul.cu", "a\0b", (9, 0)), Err(GpuError::Compile { .. })));
}

#[test]
fn the_probe_says_where_the_compiler_is() {
    let Some(compiler) = compiler() else { return };
    let report = probe();
    let Status::Found { path, version, .. } = &report.library(Id::Nvrtc).unwrap().status else {
        panic!("{report:?}")
    };
    assert!(path.is_file(), "{}", path.display());
    assert_eq!(*version, compiler.version());
    println!("NVRTC {version} at {}", path.display());
}
