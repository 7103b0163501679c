//! Philox, uniforms and normals, bit for bit; and the Langevin step that uses them.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::cpu::{Cpu, Level};
use kernels::ops::noise::{self, Distribution, RandomSequence};
use kernels::ops::{dropout, pyld_step};

use crate::{
    Data, Element, Schedule, assert_same, blocks, every_schedule, floats, random, skipped, with_extremes,
};

pub(crate) const SEED: [i32; 2] = [-77, 0x1234_5678];
pub(crate) const STEP: i32 = -3;
pub(crate) const OFFSET: u32 = 5;
pub(crate) const STREAM: u32 = 999;

pub(crate) fn sequence() -> RandomSequence {
    let step = (STEP as u32).wrapping_add(OFFSET);
    RandomSequence { key: [SEED[0] as u32, SEED[1] as u32], stream: STREAM, step }
}

pub(crate) fn cpu() -> Cpu {
    Cpu::new(1, Level::Avx512)
}

fn draw<E: Element>(distribution: Distribution, n: usize) {
    let name =
        format!("noise_{}_{}", if distribution == Distribution::Normal { "normal" } else { "uniform" }, E::S);
    let got = every_schedule(|schedule| {
        let (seed, step) = (Buffer::from(&SEED), Buffer::from(&[STEP]));
        let out = Buffer::<E>::unwritten(n);
        let args =
            [seed.arg(), step.arg(), Arg::U32(OFFSET), Arg::U32(STREAM), Arg::I64(n as i64), out.arg()];
        schedule.go(&name, [blocks(n / 4), 1, 1], 256, &args);
        vec![floats(&out)]
    });
    let mut want = vec![0.0f32; n];
    noise::cpu(&cpu(), sequence(), distribution, &mut want);
    let want: Vec<f32> = want.iter().map(|&v| E::of(v).to()).collect();
    assert_same(&name, &got[0], &want);
}

#[test]
fn draws_are_the_bits_of_the_cpu() {
    if skipped() {
        return;
    }
    for n in [1, 2, 3, 4, 1003, 8192] {
        draw::<f32>(Distribution::Uniform, n);
        draw::<f32>(Distribution::Normal, n);
        draw::<bf16>(Distribution::Uniform, n);
        draw::<bf16>(Distribution::Normal, n);
    }
    // Enough values that an error in any operation of the polynomials would show.
    draw::<f32>(Distribution::Normal, 100_003);
}

struct Case {
    args: pyld_step::Args,
    row: usize,
    low: bool,
    index: Option<Vec<i32>>,
    in_place: bool,
}

fn one_step<E: Element>(
    case: &Case,
    schedule: Schedule,
    x: &[f32],
    g: &Data<E>,
    old: &[f32],
) -> Vec<Vec<f32>> {
    let (a, n) = (case.args, x.len());
    let (seed, step) = (Buffer::from(&SEED), Buffer::from(&[STEP]));
    let (x, g, other) = (Buffer::from(x), g.buffer(), Buffer::<f32>::unwritten(n));
    let out = if case.in_place { &x } else { &other };
    let low = Buffer::<bf16>::unwritten(n);
    let buffer = Buffer::from(old);
    let index = case.index.clone().unwrap_or_default();
    let (index, slot) = (Buffer::from(&index), Buffer::<i32>::unwritten(index.len()));
    if let Some(i) = &case.index {
        let rows = old.len() / case.row;
        let args = [index.arg(), Arg::I32(i.len() as i32), Arg::I32(rows as i32), slot.arg()];
        schedule.go("replay_slots", [1, 1, 1], 256, &args);
    }
    let noisy = a.noise > 0.0;
    let bound = |wanted, b: f64| if wanted { b as f32 } else { f32::INFINITY };
    let optional = |wanted: bool, arg| if wanted { arg } else { Arg::Null };
    let args = [
        x.arg(),
        g.arg(),
        Arg::I64(n as i64),
        Arg::F32(bound(a.clip > 0.0, a.clip)),
        Arg::F32(bound(a.boxed, 1.0)),
        Arg::F32(a.sgld_lr as f32),
        Arg::I32(a.inner as i32),
        Arg::F32(a.step_size as f32),
        Arg::F32((a.step_size * f64::from(a.inner.saturating_sub(1))) as f32),
        Arg::F32(a.noise as f32),
        Arg::I32(a.clip_after_noise.into()),
        optional(noisy, seed.arg()),
        optional(noisy, step.arg()),
        Arg::U32(OFFSET),
        Arg::U32(STREAM),
        out.arg(),
        optional(case.low, low.arg()),
        optional(case.index.is_some(), slot.arg()),
        optional(case.index.is_some(), buffer.arg()),
        Arg::I64(case.row as i64),
    ];
    schedule.go(&format!("pyld_step_{}", E::S), [blocks(n / 4), 1, 1], 256, &args);
    vec![out.read(), floats(&low), buffer.read()]
}

