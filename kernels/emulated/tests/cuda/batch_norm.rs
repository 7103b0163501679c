//! bn_stats and scale_shift_leaky. In bf16 they have fused multiply-adds, and so have their counterparts here.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::bn_stats::{self, Grouped, Stats};
use kernels::ops::scale_shift_leaky::{self, GradArgs, Reduce};

use crate::random::cpu;
use crate::{
    Data, Element, SUM, Schedule, assert_near, assert_same, doubles, every_schedule, floats, random, skipped,
    with_extremes,
};

/// The tiling of `rows.cuh`: rows per tile, and number of tiles.
pub(crate) fn tile<E: Element>(c: usize) -> (usize, u32) {
    let packs = if c.is_multiple_of(E::V) { c / E::V } else { c };
    let tiles = packs.div_ceil(256);
    (256 / packs.div_ceil(tiles), tiles as u32)
}

/// Channel counts that are a multiple of the vector width and ones that are not, narrower and wider than a block, and a
/// last tile that is not full.
pub(crate) fn shapes() -> Vec<Grouped> {
    [
        (vec![3, 1, 2], 35, 16),
        (vec![2, 4], 30, 20),
        (vec![1, 5], 49, 7),
        (vec![1, 1], 3, 640),
        (vec![1, 2], 2, 523),
        (vec![4], 1, 2312),
        (vec![17, 8], 100, 8),
        (vec![300], 9, 1),
    ]
    .into_iter()
    .map(|(groups, pixels, c)| Grouped { groups, pixels, c })
    .collect()
}

pub(crate) fn bounds(shape: &Grouped) -> Vec<i32> {
    let mut at = vec![0];
    (0..shape.groups.len()).for_each(|g| at.push(at[g] + shape.rows(g) as i32));
    at
}

pub(crate) fn most_rows(shape: &Grouped) -> usize {
    (0..shape.groups.len()).map(|g| shape.rows(g)).max().unwrap()
}

pub(crate) fn finals(c: usize, groups: usize) -> [u32; 3] {
    [c.div_ceil(32) as u32, groups as u32, 1]
}

fn stats_on<E: Element>(
    schedule: Schedule,
    shape: &Grouped,
    x: &Data<E>,
    chunk_rows: usize,
) -> Vec<Vec<f32>> {
    let (c, groups) = (shape.c, shape.groups.len());
    let (_, tiles) = tile::<E>(c);
    let chunks = most_rows(shape).div_ceil(chunk_rows);
    let (x, at) = (x.buffer(), Buffer::from(&bounds(shape)));
    let parts = Buffer::<f32>::unwritten(groups * chunks * 2 * c);
    let (mean, var) = (Buffer::<f32>::unwritten(groups * c), Buffer::<f32>::unwritten(groups * c));
    let sizes = [Arg::I32(c as i32), Arg::I32(chunks as i32), Arg::I32(chunk_rows as i32)];
    let args = [x.arg(), at.arg(), sizes[0], sizes[1], sizes[2], parts.arg()];
    schedule.go(&format!("bn_stats_parts_{}", E::S), [chunks as u32, groups as u32, tiles], 256, &args);
    let args = [parts.arg(), at.arg(), sizes[0], sizes[1], sizes[2], mean.arg(), var.arg()];
    schedule.go_exact("bn_stats_final", finals(c, groups), 1024, &args);
    vec![mean.read(), var.read()]
}

fn check_stats<E: Element>(shape: &Grouped) {
    // A mean far from zero: Σx² − mean² would lose the variance.
    let x: Vec<f32> = random(shape.len(), 1.0, 5).iter().map(|v| v + 30.0).collect();
    let x = Data::<E>::new(&x);
    let (c, n) = (shape.c, shape.groups.len() * shape.c);
    let (rows, _) = tile::<E>(c);
    let (mut mean, mut var) = (vec![0.0f64; n], vec![0.0f64; n]);
    let twin = Stats::new(shape.clone());
    twin.run(&cpu(), &x.f64(), &mut mean, &mut var, &mut vec![0.0; twin.workspace()]);
    for chunk_rows in [8 * rows, (8 * rows).div_ceil(3)] {
        let got = every_schedule(|schedule| stats_on(schedule, shape, &x, chunk_rows));
        assert_near(&format!("bn_stats_{} mean", E::S), &got[0], &mean, None, SUM);
        // Each deviation carries the rounding error of a mean near 30.
        assert_near(&format!("bn_stats_{} var", E::S), &got[1], &var, None, 4.0 * SUM);
    }
    // A chunk of more rows than the threads can hold gives NaN; it is not truncated.
    if most_rows(shape) > 8 * rows {
        let schedule = Schedule { order: emulated::Order::Ascending, blocks: |n| n };
        assert!(stats_on(schedule, shape, &x, 8 * rows + 1)[0].iter().any(|v| v.is_nan()));
    }
}

