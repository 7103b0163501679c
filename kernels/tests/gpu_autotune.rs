//! Which engine a convolution gets, on a fake GPU with a fake cuDNN: measured once, remembered, stored, recalled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kernels::gpu::{Float, Gpu, GpuError, Precision, open};
use kernels::ops::conv2d::ConvShape;
use kernels::ops::conv2d::cuda::{Conv, ConvPass};

#[path = "fake/mod.rs"]
mod fake;

const TASK: &str = "JEMPP_TEST_TASK";
const SHAPE: ConvShape = ConvShape { n: 2, h: 12, w: 11, c: 8, k: 16, r: 3, s: 3, stride: 1, pad: 1 };

/// Does `tasks` one after another, each in a process of its own, with one cache folder.
fn in_children(tasks: &[(&str, &[(&str, &str)])]) {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(folder) = fake::gpu(tmp, fake::With::Libraries) else { return };
    let cache = tmp.join(format!("plans-{}-{}", std::process::id(), tasks[0].0));
    for (task, more) in tasks {
        let more = more.iter().map(|(name, value)| (*name, OsStr::new(*value)));
        let more: Vec<_> = more.chain([("JEMPP_CACHE_DIR", cache.as_os_str())]).collect();
        let text = fake::child_with("in_a_child", TASK, task, &folder, &more);
        assert!(text.contains(&format!("{task} done")), "{text}");
    }
    let _ = fs::remove_dir_all(&cache);
}

/// The engines of the fake cuDNN, the fastest first: one that uses tensor cores; one that computes in float32 and needs a
/// workspace; a slower one.
const TENSOR_CORES: &str = "engine 14, knobs 2=114";
const FAST: &str = "engine 12, knobs 2=112";
const SLOW: &str = "engine 11";

const FLAKY: &[(&str, &str)] = &[("FAKE_CUDNN_FLAKY", "1")];

#[test]
fn the_fastest_is_chosen_and_remembered() {
    // A later process, where another is the fastest, goes by what was kept.
    in_children(&[("remember", &[]), ("stored", FLAKY)]);
}

#[test]
fn what_does_not_repeat_its_bits_is_not_chosen() {
    in_children(&[("flaky", FLAKY)]);
}

#[test]
fn too_little_memory_is_said_and_measures_nothing() {
    in_children(&[("memory", &[("FAKE_MEMORY", "100000")])]);
}

#[test]
fn what_cudnn_refuses_is_told_at_once_or_is_an_error() {
    in_children(&[("refused", &[("FAKE_CUDNN_REFUSES", "1")])]);
}

#[test]
fn in_a_child() {
    let Ok(task) = std::env::var(TASK) else { return };
    match task.as_str() {
        "remember" => remember(),
        "stored" => {
            let chosen = chosen(&open(0).unwrap(), ConvPass::Forward);
            assert!(chosen.contains(FAST), "{chosen}");
        }
        "flaky" => flaky(),
        "memory" => memory(),
        "refused" => refused(),
        _ => panic!("{task}"),
    }
    println!("{task} done");
}

fn chosen(gpu: &Gpu, pass: ConvPass) -> String {
    format!("{:?}", Conv::new(gpu, pass, Float::F32, SHAPE, false).unwrap())
}

fn contains(file: &Path, what: &[u8]) -> bool {
    fs::read(file).unwrap().windows(what.len()).any(|w| w == what)
}

/// Files of kept choices; compiled kernels are kept beside them.
fn kept() -> Vec<PathBuf> {
    let folder = std::env::var("JEMPP_CACHE_DIR").unwrap();
    let all = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let ours = |p: &PathBuf| contains(p, b"cuDNN ") || fs::read(p).unwrap() == b"damaged";
    let mut files: Vec<PathBuf> = all.filter(ours).collect();
    files.sort();
    files
}

fn remember() {
    let gpu = open(0).unwrap();
    for pass in [ConvPass::Forward, ConvPass::InputGrad, ConvPass::WeightGrad] {
        assert_eq!(chosen(&gpu, pass), format!("Conv({pass:?}, cuDNN, {FAST})"));
    }
    let choices = gpu.choices();
    assert_eq!(choices.len(), 3, "{choices:?}");
    let (question, answer) = choices.iter().find(|(q, _)| q.contains("Output")).unwrap();
    assert_eq!(
        question,
        "cuDNN 9.10.0, Fake of the tests 9.0, F32, F32, Output: 2x12x11x8 by 16x3x3, stride 1, pad 1"
    );
    let (engine, seconds) = answer.split_once("; ").unwrap();
    let seconds: f64 = seconds.strip_suffix(" s").unwrap().parse().unwrap();
    // The fake says that this engine takes 4 ms, and adds the time that it really takes.
    assert!(engine == FAST && (4e-3..0.1).contains(&seconds), "{answer}");
    assert_eq!(kept().len(), 3);
    let listed = gpu.conv_choices();
    assert_eq!(listed.len(), 3);
    for choice in &listed {
        assert_eq!(
            (choice.engine.as_str(), choice.workspace, choice.precision),
            (FAST, 4096, Precision::F32)
        );
        assert!(choice.spec.shape == SHAPE && choice.tflop_per_s().unwrap() > 0.0, "{choice:?}");
    }

    a_runs_own_table_goes_first(question);
    damage_is_repaired(&choices);
}

