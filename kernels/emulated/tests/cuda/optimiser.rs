//! SGD and Adam, of several tensors at once, and what depends on the joint norm of gradients.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::{adam, grad_norm, sgd};

use crate::random::cpu;
use crate::{
    Element, Schedule, assert_near, assert_same, blocks, every_schedule, floats, random, skipped,
    with_extremes,
};

/// Elements of a tile (`JEMPP_TILE`).
const TILE: usize = 4096;

/// A tensor: `state` vectors that are updated, a gradient if it has one, and whether it is updated in place and copied.
struct Tensor {
    state: Vec<Vec<f32>>,
    /// Its terms: one for Adam, two for SGD.
    gradient: Vec<Option<Vec<f32>>>,
    place: bool,
    low: bool,
}

/// Sizes below, at and above a pack, a tile and several tiles.
fn tensors(state: usize) -> Vec<Tensor> {
    let all =
        [(1, true, true), (3, false, false), (4096, true, true), (9001, true, false), (130, false, true)];
    let tensor = |(i, (n, given, place)): (usize, (usize, bool, bool))| {
        let of = |k: usize| random(n, 1.0, 100 * i as u64 + k as u64);
        // Second moments are not negative.
        let vector = |k| if k < 2 { of(k) } else { of(k).iter().map(|v| v.abs()).collect() };
        let terms = if state == 2 { vec![given, i == 0 || i == 3] } else { vec![given] };
        let term = |(k, given): (usize, bool)| given.then(|| with_extremes(of(7 + k)));
        let gradient = terms.into_iter().enumerate().map(term).collect();
        Tensor { state: (0..state).map(vector).collect(), gradient, place, low: i % 2 == 0 }
    };
    all.into_iter().enumerate().map(tensor).collect()
}