#[test]
fn statistics_are_their_twins() {
    if skipped() {
        return;
    }
    for shape in shapes() {
        check_stats::<f32>(&shape);
        check_stats::<bf16>(&shape);
    }
}

/// Coefficients per group and channel.
struct Coeffs {
    mean: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    dmean: Vec<f32>,
    dvar: Vec<f32>,
}

impl Coeffs {
    fn new(shape: &Grouped, per_group: bool) -> Self {
        let n = shape.groups.len() * shape.c;
        let own = if per_group { n } else { shape.c };
        // At some channels a value of zero lies exactly at the kink.
        let zeros = |mut v: Vec<f32>| {
            (0..v.len()).filter(|i| (i % shape.c).is_multiple_of(3)).for_each(|i| v[i] = 0.0);
            v
        };
        Self {
            mean: zeros(random(own, 0.5, 11)),
            scale: random(own, 2.0, 12),
            shift: zeros(random(shape.c, 0.5, 13)),
            dmean: random(n, 3.0, 14),
            dvar: random(n, 3.0, 15),
        }
    }
}

fn check_stats_grad<E: Element>(shape: &Grouped, with_add: bool) {
    let x = Data::<E>::new(&with_extremes(random(shape.len(), 2.0, 6)));
    let add = Data::<E>::new(&random(shape.len(), 2.0, 7));
    let k = Coeffs::new(shape, true);
    let (_, tiles) = tile::<E>(shape.c);
    let name = format!("bn_stats_grad_{}", E::S);
    let got = every_schedule(|schedule| {
        let b = |v: &[f32]| Buffer::from(v);
        let (x, add, at, dx) =
            (x.buffer(), add.buffer(), Buffer::from(&bounds(shape)), Buffer::<E>::unwritten(shape.len()));
        let (mean, dmean, dvar) = (b(&k.mean), b(&k.dmean), b(&k.dvar));
        let more = if with_add { add.arg() } else { Arg::Null };
        let args = [
            x.arg(),
            mean.arg(),
            dmean.arg(),
            dvar.arg(),
            more,
            at.arg(),
            Arg::I32(shape.c as i32),
            dx.arg(),
        ];
        schedule.go(&name, [5, shape.groups.len() as u32, tiles], 256, &args);
        vec![floats(&dx)]
    });
    let mut want = vec![0.0; shape.len()];
    let more = with_add.then_some(&add.f32[..]);
    bn_stats::grad_cpu(&cpu(), shape, &x.f32, &k.mean, &k.dmean, &k.dvar, more, &mut want);
    let want: Vec<f32> = want.iter().map(|&v| E::of(v).to()).collect();
    assert_same(&name, &got[0], &want);
}

#[test]
fn gradients_of_statistics_are_their_twins() {
    if skipped() {
        return;
    }
    for shape in shapes() {
        check_stats_grad::<f32>(&shape, true);
        check_stats_grad::<f32>(&shape, false);
        check_stats_grad::<bf16>(&shape, true);
    }
}

const LEAK: f32 = 0.2;

/// The group of element i.
fn group_of(shape: &Grouped, i: usize) -> usize {
    let row = (i / shape.c) as i32;
    bounds(shape).iter().rposition(|first| *first <= row).unwrap()
}

/// Element i of the gradient with the fused multiply-adds that bf16 kernels have.
fn fused_grad(shape: &Grouped, g: &GradArgs<'_, f32>, i: usize) -> f32 {
    let (group, channel) = (group_of(shape, i), i % shape.c);
    let at = group * shape.c + channel;
    let d = g.x[i] - g.mean[at];
    let z = d.mul_add(g.scale[at], g.shift[channel]);
    let dz = if z > 0.0 { g.dy[i] } else { g.dy[i] * LEAK };
    let n = shape.rows(group) as f32;
    let own = match g.stats {
        Some((dmean, dvar)) => {
            let (a, b) = (dmean[at] * (1.0 / n), dvar[at] * (2.0 / n));
            b.mul_add(d, dz.mul_add(g.scale[at], a))
        }
        None => dz * g.scale[at],
    };
    g.add.map_or(0.0, |add| add[i]) + own
}

