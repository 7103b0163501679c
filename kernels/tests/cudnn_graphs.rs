//! Convolutions and fused patterns compiled by a real cuDNN for a GPU that is not here, where cuDNN is found; elsewhere it
//! says so.
//!
//! ```text
//! JEMPP_CUDA_PATH=$(.ci/cuda.sh target/cuda) cargo test --release -p jempp-kernels --test cudnn_graphs -- --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kernels::gpu::cudnn_graph::{
    ConvPass, ConvSpec, NormSpec, PATTERNS, Pattern, conv_plans_for, norm_plan_for, plans_for,
};
use kernels::gpu::libraries::{Id, Status};
use kernels::gpu::{Float, GpuError, Precision, probe};
use kernels::ops::conv2d::ConvShape;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const TASK: &str = "JEMPP_TEST_TASK";

/// An H200 in the form in which cuDNN 9.8 and later write a device (`CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION`).
const H200: &str = r#"{
    "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536,
    "multiProcessorCount": 132, "warpSize": 32, "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536,
    "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 9013, "isTccDriver": 0,
    "supportCoopLaunch": 1, "totalGlobalMem": 150754820096, "smClockRateKHz": 1980000, "memClockRateKHz": 3201000,
    "l2CacheSize": 62914560, "cudaDeviceId": 0, "deviceName": "NVIDIA H200", "deviceVer": 900, "driverVer": 13000
}"#;

fn shape(n: usize, size: usize, c: usize) -> ConvShape {
    ConvShape { n, h: size, w: size, c, k: c, r: 3, s: 3, stride: 1, pad: 1 }
}

/// The folder of a cuDNN, if there is one; else it has said why not.
fn cudnn() -> Option<PathBuf> {
    match &probe().library(Id::Cudnn).unwrap().status {
        Status::Found { version, path, .. } => {
            println!("cuDNN {version}");
            fs::canonicalize(path).ok()?.parent().map(Path::to_path_buf)
        }
        Status::Unavailable(why) => {
            println!("skipped: {}", why.brief());
            None
        }
    }
}

/// Every name in a library that could be a function of the driver.
fn names(library: &Path) -> BTreeSet<String> {
    let bytes = fs::read(library).unwrap();
    let words = bytes.split(|b| !(b.is_ascii_alphanumeric() || *b == b'_'));
    let mut found = BTreeSet::new();
    for word in words.filter(|w| w.len() > 5 && w.starts_with(b"cu") && w[2].is_ascii_uppercase()) {
        found.insert(String::from_utf8_lossy(word).into_owned());
    }
    found
}

/// cuDNN's run-time engines compile only beside a driver, whose functions they look up by name and use to load what
/// they have compiled. This one has every such name; it loads anything and can do nothing else.
fn driver(folder: &Path, cudnn: &Path) -> bool {
    let mut all = names(&cudnn.join("libcudnn_graph.so.9"));
    all.extend(names(&cudnn.join("libcudnn_engines_runtime_compiled.so.9")));
    let mut text = String::from("extern \"C\" {\n");
    for name in all {
        let body = match name.as_str() {
            "cuLibraryLoadData"
            | "cuLibraryGetKernel"
            | "cuLibraryGetModule"
            | "cuKernelGetFunction"
            | "cuModuleLoadData"
            | "cuModuleLoadDataEx"
            | "cuModuleGetFunction" => "(void** out) { static long it[64]; *out = it; return 0; }",
            "cuLibraryUnload" | "cuModuleUnload" | "cuFuncSetAttribute" | "cuKernelSetAttribute" => {
                "() { return 0; }"
            }
            "cuFuncGetAttribute" | "cuKernelGetAttribute" => "(int* out) { *out = 0; return 0; }",
            _ => "() { return 100; }",
        };
        text += &format!("__attribute__((visibility(\"default\"))) int {name}{body}\n");
    }
    let source = folder.join("driver.cpp");
    fs::write(&source, text + "}\n").unwrap();
    let mut compiler = Command::new("c++");
    compiler.args(["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1"]).arg(source);
    match compiler.arg("-o").arg(folder.join("libcuda.so.1")).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => {
            println!("skipped: there is no c++ to build a driver with");
            false
        }
    }
}

