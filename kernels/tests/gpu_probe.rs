//! The probe and the driver's wrappers on machines without a GPU, with a broken driver, or with a fake driver.
//!
//! A process can load one driver only, so each fake one is loaded in a child process: this program again, told what to
//! do by an environment variable.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use kernels::gpu::libraries::{Folder, Id, KNOWN, PATH_VARIABLE, Search, Status};
use kernels::gpu::{Buffer, Gpu, GpuError, NoCuda, open, probe, probe_with};
use kernels::ops::logsumexp;

#[path = "fake/mod.rs"]
mod fake;

const TASK: &str = "JEMPP_TEST_TASK";

/// A folder of this test alone, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("jempp-probe-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a child prints when it does `task` with `folder` first on the loader's path.
fn child(task: &str, folder: &Path) -> String {
    fake::child("in_a_child", TASK, task, folder)
}

#[test]
fn in_a_child() {
    match env::var(TASK).as_deref() {
        Ok("probe") => {
            println!("devices: {:?}", probe().devices);
            println!("open: {:?}", open(0).map(|gpu| gpu.device().clone()));
            println!("driver: {:?}", probe().library(Id::Driver).unwrap().status);
        }
        Ok("work") => work_on_the_fake(),
        _ => {}
    }
}

fn work_on_the_fake() {
    assert!(matches!(open(1), Err(NoCuda::NoSuchDevice { ordinal: 1, count: 1 })));
    let gpu = open(0).unwrap();
    assert_eq!(gpu.device().name, "Fake of the tests");
    assert_eq!(gpu.device().compute_capability, (9, 0));
    assert_eq!(gpu.memory_free().unwrap(), 7 << 30);

    let values: Vec<f32> = (0u8..100).map(f32::from).collect();
    let mut buffer = gpu.upload(&values).unwrap();
    assert_eq!(gpu.read(&buffer).unwrap(), values);
    assert_eq!(gpu.read(&gpu.zeros::<u16>(3).unwrap()).unwrap(), [0; 3]);
    assert!(gpu.read(&gpu.upload::<f64>(&[]).unwrap()).unwrap().is_empty());
    assert!(matches!(gpu.write(&mut buffer, &[1.0]), Err(GpuError::Shape { .. })));

    let other = open(0).unwrap();
    assert!(matches!(other.read(&buffer), Err(GpuError::Shape { .. })), "buffers are one Gpu's");

    // What is not possible inside a capture is refused, the capture ends, and the next one works.
    let refused = gpu.capture(|| gpu.zeros::<f32>(1).map(|_| ()));
    assert!(matches!(refused, Err(GpuError::Capturing { op: "allocating" })), "{refused:?}");
    let refused = gpu.capture(|| gpu.capture(|| Ok(())).map(|_| ()));
    assert!(matches!(refused, Err(GpuError::Capturing { op: "capturing" })), "{refused:?}");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = gpu.capture(|| panic!("on purpose"));
    }));
    assert!(panicked.is_err());
    let mut dropped = Some(gpu.zeros::<f32>(5).unwrap());
    let graph = gpu.capture(|| {
        dropped = None;
        Ok(())
    });
    graph.unwrap().replay(&gpu).unwrap();
    gpu.synchronize().unwrap();

    launch_and_capture(&gpu);
    println!("work done");
}

/// A kernel gives the CPU's values, launched and replayed; needs NVRTC.
fn launch_and_capture(gpu: &Gpu) {
    const SHAPE: (usize, usize) = (33, 100);
    let x: Vec<f32> = (0u32..3300).map(|i| f32::from((i * 37 % 801) as u16) / 100.0 - 4.0).collect();
    let mut want = vec![0.0f32; SHAPE.0];
    logsumexp::cpu(SHAPE.1, &x, &mut want);
    let kernel = match logsumexp::cuda::logsumexp(gpu, SHAPE.0, SHAPE.1) {
        Err(GpuError::NoCuda(why)) => return println!("logsumexp: skipped, {why}"),
        kernel => kernel.unwrap(),
    };
    let (x, mut out) = (gpu.upload(&x).unwrap(), gpu.zeros::<f32>(SHAPE.0).unwrap());
    let run =
        |out: &Buffer<f32>| kernel.run(gpu, &[Some(gpu.span(&x).unwrap()), Some(gpu.span(out).unwrap())]);
    run(&out).unwrap();
    let launched = gpu.read(&out).unwrap();
    for (got, want) in launched.iter().zip(&want) {
        assert!((got - want).abs() <= 2e-6 * want.abs().max(1.0), "{got} and not {want}");
    }
    let zeros = vec![0.0f32; SHAPE.0];
    gpu.write(&mut out, &zeros).unwrap();
    let graph = gpu.capture(|| run(&out)).unwrap();
    assert_eq!(gpu.read(&out).unwrap(), zeros, "nothing runs while it is captured");
    for _ in 0..2 {
        gpu.write(&mut out, &zeros).unwrap();
        graph.replay(gpu).unwrap();
        assert_eq!(gpu.read(&out).unwrap(), launched, "a replay gives the launch's bits");
    }
}

