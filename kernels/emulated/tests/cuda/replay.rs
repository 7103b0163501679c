//! The replay buffer and fresh chains.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::replay::{self, ByClass};

use crate::random::{OFFSET, SEED, STEP, STREAM, cpu, sequence};
use crate::{
    Data, Element, assert_near, assert_same, doubles, every_schedule, floats, random, skipped, with_extremes,
};

/// Rows out of range on both sides, and rows more than once.
const INDEX: [i32; 10] = [3, 8, 3, -1, 0, 9, 8, 3, 3, i32::MIN];

fn check_rows<E: Element>(row: usize) {
    let (rows, n) = (9, INDEX.len());
    let buffer = Data::<E>::new(&with_extremes(random(rows * row, 1.0, 61)));
    let x = Data::<E>::new(&random(n * row, 1.0, 62));
    let got = every_schedule(|schedule| {
        let (buffer, x, index) = (buffer.buffer(), x.buffer(), Buffer::from(&INDEX));
        let (out, slot) = (Buffer::<E>::unwritten(n * row), Buffer::<i32>::unwritten(n));
        let (count, len, b) = (Arg::I32(n as i32), Arg::I64(row as i64), Arg::I32(rows as i32));
        let grid = [row.div_ceil(256) as u32, n as u32, 1];
        let args = [buffer.arg(), b, len, index.arg(), count, out.arg()];
        schedule.go(&format!("replay_gather_{}", E::S), grid, 256, &args);
        schedule.go("replay_slots", [1, 1, 1], 256, &[index.arg(), count, b, slot.arg()]);
        let args = [x.arg(), len, slot.arg(), count, buffer.arg()];
        schedule.go(&format!("replay_scatter_{}", E::S), grid, 256, &args);
        vec![floats(&out), floats(&buffer), slot.read().iter().map(|&s| s as f32).collect()]
    });
    let (mut out, mut after) = (vec![0.0; n * row], vec![0.0; rows * row]);
    replay::gather(&cpu(), row, &buffer.f32, &INDEX, &mut out);
    replay::scatter(row, Some(&buffer.f32), &INDEX, &x.f32, &mut after);
    assert_same(&format!("replay_gather_{}", E::S), &got[0], &out);
    assert_same(&format!("replay_scatter_{}", E::S), &got[1], &after);
    assert_eq!(got[2], [-1.0, -1.0, -1.0, -1.0, 0.0, -1.0, 8.0, -1.0, 3.0, -1.0]);
}

#[test]
fn rows_are_gathered_and_scattered_as_their_twins_do() {
    if skipped() {
        return;
    }
    for row in [1, 12, 75, 1024] {
        check_rows::<f32>(row);
        check_rows::<bf16>(row);
    }
}

fn check_restart(row: usize, offsets: &[i32], in_place: bool) {
    check_restart_of(row, offsets, *offsets.last().unwrap() as usize, in_place);
}

/// With `count` images, whatever the offsets say.
fn check_restart_of(row: usize, offsets: &[i32], count: usize, in_place: bool) {
    let kind = [1, 0, 2, 1, 1, 2, 1, 0, 1];
    let class = [0, 0, 0, 1, 2, 5, -1, 7, 3];
    let (n, classes) = (kind.len(), offsets.len() - 1);
    let images: Vec<u8> = (0..count * row).map(|i| (i * 89 % 256) as u8).collect();
    let (means, x) = (random(classes * row, 0.5, 63), random(n * row, 1.0, 64));
    let got = every_schedule(|schedule| {
        let (x, kind, class) = (Buffer::from(&x), Buffer::from(&kind), Buffer::from(&class));
        let (images, offsets, means) = (Buffer::from(&images), Buffer::from(offsets), Buffer::from(&means));
        let (seed, step, other) =
            (Buffer::from(&SEED), Buffer::from(&[STEP]), Buffer::<f32>::unwritten(n * row));
        let out = if in_place { &x } else { &other };
        let parts = Buffer::<f32>::unwritten(8 * n * row);
        let counts = [Arg::I32(count as i32), Arg::I32(classes as i32)];
        let random = [seed.arg(), step.arg(), Arg::U32(OFFSET), Arg::U32(STREAM), Arg::I32(row as i32)];
        let of = [kind.arg(), class.arg(), images.arg(), offsets.arg(), means.arg()];
        let args = [&of[..], &counts, &random, &[parts.arg()]].concat();
        let grid = [row.div_ceil(128) as u32, n as u32, 8];
        schedule.go_exact("replay_restart_parts", grid, 256, &args);
        let of = [x.arg(), kind.arg(), class.arg(), offsets.arg(), means.arg()];
        let args = [&of[..], &counts, &random, &[parts.arg(), out.arg()]].concat();
        schedule.go_exact("replay_restart", [row.div_ceil(1024) as u32, n as u32, 1], 256, &args);
        vec![out.read()]
    });
    let mut want = vec![0.0f32; n * row];
    let data = ByClass { images: &images, offsets, means: &means };
    replay::restart(&cpu(), row, data, Some(&x), &kind, &class, sequence(), &mut want);
    // Whatever needs no sum over images is bit-identical.
    for (i, k) in kind.iter().enumerate() {
        let at = i * row..(i + 1) * row;
        if *k != 1 || !(0..classes as i32).contains(&class[i]) {
            assert_same("replay_restart, kept or uniform", &got[0][at.clone()], &want[at]);
        }
    }
    // Σ z·x/√n has about n terms of at most 4/√n; float32 adds them in another order, clipped to ±1.
    let most = offsets.windows(2).map(|o| o[1].saturating_sub(o[0])).max().unwrap().min(count as i32);
    let allowed = 6e-7 * f64::from(most).sqrt().max(1.0);
    assert_near("replay_restart", &got[0], &doubles(&want), None, allowed);
    // Invalid rows are NaN, and no others.
    for (i, (k, c)) in kind.iter().zip(class).enumerate() {
        let bounds = usize::try_from(c).ok().and_then(|c| Some((*offsets.get(c)?, *offsets.get(c + 1)?)));
        let there = bounds.is_some_and(|(a, b)| a >= 0 && a <= b && b <= count as i32);
        let row = &got[0][i * row..(i + 1) * row];
        assert!(row.iter().all(|v| v.is_nan() == (*k == 1 && !there)), "chain {i} of kind {k} and class {c}");
    }
}

#[test]
fn fresh_chains_are_their_twins() {
    if skipped() {
        return;
    }
    // A class of one image, one of more images than are weighted at a time, and an empty one.
    check_restart(75, &[0, 1, 1100, 1100, 1106], false);
    check_restart(192, &[0, 37, 40, 2200], true);
    check_restart(300, &[0, 5, 8, 9], false);
}

/// Before the first image, in descending order, past the last one, and out of any range.
#[test]
fn offsets_that_are_no_images_give_nan() {
    if skipped() {
        return;
    }
    check_restart_of(75, &[-3, 4, 2, 20, i32::MAX], 20, false);
    check_restart_of(128, &[i32::MIN, 0, 21, 20, 20], 20, true);
}
