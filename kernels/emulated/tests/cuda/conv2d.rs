//! The direct convolution, its gradients, and the bias that is added to a result.

use emulated::{Arg, Buffer, kernels};
use half::bf16;
use kernels::ops::conv2d::{Add, Conv, ConvShape, ConvWeightGrad};

use crate::random::cpu;
use crate::{Data, Element, SUM, assert_near, blocks, doubles, every_schedule, floats, random, skipped};

/// Odd and unequal sizes, strides that do not divide, filters that are not square, 1×1, an image smaller than its
/// padded filter.
const SHAPES: [ConvShape; 6] = [
    ConvShape { n: 2, h: 7, w: 5, c: 3, k: 4, r: 3, s: 3, stride: 1, pad: 1 },
    ConvShape { n: 3, h: 9, w: 8, c: 5, k: 7, r: 3, s: 3, stride: 2, pad: 1 },
    ConvShape { n: 2, h: 7, w: 9, c: 6, k: 5, r: 1, s: 1, stride: 2, pad: 0 },
    ConvShape { n: 5, h: 3, w: 4, c: 9, k: 2, r: 1, s: 1, stride: 1, pad: 0 },
    ConvShape { n: 1, h: 8, w: 11, c: 2, k: 3, r: 2, s: 5, stride: 3, pad: 2 },
    ConvShape { n: 4, h: 1, w: 2, c: 8, k: 8, r: 3, s: 3, stride: 1, pad: 1 },
];

#[derive(Clone, Copy, Debug)]
enum ConvPass {
    Forward,
    InputGrad,
    WeightGrad,
}

/// The CPU counterpart: the reference implementation in float64.
fn twin(pass: ConvPass, s: ConvShape, a: &[f64], b: &[f64], begin: Option<&[f64]>) -> Vec<f64> {
    let add = begin.map_or(Add::None, Add::From);
    let cpu = cpu();
    match pass {
        ConvPass::Forward => {
            let (conv, mut y) = (Conv::forward(cpu.products, s), vec![0.0; s.y_len()]);
            conv.run(&cpu, a.into(), b, None, add, &mut y, None, &mut vec![0.0; conv.workspace(&cpu)]);
            y
        }
        ConvPass::InputGrad => {
            let (conv, mut dx) = (Conv::input_grad(cpu.products, s), vec![0.0; s.x_len()]);
            conv.run(&cpu, a.into(), b, None, add, &mut dx, None, &mut vec![0.0; conv.workspace(&cpu)]);
            dx
        }
        ConvPass::WeightGrad => {
            let (conv, mut dw) = (ConvWeightGrad::new(cpu.products, s), vec![0.0; s.w_len()]);
            conv.run(&cpu, a.into(), b, &mut dw, &mut vec![0.0; conv.workspace(&cpu)]);
            begin.into_iter().for_each(|begin| dw.iter_mut().zip(begin).for_each(|(d, b)| *d += b));
            dw
        }
    }
}

/// One kernel on one shape, starting from zero or (`more`) added to the existing output; results of type `O`.
fn check<E: Element, O: Element>(pass: ConvPass, s: ConvShape, more: bool) {
    let (name, lengths) = match pass {
        ConvPass::Forward => ("conv2d_forward", [s.x_len(), s.w_len(), s.y_len()]),
        ConvPass::InputGrad => ("conv2d_input_grad", [s.y_len(), s.w_len(), s.x_len()]),
        ConvPass::WeightGrad => ("conv2d_weight_grad", [s.x_len(), s.y_len(), s.w_len()]),
    };
    let name = format!("{name}_{}", E::S);
    let (a, b) = (Data::<E>::new(&random(lengths[0], 1.0, 81)), Data::<E>::new(&random(lengths[1], 1.0, 82)));
    let begin = Data::<O>::new(&random(lengths[2], 1.0, 83));
    let sizes = [s.n, s.h, s.w, s.c, s.k, s.r, s.s, s.stride, s.pad, s.oh(), s.ow()];
    let got = every_schedule(|schedule| {
        let (a, b) = (a.buffer(), b.buffer());
        let out = if more { begin.buffer() } else { Buffer::<O>::unwritten(lengths[2]) };
        let mut args = vec![a.arg(), b.arg(), Arg::I32(i32::from(more))];
        args.extend(sizes.map(|n| Arg::I32(n as i32)));
        args.push(out.arg());
        schedule.go(&name, [blocks(lengths[2]), 1, 1], 256, &args);
        vec![floats(&out)]
    });
    let begin = begin.f64();
    let begin = more.then_some(&begin[..]);
    let want = twin(pass, s, &a.f64(), &b.f64(), begin);
    let size = |v: &[f64]| v.iter().map(|v| v.abs()).collect::<Vec<_>>();
    let magnitudes = twin(pass, s, &size(&a.f64()), &size(&b.f64()), begin.map(size).as_deref());
    // A sum in float32, rounded once. Where no tap meets the image both are exactly zero.
    let bound = |(m, w): (&f64, &f64)| SUM * m + O::ROUNDING * w.abs();
    let bounds: Vec<f64> = magnitudes.iter().zip(&want).map(bound).collect();
    assert_near(&format!("{name}, {s:?}"), &got[0], &want, Some(&bounds), 1.0);
}

fn every<E: Element>() {
    for s in SHAPES {
        for more in [false, true] {
            check::<E, E>(ConvPass::Forward, s, more);
            check::<E, E>(ConvPass::InputGrad, s, more);
            check::<E, f32>(ConvPass::WeightGrad, s, more);
        }
        bias::<E>(s);
    }
}

/// The bias that is added to a convolution.
fn bias<E: Element>(s: ConvShape) {
    let (n, k) = (s.y_len(), s.k);
    let (y, bias) = (Data::<E>::new(&random(n, 1.0, 83)), random(k, 1.0, 85));
    let name = format!("conv2d_bias_{}", E::S);
    let got = every_schedule(|schedule| {
        let (b, out) = (Buffer::from(&bias), y.buffer());
        let args = [b.arg(), Arg::I64((n / k) as i64), Arg::I32(k as i32), out.arg()];
        schedule.go(&name, [blocks(n), 1, 1], 256, &args);
        vec![floats(&out)]
    });
    let want: Vec<f32> = (0..n).map(|i| E::of(y.f32[i] + bias[i % k]).to()).collect();
    assert_near(&name, &got[0], &doubles(&want), None, 0.0);
}

#[test]
fn float32() {
    if !skipped() {
        every::<f32>();
    }
}

#[test]
fn half_precision() {
    if skipped() {
        return;
    }
    if kernels().iter().any(|(_, name)| *name == "conv2d_forward_bf16") {
        every::<bf16>();
    } else {
        println!("skipped: conv2d.cu has no kernels for bf16");
    }
}