#[test]
fn no_library_at_all() {
    let scratch = Scratch::new("empty");
    let folder = |path: &Path| Folder { path: path.to_path_buf(), from: "the test's folder" };
    let search = Search {
        first: vec![folder(&scratch.0)],
        loader: false,
        then: vec![folder(Path::new("/nowhere"))],
        libraries: KNOWN.to_vec(),
        notes: Vec::new(),
    };
    let report = probe_with(&search);
    assert_eq!(report.libraries.len(), KNOWN.len());
    assert_eq!(report.driver_version, None);
    for library in &report.libraries {
        let Status::Unavailable(NoCuda::Missing { names, places, advice, .. }) = &library.status else {
            panic!("{library:?}");
        };
        assert_eq!(places.len(), 2);
        assert!(!names.is_empty() && advice.contains(PATH_VARIABLE), "{library:?}");
    }
    let why = report.devices.unwrap_err().to_string();
    for part in
        ["NVIDIA driver", "libcuda.so.1", &scratch.0.display().to_string(), "nvidia-smi", PATH_VARIABLE]
    {
        assert!(why.contains(part), "{part:?} is not in: {why}");
    }
}

#[test]
fn a_file_that_is_no_library() {
    let scratch = Scratch::new("text");
    fs::write(scratch.0.join("libnvrtc.so.13"), "not a library").unwrap();
    let first = vec![Folder { path: scratch.0.clone(), from: "the test's folder" }];
    let search =
        Search { first, loader: false, then: Vec::new(), libraries: KNOWN.to_vec(), notes: Vec::new() };
    let report = probe_with(&search);
    let status = &report.library(Id::Nvrtc).unwrap().status;
    assert!(matches!(status, Status::Unavailable(NoCuda::Unusable { .. })), "{status:?}");
}

#[test]
fn a_driver_without_its_symbols() {
    let scratch = Scratch::new("bare");
    if fake::driver(&scratch.0, &["-DFAKE_BARE"]) {
        let text = child("probe", &scratch.0);
        assert!(text.contains("open: Err(Unusable"), "{text}");
        assert!(text.contains("it lacks cuCtxGetCurrent"), "{text}");
    }
}

#[test]
fn a_driver_without_a_device() {
    let scratch = Scratch::new("no-device");
    if fake::driver(&scratch.0, &["-DFAKE_INIT=100"]) {
        let text = child("probe", &scratch.0);
        assert!(text.contains("devices: Err(Driver"), "{text}");
        assert!(text.contains("open: Err(Driver") && text.contains("CUDA_ERROR_NO_DEVICE"), "{text}");
        assert!(text.contains("driver: Found"), "{text}");
    }
}

#[test]
fn a_driver_with_an_error_nobody_knows() {
    let scratch = Scratch::new("unknown-error");
    if fake::driver(&scratch.0, &["-DFAKE_INIT=123456"]) {
        let text = child("probe", &scratch.0);
        assert!(text.contains("code: 123456") && text.contains("an unnamed error"), "{text}");
    }
}

/// Opening, copying, launching and capturing need no symbol that the probe does not ask for, and the kernel's source
/// gives the right values under a plain C++ compiler.
#[test]
fn a_made_up_device() {
    if let Some(folder) = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), fake::With::Compiler) {
        let text = child("work", &folder);
        assert!(text.contains("work done") && !text.contains(": skipped"), "{text}");
        println!("{text}");
    }
}

/// Like the test above, with code compiled by the real NVRTC, if it is installed.
#[test]
fn a_made_up_device_with_the_real_compiler() {
    if let Some(folder) = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), fake::With::RealCompiler) {
        let text = child("work", &folder);
        assert!(text.contains("work done"), "{text}");
        if text.contains(": skipped") {
            println!("skipped: NVRTC is not here");
        }
    }
}