fn check_forward<E: Element>(shape: &Grouped, per_group: bool) {
    let x = Data::<E>::new(&with_extremes(random(shape.len(), 2.0, 8)));
    let k = Coeffs::new(shape, per_group);
    let (_, tiles) = tile::<E>(shape.c);
    let name = format!("scale_shift_leaky_{}", E::S);
    let got = every_schedule(|schedule| {
        let (x, at, y) = (x.buffer(), Buffer::from(&bounds(shape)), Buffer::<E>::unwritten(shape.len()));
        let (mean, scale, shift) = (Buffer::from(&k.mean), Buffer::from(&k.scale), Buffer::from(&k.shift));
        let args = [
            x.arg(),
            mean.arg(),
            scale.arg(),
            shift.arg(),
            at.arg(),
            Arg::I32(shape.c as i32),
            Arg::I32(if per_group { shape.c as i32 } else { 0 }),
            Arg::F32(LEAK),
            y.arg(),
        ];
        schedule.go(&name, [4, shape.groups.len() as u32, tiles], 256, &args);
        vec![floats(&y)]
    });
    let mut want = vec![0.0; shape.len()];
    if E::ROUNDING > 0.0 {
        let own = |i: usize| if per_group { group_of(shape, i) * shape.c + i % shape.c } else { i % shape.c };
        let of = |i: usize| {
            let z = (x.f32[i] - k.mean[own(i)]).mul_add(k.scale[own(i)], k.shift[i % shape.c]);
            if z < 0.0 { z * LEAK } else { z }
        };
        want = (0..shape.len()).map(of).collect();
    } else {
        scale_shift_leaky::cpu(
            &cpu(),
            shape,
            f64::from(LEAK),
            &x.f32,
            &k.mean,
            &k.scale,
            &k.shift,
            &mut want,
        );
    }
    let want: Vec<f32> = want.iter().map(|&v| E::of(v).to()).collect();
    assert_same(&name, &got[0], &want);
}

fn check_grad<E: Element>(shape: &Grouped, stats: bool, with_add: bool) {
    let x = Data::<E>::new(&with_extremes(random(shape.len(), 2.0, 9)));
    let (dy, add) =
        (Data::<E>::new(&random(shape.len(), 2.0, 10)), Data::<E>::new(&random(shape.len(), 2.0, 7)));
    let k = Coeffs::new(shape, true);
    let (_, tiles) = tile::<E>(shape.c);
    let name = format!("scale_shift_leaky_grad_{}", E::S);
    let got = every_schedule(|schedule| {
        let b = |v: &[f32]| Buffer::from(v);
        let (x, dy, add) = (x.buffer(), dy.buffer(), add.buffer());
        let (at, dx) = (Buffer::from(&bounds(shape)), Buffer::<E>::unwritten(shape.len()));
        let (mean, scale, shift) = (b(&k.mean), b(&k.scale), b(&k.shift));
        let (dmean, dvar) = (b(&k.dmean), b(&k.dvar));
        let args = [
            x.arg(),
            dy.arg(),
            mean.arg(),
            scale.arg(),
            shift.arg(),
            if stats { dmean.arg() } else { Arg::Null },
            if stats { dvar.arg() } else { Arg::Null },
            if with_add { add.arg() } else { Arg::Null },
            at.arg(),
            Arg::I32(shape.c as i32),
            Arg::I32(shape.c as i32),
            Arg::F32(LEAK),
            dx.arg(),
        ];
        schedule.go(&name, [4, shape.groups.len() as u32, tiles], 256, &args);
        vec![floats(&dx)]
    });
    let mut want = vec![0.0; shape.len()];
    let args = GradArgs {
        x: &x.f32,
        dy: &dy.f32,
        mean: &k.mean,
        scale: &k.scale,
        shift: &k.shift,
        stats: stats.then_some((&k.dmean, &k.dvar)),
        add: with_add.then_some(&add.f32),
    };
    if E::ROUNDING > 0.0 {
        want = (0..shape.len()).map(|i| fused_grad(shape, &args, i)).collect();
    } else {
        scale_shift_leaky::grad_cpu(&cpu(), shape, f64::from(LEAK), &args, &mut want);
    }
    let want: Vec<f32> = want.iter().map(|&v| E::of(v).to()).collect();
    assert_same(&name, &got[0], &want);
}

