//! What batch norm computes per channel: batch_norm, bn_coeffs, bn_running_update and bias_offset.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::batch_norm::{self, Constants};
use kernels::ops::bn_running_update::Fold;
use kernels::ops::bn_stats::Grouped;
use kernels::ops::{bias_offset, bn_coeffs, bn_running_update};

use crate::batch_norm::{bounds, finals, most_rows, shapes, tile};
use crate::random::cpu;
use crate::{
    BF16, Data, Element, SUM, assert_near, assert_same, blocks, doubles, every_schedule, floats, random,
    skipped,
};

const K: Constants = Constants { eps: 1e-5, leak: 0.25 };

/// Of a residual sum: the sum, its mean, variance and scale.
fn check_sum<E: Element>(shape: &Grouped, in_place: bool) {
    let (c, groups, n) = (shape.c, shape.groups.len(), shape.len());
    let x: Vec<f32> = random(n, 1.0, 5).iter().map(|v| v + 10.0).collect();
    let (x, add, gamma) = (Data::<E>::new(&x), Data::<E>::new(&random(n, 1.0, 6)), random(c, 1.5, 7));
    let (rows, tiles) = tile::<E>(c);
    let chunk_rows = 4 * rows;
    let chunks = most_rows(shape).div_ceil(chunk_rows);
    let name = format!("batch_norm_sum_parts_{}", E::S);
    let got = every_schedule(|schedule| {
        let (x, add, at, gamma) =
            (x.buffer(), add.buffer(), Buffer::from(&bounds(shape)), Buffer::from(&gamma));
        let (other, parts) = (Buffer::<E>::unwritten(n), Buffer::<f32>::unwritten(groups * chunks * 2 * c));
        let y = if in_place { &x } else { &other };
        let sizes = [c, chunks, chunk_rows].map(|n| Arg::I32(n as i32));
        let args = [x.arg(), add.arg(), at.arg(), sizes[0], sizes[1], sizes[2], y.arg(), parts.arg()];
        schedule.go(&name, [chunks as u32, groups as u32, tiles], 256, &args);
        let out = [0; 3].map(|_| Buffer::<f32>::unwritten(groups * c));
        let mut args = vec![parts.arg(), at.arg(), gamma.arg()];
        args.extend(sizes);
        args.push(Arg::F32(K.eps as f32));
        args.extend(out.iter().map(Buffer::arg));
        schedule.go_exact("batch_norm_final", finals(c, groups), 1024, &args);
        let [mean, var, scale] = out.map(|b| b.read());
        vec![floats(y), mean, var, scale]
    });
    let sum: Vec<f64> = x.f64().iter().zip(add.f64()).map(|(x, add)| x + add).collect();
    let norm = batch_norm::Forward::new(shape.clone(), K);
    let (mut h, mut stats) = (vec![0.0f64; n], [0; 3].map(|_| vec![0.0f64; groups * c]));
    let [mean, var, scale] = &mut stats;
    let out = batch_norm::Outputs { h: &mut h, mean, var, scale };
    let (gamma, beta) = (doubles(&gamma), vec![0.0; c]);
    norm.run(&cpu(), &sum, (&gamma, &beta), out, &mut vec![0.0; norm.workspace()]);
    assert_near(&name, &got[0], &sum, None, if E::ROUNDING > 0.0 { BF16 } else { 1e-7 });
    assert_near("batch_norm_final mean", &got[1], &stats[0], None, SUM);
    // Each deviation carries the rounding error of a sum near 10.
    assert_near("batch_norm_final var", &got[2], &stats[1], None, 4.0 * SUM);
    // 1/√(v + ε) is most sensitive where the variance of a group of one row is zero.
    let sensitive: Vec<f64> =
        stats[2].iter().zip(&stats[1]).map(|(s, v)| s.abs() / (v + K.eps).min(1.0)).collect();
    assert_near("batch_norm_final scale", &got[3], &stats[2], Some(&sensitive), 8.0 * SUM);
}

