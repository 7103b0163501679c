//! Which algorithm a convolution gets, on a fake GPU with a fake cuDNN: measured once, remembered, stored, recalled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

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
fn in_a_child() {
    let Ok(task) = std::env::var(TASK) else { return };
    match task.as_str() {
        "remember" => remember(),
        "stored" => {
            let chosen = chosen(&open(0).unwrap(), ConvPass::Forward);
            assert!(chosen.contains("IMPLICIT_PRECOMP_GEMM FMA"), "{chosen}");
        }
        "flaky" => flaky(),
        "memory" => memory(),
        _ => panic!("{task}"),
    }
    println!("{task} done");
}

fn chosen(gpu: &Gpu, pass: ConvPass) -> String {
    format!("{:?}", Conv::new(gpu, pass, Float::F32, SHAPE).unwrap())
}

/// Files of kept choices; compiled kernels are kept beside them.
fn kept() -> Vec<PathBuf> {
    let folder = std::env::var("JEMPP_CACHE_DIR").unwrap();
    let all = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let ours = |p: &PathBuf| {
        let bytes = fs::read(p).unwrap();
        bytes.windows(6).any(|w| w == b"cuDNN ") || bytes == b"damaged"
    };
    let mut files: Vec<PathBuf> = all.filter(ours).collect();
    files.sort();
    files
}

fn remember() {
    let gpu = open(0).unwrap();
    assert_eq!(chosen(&gpu, ConvPass::Forward), "Conv(Forward, cuDNN, IMPLICIT_PRECOMP_GEMM FMA)");
    assert_eq!(chosen(&gpu, ConvPass::InputGrad), "Conv(InputGrad, cuDNN, 1 FMA)");
    assert_eq!(chosen(&gpu, ConvPass::WeightGrad), "Conv(WeightGrad, cuDNN, 1 FMA)");
    let choices = gpu.choices();
    assert_eq!(choices.len(), 3, "{choices:?}");
    let (question, answer) = choices.iter().find(|(q, _)| q.contains("Output")).unwrap();
    assert_eq!(
        question,
        "cuDNN 9.10.0, Fake of the tests 9.0, F32, F32, Output: 2x12x11x8 by 16x3x3, stride 1, pad 1"
    );
    assert_eq!(answer, "IMPLICIT_PRECOMP_GEMM FMA");
    assert_eq!(kept().len(), 3);

    // A run's own table goes first, where its answer is one that can be taken.
    let other = open(0).unwrap();
    other.recall([(question.clone(), "IMPLICIT_GEMM FMA".to_owned())]);
    assert!(chosen(&other, ConvPass::Forward).contains("IMPLICIT_GEMM FMA"));
    let other = open(0).unwrap();
    other.recall([(question.clone(), "SOMETHING NEW".to_owned()), ("what?".to_owned(), "that".to_owned())]);
    assert!(chosen(&other, ConvPass::Forward).contains("IMPLICIT_PRECOMP_GEMM FMA"));

    // Damaged files count as none and are written again.
    let files = kept();
    let good: Vec<Vec<u8>> = files.iter().map(|f| fs::read(f).unwrap()).collect();
    for file in &files {
        fs::write(file, "damaged").unwrap();
    }
    let later = open(0).unwrap();
    for pass in [ConvPass::Forward, ConvPass::InputGrad, ConvPass::WeightGrad] {
        chosen(&later, pass);
    }
    assert_eq!(later.choices(), choices);
    for (file, good) in files.iter().zip(&good) {
        assert_eq!(&fs::read(file).unwrap(), good, "damage is repaired");
    }
    // Another precision is another question.
    let loose = open(0).unwrap().with_precision(Precision::Tf32);
    chosen(&loose, ConvPass::Forward);
    assert!(loose.choices()[0].0.contains("Tf32") && kept().len() == 4);
}

fn flaky() {
    let gpu = open(0).unwrap().with_precision(Precision::Tf32);
    let fast = chosen(&gpu, ConvPass::Forward);
    assert!(fast.contains("IMPLICIT_GEMM"), "{fast}");
    let notes = gpu.notes();
    assert!(notes.iter().any(|n| n.contains("WINOGRAD") && n.contains("other bits")), "{notes:?}");
    // In float32 it is not even tried.
    let exact = open(0).unwrap();
    assert!(chosen(&exact, ConvPass::Forward).contains("IMPLICIT_GEMM FMA") && exact.notes().is_empty());
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
    // The operands do not fit: the first candidate serves, and nothing is kept of it.
    let large = ConvShape { n: 64, ..SHAPE };
    let conv = Conv::new(&gpu, ConvPass::Forward, Float::F32, large).unwrap();
    assert!(format!("{conv:?}").contains("IMPLICIT_PRECOMP_GEMM FMA"));
    assert!(kept().is_empty());
}