fn check_sums<E: Element>(shape: &Grouped) {
    let (c, groups) = (shape.c, shape.groups.len());
    let mut x = random(shape.len(), 2.0, 9);
    x.iter_mut().step_by(7).for_each(|v| *v = 0.0);
    let (x, dy) = (Data::<E>::new(&x), Data::<E>::new(&random(shape.len(), 2.0, 10)));
    let k = Coeffs::new(shape, true);
    let (rows, tiles) = tile::<E>(c);
    let chunk_rows = 2 * rows + 3;
    let chunks = most_rows(shape).div_ceil(chunk_rows);
    let got = every_schedule(|schedule| {
        let (x, dy, at) = (x.buffer(), dy.buffer(), Buffer::from(&bounds(shape)));
        let (mean, scale, shift) = (Buffer::from(&k.mean), Buffer::from(&k.scale), Buffer::from(&k.shift));
        let parts = Buffer::<f32>::unwritten(groups * chunks * 2 * c);
        let (dscale, dshift) = (Buffer::<f32>::unwritten(groups * c), Buffer::<f32>::unwritten(groups * c));
        let sizes = [Arg::I32(c as i32), Arg::I32(chunks as i32), Arg::I32(chunk_rows as i32)];
        let args = [
            x.arg(),
            dy.arg(),
            mean.arg(),
            scale.arg(),
            shift.arg(),
            at.arg(),
            sizes[0],
            sizes[0],
            Arg::F32(LEAK),
            sizes[1],
            sizes[2],
            parts.arg(),
        ];
        let grid = [chunks as u32, groups as u32, tiles];
        schedule.go(&format!("scale_shift_leaky_sums_{}", E::S), grid, 256, &args);
        let args = [parts.arg(), at.arg(), sizes[0], sizes[1], sizes[2], dscale.arg(), dshift.arg()];
        schedule.go_exact("scale_shift_leaky_sums_final", finals(c, groups), 1024, &args);
        vec![dscale.read(), dshift.read()]
    });
    // No value is so near the kink that float64 puts it on the other side, which would be an error of a different kind.
    let (mut a, mut b) = (vec![0.0f64; groups * c], vec![0.0f64; groups * c]);
    let twin = Reduce::new(shape.clone(), f64::from(LEAK));
    let run = |x: &[f64], dy: &[f64], a: &mut [f64], b: &mut [f64]| {
        let at = (&doubles(&k.mean)[..], &doubles(&k.scale)[..], &doubles(&k.shift)[..]);
        twin.run(&cpu(), x, dy, at, a, b, &mut vec![0.0; twin.workspace()]);
    };
    run(&x.f64(), &dy.f64(), &mut a, &mut b);
    // Every dz is at most 2 and every deviation at most 2.5, so n of them bound the sums of magnitudes.
    let scale: Vec<f64> = (0..groups * c).map(|i| 2.0 * shape.rows(i / c) as f64).collect();
    assert_near(&format!("scale_shift_leaky_sums_{} dscale", E::S), &got[0], &a, Some(&scale), SUM);
    assert_near(&format!("scale_shift_leaky_sums_{} dshift", E::S), &got[1], &b, Some(&scale), SUM);
}

#[test]
fn scale_shift_leaky_is_its_twin() {
    if skipped() {
        return;
    }
    for shape in shapes() {
        for per_group in [true, false] {
            check_forward::<f32>(&shape, per_group);
            check_forward::<bf16>(&shape, per_group);
        }
        check_sums::<f32>(&shape);
        check_sums::<bf16>(&shape);
    }
}

#[test]
fn gradients_of_scale_shift_leaky_are_their_twins() {
    if skipped() {
        return;
    }
    for shape in shapes() {
        check_grad::<f32>(&shape, true, true);
        check_grad::<f32>(&shape, false, false);
        check_grad::<bf16>(&shape, true, true);
        check_grad::<bf16>(&shape, true, false);
    }
}
