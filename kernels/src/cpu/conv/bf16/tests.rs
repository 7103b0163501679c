use super::super::tests::{CLOSE, close, noise, shapes, wide};
use super::super::{
    Add, Algorithm, Conv, ConvInput, ConvShape, ConvWeightGrad, DirectGrad, Epilogue, GradAlgorithm,
    Prologue, reference,
};
use super::pairs::{interleave, narrow};
use super::{Bf16Conv, Bf16WeightGrad, Gather};
use crate::cpu::{Cpu, Level, Products};
use crate::dtype::bf16;

/// Each instruction set that this machine has, and AVX-512 once more without AVX512_BF16.
fn each(threads: usize, mut f: impl FnMut(&str, &Cpu)) {
    for (level, emulated) in
        [(Level::Portable, true), (Level::Avx2, true), (Level::Avx512, true), (Level::Avx512, false)]
    {
        let mut cpu = Cpu::new(threads, level).with_products(Products::Bf16);
        if emulated {
            cpu.simd = cpu.simd.without_bf16();
        }
        let what = format!("{level:?}{}", if emulated { "" } else { " with AVX512_BF16" });
        if cpu.simd.level() != level || cpu.simd.bf16() == emulated {
            println!("skipped {what}: this machine does not have it");
            continue;
        }
        f(&what, &cpu);
    }
}

/// By the definition, for any shape.
fn gathering(shape: ConvShape, gather: &Gather, backward: bool) -> Conv {
    Conv { shape, algorithm: Algorithm::Bf16(Bf16Conv::new(shape, gather, backward)), backward }
}

fn forward(s: ConvShape) -> Conv {
    gathering(s, &Gather::forward(&s, true), false)
}

fn weight_grad(s: ConvShape) -> ConvWeightGrad {
    ConvWeightGrad { shape: s, algorithm: GradAlgorithm::Bf16(Bf16WeightGrad(DirectGrad::new(s))) }
}

fn rounded(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| bf16::from_f32(v).to_f64()).collect()
}

/// Against the definition in float64 on factors rounded to bf16: what is left is the rounding of sums.
#[test]
fn results_are_sums_of_products_of_rounded_factors() {
    each(2, |level, cpu| {
        for s in shapes() {
            let (x, w, b) = (noise(1, s.x_len()), noise(2, s.w_len()), noise(3, s.k));
            let (dy, rx, ry) = (noise(4, s.y_len()), noise(5, s.x_len()), noise(6, s.y_len()));
            let what = format!("{level} {s:?}");

            let conv = forward(s);
            let (mut y, mut ws) = (ry.clone(), vec![f32::NAN; conv.workspace(cpu)]);
            conv.run(cpu, x[..].into(), &w, Some(&b), Add::InPlace, &mut y, None, &mut ws);
            let mut want = wide(&ry);
            reference::forward(&s, &rounded(&x), &rounded(&w), Some(&wide(&b)), Add::InPlace, &mut want);
            close(&format!("y {what}"), &y, &want, CLOSE);

            let conv = gathering(s, &Gather::input_grad(&s), true);
            let (mut dx, mut ws) = (vec![f32::NAN; s.x_len()], vec![f32::NAN; conv.workspace(cpu)]);
            conv.run(cpu, dy[..].into(), &w, None, Add::From(&rx), &mut dx, None, &mut ws);
            let mut want = vec![0.0; s.x_len()];
            reference::input_grad(&s, &rounded(&dy), &rounded(&w), Add::From(&wide(&rx)), &mut want);
            close(&format!("dx {what}"), &dx, &want, CLOSE);

            let conv = weight_grad(s);
            let (mut dw, mut ws) = (vec![f32::NAN; s.w_len()], vec![f32::NAN; conv.workspace(cpu)]);
            conv.run(cpu, x[..].into(), &dy, &mut dw, &mut ws);
            let mut want = vec![0.0; s.w_len()];
            reference::weight_grad(&s, &rounded(&x), &rounded(&dy), &mut want);
            close(&format!("dw {what}"), &dw, &want, CLOSE);
        }
    });
}

/// An image gives the same bits alone and in a batch, at one and at three threads.
#[test]
fn results_do_not_depend_on_batch_or_threads() {
    for (h, c, k) in [(8, 16, 32), (2, 64, 64), (32, 3, 16)] {
        let s = ConvShape { n: 9, h, w: h, c, k, r: 3, s: 3, stride: 1, pad: 1 };
        let (x, w, dy) = (noise(1, s.x_len()), noise(2, s.w_len()), noise(3, s.y_len()));
        let run = |threads: usize, s: ConvShape, x: &[f32]| {
            let cpu = Cpu::new(threads, Level::Avx512).with_products(Products::Bf16);
            let conv = forward(s);
            let (mut y, mut ws) = (vec![0.0; s.y_len()], vec![0.0; conv.workspace(&cpu)]);
            conv.run(&cpu, x.into(), &w, None, Add::None, &mut y, None, &mut ws);
            let grad = weight_grad(s);
            let (mut dw, mut ws) = (vec![0.0; s.w_len()], vec![0.0; grad.workspace(&cpu)]);
            grad.run(&cpu, x.into(), &dy[..s.y_len()], &mut dw, &mut ws);
            (y, dw)
        };
        let (y, dw) = run(1, s, &x);
        assert_eq!((&y, &dw), (&run(3, s, &x).0, &run(3, s, &x).1));
        let image = s.x_len() / 9;
        let (alone, _) = run(2, ConvShape { n: 1, ..s }, &x[4 * image..5 * image]);
        assert_eq!(alone, y[4 * y.len() / 9..5 * y.len() / 9]);
    }
}

