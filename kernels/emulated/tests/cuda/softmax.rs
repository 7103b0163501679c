//! logsumexp, softmax, cross-entropy, labels and softplus.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::{label, logsumexp, softmax_cross_entropy, softplus};

use crate::{Data, EXP, Element, assert_near, assert_same, blocks, every_schedule, floats, random, skipped};

/// Rows of ordinary values, and of values whose exponentials leave float32's range.
fn logits(rows: usize, cols: usize) -> Vec<f32> {
    let mut x = random(rows * cols, 5.0, 21);
    for (i, far) in [3e4f32, -3e4, 1e30, 100.0, -200.0].into_iter().enumerate().take(rows) {
        x[i * cols..(i + 1) * cols].iter_mut().for_each(|v| *v += far);
    }
    x
}

/// Rows of NaN and infinities, among others.
fn awkward(rows: usize, cols: usize) -> Vec<f32> {
    const INF: f32 = f32::INFINITY;
    let mut x = logits(rows, cols);
    let mut set = |r: usize, c: usize, v: f32| {
        if r < rows {
            x[r * cols + c % cols] = v;
        }
    };
    set(0, 0, f32::NAN);
    set(1, cols - 1, f32::NAN);
    set(2, 3, INF);
    set(3, 2, -INF);
    set(4, 1, INF);
    set(4, 4, f32::NAN);
    (0..cols).for_each(|c| set(5, c, -INF));
    (0..cols).for_each(|c| set(6, c, INF));
    x
}

fn warps(rows: usize) -> u32 {
    rows.div_ceil(4) as u32
}

fn check<E: Element>(rows: usize, cols: usize, values: &[f32]) {
    let x = Data::<E>::new(values);
    let (u, p) = (random(rows, 2.0, 22), Data::<E>::new(&random(rows * cols, 1.0, 23)));
    let got = every_schedule(|schedule| {
        let (x, u, p) = (x.buffer(), Buffer::from(&u), p.buffer());
        let (y, q) = (Buffer::<f32>::unwritten(rows), Buffer::<E>::unwritten(rows * cols));
        let (s, dx) = (Buffer::<E>::unwritten(rows * cols), Buffer::<E>::unwritten(rows * cols));
        let (r, c) = (Arg::I64(rows as i64), Arg::I64(cols as i64));
        let grid = [warps(rows), 1, 1];
        schedule.go(&format!("logsumexp_rows_{}", E::S), grid, 128, &[x.arg(), y.arg(), r, c]);
        schedule.go(&format!("softmax_rows_{}", E::S), grid, 128, &[x.arg(), Arg::Null, q.arg(), r, c]);
        schedule.go(&format!("softmax_rows_{}", E::S), grid, 128, &[x.arg(), u.arg(), s.arg(), r, c]);
        schedule.go(&format!("softmax_grad_{}", E::S), grid, 128, &[p.arg(), x.arg(), dx.arg(), r, c]);
        vec![y.read(), floats(&q), floats(&s), floats(&dx)]
    });
    let x = x.f64();
    let (mut y, mut q, mut dx) = (vec![0.0; rows], vec![0.0; rows * cols], vec![0.0; rows * cols]);
    logsumexp::cpu(cols, &x, &mut y);
    logsumexp::softmax(cols, &x, &mut q);
    logsumexp::softmax_grad(cols, &p.f64(), &x, &mut dx);
    let scaled: Vec<f64> = q.iter().enumerate().map(|(i, q)| q * f64::from(u[i / cols])).collect();
    assert_near(&format!("logsumexp_rows_{}", E::S), &got[0], &y, None, EXP);
    assert_near(&format!("softmax_rows_{}", E::S), &got[1], &q, None, EXP + E::ROUNDING);
    assert_near(&format!("softmax_rows_{} times u", E::S), &got[2], &scaled, None, EXP + E::ROUNDING);
    // p·(u − Σ u·p) with p in (−1, 1) is at most 1 + cols times the row's largest u.
    let scale: Vec<f64> = (0..rows * cols)
        .map(|i| {
            x[i / cols * cols..][..cols].iter().fold(1.0, |m: f64, v| m.max(v.abs())) * (1 + cols) as f64
        })
        .collect();
    assert_near(&format!("softmax_grad_{}", E::S), &got[3], &dx, Some(&scale), EXP + E::ROUNDING);
}

const SIZES: [(usize, usize); 5] = [(7, 10), (9, 1), (13, 33), (8, 100), (1, 1000)];

#[test]
fn logsumexp_and_softmax_are_their_twins() {
    if skipped() {
        return;
    }
    for (rows, cols) in SIZES {
        check::<f32>(rows, cols, &logits(rows, cols));
        check::<bf16>(rows, cols, &logits(rows, cols));
    }
    check::<f32>(8, 40, &awkward(8, 40));
    check::<bf16>(8, 5, &awkward(8, 5));
}

