//! `gpu-check` on a simulated GPU: every comparison with the CPU passes, whatever ends a stage costs no other result, and a
//! second run does what is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../kernels/tests/fake/mod.rs"]
mod fake;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Every stage that a quick run has, the number of checks that it has at least, and the group of one.
const STAGES: [(&str, usize, &str); 16] = [
    ("probe", 6, "CUDA's libraries"),
    ("parity bf16", 10, "op, CPU and GPU"),
    ("parity f32", 25, "op, CPU and GPU"),
    ("parity tf32", 1, "op, CPU and GPU"),
    ("training bf16", 3, "training"),
    ("peak", 4, "most that the device can"),
    ("convolutions bf16", 6, "convolutions"),
    ("iteration tiny bf16", 1, "training iteration"),
    ("iteration tiny one-stream bf16", 1, "training iteration"),
    ("iteration tiny cudnn-norm bf16", 1, "training iteration"),
    ("profile tiny bf16", 1, "what bounds an iteration"),
    ("torch tiny eager bf16", 1, "PyTorch"),
    ("kernels bf16", 2, "our kernels"),
    ("norm", 12, "batch norm, ours and cuDNN's"),
    ("fusion", 8, "fusion by cuDNN"),
    ("sanitizer bf16", 10, "compute-sanitizer"),
];

/// A PyTorch that knows its answer.
const TORCH: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        --jsonl) file=$2 ;;
        --job) job=$2 ;;
    esac
    shift
done
[ -n "$file" ] || exit 0
row='{"network":"tiny","depth":10,"width":1,"batch":4,"outer":2,"inner":5,"precision":"bf16","mode":"eager","median_s":1000}'
echo "{\"event\":\"started\",\"job\":\"$job\",\"group\":\"PyTorch\",\"name\":\"a\"}" >>"$file"
echo "{\"event\":\"check\",\"job\":\"$job\",\"group\":\"PyTorch\",\"name\":\"a\",\"status\":\"ok\",\"data\":$row}" >>"$file"
echo "{\"event\":\"finished\",\"job\":\"$job\"}" >>"$file"
"#;

/// A sanitizer that finds nothing.
const SANITIZER: &str = "#!/bin/sh\nshift 4\n\"$@\" >/dev/null || exit 99\n";

/// A folder of its own with the stand-ins, and the simulated GPU.
struct Bench {
    gpu: PathBuf,
    folder: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Option<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let gpu = fake::gpu(target, fake::With::Libraries)?;
        let folder = target.join(format!("gpu-check-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("tools")).unwrap();
        for (name, text) in [("compute-sanitizer", SANITIZER), ("torch", TORCH)] {
            let tool = folder.join("tools").join(name);
            fs::write(&tool, text).unwrap();
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Some(Self { gpu, folder })
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        fake::environment(&mut command, &self.gpu);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.folder.join("tools").display()));
        command
    }

    fn results(&self) -> PathBuf {
        self.folder.join("gpu.jsonl")
    }

    fn check(&self, more: &[&str]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_gpu-check"));
        command.args(["--quick", "--torch", "--sanitizer", "--python"]).arg(self.folder.join("tools/torch"));
        command.arg("--jsonl").arg(self.results()).args(more).output().unwrap()
    }
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every line of the results, and those of one event and job.
fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn of<'a>(lines: &'a [Value], event: &str, job: &str) -> Vec<&'a Value> {
    lines.iter().filter(|l| l["event"] == event && l["job"] == job).collect()
}

#[test]
fn two_stages_die_and_a_second_run_completes_them() {
    let Some(bench) = Bench::new("all") else { return };
    let output = bench.check(&["--fault", "parity=crash", "--fault", "training=exit"]);
    let (printed, found) = (text(&output), lines(&bench.results()));
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let dying = |job: &str| job.starts_with("parity") || job.starts_with("training");
    for (job, least, group) in STAGES {
        let checks = of(&found, "check", job);
        let least = least - usize::from(dying(job));
        assert!(checks.len() >= least, "{job}: {} checks\n{printed}", checks.len());
        assert!(least == 0 || checks.iter().any(|c| c["group"] == group), "{job}");
        for check in &checks {
            assert_eq!(check["status"], "ok", "{check}");
        }
        assert_eq!(of(&found, "started", job).len(), checks.len() + usize::from(dying(job)), "{job}");
        assert_eq!(
            dying(job),
            printed.contains(&format!("- {job}: the process ended during")),
            "{job}:\n{printed}"
        );
    }
    assert!(!found.iter().any(|l| l["event"] == "note"), "{found:?}");
    whole_results(&found, &printed);

    let output = bench.check(&[]);
    let (printed, all) = (text(&output), lines(&bench.results()));
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let again: Vec<&Value> = all[found.len()..].iter().filter(|l| l["event"] == "check").collect();
    assert_eq!(again.len(), STAGES.iter().filter(|(job, ..)| dying(job)).count(), "{again:?}");
    assert!(printed.contains("Missing: nothing"), "{printed}");
}

