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
    println!("work done");
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
