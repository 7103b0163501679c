//! Sums over rows, over pixels and over whole tensors, and their transposes.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::{global_avg_pool, reduce};

use crate::batch_norm::tile;
use crate::random::cpu;
use crate::{
    Data, Element, SUM, assert_near, assert_same, blocks, doubles, every_schedule, floats, random, skipped,
    with_extremes,
};

fn check_rows<E: Element>(rows: usize, c: usize) {
    let x = Data::<E>::new(&random(rows * c, 1.0, 51));
    let (height, tiles) = tile::<E>(c);
    let chunk_rows = 3 * height + 1;
    let chunks = rows.div_ceil(chunk_rows);
    let got = every_schedule(|schedule| {
        let (x, at, out) = (x.buffer(), Buffer::from(&[0, rows as i32]), Buffer::<f32>::unwritten(c));
        let parts = Buffer::<f32>::unwritten(chunks * c);
        let (n, k) = (Arg::I32(c as i32), Arg::I32(chunks as i32));
        let args = [x.arg(), at.arg(), n, k, Arg::I32(chunk_rows as i32), parts.arg()];
        schedule.go(&format!("sum_rows_parts_{}", E::S), [chunks as u32, 1, tiles], 256, &args);
        let grid = [c.div_ceil(32) as u32, 1, 1];
        schedule.go_exact("sum_rows_final", grid, 1024, &[parts.arg(), n, k, out.arg()]);
        vec![out.read()]
    });
    let mut want = vec![0.0f64; c];
    let sum = reduce::SumRows::new(rows, c);
    let mut workspace = vec![0.0; sum.workspace()];
    sum.run(&cpu(), &x.f64(), &mut want, &mut workspace);
    let scale = vec![0.5 * rows as f64; c];
    assert_near(&format!("sum_rows_{}", E::S), &got[0], &want, Some(&scale), SUM);
}

#[test]
fn sums_of_rows_are_their_twins() {
    if skipped() {
        return;
    }
    for (rows, c) in [(1, 1), (1000, 10), (777, 16), (300, 37), (5, 2312), (64, 640)] {
        check_rows::<f32>(rows, c);
        check_rows::<bf16>(rows, c);
    }
}

fn check_all<E: Element>(n: usize) {
    let x = Data::<E>::new(&random(n, 3.0, 52));
    let got = every_schedule(|schedule| {
        let chunks = n.div_ceil(8192);
        let (x, parts, out) = (x.buffer(), Buffer::<f64>::unwritten(chunks), Buffer::<f32>::unwritten(1));
        let args = [x.arg(), Arg::I64(n as i64), parts.arg()];
        schedule.go(&format!("sum_all_parts_{}", E::S), [chunks.max(1) as u32, 1, 1], 256, &args);
        let args = [parts.arg(), Arg::I64(chunks as i64), Arg::F64(-0.25), out.arg()];
        schedule.go_exact("sum_all_final", [1, 1, 1], 1024, &args);
        let once = Buffer::<f32>::unwritten(1);
        if chunks <= 1 {
            let args = [x.arg(), Arg::I64(n as i64), Arg::F64(-0.25), once.arg()];
            schedule.go_exact(&format!("sum_all_{}", E::S), [1, 1, 1], 256, &args);
        }
        vec![out.read(), once.read()]
    });
    if n <= 8192 {
        assert_same(&format!("sum_all_{} in one launch", E::S), &got[1], &got[0]);
    }
    // The counterpart also adds in float64, in another order.
    let want: f32 = reduce::sum_all(-0.25, &x.f32);
    assert_near(&format!("sum_all_{}", E::S), &got[0], &[f64::from(want)], None, 1e-7);
}

#[test]
fn sums_of_everything_are_their_twins() {
    if skipped() {
        return;
    }
    for n in [0, 1, 64, 8192, 30_001] {
        check_all::<f32>(n);
        check_all::<bf16>(n);
    }
}