/// A prologue on load is applied before rounding: the bits of a normalised copy. Blocks are those of float32, each seen
/// whole.
#[test]
fn fused_forms_give_the_bits_of_the_plain_ones() {
    for (n, h, c, k, r, stride) in [(5, 8, 16, 32, 3, 1), (3, 33, 5, 7, 3, 2), (4, 6, 8, 8, 1, 1)] {
        let s = ConvShape { n, h, w: h, c, k, r, s: r, stride, pad: r / 2 };
        let (x, w, dy, b) = (noise(1, s.x_len()), noise(2, s.w_len()), noise(3, s.y_len()), noise(4, k));
        let (mean, scale, shift) = (noise(5, 2 * c), noise(6, 2 * c), noise(7, c));
        let prologue = Prologue { ends: &[2, n], mean: &mean, scale: &scale, shift: &shift, leak: 0.2 };
        let source = ConvInput { x: &x[..], prologue: Some(prologue) };
        let plain = source.plain(n);
        each(3, |level, cpu| {
            let what = format!("{level} {s:?}");
            let run = |conv: Conv, x: ConvInput<'_, f32>, epilogue: Option<Epilogue<'_, f32>>| {
                let (mut y, mut ws) = (vec![0.0; s.y_len()], vec![f32::NAN; conv.workspace(cpu)]);
                conv.run(cpu, x, &w, Some(&b), Add::None, &mut y, epilogue, &mut ws);
                y
            };
            let conv = forward(s);
            let (size, mut parts) = (conv.block_len(), vec![0.0; 2 * conv.blocks()]);
            let look = |first: usize, block: &[f32], part: &mut [f32]| {
                part.copy_from_slice(&[first as f32, block.iter().sum()]);
            };
            let y = run(
                conv,
                source,
                Some(Epilogue { parts: &mut parts, part_len: 2, also_read: &[], run: &look }),
            );
            assert_eq!(y, run(forward(s), plain[..].into(), None), "{what}");
            for (t, (block, part)) in y.chunks(size).zip(parts.chunks(2)).enumerate() {
                assert_eq!(part, [(t * size) as f32, block.iter().sum()], "{what}");
            }
            let grad = |x: ConvInput<'_, f32>| {
                let grad = weight_grad(s);
                let (mut dw, mut ws) = (vec![0.0; s.w_len()], vec![f32::NAN; grad.workspace(cpu)]);
                grad.run(cpu, x, &dy, &mut dw, &mut ws);
                dw
            };
            assert_eq!(grad(source), grad(plain[..].into()), "{what}");
        });
    }
}

/// Ties to even, overflow to infinity, NaN to NaN, in both backends, at lengths that fill vectors and that do not.
#[test]
fn values_are_rounded_once_to_nearest_even() {
    let mut x = noise(1, 77);
    let ulp = 1.0f32 / 256.0;
    x[..7].copy_from_slice(&[1.0 + ulp, 1.0 + 3.0 * ulp, f32::MAX, f32::NEG_INFINITY, f32::NAN, -0.0, 2e-38]);
    // A NaN whose upper half alone would be infinity.
    x[7] = f32::from_bits(0x7f80_0001);
    let want = |x: f32| bf16::from_f32(x);
    let same = |pair: u32, a: f32, b: Option<f32>, what: &str| {
        let got = [bf16::from_bits(pair as u16), bf16::from_bits((pair >> 16) as u16)];
        for (got, want) in got.into_iter().zip([want(a), b.map_or(bf16::ZERO, want)]) {
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{what}: {got} {want}");
        }
    };
    each(1, |level, cpu| {
        for c in [1usize, 2, 3, 7, 11, 22, 77, 76] {
            let (pixels, pairs) = (77 / c, c.div_ceil(2));
            let mut out = vec![1; pixels * pairs];
            narrow(cpu.simd, &x[..pixels * c], c, &mut out);
            for (i, pair) in out.into_iter().enumerate() {
                let at = i / pairs * c + i % pairs * 2;
                same(pair, x[at], (i % pairs * 2 + 1 < c).then(|| x[at + 1]), level);
            }
        }
        for n in [1, 16, 33, 40] {
            let mut out = vec![1; n];
            interleave(cpu.simd, &x[..n], Some(&x[37..37 + n]), &mut out);
            (0..n).for_each(|i| same(out[i], x[i], Some(x[37 + i]), level));
            interleave(cpu.simd, &x[..n], None, &mut out);
            (0..n).for_each(|i| same(out[i], x[i], None, level));
        }
    });
}
