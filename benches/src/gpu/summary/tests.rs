use super::super::{Wanted, stages};
use super::*;
use serde_json::json;

fn lines(values: &[Value]) -> Vec<Line> {
    values.iter().enumerate().map(|(i, value)| Line { at: i as u64, value: value.clone() }).collect()
}

fn check(job: &str, group: &str, name: &str, data: Value) -> Value {
    json!({ "event": "check", "job": job, "group": group, "name": name, "status": "ok", "data": data })
}

fn iteration(ms: f64) -> Value {
    json!({
        "network": "WRN-28-10", "depth": 28, "width": 10, "batch": 64, "outer": 10, "inner": 5, "precision": "bf16",
        "median_s": ms / 1e3, "tflops": 22_000.0 / ms, "peak_bytes": 7u64 << 30, "capture_refused": null,
    })
}

fn torch(mode: &str, ms: f64) -> Value {
    let mut row = iteration(ms);
    row["mode"] = json!(mode);
    // What a graph holds does not count as allocated.
    let bytes = if mode == "eager" { 14u64 << 30 } else { 1 << 30 };
    (row["allocated_bytes"], row["reserved_bytes"]) = (json!(bytes), json!(15u64 << 30));
    row
}

#[test]
fn ratios_are_of_the_same_setting() {
    let mut other = torch("eager", 1.0);
    other["batch"] = json!(32);
    let mut single = torch("eager", 1.0);
    single["precision"] = json!("f32");
    let page = summary(
        &lines(&[
            check("iteration WRN-28-10 bf16", "training iteration", "WRN-28-10", iteration(50.0)),
            check("torch WRN-28-10 eager bf16", "PyTorch", "a", torch("eager", 110.0)),
            check("torch WRN-28-10 compile bf16", "PyTorch", "b", torch("compile", 60.0)),
            check("c", "PyTorch", "c", other),
            check("d", "PyTorch", "d", single),
            check(
                "peak",
                "most that the device can",
                "e",
                json!({ "dtype": "bf16", "tflops": 800.0, "n": 8192 }),
            ),
        ]),
        &[],
    );
    for part in [
        "as eager PyTorch 2.20, target 2: met",
        "as compiled PyTorch 1.20, target 1.3: MISSED",
        "of PyTorch's memory 0.50, target 0.7: met",
        "of the bf16 peak 0.55, target 0.5: met",
    ] {
        assert!(page.contains(part), "{part} is not in:\n{page}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let jobs = stages::plan(Wanted::default());
    let page = summary(
        &lines(&[
            check("probe", "CUDA's libraries", "a", Value::Null),
            json!({ "event": "finished", "job": "probe" }),
            json!({ "event": "started", "job": "parity bf16", "group": "g", "name": "deadly" }),
            json!({ "event": "ended", "job": "parity bf16", "how": "signal: 6" }),
            json!({ "event": "check", "job": "training f32", "group": "g", "name": "steps", "status": "failed",
                "detail": "too far", "data": { "differences": [0.01, 0.3], "tolerance": 0.05 } }),
            json!({ "event": "finished", "job": "training f32" }),
        ]),
        &jobs,
    );
    assert!(page.contains("- parity bf16: the process ended during “deadly”"), "{page}");
    assert!(page.contains("- parity bf16: not run to its end: signal: 6"), "{page}");
    assert!(page.contains("- parity f32: not begun"), "{page}");
    assert!(page.contains("- training f32 · steps · failed: too far"), "{page}");
    assert!(page.contains("| training f32 | 0 | 1 | 3.0e-1 | 5e-2 |"), "{page}");
    assert!(!page.contains("- probe"), "{page}");
}
