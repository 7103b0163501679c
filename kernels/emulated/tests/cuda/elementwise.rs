//! Elementwise kernels, and those that only move elements.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::{batch, counter, elementwise, leaky_relu};

use crate::random::cpu;
use crate::{Data, Element, assert_same, blocks, every_schedule, floats, random, skipped, with_extremes};

fn rounded<E: Element>(v: &[f32]) -> Vec<f32> {
    v.iter().map(|&v| E::of(v).to()).collect()
}

fn check<E: Element>(n: usize) {
    let x = Data::<E>::new(&with_extremes(random(n, 2.0, 41)));
    let y = Data::<E>::new(&random(n, 2.0, 42));
    let (a, b, leak) = (0.7f32, -1.3f32, 0.2f32);
    let got = every_schedule(|schedule| {
        let (x, y, place) = (x.buffer(), y.buffer(), x.buffer());
        let out = [0, 1, 2, 3].map(|_| Buffer::<E>::unwritten(n));
        let (len, grid) = (Arg::I64(n as i64), [blocks(n / E::V), 1, 1]);
        let name = |what: &str| format!("{what}_{}", E::S);
        schedule.go(
            &name("axpby"),
            grid,
            256,
            &[Arg::F32(a), x.arg(), Arg::F32(b), y.arg(), len, out[0].arg()],
        );
        schedule.go(
            &name("axpby"),
            grid,
            256,
            &[Arg::F32(a), place.arg(), Arg::F32(b), y.arg(), len, place.arg()],
        );
        schedule.go(&name("mul"), grid, 256, &[x.arg(), y.arg(), len, out[1].arg()]);
        schedule.go(&name("leaky_relu"), grid, 256, &[x.arg(), len, Arg::F32(leak), out[2].arg()]);
        schedule.go(
            &name("leaky_relu_grad"),
            grid,
            256,
            &[x.arg(), y.arg(), len, Arg::F32(leak), out[3].arg()],
        );
        let mut all: Vec<_> = out.iter().map(floats).collect();
        all.push(floats(&place));
        all
    });
    let mut want = vec![0.0; n];
    elementwise::axpby(&cpu(), f64::from(a), Some(&x.f32), f64::from(b), &y.f32, &mut want);
    assert_same(&format!("axpby_{}", E::S), &got[0], &rounded::<E>(&want));
    assert_same(&format!("axpby_{} in place", E::S), &got[4], &rounded::<E>(&want));
    elementwise::mul(&cpu(), &x.f32, &y.f32, &mut want);
    assert_same(&format!("mul_{}", E::S), &got[1], &rounded::<E>(&want));
    leaky_relu::cpu(&cpu(), f64::from(leak), &x.f32, &mut want);
    assert_same(&format!("leaky_relu_{}", E::S), &got[2], &rounded::<E>(&want));
    leaky_relu::grad_cpu(&cpu(), f64::from(leak), &x.f32, &y.f32, &mut want);
    assert_same(&format!("leaky_relu_grad_{}", E::S), &got[3], &rounded::<E>(&want));
}

#[test]
fn elementwise_kernels_are_their_twins() {
    if skipped() {
        return;
    }
    for n in [1, 3, 7, 8, 64, 3001, 9000] {
        check::<f32>(n);
        check::<bf16>(n);
    }
}

fn check_moves<E: Element>(row: usize, start: usize, n: usize) {
    let (x, y) =
        (Data::<E>::new(&with_extremes(random(row * n, 1.0, 43))), Data::<E>::new(&random(row, 1.0, 44)));
    let all = row * (n + 3);
    let got = every_schedule(|schedule| {
        let (x, y) = (x.buffer(), y.buffer());
        let (embedded, joined) = (Buffer::<E>::unwritten(all), Buffer::<E>::unwritten(row * (n + 1)));
        let len = Arg::I64((row * n) as i64);
        let args = [x.arg(), Arg::I64((start * row) as i64), len, embedded.arg(), Arg::I64(all as i64)];
        schedule.go(&format!("embed_{}", E::S), [blocks(all), 1, 1], 256, &args);
        let name = format!("copy_{}", E::S);
        let grid = [blocks(row * n / E::V), 1, 1];
        let (zero, one) = (Arg::I64(0), Arg::I64(row as i64));
        schedule.go(&name, grid, 256, &[y.arg(), zero, joined.arg(), zero, one]);
        schedule.go(&name, grid, 256, &[x.arg(), zero, joined.arg(), one, len]);
        vec![floats(&embedded), floats(&joined)]
    });
    let (mut embedded, mut joined) = (vec![0.0; all], vec![0.0; row * (n + 1)]);
    batch::embed(row, start, &x.f32, &mut embedded);
    joined.copy_from_slice(&[&y.f32[..], &x.f32].concat());
    assert_same(&format!("embed_{}", E::S), &got[0], &embedded);
    assert_same(&format!("copy_{}", E::S), &got[1], &joined);
}

