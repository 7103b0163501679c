//! Captures beside other threads and on two streams: what one thread drops while another captures work does not spoil the capture, and is given back afterwards.
//!
//! On a fake device, in a child process: a process can load one driver only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use kernels::gpu::cublas::Product;
use kernels::gpu::cudnn::batch_norm::{BatchNorm, Mode};
use kernels::gpu::{Gpu, GpuError, open};
use kernels::ops::logsumexp;

#[path = "fake/mod.rs"]
mod fake;

const TASK: &str = "JEMPP_TEST_TASK";

#[test]
fn drops_of_another_thread_do_not_spoil_a_capture() {
    if let Some(folder) = fake::gpu(Path::new(env!("CARGO_TARGET_TMPDIR")), fake::With::Libraries) {
        let text = fake::child("in_a_child", TASK, "drops", &folder);
        assert!(text.contains("drops done"), "{text}");
    }
}

#[test]
fn in_a_child() {
    if std::env::var(TASK).is_ok_and(|task| task == "drops") {
        for round in 0..3 {
            drops(round);
        }
        branches();
        println!("drops done");
    }
}

/// A device with all that waits or frees when it goes: buffers, kernels, handles of cuBLAS and cuDNN.
fn used() -> Arc<Gpu> {
    let gpu = open(0).unwrap();
    let (a, out) = (gpu.upload(&[1.0f32, 2.0, 3.0, 4.0]).unwrap(), gpu.zeros::<f32>(4).unwrap());
    let product = Product { rows: 2, inner: 2, cols: 2, a_transposed: false, b_transposed: false };
    let span = |b| gpu.span(b).unwrap();
    gpu.product(product, (span(&a), span(&a)), false, span(&out)).unwrap();
    assert_eq!(gpu.read(&out).unwrap(), [7.0, 10.0, 15.0, 22.0]);
    drop(BatchNorm::new(&gpu, [1, 2, 2, 4], 1e-5, Mode::Spatial).unwrap());
    logsumexp::cuda::logsumexp(&gpu, 2, 2).unwrap();
    Arc::new(gpu)
}

/// Work on the second stream is part of the capture between a fork and a join; what is not joined, or not forked, is refused,
/// and the next capture works.
fn branches() {
    let gpu = open(0).unwrap();
    let values: Vec<u8> = (0..64).collect();
    let (from, kept) = (gpu.upload(&values).unwrap(), gpu.zeros::<u8>(64).unwrap());
    let (a, b) = (gpu.zeros::<u8>(64).unwrap(), gpu.zeros::<u8>(64).unwrap());
    let copy = |from, to| gpu.copy(gpu.span(from)?, gpu.span(to)?);
    assert!(matches!(gpu.fork(), Err(GpuError::Shape { .. })), "outside a capture");
    let unjoined = gpu.capture(|| {
        gpu.fork()?;
        gpu.beside(|| copy(&from, &a))
    });
    assert!(matches!(unjoined, Err(GpuError::Driver { .. })), "{unjoined:?}");
    let unforked = gpu.capture(|| gpu.beside(|| copy(&from, &a)));
    assert!(unforked.is_err(), "{unforked:?}");
    let graph = gpu.capture(|| {
        gpu.fork()?;
        gpu.beside(|| copy(&from, &a))?;
        copy(&from, &b)?;
        gpu.join()?;
        copy(&a, &kept)
    });
    let graph = graph.unwrap();
    // The simulated driver runs the branches in another order each time.
    for _ in 0..4 {
        let mut cleared =
            [gpu.span(&a).unwrap(), gpu.span(&b).unwrap(), gpu.span(&kept).unwrap()].into_iter();
        let zeros = gpu.zeros::<u8>(64).unwrap();
        cleared.try_for_each(|span| gpu.copy(gpu.span(&zeros)?, span)).unwrap();
        graph.replay(&gpu).unwrap();
        assert_eq!((gpu.read(&kept).unwrap(), gpu.read(&b).unwrap()), (values.clone(), values.clone()));
    }
}

fn drops(round: u8) {
    let (gpu, other) = (used(), used());
    let before = gpu.memory_free().unwrap();
    let (x, out) = (gpu.upload(&[1.0f32, 2.0, 3.0, 4.0]).unwrap(), gpu.zeros::<f32>(2).unwrap());
    let kernel = logsumexp::cuda::logsumexp(&gpu, 2, 2).unwrap();
    let run = || kernel.run(&gpu, &[Some(gpu.span(&x).unwrap()), Some(gpu.span(&out).unwrap())]);
    run().unwrap();
    let want = gpu.read(&out).unwrap();

    let mine = gpu.clone();
    let doomed = move || {
        let kernel = logsumexp::cuda::logsumexp(&mine, 5, 7).unwrap();
        let mut bytes = mine.zeros::<u8>(1 << 20).unwrap();
        let mut staging = mine.staging(16).unwrap();
        staging.send(&mine, &mut bytes, |b| b.fill(round)).unwrap();
        let graph = mine.capture(|| {
            let span = mine.span(&bytes)?;
            mine.copy(span, span)
        });
        (kernel, bytes, staging, graph.unwrap())
    };
    let ((begin, begun), (end, ended)) = (channel(), channel());
    let dropping = thread::spawn(move || {
        let doomed = doomed();
        end.send(()).unwrap();
        begun.recv().unwrap();
        drop(doomed);
        drop(other);
        end.send(()).unwrap();
    });
    ended.recv().unwrap();
    let taken = gpu.memory_free().unwrap();
    let graph = gpu.capture(|| {
        run()?;
        begin.send(()).unwrap();
        ended.recv().unwrap();
        assert_eq!(gpu.memory_free()?, taken, "nothing is freed during a capture");
        run()
    });
    let graph = graph.unwrap();
    dropping.join().unwrap();
    // What was put aside has been given back: the buffer, and the other device's workspace of cuBLAS.
    let kept = 4 * 6;
    assert!(gpu.memory_free().unwrap() >= before - kept + (32 << 20), "{}", gpu.memory_free().unwrap());
    graph.replay(&gpu).unwrap();
    assert_eq!(gpu.read(&out).unwrap(), want);
}
