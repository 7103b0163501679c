//! The kernels compile for every architecture that is meant, where the run-time compiler is found. It needs no GPU.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kernels::gpu::libs::{Id, Status};
use kernels::gpu::nvrtc::Compiler;
use kernels::gpu::{GpuError, logsumexp, probe};

fn compiler() -> Option<Compiler> {
    match Compiler::new() {
        Ok(compiler) => Some(compiler),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

#[test]
fn logsumexp_compiles() {
    let Some(compiler) = compiler() else { return };
    for capability in [(8, 0), (9, 0), (10, 0)] {
        let wanted = capability.0 * 10 + capability.1;
        if !compiler.architectures().contains(&wanted) {
            println!("skipped: NVRTC {} does not know sm_{wanted}", compiler.version());
            continue;
        }
        let image = compiler.compile(logsumexp::FILE, logsumexp::SOURCE, capability).unwrap();
        assert_eq!(image.target(), format!("sm_{wanted}"));
        assert_eq!(&image.bytes()[..4], b"\x7fELF", "machine code comes as ELF");
        assert!(!image.log().contains("warning"), "{}", image.log());
        println!("{image:?}\n{}", image.log());
    }
}

#[test]
fn an_architecture_not_yet_known_gets_ptx() {
    let Some(compiler) = compiler() else { return };
    let newest = compiler.architectures().iter().max().unwrap();
    let image = compiler.compile(logsumexp::FILE, logsumexp::SOURCE, (99, 0)).unwrap();
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
