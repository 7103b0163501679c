//! 1×1 convolutions and linear layers timed alternately with the `gemm` crate, at the shapes of Wide-ResNets:
//! `cargo test --release -p jempp-kernels-peers --test gemm -- --ignored --nocapture`.

use kernels::cpu::{Cpu, Level, Products};
use kernels::ops::conv2d::{Add, Conv, ConvShape};
use std::time::Instant;

/// The shortest time of several runs, in seconds.
fn least(mut run: impl FnMut()) -> f64 {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    run();
    (0..30).map(|_| time(&mut run)).fold(f64::INFINITY, f64::min)
}

/// `y[p, k]` = Σ_c `x[p, c]`·`w[k, c]` on as many threads as `cpu` has.
fn gemm_crate(cpu: &Cpu, (m, c, k): (usize, usize, usize), x: &[f32], w: &[f32], y: &mut [f32]) {
    assert_eq!((x.len(), w.len(), y.len()), (m * c, k * c, m * k));
    let threads = match cpu.pool.threads() {
        1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    let (row_y, row_x, row_w) = (k as isize, c as isize, c as isize);
    // SAFETY: the strides stay within matrices of the sizes just checked; the result overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            k,
            c,
            y.as_mut_ptr(),
            1,
            row_y,
            false,
            x.as_ptr(),
            1,
            row_x,
            w.as_ptr(),
            row_w,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

#[test]
#[ignore = "a benchmark; run it by name on an idle machine"]
fn matrix_products_beside_the_gemm_crate() {
    println!("{:>28} {:>8} {:>10} {:>10}", "", "threads", "ours", "gemm");
    for (n, h, c, k) in [
        (64, 32, 16, 32),
        (64, 16, 64, 128),
        (8, 32, 16, 160),
        (8, 16, 320, 640),
        (64, 1, 128, 10),
        (8, 1, 640, 10),
    ] {
        for threads in [1, 2] {
            let cpu = Cpu::new(threads, Level::Avx512);
            let s = ConvShape { n, h, w: h, c, k, r: 1, s: 1, stride: 1, pad: 0 };
            let value = |i: usize| (i * 29 % 97) as f32 / 48.5 - 1.0;
            let x: Vec<f32> = (0..s.x_len()).map(value).collect();
            let w: Vec<f32> = (0..s.w_len()).map(value).collect();
            let (mut y, mut other) = (vec![0.0f32; s.y_len()], vec![0.0f32; s.y_len()]);
            let conv = Conv::forward(Products::F32, s);
            let mut workspace = vec![0.0f32; conv.workspace(&cpu)];
            let ours =
                least(|| conv.run(&cpu, x[..].into(), &w, None, Add::None, &mut y, None, &mut workspace));
            let theirs = least(|| gemm_crate(&cpu, (n * h * h, c, k), &x, &w, &mut other));
            for (a, b) in y.iter().zip(&other) {
                assert!((a - b).abs() <= 1e-3 * (1.0 + b.abs()), "{a} is not {b}");
            }
            let rate = |seconds: f64| s.flops() as f64 / seconds / 1e9;
            let what = format!("{}×{c} · {c}×{k}", n * h * h);
            println!("{what:>28} {threads:>8} {:>10.1} {:>10.1} GFLOP/s", rate(ours), rate(theirs));
        }
    }
}
