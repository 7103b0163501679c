use super::*;
use crate::philox::{Counter, key, normal_pair, philox4x32_10};

pub(super) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let word = |i: usize| philox4x32_10(Counter { element: i as u64, step: 0, stream: 0 }.words(), key(seed));
    (0..len).map(|i| normal_pair(word(i)[0], word(i)[1]).0).collect()
}

pub(super) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Errors relative to the largest value: up to 2.1e-6 with up to a hundred channels, most with minimal filtering.
pub(super) const CLOSE: f64 = 3e-6;
/// The same with 210 channels and tiles of which three quarters are padding: 3.9e-6 without fused multiply-adds, 3.5e-6
/// with them.
const WIDE: f64 = 5e-6;

pub(super) fn close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    let scale = want.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (f64::from(*g) - w).abs() <= tolerance * scale,
            "{what}[{i}]: {g} against {w} (scale {scale})"
        );
    }
}

pub(super) fn shapes() -> Vec<ConvShape> {
    let mut all = Vec::new();
    for (n, h, w) in [(1, 8, 8), (3, 5, 7), (2, 1, 9), (70, 2, 2), (5, 33, 6), (1, 40, 41)] {
        for (c, k) in [(1, 16), (3, 7), (16, 32), (33, 17), (5, 70)] {
            for (f, stride, pad) in
                [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (2, 2, 0), (3, 3, 2), (3, 1, 0)]
            {
                if h + 2 * pad >= f && w + 2 * pad >= f && h * w * c * k < 200_000 {
                    all.push(ConvShape { n, h, w, c, k, r: f, s: f, stride, pad });
                }
            }
        }
    }
    all.push(ConvShape { n: 2, h: 32, w: 32, c: 96, k: 24, r: 3, s: 3, stride: 1, pad: 1 });
    all.push(ConvShape::linear(300, 64, 10));
    all.push(ConvShape { n: 3, h: 6, w: 5, c: 4, k: 6, r: 3, s: 1, stride: 1, pad: 1 });
    all
}

/// Every level and thread count against the definition in float64, with bias and both kinds of residual.
#[test]
fn fast_convolutions_agree_with_the_definition() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let cpu = Cpu::new(2, level);
        if cpu.simd.level() != level {
            println!("skipped {level:?}: this machine does not have it");
            continue;
        }
        for s in shapes() {
            agree(
                &cpu,
                s,
                &Conv::forward(Products::F32, s),
                &Conv::input_grad(Products::F32, s),
                &ConvWeightGrad::new(Products::F32, s),
            );
        }
    }
}

fn agree(cpu: &Cpu, s: ConvShape, forward: &Conv, input_grad: &Conv, weight_grad: &ConvWeightGrad) {
    let tolerance = if s.c > 100 { WIDE } else { CLOSE };
    let (x, w, b) = (noise(1, s.x_len()), noise(2, s.w_len()), noise(3, s.k));
    let (dy, rx, ry) = (noise(4, s.y_len()), noise(5, s.x_len()), noise(6, s.y_len()));
    let what = format!("{:?} {s:?}", cpu.simd);

    let mut ws = vec![f32::NAN; forward.workspace(cpu)];
    let mut y = ry.clone();
    forward.run(cpu, x[..].into(), &w, Some(&b), Add::InPlace, &mut y, None, &mut ws);
    let mut want = wide(&ry);
    reference::forward(&s, &wide(&x), &wide(&w), Some(&wide(&b)), Add::InPlace, &mut want);
    close(&format!("y {what}"), &y, &want, tolerance);

    let mut ws = vec![f32::NAN; input_grad.workspace(cpu)];
    let mut dx = vec![f32::NAN; s.x_len()];
    input_grad.run(cpu, dy[..].into(), &w, None, Add::From(&rx), &mut dx, None, &mut ws);
    let mut want = vec![0.0; s.x_len()];
    reference::input_grad(&s, &wide(&dy), &wide(&w), Add::From(&wide(&rx)), &mut want);
    close(&format!("dx {what}"), &dx, &want, tolerance);

    let mut ws = vec![f32::NAN; weight_grad.workspace(cpu)];
    let mut dw = vec![f32::NAN; s.w_len()];
    weight_grad.run(cpu, x[..].into(), &dy, &mut dw, &mut ws);
    let mut want = vec![0.0; s.w_len()];
    reference::weight_grad(&s, &wide(&x), &wide(&dy), &mut want);
    close(&format!("dw {what}"), &dw, &want, tolerance);
}