/// The gradients of statistics and coefficients from sums of chunks, which are whole numbers here, so that sums are exact.
fn check_grad_final(groups: usize, c: usize) {
    let (rows, chunk_rows) = ([70usize, 1, 39], 8usize);
    let mut at = vec![0i32];
    (0..groups).for_each(|g| at.push(at[g] + rows[g] as i32));
    let chunks = 70usize.div_ceil(chunk_rows);
    let whole = |n, seed| random(n, 50.0, seed).iter().map(|v| v.round()).collect::<Vec<f32>>();
    let parts = whole(groups * chunks * 2 * c, 1);
    let var: Vec<f32> = random(groups * c, 2.0, 2).iter().map(|v| v.abs()).collect();
    let (scale, gamma) = (random(groups * c, 2.0, 3), random(c, 1.5, 4));
    let got = every_schedule(|schedule| {
        let b = |v: &[f32]| Buffer::from(v);
        let (parts, at, var, scale, gamma) = (b(&parts), Buffer::from(&at), b(&var), b(&scale), b(&gamma));
        let out = [groups * c, groups * c, c, c].map(Buffer::<f32>::unwritten);
        let mut args = vec![parts.arg(), at.arg(), var.arg(), scale.arg(), gamma.arg()];
        args.extend([groups, c, chunks, chunk_rows].map(|n| Arg::I32(n as i32)));
        args.push(Arg::F32(K.eps as f32));
        args.extend(out.iter().map(Buffer::arg));
        schedule.go_exact("batch_norm_grad_final", finals(c, 1), 1024, &args);
        out.iter().map(Buffer::read).collect()
    });
    let sum = |g: usize, channel: usize, which: usize| {
        let used = rows[g].div_ceil(chunk_rows);
        (0..used).map(|k| parts[((g * chunks + k) * 2 + which) * c + channel]).fold(0.0f32, |sum, v| sum + v)
    };
    let all = |which| (0..groups * c).map(|i| sum(i / c, i % c, which)).collect::<Vec<f32>>();
    let (dscale, dshift) = (all(0), all(1));
    let (mut dvar, mut dgamma) = (vec![0.0; groups * c], vec![0.0; c]);
    bn_coeffs::grad_cpu(K.eps, &var, &gamma, &dscale, &mut dvar, &mut dgamma);
    let dmean: Vec<f32> = dshift.iter().zip(&scale).map(|(d, s)| -(s * d)).collect();
    let dbeta: Vec<f32> = (0..c).map(|i| (0..groups).map(|g| dshift[g * c + i]).sum()).collect();
    for (name, got, want) in [
        ("dmean", &got[0], dmean),
        ("dvar", &got[1], dvar),
        ("dgamma", &got[2], dgamma),
        ("dbeta", &got[3], dbeta),
    ] {
        assert_same(&format!("batch_norm_grad_final {name}"), got, &want);
    }
}

#[test]
fn batch_norm_is_its_twin() {
    if skipped() {
        return;
    }
    for (i, shape) in shapes().iter().enumerate() {
        check_sum::<f32>(shape, i % 2 == 0);
        check_sum::<bf16>(shape, i % 2 == 1);
    }
    check_grad_final(3, 37);
    check_grad_final(1, 160);
}

fn check_offset<E: Element>(c: usize, k: usize, shortcut: bool) {
    let (before, bias, short) = (random(c, 1.0, 1), random(k, 1.0, 2), random(k, 1.0, 3));
    let w = Data::<E>::new(&random(k * c, 0.5, 4));
    let name = format!("bias_offset_{}", E::S);
    let got = every_schedule(|schedule| {
        let (before, bias, short) = (Buffer::from(&before), Buffer::from(&bias), Buffer::from(&short));
        let (w, out) = (w.buffer(), Buffer::<f32>::unwritten(k));
        let null = |b: Arg<'static>| b;
        let (w, short) = if shortcut { (w.arg(), short.arg()) } else { (null(Arg::Null), null(Arg::Null)) };
        let args = [before.arg(), bias.arg(), w, short, Arg::I32(c as i32), Arg::I32(k as i32), out.arg()];
        schedule.go(&name, [k.div_ceil(4) as u32, 1, 1], 128, &args);
        vec![out.read()]
    });
    let mut want = vec![0.0f64; k];
    let (filters, of_short) = (w.f64(), doubles(&short));
    let by = shortcut.then_some((&filters[..], &of_short[..]));
    bias_offset::cpu(&doubles(&before), &doubles(&bias), by, &mut want);
    assert_near(&name, &got[0], &want, Some(&vec![c as f64; k]), SUM);
}

#[test]
fn bias_offsets_are_their_twins() {
    if skipped() {
        return;
    }
    check_offset::<f32>(37, 37, false);
    check_offset::<f32>(16, 160, true);
    check_offset::<bf16>(67, 5, true);
}

