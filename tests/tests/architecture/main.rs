//! The architecture as a test: imports go one way, between crates and between the modules of a crate; files and
//! functions stay short; every file is formatted; names that were retired do not come back.
//!
//! The levels below are the ones that `ARCHITECTURE.md` draws. A new module must be given its level here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scan;

use scan::{Source, crates_of, sources};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longest allowed file and function, in lines.
const FILE: usize = 400;
const FUNCTION: usize = 60;

/// The crates, lowest level first: each may depend only on those listed before it.
const CRATES: [(&str, &str); 14] = [
    ("kernels", "jempp-kernels"),
    ("kernels/emulated", "jempp-kernels-emulated"),
    ("kernels/peers", "jempp-kernels-peers"),
    ("engine", "jempp-engine"),
    ("jempp/formats", "jempp-formats"),
    ("jempp/data", "jempp-data"),
    ("jempp", "jempp"),
    ("jempp/eval", "jempp-eval"),
    ("jempp/bench", "jempp-bench"),
    ("jempp/capi", "jempp-capi"),
    ("cli", "jempp-cli"),
    ("benches", "jempp-benches"),
    ("tests", "jempp-tests"),
    ("tests/slow", "jempp-slow-tests"),
];

/// Dependencies that the order alone would allow, but that must not exist.
const FORBIDDEN: [(&str, &str); 6] = [
    ("jempp-formats", "jempp-engine"),
    ("jempp", "jempp-kernels"),
    ("jempp-capi", "jempp-eval"),
    ("jempp-capi", "jempp-bench"),
    ("jempp-capi", "jempp-kernels"),
    ("jempp-cli", "jempp-kernels"),
];

/// The modules at a crate's root, lowest level first; modules in one row must not import each other either.
const MODULES: &[(&str, &[&[&str]])] = &[
    (
        "kernels/src",
        &[
            &["cache_folder", "conv_shape", "dtype", "memory", "mmap", "philox", "profile"],
            &["cpu", "gpu"],
            &["ops"],
        ],
    ),
    (
        "engine/src",
        &[
            &["bytes", "gpu", "rng", "spec"],
            &["out_of_memory"],
            &["device", "error"],
            &["arena", "capture", "peak", "state"],
            // An op records its gradient on a tape, and a tape is a list of ops.
            &["op", "tape"],
            &["bf16_reference", "case", "planner", "program", "readback"],
            &["ops", "plan"],
            &["assign", "compile", "display", "execute", "grad"],
            &["sequence", "testing"],
        ],
    ),
    (
        "jempp/formats/src",
        &[
            &["codecs", "edit", "error", "pickle", "pixels", "plot", "resize", "unpack"],
            &["files", "kind", "place", "tensorboard"],
            &["container", "grid", "images", "npz", "stream"],
            &["mat", "torch"],
        ],
    ),
    (
        "jempp/data/src",
        &[
            &["bytes", "config", "digest", "eval_stream", "mt19937", "reading", "spread", "streams"],
            &["source"],
            &["dataset"],
            &["cache", "classes", "digits", "folder", "loader", "synthetic"],
            &["readers"],
            &["load", "untrusted"],
        ],
    ),
    (
        "jempp/src",
        &[
            &["ball", "error", "paths"],
            &["checkpoint", "config", "devices", "metrics"],
            &["network", "temperature"],
            &["model"],
            &["evaluation", "inspect", "sampling"],
            &["train"],
            &["interop", "run"],
        ],
    ),
    (
        "jempp/eval/src",
        &[
            &["cache", "estimate", "inception", "progress", "protocol", "sampling", "subset"],
            &["attack", "calibration", "fid", "samples", "scores"],
            &["ood"],
            &["evaluator", "figures"],
            &["summary"],
            &["report"],
        ],
    ),
    (
        "jempp/capi/src",
        &[
            &["status", "version"],
            &["args", "objects"],
            &["handles"],
            &["call"],
            &["context", "decision", "device", "log", "model", "sample", "trainer"],
            &["run", "scores"],
            &["evaluate"],
        ],
    ),
    ("cli/src", &[&["args", "invocation"], &["device", "progress"], &["commands"]]),
];

