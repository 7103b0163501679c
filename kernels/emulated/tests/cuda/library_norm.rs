//! What of batch_norm.cu surrounds a library's batch norm.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::bn_stats::Grouped;

use crate::batch_norm::{bounds, shapes, tile};
use crate::{
    Data, Element, assert_near, assert_same, every_schedule, floats, random, skipped, with_extremes,
};

const EPS: f32 = 1e-5;
const LEAK: f32 = 0.2;

/// Padded rows of `step` values, one per group, the first c of each from `values`; the rest is NaN.
fn padded(values: &[f32], c: usize, step: usize) -> Vec<f32> {
    let mut rows = vec![f32::NAN; values.len() / c * step];
    for (row, v) in rows.chunks_mut(step).zip(values.chunks(c)) {
        row[..c].copy_from_slice(v);
    }
    rows
}

fn without_padding(rows: &[f32], c: usize, step: usize) -> Vec<f32> {
    rows.chunks(step).flat_map(|row| &row[..c]).copied().collect()
}

fn check_statistics(groups: usize, c: usize) {
    let (step, n) = (c.next_multiple_of(64), groups * c);
    let (mean, gamma) = (random(n, 3.0, 31), random(c, 2.0, 32));
    let mut var: Vec<f32> = random(n, 1.0, 33).iter().map(|v| v.abs()).collect();
    // None at all: rounding must not make it negative.
    var[0] = 0.0;
    let sizes = [c, groups, step].map(|v| Arg::I32(v as i32));
    let kept = every_schedule(|schedule| {
        let (mean, var) = (Buffer::from(&mean), Buffer::from(&var));
        let [means, inverses] = [0; 2].map(|_| Buffer::<f32>::unwritten(groups * step));
        let [c, groups, step] = sizes;
        let args = [mean.arg(), var.arg(), c, groups, step, Arg::F32(EPS), means.arg(), inverses.arg()];
        schedule.go("batch_norm_kept", [3, 1, 1], 256, &args);
        vec![means.read(), inverses.read()]
    });
    let inverses: Vec<f32> = var.iter().map(|v| 1.0 / (v + EPS).sqrt()).collect();
    assert_same("batch_norm_kept, means", &without_padding(&kept[0], c, step), &mean);
    assert_same("batch_norm_kept, inverses", &without_padding(&kept[1], c, step), &inverses);

    let rows = [&mean, &inverses].map(|v| padded(v, c, step));
    let got = every_schedule(|schedule| {
        let (means, inverses, gamma) = (Buffer::from(&rows[0]), Buffer::from(&rows[1]), Buffer::from(&gamma));
        let out = [0; 3].map(|_| Buffer::<f32>::unwritten(n));
        let [c, groups, step] = sizes;
        let given = [means.arg(), inverses.arg(), gamma.arg(), c, groups, step, Arg::F32(EPS)];
        let args = [&given[..], &out.each_ref().map(|b| b.arg())].concat();
        schedule.go("batch_norm_saved", [2, 1, 1], 256, &args);
        out.iter().map(Buffer::read).collect()
    });
    assert_same("batch_norm_saved, mean", &got[0], &mean);
    assert!(got[1].iter().all(|v| *v >= 0.0));
    // Of var + ε, as that is what the library has kept.
    let want: Vec<f64> = var.iter().map(|v| f64::from(*v)).collect();
    assert_near("batch_norm_saved, variance", &got[1], &want, None, 3e-7);
    let scale: Vec<f32> = inverses.iter().enumerate().map(|(i, v)| gamma[i % c] * v).collect();
    assert_same("batch_norm_saved, scale", &got[2], &scale);
}

fn check_groups(groups: usize, c: usize) {
    let step = c.next_multiple_of(64);
    let of = [41, 42].map(|seed| random(groups * c, 2.0, seed));
    let got = every_schedule(|schedule| {
        let from = of.each_ref().map(|v| Buffer::from(&padded(v, c, step)));
        let out = [0; 2].map(|_| Buffer::<f32>::unwritten(c));
        let [c, groups, step] = [c, groups, step].map(|v| Arg::I32(v as i32));
        let args = [from[0].arg(), from[1].arg(), c, groups, step, out[0].arg(), out[1].arg()];
        schedule.go("batch_norm_add_groups", [2, 1, 1], 256, &args);
        out.iter().map(Buffer::read).collect()
    });
    for (got, of) in got.iter().zip(&of) {
        let want: Vec<f32> = (0..c).map(|i| (0..groups).fold(0.0, |s, g| s + of[g * c + i])).collect();
        assert_same("batch_norm_add_groups", got, &want);
    }
}

fn check_rectified<E: Element>(shape: &Grouped) {
    let x = Data::<E>::new(&with_extremes(random(shape.len(), 2.0, 51)));
    let dh = Data::<E>::new(&random(shape.len(), 2.0, 52));
    let (c, n) = (shape.c, shape.groups.len() * shape.c);
    let (mean, scale, beta) = (random(n, 0.5, 53), random(n, 2.0, 54), random(c, 0.5, 55));
    let name = format!("batch_norm_rectified_{}", E::S);
    let got = every_schedule(|schedule| {
        let (x, dh, at) = (x.buffer(), dh.buffer(), Buffer::from(&bounds(shape)));
        let k = [&mean, &scale, &beta].map(|v| Buffer::from(v));
        let dz = Buffer::<E>::unwritten(shape.len());
        let args = [
            x.arg(),
            dh.arg(),
            k[0].arg(),
            k[1].arg(),
            k[2].arg(),
            at.arg(),
            Arg::I32(c as i32),
            Arg::F32(LEAK),
            dz.arg(),
        ];
        schedule.go(&name, [3, shape.groups.len() as u32, tile::<E>(c).1], 256, &args);
        vec![floats(&dz)]
    });
    let at = bounds(shape);
    let want: Vec<f32> = (0..shape.len())
        .map(|i| {
            let group = at.iter().rposition(|first| *first <= (i / c) as i32).unwrap();
            let (d, a, b) = (x.f32[i] - mean[group * c + i % c], scale[group * c + i % c], beta[i % c]);
            let z = if E::ROUNDING > 0.0 { d.mul_add(a, b) } else { d * a + b };
            E::of(if z > 0.0 { dh.f32[i] } else { dh.f32[i] * LEAK }).to()
        })
        .collect();
    assert_same(&name, &got[0], &want);
}

#[test]
fn what_surrounds_a_librarys_batch_norm_is_its_twin() {
    if skipped() {
        return;
    }
    for (groups, c) in [(1, 16), (3, 160), (2, 7), (2, 700)] {
        check_statistics(groups, c);
        check_groups(groups, c);
    }
    for shape in shapes() {
        check_rectified::<f32>(&shape);
        check_rectified::<bf16>(&shape);
    }
}