fn check_step<E: Element>(case: &Case, n: usize) {
    let x = with_extremes(random(n * case.row, 1.3, 1));
    let mut g = random(n * case.row, 2.0, 2);
    g.reverse();
    let mut g = with_extremes(g);
    g.reverse();
    let g = Data::<E>::new(&g);
    let old = random(9 * case.row, 1.0, 3);
    let got = every_schedule(|schedule| one_step(case, schedule, &x, &g, &old));

    let mut want = vec![0.0f32; x.len()];
    pyld_step::cpu(&cpu(), case.args, Some(&x), &g.f32, Some(sequence()), &mut want);
    assert_same(&format!("pyld_step_{}", E::S), &got[0], &want);
    if case.low {
        let low: Vec<f32> = want.iter().map(|&v| bf16::of(v).to()).collect();
        assert_same("  its bf16 copy", &got[1], &low);
    }
    if let Some(index) = &case.index {
        let mut buffer = vec![0.0; old.len()];
        kernels::ops::replay::scatter(case.row, Some(&old), index, &want, &mut buffer);
        assert_same("  its rows in the buffer", &got[2], &buffer);
    }
}

#[test]
fn pyld_step_is_its_twin() {
    if skipped() {
        return;
    }
    let quiet = pyld_step::Args {
        inner: 5,
        step_size: 0.2,
        clip: 1.0,
        boxed: true,
        sgld_lr: 0.0,
        noise: 0.0,
        clip_after_noise: false,
    };
    let index = Some(vec![3, -1, 8, 3, 9, 0, 8]);
    let full = pyld_step::Args { sgld_lr: 0.3, noise: 0.1, clip: 0.7, ..quiet };
    let cases = [
        Case { args: quiet, row: 12, low: false, index: None, in_place: false },
        Case { args: full, row: 13, low: true, index: index.clone(), in_place: true },
        Case {
            args: pyld_step::Args { clip_after_noise: true, ..full },
            row: 16,
            low: true,
            index: index.clone(),
            in_place: false,
        },
        Case { args: pyld_step::Args { inner: 0, ..full }, row: 75, low: false, index, in_place: false },
        Case {
            args: pyld_step::Args { inner: 1, clip: 0.0, boxed: false, sgld_lr: 0.0, ..full },
            row: 13,
            low: true,
            index: None,
            in_place: true,
        },
    ];
    for case in &cases {
        check_step::<f32>(case, 7);
        check_step::<bf16>(case, 7);
    }
}

fn check_dropout<E: Element>(n: usize, layer: u32, rate: f64) {
    let x = Data::<E>::new(&random(n, 2.0, 4));
    let scale = 1.0 / (1.0 - rate);
    let got = every_schedule(|schedule| {
        let (seed, step) = (Buffer::from(&SEED), Buffer::from(&[STEP]));
        let (x, y) = (x.buffer(), Buffer::<E>::unwritten(n));
        let (rate, scale) = (Arg::F32(rate as f32), Arg::F32(scale as f32));
        for y in [&y, &x] {
            let (stream, layer, len) = (Arg::U32(STREAM), Arg::U32(layer), Arg::I64(n as i64));
            let args = [x.arg(), seed.arg(), step.arg(), stream, layer, rate, scale, len, y.arg()];
            schedule.go(&format!("dropout_{}", E::S), [blocks(n / 4), 1, 1], 256, &args);
        }
        vec![floats(&y), floats(&x)]
    });
    let at = RandomSequence { step: STEP as u32, ..sequence() };
    let mut want = vec![0.0f32; n];
    dropout::cpu(&cpu(), at, layer, rate, Some(&x.f32), &mut want);
    let want: Vec<f32> = want.iter().map(|&v| E::of(v).to()).collect();
    assert_same(&format!("dropout_{}", E::S), &got[0], &want);
    assert_same(&format!("dropout_{} in place", E::S), &got[1], &want);
}

#[test]
fn dropout_is_its_twin() {
    if skipped() {
        return;
    }
    for (n, layer, rate) in [(1, 0, 0.5), (7, 1, 0.3), (1003, 24, 0.3), (8192, 2, 0.9), (64, 0, 0.0)] {
        check_dropout::<f32>(n, layer, rate);
        check_dropout::<bf16>(n, layer, rate);
    }
}
