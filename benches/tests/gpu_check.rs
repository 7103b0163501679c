//! `gpu-check` on a simulated GPU: every comparison with the CPU passes, and the report is complete.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../kernels/tests/fake/mod.rs"]
mod fake;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn every_comparison_passes_on_the_made_up_gpu() {
    let Some(folder) = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), fake::With::Libraries) else {
        return;
    };
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gpu-check"));
    fake::environment(&mut command, &folder);
    // A fake sanitizer that finds nothing when it is asked to watch the comparisons.
    let tools = folder.join("tools");
    fs::create_dir_all(&tools).unwrap();
    let tool = tools.join("compute-sanitizer");
    let script =
        "#!/bin/sh\nshift 4\n\"$@\" >/dev/null || exit 99\necho '========= ERROR SUMMARY: 0 errors'\n";
    fs::write(&tool, script).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", tools.display()));
    let output = command.args(["--quick", "--json", "-"]).output().unwrap();
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
    for group in [
        "training",
        "batch norm, ours and cuDNN's",
        "fusion by cuDNN",
        "most that the device can",
        "what bounds an iteration",
        "training iteration",
        "compute-sanitizer",
    ] {
        assert!(programs.iter().any(|p| p["group"] == group), "{group}");
    }
    let bounds = programs.iter().find(|p| p["group"] == "what bounds an iteration").unwrap();
    let nodes = bounds["data"]["nodes"].as_array().unwrap();
    for name in ["conv2d", "conv2d_weight_grad", "bn_leaky_grad", "pyld_step", "sgd"] {
        assert!(nodes.iter().any(|n| n["node"] == name), "{name} is not in {nodes:?}");
    }
    // Each fused pattern was computed, in two runs where each group needs one of its own.
    let fused: Vec<&Value> = programs.iter().filter(|p| p["group"] == "fusion by cuDNN").collect();
    assert_eq!(fused.len(), 4 * 2 * 2);
    assert!(fused.iter().all(|p| p["data"]["largest_difference"].as_f64().unwrap() < 1e-5), "{fused:?}");
    assert!(programs.iter().any(|p| p["group"] == "training" && p["data"]["differences"].is_array()));
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["status"], "ok", "{check}");
    }
    assert_eq!(report["device_notes"].as_array().unwrap().len(), 0);
}
