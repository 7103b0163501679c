//! The device checks that need only the driver and NVRTC, on a simulated GPU.
//!
//! A process can load one driver only, so the simulated one is loaded in a child process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use benches::gpu::selftest::{Outcome, run_without_libraries};
use std::path::Path;

#[path = "../../kernels/tests/fake/mod.rs"]
mod fake;

const TASK: &str = "JEMPP_TEST_TASK";

#[test]
fn in_a_child() {
    if std::env::var(TASK).as_deref() != Ok("work") {
        return;
    }
    for record in run_without_libraries(kernels::gpu::open(0).as_ref()) {
        println!("{}: {} ({}) in {:.0} ms", record.name, record.status.as_str(), record.detail, record.ms);
        assert_ne!(record.status, Outcome::Failed);
    }
    if let Ok(gpu) = kernels::gpu::open(0)
        && gpu.device().name.contains("Fake")
    {
        memory(&gpu);
    }
    println!("work done");
}

/// Values repeated on the device, the most memory in use, and time without the host's share.
fn memory(gpu: &kernels::gpu::Gpu) {
    for (values, len) in [(&[1u32, 2, 3][..], 8), (&[7], 5), (&[1, 2, 3], 2), (&[4, 5], 2), (&[], 0)] {
        let want: Vec<u32> = values.iter().copied().cycle().take(len).collect();
        assert_eq!(gpu.read(&gpu.repeated(values, len).unwrap()).unwrap(), want);
    }
    assert!(gpu.repeated::<u32>(&[], 1).is_err());
    let peak = || gpu.memory_peak().unwrap().unwrap();
    let kept = gpu.zeros::<u8>(1 << 20).unwrap();
    gpu.restart_memory_peak().unwrap();
    let before = peak();
    assert!(before >= 1 << 20);
    drop(gpu.zeros::<u8>(3 << 20).unwrap());
    assert_eq!(peak() - before, 3 << 20);
    gpu.restart_memory_peak().unwrap();
    assert_eq!(peak(), before);
    drop(kept);
    // The delay before it is a kernel.
    if kernels::gpu::nvrtc::Compiler::new().is_err() {
        return;
    }
    let nap = std::time::Duration::from_millis(20);
    let seconds = gpu.seconds_on_device(|| (std::thread::sleep(nap), Ok::<_, kernels::gpu::GpuError>(())).1);
    // This device does everything at once, so that the time is the host's.
    assert!(seconds.unwrap() >= nap.as_secs_f64());
    assert!(gpu.seconds_on_device(|| Err(kernels::gpu::GpuError::Capturing { op: "x" })).is_err());
}

fn work(with: fake::With) -> Option<String> {
    let folder = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), with)?;
    let text = fake::child("in_a_child", TASK, "work", &folder);
    assert!(text.contains("work done"), "{text}");
    Some(text)
}

/// The kernel's source gives the right values under a plain C++ compiler, launched and replayed.
#[test]
fn a_made_up_device() {
    if let Some(text) = work(fake::With::Compiler) {
        assert!(!text.contains(": skipped"), "{text}");
    }
}

/// The kernel as compiled by the real NVRTC, where that is installed.
#[test]
fn a_made_up_device_with_the_real_compiler() {
    if work(fake::With::RealCompiler).is_some_and(|text| text.contains(": skipped")) {
        println!("skipped: NVRTC is not here");
    }
}
