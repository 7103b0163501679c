//! `gpu-check` on a made-up GPU: every comparison with the CPU passes, and the report has it all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../kernels/tests/fake/mod.rs"]
mod fake;

use serde_json::Value;
use std::path::Path;

#[test]
fn every_comparison_passes_on_the_made_up_gpu() {
    let Some(folder) = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), fake::With::Libraries) else {
        return;
    };
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gpu-check"));
    fake::environment(&mut command, &folder);
    let output = command.args(["--no-speed", "--json", "-"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).unwrap();
    let programs = report["programs"].as_array().unwrap();
    for (precision, least) in [("f32", 60), ("tf32", 60), ("bf16", 35)] {
        let named = |p: &&Value| p["name"].as_str().is_some_and(|n| n.starts_with(&format!("{precision} ")));
        let n = programs.iter().filter(named).count();
        assert!(n > least, "{n} checks in {precision}");
    }
    for p in programs {
        assert_eq!(p["status"], "ok", "{p}");
    }
    assert!(programs.iter().any(|p| p["group"] == "training" && p["data"]["differences"].is_array()));
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["status"], "ok", "{check}");
    }
    assert_eq!(report["device_notes"].as_array().unwrap().len(), 0);
}