/// An image gives the same bits alone and in a batch, at one and at three threads.
#[test]
fn results_do_not_depend_on_batch_or_threads() {
    for (h, c, k) in [(8, 16, 32), (2, 64, 64), (32, 3, 16), (17, 16, 16), (7, 210, 200), (16, 80, 48)] {
        let s = ConvShape { n: 9, h, w: h, c, k, r: 3, s: 3, stride: 1, pad: 1 };
        let (x, w, dy) = (noise(1, s.x_len()), noise(2, s.w_len()), noise(3, s.y_len()));
        let run = |threads: usize, s: ConvShape, x: &[f32], dy: &[f32]| {
            let cpu = Cpu::new(threads, Level::Avx512);
            let gather = |conv: Conv, src: &[f32], len: usize| {
                let (mut dst, mut ws) = (vec![0.0; len], vec![0.0; conv.workspace(&cpu)]);
                conv.run(&cpu, src.into(), &w, None, Add::None, &mut dst, None, &mut ws);
                dst
            };
            let y = gather(Conv::forward(Products::F32, s), x, s.y_len());
            let dx = gather(Conv::input_grad(Products::F32, s), dy, s.x_len());
            let grad = ConvWeightGrad::new(Products::F32, s);
            let (mut dw, mut ws) = (vec![0.0; s.w_len()], vec![0.0; grad.workspace(&cpu)]);
            grad.run(&cpu, x.into(), dy, &mut dw, &mut ws);
            (y, dx, dw)
        };
        let all = run(1, s, &x, &dy);
        assert!(all == run(3, s, &x, &dy), "threads: {s:?}");
        fn part(v: &[f32]) -> &[f32] {
            &v[4 * v.len() / 9..5 * v.len() / 9]
        }
        let (y, dx, _) = run(2, ConvShape { n: 1, ..s }, part(&x), part(&dy));
        assert!(y == part(&all.0) && dx == part(&all.1), "batch: {s:?}");
    }
}

/// A prologue on load against a normalised copy; blocks seen after they are written: each once, whole.
#[test]
fn fused_forms_give_the_bits_of_the_plain_ones() {
    for (n, h, c, k, r, stride) in [
        (5, 8, 16, 32, 3, 1),
        (3, 33, 5, 7, 3, 2),
        (4, 6, 8, 8, 1, 1),
        (3, 34, 17, 9, 3, 1),
        (3, 7, 210, 200, 3, 1),
    ] {
        let s = ConvShape { n, h, w: h, c, k, r, s: r, stride, pad: r / 2 };
        let (x, w, dy, b) = (noise(1, s.x_len()), noise(2, s.w_len()), noise(3, s.y_len()), noise(4, k));
        let (mean, scale, shift) = (noise(5, 2 * c), noise(6, 2 * c), noise(7, c));
        let prologue = Prologue { ends: &[2, n], mean: &mean, scale: &scale, shift: &shift, leak: 0.2 };
        let source = ConvInput { x: &x[..], prologue: Some(prologue) };
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            let cpu = Cpu::new(3, level);
            let plain = source.plain(n);
            let run = |conv: Conv, x: ConvInput<'_, f32>, epilogue: Option<Epilogue<'_, f32>>| {
                let (mut y, mut ws) = (vec![0.0; s.y_len()], vec![f32::NAN; conv.workspace(&cpu)]);
                conv.run(&cpu, x, &w, Some(&b), Add::None, &mut y, epilogue, &mut ws);
                y
            };
            let conv = Conv::forward_normed(Products::F32, s);
            let mut parts = vec![0.0; 2 * conv.blocks()];
            let look = |first: usize, block: &[f32], part: &mut [f32]| {
                part[0] = first as f32;
                part[1] = block.iter().sum();
            };
            let size = conv.block_len();
            let y = run(
                conv,
                source,
                Some(Epilogue { parts: &mut parts, part_len: 2, also_read: &[], run: &look }),
            );
            assert_eq!(y, run(Conv::forward(Products::F32, s), plain[..].into(), None), "{level:?} {s:?}");
            for (t, (block, part)) in y.chunks(size).zip(parts.chunks(2)).enumerate() {
                assert_eq!(part, [(t * size) as f32, block.iter().sum()], "{level:?} {s:?}");
            }
            let grad = |x: ConvInput<'_, f32>| {
                let grad = ConvWeightGrad::new(Products::F32, s);
                let (mut dw, mut ws) = (vec![0.0; s.w_len()], vec![f32::NAN; grad.workspace(&cpu)]);
                grad.run(&cpu, x, &dy, &mut dw, &mut ws);
                dw
            };
            assert_eq!(grad(source), grad(plain[..].into()), "{level:?} {s:?}");
        }
    }
}

/// What minimal filtering adds to the errors, whichever algorithm the shapes would choose: the same tolerance as direct
/// sums.
#[test]
fn winograd_agrees_with_the_definition() {
    let mut shapes = Vec::new();
    for (n, h, w, pad) in
        [(3, 5, 7, 1), (2, 1, 9, 1), (7, 2, 2, 1), (2, 33, 6, 2), (1, 40, 41, 0), (3, 8, 8, 1)]
    {
        for (c, k) in [(1, 16), (3, 7), (33, 17), (5, 70), (80, 40)] {
            if h + 2 * pad >= 3 && h * w * c * k < 400_000 {
                shapes.push(ConvShape { n, h, w, c, k, r: 3, s: 3, stride: 1, pad });
            }
        }
    }
    // So many channels that filters are transformed in parts, and more tiles than are transformed at once.
    shapes.push(ConvShape { n: 130, h: 2, w: 2, c: 210, k: 200, r: 3, s: 3, stride: 1, pad: 1 });
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let cpu = Cpu::new(2, level);
        if cpu.simd.level() != level {
            println!("skipped {level:?}: this machine does not have it");
            continue;
        }
        for &shape in &shapes {
            let algorithm = Algorithm::Winograd(Winograd::forward(&shape));
            let forward = Conv { shape, algorithm, backward: false };
            let algorithm = Algorithm::Winograd(Winograd::input_grad(&shape));
            let input_grad = Conv { shape, algorithm, backward: true };
            let grad = ConvWeightGrad { shape, algorithm: GradAlgorithm::Winograd(WinogradGrad::new(shape)) };
            agree(&cpu, shape, &forward, &input_grad, &grad);
        }
    }
}