/// What the stages have measured.
fn whole_results(found: &[Value], printed: &str) {
    let profile = of(found, "check", "profile tiny bf16")[0];
    let nodes = profile["data"]["nodes"].as_array().unwrap();
    for name in ["conv2d", "conv2d_weight_grad", "batch_norm_grad", "pyld_step", "sgd"] {
        assert!(nodes.iter().any(|n| n["node"] == name), "{name} is not in {nodes:?}");
    }
    // Each fused pattern was computed, in two runs where each group needs one of its own.
    let fused = of(found, "check", "fusion");
    assert_eq!(fused.len(), 4 * 2);
    assert!(fused.iter().all(|p| p["data"]["largest_difference"].as_f64().unwrap() < 1e-5), "{fused:?}");
    let iteration = &of(found, "check", "iteration tiny bf16")[0]["data"];
    let bytes = |key: &str| iteration[key].as_u64().unwrap();
    assert!(
        bytes("peak_bytes") >= bytes("state_bytes") && bytes("peak_bytes") <= bytes("peak_bytes_with_setup")
    );
    for convolution in of(found, "check", "convolutions bf16") {
        let data = &convolution["data"];
        assert!(
            data["tflops"].as_f64().unwrap() > 0.0 && !data["engine"].as_str().unwrap().is_empty(),
            "{data}"
        );
    }
    assert!(printed.contains("times as fast as eager PyTorch"), "{printed}");
}

#[test]
fn a_stage_that_hangs_is_ended_and_the_next_one_runs() {
    let Some(bench) = Bench::new("hang") else { return };
    let begun = Instant::now();
    let stages = ["--only", "norm", "--only", "peak", "--fault", "peak=hang", "--limit", "30", "--collect"];
    let output = bench.check(&stages);
    let (printed, found) = (text(&output), lines(&bench.results()));
    assert!(output.status.success(), "with --collect it always is: {printed}");
    assert!(printed.contains("- peak: the process ended during “copy on the device”"), "{printed}");
    assert_eq!(of(&found, "check", "norm").len(), 12, "{printed}");
    // Its other checks, in a second process.
    assert_eq!(of(&found, "check", "peak").len(), 3, "{printed}");
    assert!(begun.elapsed() < Duration::from_secs(120));
}

#[test]
fn without_cudnn_nothing_is_measured() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(folder) = fake::gpu(target, fake::With::Compiler) else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-check"));
    fake::environment(&mut command, &folder);
    let output = command.args(["--quick"]).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(4), "{printed}");
    assert!(printed.contains("Nothing is measured without them") && !printed.contains("parity"), "{printed}");
}

#[test]
fn the_script_collects_in_time_and_goes_on_from_an_earlier_run() {
    let Some(bench) = Bench::new("collect") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("gpu/collect.sh");
    let run = |out: &str, more: &[&str]| {
        let mut command = bench.command(&script);
        command.env("OUT", bench.folder.join(out)).env("FROM", bench.folder.join("first"));
        command.env("TMPDIR", &bench.folder).env("PYTHON", bench.folder.join("tools/torch"));
        let output = command.arg(env!("CARGO_BIN_EXE_gpu-check")).args(more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let files: Vec<String> = fs::read_dir(bench.folder.join(out))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(files.len(), 5, "{files:?}");
        (
            fs::read_to_string(bench.folder.join(out).join("summary.md")).unwrap(),
            lines(&bench.folder.join(out).join("gpu.jsonl")),
        )
    };
    let begun = Instant::now();
    let (page, found) = run("first", &["90", "--quick", "--only", "peak", "--fault", "peak=crash"]);
    assert!(begun.elapsed() < Duration::from_secs(100));
    assert!(page.contains("- peak: the process ended during"), "{page}");
    assert_eq!(of(&found, "check", "peak").len(), 3);
    let (page, found) = run("second", &["90", "--quick", "--only", "peak"]);
    assert!(page.contains("Missing: nothing"), "{page}");
    assert_eq!(of(&found, "check", "peak").len(), 4);
    let machine = fs::read_to_string(bench.folder.join("second/machine.txt")).unwrap();
    assert!(machine.contains("GNU C library 2."), "{machine}");
}