/// Modules that are split into two files.
const PAIRS: [(&str, &str); 1] = [("op", "tape")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Fails with everything that is wrong, one finding per line.
fn none(what: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn crates_depend_on_lower_ones_only() {
    let order: BTreeMap<&str, usize> = CRATES.iter().enumerate().map(|(i, (_, name))| (*name, i)).collect();
    let mut wrong = Vec::new();
    for (i, (folder, name)) in CRATES.iter().enumerate() {
        for dependency in crates_of(&root().join(folder).join("Cargo.toml")) {
            let level = order.get(dependency.as_str()).unwrap_or_else(|| panic!("{dependency} has no level"));
            if *level >= i || FORBIDDEN.contains(&(name, dependency.as_str())) {
                wrong.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    none("dependencies that go up", wrong);
}

#[test]
fn modules_import_lower_ones_only() {
    let mut wrong = Vec::new();
    for (folder, rows) in MODULES {
        let level: BTreeMap<&str, usize> =
            rows.iter().enumerate().flat_map(|(i, row)| row.iter().map(move |m| (*m, i))).collect();
        let sources = sources(&root().join(folder));
        let face = sources.iter().find(|s| s.path.ends_with("lib.rs") && s.module().is_none());
        let exports = face.map(scan::exports).unwrap_or_default();
        for source in &sources {
            let Some(module) = source.module() else { continue };
            if source.is_test() {
                continue;
            }
            let Some(here) = level.get(module.as_str()) else {
                wrong.push(format!("{}: module `{module}` has no level", source.path.display()));
                continue;
            };
            for (line, used) in source.uses() {
                let used = exports.get(&used).unwrap_or(&used);
                let pair =
                    PAIRS.iter().any(|(a, b)| [*a, *b] == [&module, used] || [*b, *a] == [&module, used]);
                let up = level.get(used.as_str()).is_some_and(|there| there >= here);
                if *used != module && up && !pair {
                    wrong.push(format!("{}:{line}: `{module}` uses `{used}`", source.path.display()));
                }
            }
        }
    }
    none("imports that go up", wrong);
}

fn all() -> Vec<Source> {
    CRATES.iter().flat_map(|(folder, _)| scan::of_crate(&root().join(folder))).collect()
}

#[test]
fn files_and_functions_are_short() {
    let mut wrong = Vec::new();
    for source in all() {
        let lines = source.text.lines().count();
        if lines > FILE {
            wrong.push(format!("{}: {lines} lines, more than {FILE}", source.path.display()));
        }
        for (name, line, length) in source.functions() {
            if length > FUNCTION {
                wrong.push(format!(
                    "{}:{line}: `{name}` has {length} lines, more than {FUNCTION}",
                    source.path.display()
                ));
            }
        }
    }
    none("too long", wrong);
}

/// `cargo fmt` follows `mod` lines and does not see what a macro declares; this looks at each file.
#[test]
fn every_file_is_formatted() {
    let mut wrong = Vec::new();
    for source in all() {
        let child = Command::new("rustfmt")
            .args(["--edition", "2024", "--config-path"])
            .arg(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: there is no rustfmt");
            return;
        };
        let mut stdin = child.stdin.take().unwrap();
        let text = source.text.clone();
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        if !output.status.success() || output.stdout != source.text.as_bytes() {
            wrong.push(source.path.display().to_string());
        }
    }
    none("not formatted", wrong);
}

/// Retired names of types, modules and functions, and what replaced them.
const RETIRED: [(&str, &str); 24] = [
    ("Asked", "Readback"),
    ("Shortage", "OutOfMemory"),
    ("Holder", "Allocation"),
    ("Draft", "ConfigBuilder"),
    ("Picks", "BatchIndices"),
    ("Begin", "InitChains"),
    ("Film", "Trajectory"),
    ("Judge", "Evaluator"),
    ("Judgement", "Evaluation"),
    ("Subject", "EvalData"),
    ("Numbers", "Precision"),
    ("Seeing", "InceptionOptions"),
    ("Eye", "FeatureExtractor"),
    ("Drawn", "SampleSource"),
    ("Law", "Distribution"),
    ("Way", "Algorithm"),
    ("Low", "Bf16Conv"),
    ("Board", "EventLog"),
    ("Bank", "StartSamples"),
    ("bring", "copy_unless_in_place"),
    ("snapshot::", "train::state::"),
    ("session::", "run::"),
    ("infer::", "model::"),
    ("judge::", "jempp_eval::"),
];

/// Words that the field does not use in this sense in comments and messages, and what it says.
const DIALECT: [(&str, &str); 12] = [
    ("oracle", "reference"),
    ("law", "distribution"),
    ("arm", "backend"),
    ("arms", "backends"),
    ("stems", "ops"),
    ("what is no data", "out-of-distribution"),
    ("looks away", "ignores"),
    ("had better not", "abstains"),
    ("as they fell", "unselected"),
    ("a chain an iteration", "per chain per iteration"),
    ("that is none", "not a …"),
    ("that are none", "not …"),
];

#[test]
fn retired_names_do_not_come_back() {
    let mut wrong = Vec::new();
    for source in all() {
        // This test has to name them itself.
        if source.path.parent().is_some_and(|p| p.ends_with("tests/architecture")) {
            continue;
        }
        let code = source.code();
        for (i, (text, code)) in source.text.lines().zip(code.lines()).enumerate() {
            let names = RETIRED.iter().filter(|(old, _)| scan::has_word(code, old));
            let words = DIALECT.iter().filter(|(old, _)| scan::has_word(text, old));
            for (old, new) in names.chain(words) {
                wrong.push(format!("{}:{}: `{old}`, now `{new}`", source.path.display(), i + 1));
            }
        }
    }
    none("retired names and words", wrong);
}