fn a_runs_own_table_goes_first(question: &str) {
    // Where its answer is one that can be taken.
    let other = open(0).unwrap();
    other.recall([(question.to_owned(), SLOW.to_owned())]);
    assert!(chosen(&other, ConvPass::Forward).contains(SLOW));
    assert_eq!(other.conv_choices()[0].seconds, None);
    // Not: an answer of an older version, an engine that is not there, a knob that it does not have, one that is not
    // allowed in float32, one that adds in any order.
    for wrong in [
        "IMPLICIT_PRECOMP_GEMM FMA",
        "engine 99; 0.000001 s",
        "engine 12, knobs 2=3",
        TENSOR_CORES,
        "engine 13",
    ] {
        let other = open(0).unwrap();
        other.recall([(question.to_owned(), wrong.to_owned()), ("what?".to_owned(), "that".to_owned())]);
        assert!(chosen(&other, ConvPass::Forward).contains(FAST), "{wrong}");
    }

    // What adds to its result is measured as such, and is another question.
    let adding = open(0).unwrap();
    Conv::new(&adding, ConvPass::Forward, Float::F32, SHAPE, true).unwrap();
    let asked = &adding.choices()[0].0;
    assert_eq!(asked, &format!("{question}, added"));
    assert!(adding.conv_choices()[0].spec.accumulate && kept().len() == 4);
    fs::remove_file(kept().into_iter().find(|f| contains(f, b", added")).unwrap()).unwrap();
}

/// Damaged files count as none and are written again.
fn damage_is_repaired(choices: &[(String, String)]) {
    let files = kept();
    for file in &files {
        fs::write(file, "damaged").unwrap();
    }
    let later = open(0).unwrap();
    for pass in [ConvPass::Forward, ConvPass::InputGrad, ConvPass::WeightGrad] {
        chosen(&later, pass);
    }
    let engines = |choices: Vec<(String, String)>| -> Vec<(String, String)> {
        choices.into_iter().map(|(q, a)| (q, a.split("; ").next().unwrap().to_owned())).collect()
    };
    assert_eq!(engines(later.choices()), engines(choices.to_vec()));
    assert_eq!(kept(), files);
    for file in &files {
        assert!(contains(file, FAST.as_bytes()), "damage is repaired");
    }
    // Another precision is another question.
    let loose = open(0).unwrap().with_precision(Precision::Tf32);
    chosen(&loose, ConvPass::Forward);
    assert!(loose.choices()[0].0.contains("Tf32") && kept().len() == 4);
}

fn flaky() {
    let gpu = open(0).unwrap().with_precision(Precision::Tf32);
    let fast = chosen(&gpu, ConvPass::Forward);
    assert!(fast.contains(TENSOR_CORES), "{fast}, {:?}", gpu.notes());
    let notes = gpu.notes();
    assert!(notes.iter().any(|n| n.contains("engine 16") && n.contains("other bits")), "{notes:?}");
    // In float32 it is not even tried.
    let exact = open(0).unwrap();
    assert!(chosen(&exact, ConvPass::Forward).contains(SLOW) && exact.notes().is_empty());
}

fn memory() {
    let gpu = open(0).unwrap();
    assert_eq!(gpu.memory_free().unwrap(), 100_000);
    let first = gpu.zeros::<u8>(60_000).unwrap();
    match gpu.zeros::<f32>(15_000) {
        Err(e @ GpuError::OutOfMemory { wanted: 60_000, free: 40_000 }) => {
            assert_eq!(e.to_string(), "out of memory on the GPU: 60000 bytes requested, 40000 free");
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    assert_eq!(gpu.memory_free().unwrap(), 100_000);
    // The operands do not fit: the first candidate serves, and nothing is kept of it. A workspace may take an eighth of
    // what is free.
    let large = ConvShape { n: 64, ..SHAPE };
    let conv = Conv::new(&gpu, ConvPass::Forward, Float::F32, large, false).unwrap();
    assert!(format!("{conv:?}").contains(FAST));
    assert!(kept().is_empty());
    let most = gpu.zeros::<u8>(70_000).unwrap();
    let conv = Conv::new(&gpu, ConvPass::InputGrad, Float::F32, large, false).unwrap();
    assert!(format!("{conv:?}").contains(SLOW), "{conv:?}");
    drop(most);
}

fn refused() {
    let gpu = open(0).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&heard);
    gpu.on_note(move |note| to.lock().unwrap().push(note.to_owned()));
    for _ in 0..2 {
        assert!(chosen(&gpu, ConvPass::Forward).contains("direct"));
    }
    // Once, although two convolutions were prepared.
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard, gpu.notes());
    assert!(heard.len() == 1 && heard[0].contains("cuDNN has no engine"), "{heard:?}");
    assert!(gpu.conv_choices().is_empty());

    let strict = open(0).unwrap();
    strict.require_libraries();
    let error = Conv::new(&strict, ConvPass::Forward, Float::F32, SHAPE, false).unwrap_err();
    assert!(error.to_string().contains("cuDNN has no engine"), "{error}");
}