#[test]
fn every_pattern_and_batch_norm_has_a_plan_for_an_h200() {
    let Some(cudnn) = cudnn() else { return };
    let folder = std::env::temp_dir().join(format!("jempp-graphs-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    if driver(&folder, &cudnn) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "in_a_child", "--nocapture"])
            .env(TASK, "plans")
            .env("LD_LIBRARY_PATH", &folder);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("plans done"), "{text}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn in_a_child() {
    if std::env::var(TASK).as_deref() != Ok("plans") {
        return;
    }
    // Each takes a second or more, as cuDNN compiles kernels for it.
    for (dtype, size, c) in [(Float::Bf16, 32, 160), (Float::Bf16, 8, 640), (Float::F32, 16, 320)] {
        for pattern in PATTERNS {
            let start = Instant::now();
            let plans = plans_for(H200, pattern, shape(64, size, c), dtype, 0.2, 1);
            let seconds = start.elapsed().as_secs_f64();
            let plans = plans.unwrap_or_else(|why| panic!("{dtype:?} {pattern:?}: {why}"));
            let (engine, bytes) = plans[0];
            println!(
                "{dtype:?} {c}x{size}x{size} {pattern:?}: engine {engine}, {bytes} B of workspace, {seconds:.1} s"
            );
        }
    }
    for (float, [n, size, c]) in [
        (Float::Bf16, [64, 32, 16]),
        (Float::Bf16, [64, 32, 160]),
        (Float::Bf16, [64, 8, 640]),
        (Float::F32, [64, 16, 320]),
    ] {
        for gradient in [false, true] {
            // As programs give it: all pixels of an image in one axis.
            let spec = NormSpec { gradient, float, dims: [n, size * size, 1, c] };
            let start = Instant::now();
            let plan = norm_plan_for(H200, spec).unwrap_or_else(|why| panic!("{spec:?}: {why}"));
            println!("{spec:?}: {plan:?}, {:.1} s", start.elapsed().as_secs_f64());
        }
    }
    println!("plans done");
}

#[test]
fn what_is_no_device_and_what_does_not_fit_is_refused() {
    if cudnn().is_none() {
        return;
    }
    let plans = plans_for("{}", Pattern::ConvAdd, shape(2, 8, 16), Float::Bf16, 0.2, 1);
    assert!(matches!(plans, Err(GpuError::Library { library: "cuDNN", .. })), "{plans:?}");
    let large = ConvShape { r: 30, s: 30, ..shape(2, 8, 16) };
    assert!(plans_for(H200, Pattern::ConvAdd, large, Float::Bf16, 0.2, 1).is_err());
}

/// The convolutions of a Wide-ResNet for images of 32 × 32, each once: depth, width.
fn network(depth: usize, width: usize, n: usize) -> BTreeSet<[usize; 9]> {
    let conv = |size: usize, c: usize, k: usize, r: usize, stride: usize| {
        [n, size, size, c, k, r, r, stride, usize::from(r == 3)]
    };
    let mut found = BTreeSet::from([conv(32, 3, 16, 3, 1)]);
    let (mut size, mut c) = (32, 16);
    for (k, stride) in [(16 * width, 1), (32 * width, 2), (64 * width, 2)] {
        found.insert(conv(size, c, k, 3, stride));
        if c != k || stride != 1 {
            found.insert(conv(size, c, k, 1, stride));
        }
        (size, c) = (size / stride, k);
        found.insert(conv(size, c, c, 3, 1));
        assert!((depth - 4).is_multiple_of(6));
    }
    found
}

/// In float32 and bf16 alike every convolution of the networks in use runs by cuDNN: it has an engine that adds in a
/// fixed order and keeps the precision, whose plan compiles, also from its text alone.
#[test]
fn every_convolution_of_the_networks_has_an_engine() {
    if cudnn().is_none() {
        return;
    }
    let start = Instant::now();
    let (mut plans, mut by_precision) = (0, Vec::new());
    let mut shapes = BTreeSet::new();
    for n in [1, 64, 192] {
        for (depth, width) in [(28, 10), (16, 4), (28, 2), (10, 1)] {
            shapes.extend(network(depth, width, n));
        }
    }
    for (precision, float) in
        [(Precision::F32, Float::F32), (Precision::Tf32, Float::F32), (Precision::Bf16, Float::Bf16)]
    {
        let mut engines = BTreeSet::new();
        let mut most = (0, String::new());
        for &[n, h, w, c, k, r, s, stride, pad] in &shapes {
            let shape = ConvShape { n, h, w, c, k, r, s, stride, pad };
            for (pass, accumulate) in [
                (ConvPass::Forward, false),
                (ConvPass::Forward, true),
                (ConvPass::InputGrad, false),
                (ConvPass::InputGrad, true),
                (ConvPass::WeightGrad, false),
            ] {
                // Whether something is added does not depend on the batch.
                if accumulate && n != 64 {
                    continue;
                }
                let spec = ConvSpec { pass, float, shape, accumulate };
                let found = conv_plans_for(H200, spec, precision, 1);
                let found = found.unwrap_or_else(|why| panic!("{precision:?}, {spec:?}: {why}"));
                let first = found.first().unwrap_or_else(|| panic!("{precision:?}, {spec:?}: no engine"));
                let engine = first.engine.split(',').next().unwrap();
                engines.insert(format!("{pass:?} {engine}"));
                if first.workspace >= most.0 {
                    most = (first.workspace, format!("{spec:?}"));
                }
                plans += 1;
            }
        }
        println!("{precision:?}: most workspace {} MiB: {}", most.0 >> 20, most.1);
        by_precision.push(engines);
        println!("{precision:?}: {:?}", by_precision.last().unwrap());
    }
    println!("{} shapes, {plans} plans, {:.1} s", shapes.len(), start.elapsed().as_secs_f64());
    // Tensor cores are other engines than those of float32.
    assert!(by_precision[0] != by_precision[1] && by_precision[0] != by_precision[2]);
}