/// Runs kernel `name` with these arguments after those of the tensors; of each tensor its new state and its copy.
fn run(name: &str, all: &[Tensor], more: &dyn Fn() -> Vec<Buffer<u32>>, values: &[Arg<'_>]) -> Vec<Vec<f32>> {
    let (mut first, mut tiles) = (vec![0i32], 0);
    for t in all {
        tiles += t.state[0].len().div_ceil(TILE) as i32;
        first.push(tiles);
    }
    let sizes: Vec<i64> = all.iter().map(|t| t.state[0].len() as i64).collect();
    every_schedule(|schedule| {
        let (first, sizes, shared) = (Buffer::from(&first), Buffer::from(&sizes), more());
        let old: Vec<Vec<_>> =
            all.iter().map(|t| t.state.iter().map(|v| Buffer::from(v)).collect()).collect();
        let of = |g: &Option<Vec<f32>>| g.as_ref().map(|g| Buffer::from(g));
        let grads: Vec<Vec<_>> = all.iter().map(|t| t.gradient.iter().map(of).collect()).collect();
        let unwritten = |t: &Tensor| t.state.iter().map(|v| Buffer::<f32>::unwritten(v.len())).collect();
        let new: Vec<Vec<_>> = all.iter().map(unwritten).collect();
        let low: Vec<_> = all.iter().map(|t| Buffer::<bf16>::unwritten(t.state[0].len())).collect();
        let mut addresses = Vec::new();
        for (i, t) in all.iter().enumerate() {
            let out = if t.place { &old[i] } else { &new[i] };
            addresses.extend(old[i].iter().map(|b| Some(b.memory())));
            addresses.extend(grads[i].iter().map(|g| g.as_ref().map(Buffer::memory)));
            addresses.extend(out.iter().map(|b| Some(b.memory())));
            addresses.push(t.low.then(|| low[i].memory()));
        }
        let count = Arg::I32(all.len() as i32);
        let mut args = vec![Arg::Pointers(&addresses), first.arg(), sizes.arg(), count];
        args.extend(shared.iter().map(Buffer::arg));
        args.extend(values);
        schedule.go(name, [tiles as u32, 1, 1], 256, &args);
        let of = |(i, t): (usize, &Tensor)| {
            let out = if t.place { &old[i] } else { &new[i] };
            out.iter().map(Buffer::read).chain([floats(&low[i])]).collect::<Vec<_>>()
        };
        all.iter().enumerate().flat_map(of).collect()
    })
}

/// Compares with `step`, which updates the state of a tensor.
fn check(
    name: &str,
    all: &[Tensor],
    got: &[Vec<f32>],
    step: impl Fn(&mut Vec<Vec<f32>>, &[Option<Vec<f32>>]),
) {
    let mut got = got.iter();
    for t in all {
        let mut state = t.state.clone();
        step(&mut state, &t.gradient);
        for want in &state {
            assert_same(name, got.next().unwrap(), want);
        }
        let copy: Vec<f32> = state[0].iter().map(|&v| bf16::of(v).to()).collect();
        let low = got.next().unwrap();
        if t.low {
            assert_same("  its bf16 copy", low, &copy);
        } else {
            assert!(low.iter().all(|v| v.is_nan()));
        }
    }
}

#[test]
fn sgd_is_its_twin() {
    if skipped() {
        return;
    }
    let all = tensors(2);
    let lr = || vec![Buffer::from(&[0.1f32.to_bits()])];
    let got = run("sgd", &all, &lr, &[Arg::F32(0.9), Arg::F32(4e-4)]);
    check("sgd", &all, &got, |state, g| {
        let (w, v) = state.split_at_mut(1);
        let constants = (f64::from(0.9f32), f64::from(4e-4f32));
        let g = [g[0].as_deref(), g[1].as_deref()];
        sgd::cpu(&cpu(), constants, (None, None), g, 0.1, (&mut w[0], &mut v[0]));
    });
}

#[test]
fn adam_is_its_twin() {
    if skipped() {
        return;
    }
    let args = adam::Args { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 5e-4 };
    for done in [0, 9, 100_000] {
        let all = tensors(3);
        let shared = || vec![Buffer::from(&[1e-3f32.to_bits()]), Buffer::from(&[done as u32])];
        let constants = [
            Arg::F64(args.beta1),
            Arg::F64(args.beta2),
            Arg::F32(args.eps as f32),
            Arg::F32(args.decay as f32),
        ];
        let got = run("adam", &all, &shared, &constants);
        check("adam", &all, &got, |state, g| {
            let [w, m, v] = &mut state[..] else { panic!("three vectors") };
            adam::cpu(&cpu(), args, [None; 3], g[0].as_deref(), 1e-3, done, [w, m, v]);
        });
    }
}

/// Σ g² and Σ (w·g)², then clipping to 3 and ASAM's perturbation with ρ = 2, all by the latter sum.
fn joint_norm_on(schedule: Schedule, w: &[f32], g: &[f32], place: bool) -> Vec<Vec<f32>> {
    let (n, chunks) = (w.len(), w.len().div_ceil(8192));
    let (w, g) = (Buffer::from(w), Buffer::from(g));
    let (parts, plain) = (Buffer::<f64>::unwritten(chunks), Buffer::<f32>::unwritten(1));
    let weighted = Buffer::<f32>::unwritten(1);
    let count = Arg::I64(n as i64);
    for (weights, out) in [(Arg::Null, &plain), (w.arg(), &weighted)] {
        let args = [g.arg(), weights, count, parts.arg()];
        schedule.go("sum_squares_parts", [chunks as u32, 1, 1], 256, &args);
        let args = [parts.arg(), Arg::I64(chunks as i64), Arg::F64(1.0), out.arg()];
        schedule.go_exact("sum_all_final", [1, 1, 1], 1024, &args);
    }
    let (moved, low) = (Buffer::<f32>::unwritten(n), Buffer::<bf16>::unwritten(n));
    let (rho, eps) = (Arg::F64(2.0), Arg::F64(1e-12));
    let copy = if place { low.arg() } else { Arg::Null };
    let args = [w.arg(), g.arg(), weighted.arg(), rho, eps, count, moved.arg(), copy];
    schedule.go("sam_perturb", [blocks(n / 4), 1, 1], 256, &args);
    let other = Buffer::<f32>::unwritten(n);
    let clipped = if place { &g } else { &other };
    let args = [g.arg(), weighted.arg(), Arg::F64(3.0), Arg::F64(1e-6), count, clipped.arg()];
    schedule.go("clip_gradient", [blocks(n / 4), 1, 1], 256, &args);
    vec![plain.read(), weighted.read(), moved.read(), clipped.read(), floats(&low)]
}

#[test]
fn joint_norms_are_their_twins() {
    if skipped() {
        return;
    }
    for (n, place) in [(1, true), (1027, false), (20_001, true)] {
        let (w, g) = (random(n, 1.0, 38), random(n, 5.0, 39));
        let got = every_schedule(|schedule| joint_norm_on(schedule, &w, &g, place));
        let mut parts = vec![0.0; grad_norm::parts(n)];
        // The counterpart also adds in float64, in another order.
        let plain = grad_norm::sum_squares(&cpu(), &g, None, &mut parts);
        assert_near("sum_squares", &got[0], &[f64::from(plain)], Some(&[f64::from(plain)]), 1e-7);
        let weighted = grad_norm::sum_squares(&cpu(), &g, Some(&w), &mut parts);
        assert_near("  weighted", &got[1], &[f64::from(weighted)], Some(&[f64::from(weighted)]), 1e-7);
        let mut want = vec![0.0; n];
        grad_norm::perturb(&cpu(), 2.0, &w, &g, got[1][0], &mut want);
        assert_same("sam_perturb", &got[2], &want);
        if place {
            let copy: Vec<f32> = want.iter().map(|&v| bf16::of(v).to()).collect();
            assert_same("  its bf16 copy", &got[4], &copy);
        }
        grad_norm::clip(&cpu(), 3.0, Some(&g), got[1][0], &mut want);
        assert_same("clip_gradient", &got[3], &want);
    }
}