fn check_loss<E: Element>(rows: usize, cols: usize, values: &[f32]) {
    let x = Data::<E>::new(values);
    let labels: Vec<i32> = (0..rows as i32)
        .map(|r| match r % 5 {
            3 => -1,
            4 => cols as i32,
            _ => (r * 7) % cols as i32,
        })
        .collect();
    let dloss = random(rows, 2.0, 24);
    let got = every_schedule(|schedule| {
        let (x, labels, dloss) = (x.buffer(), Buffer::from(&labels), Buffer::from(&dloss));
        let (loss, dx) = (Buffer::<f32>::unwritten(rows), Buffer::<E>::unwritten(rows * cols));
        let (r, c, grid) = (Arg::I64(rows as i64), Arg::I64(cols as i64), [warps(rows), 1, 1]);
        let name = format!("softmax_cross_entropy_{}", E::S);
        schedule.go(&name, grid, 128, &[x.arg(), labels.arg(), loss.arg(), r, c]);
        let name = format!("softmax_cross_entropy_grad_{}", E::S);
        schedule.go(&name, grid, 128, &[x.arg(), labels.arg(), dloss.arg(), dx.arg(), r, c]);
        vec![loss.read(), floats(&dx)]
    });
    let x = x.f64();
    let (mut loss, mut dx) = (vec![0.0; rows], vec![0.0; rows * cols]);
    softmax_cross_entropy::cpu(cols, &x, &labels, &mut loss);
    softmax_cross_entropy::grad_cpu(cols, &x, &labels, &crate::doubles(&dloss), &mut dx);
    assert_near(&format!("softmax_cross_entropy_{}", E::S), &got[0], &loss, None, EXP);
    let name = format!("softmax_cross_entropy_grad_{}", E::S);
    assert_near(&name, &got[1], &dx, None, 2.0 * (EXP + E::ROUNDING));
}

#[test]
fn cross_entropy_is_its_twin() {
    if skipped() {
        return;
    }
    for (rows, cols) in SIZES {
        check_loss::<f32>(rows, cols, &logits(rows, cols));
        check_loss::<bf16>(rows, cols, &logits(rows, cols));
    }
    check_loss::<f32>(8, 40, &awkward(8, 40));
    check_loss::<bf16>(8, 5, &awkward(8, 5));
}

fn check_label<E: Element>(rows: usize, cols: usize, values: &[f32]) {
    let x = Data::<E>::new(values);
    let v = random(rows, 2.0, 25);
    // The label of each row is its largest value, with some exceptions.
    let mut labels: Vec<i32> = (0..rows)
        .map(|r| {
            let row = &x.f32[r * cols..(r + 1) * cols];
            row.iter().enumerate().fold(0, |b, (i, v)| if *v > row[b] { i } else { b }) as i32
        })
        .collect();
    labels[rows - 1] = -1;
    labels[rows / 2] = cols as i32;
    labels[rows / 3] = (labels[rows / 3] + 1) % cols as i32;
    let got = every_schedule(|schedule| {
        let (x, labels, v) = (x.buffer(), Buffer::from(&labels), Buffer::from(&v));
        let (y, hits, out) = (
            Buffer::<f32>::unwritten(rows),
            Buffer::<f32>::unwritten(rows),
            Buffer::<E>::unwritten(rows * cols),
        );
        let (r, c) = (Arg::I64(rows as i64), Arg::I32(cols as i32));
        let name = |what: &str| format!("label_{what}_{}", E::S);
        schedule.go(&name("gather"), [blocks(rows), 1, 1], 256, &[x.arg(), labels.arg(), r, c, y.arg()]);
        schedule.go(&name("hits"), [warps(rows), 1, 1], 128, &[x.arg(), labels.arg(), r, c, hits.arg()]);
        let grid = [blocks(rows * cols), 1, 1];
        schedule.go(&name("scatter"), grid, 256, &[v.arg(), labels.arg(), r, c, out.arg()]);
        vec![y.read(), hits.read(), floats(&out)]
    });
    let (mut y, mut hits, mut out) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; rows * cols]);
    label::gather(cols, &x.f32, &labels, &mut y);
    label::hits(cols, &x.f32, &labels, &mut hits);
    label::scatter(cols, &v, &labels, &mut out);
    let out: Vec<f32> = out.iter().map(|&v| E::of(v).to()).collect();
    assert_same(&format!("label_gather_{}", E::S), &got[0], &y);
    assert_same(&format!("label_hits_{}", E::S), &got[1], &hits);
    assert_same(&format!("label_scatter_{}", E::S), &got[2], &out);
}

#[test]
fn labels_are_their_twins() {
    if skipped() {
        return;
    }
    for (rows, cols) in SIZES {
        // Few distinct values, so that the largest occurs more than once.
        let x: Vec<f32> = random(rows * cols, 3.0, 26).iter().map(|v| v.round()).collect();
        check_label::<f32>(rows, cols, &x);
        check_label::<bf16>(rows, cols, &x);
    }
    check_label::<f32>(8, 40, &awkward(8, 40));
    check_label::<f32>(8, 5, &awkward(8, 5));
}

#[test]
fn softplus_is_its_twin() {
    if skipped() {
        return;
    }
    let n = 3001;
    let mut x = random(n, 20.0, 25);
    x[..8].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e30, -1e30, 88.0]);
    let dy = random(n, 2.0, 26);
    let got = every_schedule(|schedule| {
        let (x, dy) = (Buffer::from(&x), Buffer::from(&dy));
        let (y, dx) = (Buffer::<f32>::unwritten(n), Buffer::<f32>::unwritten(n));
        let (grid, count) = ([blocks(n), 1, 1], Arg::I64(n as i64));
        schedule.go("softplus", grid, 256, &[x.arg(), count, y.arg()]);
        schedule.go("softplus_grad", grid, 256, &[x.arg(), dy.arg(), count, dx.arg()]);
        vec![y.read(), dx.read()]
    });
    let [x, dy] = [&x, &dy].map(|v| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    let (mut y, mut dx) = (vec![0.0; n], vec![0.0; n]);
    softplus::cpu(&x, &mut y);
    softplus::grad_cpu(&x, &dy, &mut dx);
    assert_near("softplus", &got[0], &y, None, EXP);
    assert_near("softplus_grad", &got[1], &dx, None, EXP);
}