#[test]
fn rows_of_a_batch_are_moved_as_their_twins_do() {
    if skipped() {
        return;
    }
    for (row, start, n) in [(7, 2, 5), (16, 0, 3), (75, 3, 40), (1, 1, 1)] {
        check_moves::<f32>(row, start, n);
        check_moves::<bf16>(row, start, n);
    }
}

#[test]
fn casts_round_to_nearest_even() {
    if skipped() {
        return;
    }
    // Every upper half with lower halves around a tie, and NaNs with many payloads.
    let lows = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let x: Vec<f32> = (0..=0xffffu32)
        .step_by(37)
        .chain([0x7f7f, 0x7f80, 0xff80, 0x7fff, 0xffff, 0x3f80, 0x3f81])
        .flat_map(|high| lows.map(|low| f32::from_bits(high << 16 | low)))
        .chain([1.0])
        .collect();
    let n = x.len();
    let got = every_schedule(|schedule| {
        let (x, low, back) = (Buffer::from(&x), Buffer::<bf16>::unwritten(n), Buffer::<f32>::unwritten(n));
        let grid = [blocks(n / 4), 1, 1];
        schedule.go("cast_bf16", grid, 256, &[x.arg(), low.arg(), Arg::I64(n as i64)]);
        schedule.go("cast_f32", grid, 256, &[low.arg(), back.arg(), Arg::I64(n as i64)]);
        vec![floats(&low), back.read()]
    });
    for (i, &v) in x.iter().enumerate() {
        // A NaN must be the same NaN, too.
        assert_eq!(got[0][i].to_bits(), bf16::from_f32(v).to_f32().to_bits(), "{:08x}", v.to_bits());
        assert_eq!(got[1][i].to_bits(), got[0][i].to_bits());
    }
    println!("cast_bf16, cast_f32                {n:>7} values, the bits of the crate half");
}

fn check_transpose<E: Element>(n: usize, a: usize, b: usize) {
    let x = Data::<E>::new(&with_extremes(random(n * a * b, 1.0, 45)));
    let got = every_schedule(|schedule| {
        let (from, to, back) =
            (x.buffer(), Buffer::<E>::unwritten(n * a * b), Buffer::<E>::unwritten(n * a * b));
        let (count, p, q) = (Arg::I64(n as i64), Arg::I32(a as i32), Arg::I32(b as i32));
        let blocks = |v: usize| v.div_ceil(32) as u32;
        let name = format!("cast_transpose_{}", E::S);
        let images = n.min(2) as u32;
        schedule.go_exact(&name, [blocks(b), blocks(a), images], 256, &[from.arg(), to.arg(), count, p, q]);
        schedule.go_exact(&name, [blocks(a), blocks(b), images], 256, &[to.arg(), back.arg(), count, q, p]);
        vec![floats(&to), floats(&back)]
    });
    let mut want = vec![0.0; n * a * b];
    for (i, &v) in x.f32.iter().enumerate() {
        let (image, r, c) = (i / (a * b), i / b % a, i % b);
        want[(image * b + c) * a + r] = v;
    }
    assert_same(&format!("cast_transpose_{}", E::S), &got[0], &want);
    assert_same(&format!("cast_transpose_{} and back", E::S), &got[1], &x.f32);
}

#[test]
fn axes_are_swapped_and_swapped_back() {
    if skipped() {
        return;
    }
    for (n, a, b) in [(3, 35, 7), (2, 9, 64), (5, 1, 33), (1, 70, 40)] {
        check_transpose::<f32>(n, a, b);
        check_transpose::<bf16>(n, a, b);
    }
}

#[test]
fn counters_wrap() {
    if skipped() {
        return;
    }
    let x = [0, -1, i32::MAX, i32::MIN, 7];
    let got = every_schedule(|schedule| {
        let (x, out) = (Buffer::from(&x), Buffer::<i32>::unwritten(5));
        schedule.go("counter_advance", [1, 1, 1], 32, &[x.arg(), Arg::I32(3), Arg::I64(5), out.arg()]);
        schedule.go("counter_advance", [1, 1, 1], 32, &[x.arg(), Arg::I32(3), Arg::I64(5), x.arg()]);
        [out, x].map(|b| b.read().iter().map(|v| f32::from_bits(*v as u32)).collect()).to_vec()
    });
    let mut want = [0; 5];
    counter::cpu(&x, 3, &mut want);
    for got in got {
        assert_eq!(got.iter().map(|v| v.to_bits() as i32).collect::<Vec<_>>(), want);
    }
}

/// The delay's result says how many rounds it ran.
#[test]
fn the_delay_runs_every_round() {
    if skipped() {
        return;
    }
    let got = every_schedule(|schedule| {
        let last = Buffer::from(&[6u32]);
        schedule.go("delay", [1, 1, 1], 1, &[Arg::I32(3), last.arg()]);
        vec![last.read().iter().map(|v| f32::from_bits(*v)).collect()]
    });
    let want = (0..3).fold(7u32, |x, _| (x ^ (x >> 15)).wrapping_mul(0x2c1b_3c6d));
    for got in got {
        assert_eq!(got[0].to_bits(), want);
    }
}
