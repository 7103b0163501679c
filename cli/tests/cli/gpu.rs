//! Training on an emulated GPU: too little memory, and the algorithm choices that a run keeps.

#[path = "../../../kernels/tests/fake/mod.rs"]
mod fake;

use super::{Done, Place};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const TINY: &[&str] = &[
    "train.batch_size=4",
    "sampler.buffer_size=20",
    "sampler.outer_steps=1",
    "train.max_iters=1",
    "eval.recalibration_batches=1",
];

/// Runs `jempp-cli` with an emulated GPU of `memory` bytes; `None` if there is no emulation on this machine.
fn on_a_gpu(place: &Place, memory: usize, args: &[&str]) -> Option<Done> {
    let folder = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), fake::With::Libraries)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_jempp-cli"));
    fake::environment(&mut command, &folder);
    command.current_dir(place.path()).env("FAKE_MEMORY", memory.to_string()).args(args);
    let o = command.args(["--device", "cuda:0"]).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    Some(Done { code: o.status.code().unwrap_or(-1), out: text(o.stdout), err: text(o.stderr) })
}

#[test]
fn too_little_memory_is_4_with_a_batch_that_fits() {
    let place = Place::empty();
    // cuBLAS has 64 MiB of it, half for each stream.
    let Some(done) = on_a_gpu(&place, 73_500_000, &["train", "--dry-run"]) else { return };
    let err = done.fails(4);
    for part in
        ["out of memory on CUDA, Fake of the tests", " free for a program of ", "conv2d f32[128×8×8×16]"]
    {
        assert!(err.contains(part), "{err}");
    }
    let (_, rest) = err.split_once("train.batch_size=").unwrap();
    let fits = rest.split_whitespace().next().unwrap();
    assert!((8..64).contains(&fits.parse::<usize>().unwrap()), "{err}");
    // The suggested batch size works, and --dry-run says so.
    let batch = format!("train.batch_size={fits}");
    let args = ["train", "--dry-run", &batch, "sampler.outer_steps=1"];
    let out = on_a_gpu(&place, 73_500_000, &args).unwrap().ok();
    assert!(out.contains("activations and workspace; fits, ") && out.contains(" free\n"), "{out}");
    assert!(place.names().is_empty());
}

fn choices(place: &Place) -> BTreeMap<String, String> {
    serde_json::from_str(&std::fs::read_to_string(place.path().join("run/gpu_choices.json")).unwrap())
        .unwrap()
}

#[test]
fn a_run_keeps_its_algorithm_choices_and_resumes_with_them() {
    let place = Place::empty();
    let args = [&["train", "-q", "--out", "run"], TINY].concat();
    let Some(done) = on_a_gpu(&place, 1 << 30, &args) else { return };
    done.ok();
    let mut kept = choices(&place);
    let first = kept.keys().find(|q| q.contains("Output")).unwrap().clone();
    assert!(kept.len() > 10 && kept[&first].starts_with("engine 12, knobs 2=112; "), "{kept:?}");
    // With another choice in the file, as another device might have made it, the run continues with that.
    kept.insert(first.clone(), "engine 11".to_owned());
    std::fs::write(place.path().join("run/gpu_choices.json"), serde_json::to_string(&kept).unwrap()).unwrap();
    on_a_gpu(&place, 1 << 30, &["train", "-q", "--resume", "run", "train.max_iters=2"]).unwrap().ok();
    assert_eq!(choices(&place), kept);
}