fn check_spread<E: Element>(rows: usize, c: usize) {
    let x = Data::<E>::new(&with_extremes(random(rows * c, 1.0, 53)));
    let (y, row) = (Data::<E>::new(&random(rows * c, 1.0, 54)), random(c, 1.0, 55));
    let v = random(rows, 2.0, 56);
    let got = every_schedule(|schedule| {
        let (z, x, y, row, v) = (y.buffer(), x.buffer(), y.buffer(), Buffer::from(&row), Buffer::from(&v));
        let out = [0, 1, 2].map(|_| Buffer::<E>::unwritten(rows * c));
        let dot = Buffer::<f32>::unwritten(rows);
        let (r, n, grid) = (Arg::I64(rows as i64), Arg::I64(c as i64), [blocks(rows * c), 1, 1]);
        let name = |what: &str| format!("{what}_{}", E::S);
        schedule.go(&name("broadcast_rows"), grid, 256, &[row.arg(), r, n, out[0].arg()]);
        schedule.go(&name("mul_rows"), grid, 256, &[x.arg(), v.arg(), r, n, out[1].arg()]);
        let all = Arg::I64((rows * c) as i64);
        schedule.go(&name("spread"), grid, 256, &[v.arg(), Arg::F32(0.3), all, out[2].arg()]);
        let grid = [rows.div_ceil(4) as u32, 1, 1];
        schedule.go(&name("row_dot"), grid, 128, &[z.arg(), y.arg(), r, n, dot.arg()]);
        vec![floats(&out[0]), floats(&out[1]), floats(&out[2]), dot.read()]
    });
    let rounded = |v: &[f32]| -> Vec<f32> { v.iter().map(|&v| E::of(v).to()).collect() };
    let mut want = vec![0.0; rows * c];
    reduce::broadcast_rows(&row, &mut want);
    assert_same(&format!("broadcast_rows_{}", E::S), &got[0], &rounded(&want));
    reduce::mul_rows(&x.f32, &v, &mut want);
    assert_same(&format!("mul_rows_{}", E::S), &got[1], &rounded(&want));
    assert_same(&format!("spread_{}", E::S), &got[2], &rounded(&vec![v[0] * 0.3; rows * c]));
    let mut dot = vec![0.0f64; rows];
    reduce::row_dot(&y.f64(), &y.f64(), &mut dot);
    assert_near(&format!("row_dot_{}", E::S), &got[3], &dot, None, SUM);
}

#[test]
fn transposes_of_sums_are_their_twins() {
    if skipped() {
        return;
    }
    for (rows, c) in [(7, 10), (3, 3072), (65, 1), (1, 100)] {
        check_spread::<f32>(rows, c);
        check_spread::<bf16>(rows, c);
    }
}

fn check_pool<E: Element>(n: usize, pixels: usize, c: usize) {
    let x = Data::<E>::new(&with_extremes(random(n * pixels * c, 1.0, 57)));
    let dy = random(n * c, 1.0, 58);
    let got = every_schedule(|schedule| {
        let (x, dy) = (x.buffer(), Buffer::from(&dy));
        let (y, dx) = (Buffer::<f32>::unwritten(n * c), Buffer::<E>::unwritten(n * pixels * c));
        let factor = (1.0 / pixels as f64) as f32;
        let sizes = [Arg::I64(n as i64), Arg::I32(pixels as i32), Arg::I32(c as i32), Arg::F32(factor)];
        let [a, b, k, f] = sizes;
        let name = format!("global_avg_pool_{}", E::S);
        schedule.go(&name, [blocks(n * c), 1, 1], 256, &[x.arg(), a, b, k, f, y.arg()]);
        let name = format!("global_avg_pool_grad_{}", E::S);
        schedule.go(&name, [blocks(n * pixels * c), 1, 1], 256, &[dy.arg(), a, b, k, f, dx.arg()]);
        vec![y.read(), floats(&dx)]
    });
    let rounded = |v: &[f32]| -> Vec<f32> { v.iter().map(|&v| E::of(v).to()).collect() };
    let (mut y, mut dx) = (vec![0.0; n * c], vec![0.0; n * pixels * c]);
    global_avg_pool::cpu(&cpu(), pixels, c, &x.f32, &mut y);
    global_avg_pool::grad_cpu(&cpu(), pixels, c, &dy, &mut dx);
    assert_same(&format!("global_avg_pool_{}", E::S), &got[0], &y);
    assert_same(&format!("global_avg_pool_grad_{}", E::S), &got[1], &rounded(&dx));
    assert!(doubles(&got[1]).iter().all(|v| v.is_finite()));
}

#[test]
fn pooling_is_its_twin() {
    if skipped() {
        return;
    }
    for (n, pixels, c) in [(3, 64, 64), (2, 49, 7), (5, 1, 16), (1, 4, 300)] {
        check_pool::<f32>(n, pixels, c);
        check_pool::<bf16>(n, pixels, c);
    }
}