#[test]
fn coefficients_are_their_twins() {
    if skipped() {
        return;
    }
    let (groups, c, eps) = (3usize, 301usize, 1e-5f32);
    let mut var: Vec<f32> = random(groups * c, 2.0, 1).iter().map(|v| v.abs()).collect();
    (var[0], var[1], var[2]) = (0.0, f32::INFINITY, -1.0);
    let (gamma, dscale) = (random(c, 1.5, 2), random(groups * c, 1.0, 3));
    let got = every_schedule(|schedule| {
        let (var, gamma, dscale) = (Buffer::from(&var), Buffer::from(&gamma), Buffer::from(&dscale));
        let (scale, dvar) = (Buffer::<f32>::unwritten(groups * c), Buffer::<f32>::unwritten(groups * c));
        let dgamma = Buffer::<f32>::unwritten(c);
        let (g, n) = (Arg::I32(groups as i32), Arg::I32(c as i32));
        let args = [var.arg(), gamma.arg(), g, n, Arg::F32(eps), scale.arg()];
        schedule.go("bn_coeffs", [blocks(groups * c), 1, 1], 256, &args);
        let args = [var.arg(), gamma.arg(), dscale.arg(), g, n, Arg::F32(eps), dvar.arg(), dgamma.arg()];
        schedule.go("bn_coeffs_grad", [blocks(c), 1, 1], 256, &args);
        vec![scale.read(), dvar.read(), dgamma.read()]
    });
    let (mut scale, mut dvar, mut dgamma) = (vec![0.0f32; groups * c], vec![0.0; groups * c], vec![0.0; c]);
    bn_coeffs::cpu(f64::from(eps), &var, &gamma, &mut scale);
    bn_coeffs::grad_cpu(f64::from(eps), &var, &gamma, &dscale, &mut dvar, &mut dgamma);
    assert_same("bn_coeffs", &got[0], &scale);
    assert_same("bn_coeffs_grad dvar", &got[1], &dvar);
    assert_same("bn_coeffs_grad dgamma", &got[2], &dgamma);
}

#[test]
fn running_statistics_are_their_twins() {
    if skipped() {
        return;
    }
    let momentum = 0.9f64;
    let order = [Fold::Group(0), Fold::Steps(10), Fold::Group(2), Fold::Group(1)];
    let codes = order.map(|f| if let Fold::Group(g) = f { g as i32 } else { -1 });
    // Channels, factors of groups, whether there is an offset, and whether it is updated in place.
    let all = [
        (300usize, [1.25, 1.0, 1.01], false, false),
        (7, [1.0; 3], true, true),
        (523, [1.5, 2.0, 1.0], true, false),
    ];
    let vectors = all.map(|(c, ..)| [1, 3, 1, 1].map(|rows| random(rows * c, 1.0, (c + rows) as u64)));
    let factors: Vec<f32> = all
        .iter()
        .flat_map(|(_, correct, ..)| {
            order.map(|f| match f {
                Fold::Group(g) => correct[g] as f32,
                Fold::Steps(m) => (1.0 - momentum).powi(m as i32) as f32,
            })
        })
        .collect();
    let got = every_schedule(|schedule| {
        let (channels, codes) = (Buffer::from(&all.map(|t| t.0 as i32)), Buffer::from(&codes));
        let factors = Buffer::from(&factors);
        let given: Vec<_> = vectors.iter().map(|v| v.each_ref().map(|v| Buffer::from(v))).collect();
        let other = all.map(|(c, ..)| Buffer::<f32>::unwritten(c));
        let mut addresses = Vec::new();
        for (i, (_, _, offset, place)) in all.iter().enumerate() {
            let [r, s, acc, lacking] = &given[i];
            addresses.extend([r, s, acc].map(|b| Some(b.memory())));
            addresses.push(offset.then(|| lacking.memory()));
            addresses.extend([Some(if *place { r.memory() } else { other[i].memory() }), Some(acc.memory())]);
        }
        let args = [
            Arg::Pointers(&addresses),
            channels.arg(),
            codes.arg(),
            factors.arg(),
            Arg::I32(4),
            Arg::F32((1.0 - momentum) as f32),
            Arg::F32(momentum as f32),
        ];
        schedule.go("bn_running_update", [3, all.len() as u32, 1], 256, &args);
        let of = |(i, t): (usize, &(usize, [f64; 3], bool, bool))| {
            let out = if t.3 { &given[i][0] } else { &other[i] };
            [out.read(), given[i][2].read()]
        };
        all.iter().enumerate().flat_map(of).collect()
    });
    for (i, (c, correct, offset, _)) in all.iter().enumerate() {
        let [r, s, acc, lacking] = &vectors[i];
        let mut want = vec![0.0; *c];
        let lacking = offset.then_some(&lacking[..]);
        bn_running_update::cpu(momentum, &order, correct, Some(r), s, Some(acc), lacking, &mut want);
        assert_same("bn_running_update", &got[2 * i], &want);
        assert!(got[2 * i + 1].iter().all(|v| *v == 0.0), "the accumulator is cleared");
    }
}
