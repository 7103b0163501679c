//! Grouped batch norm equals batch norm of each group alone; its fused gradient equals that of its parts.

use super::{add, close, device, dot, eval, normals};
use engine::ops::batch::{ConcatRows, SliceRows};
use engine::ops::bn_coeffs::BnCoeffs;
use engine::ops::bn_stats::BnStats;
use engine::ops::elementwise::Identity;
use engine::ops::scale_shift_leaky::ScaleShiftLeaky;
use engine::{DType, HostTensor, Spec, State, Tape, Var, grad};

const GROUPS: [usize; 3] = [3, 1, 2];
const SHAPE: [usize; 4] = [6, 5, 3, 7];
/// Tolerance of fused against unfused and of grouped against separate batch norm, in float64.
const EXACT: f64 = 1e-12;

/// y, mean and variance; `fused`: whether the gradient may be one kernel.
fn batch_norm(t: &mut Tape, groups: &[usize], x: Var, gamma: Var, beta: Var, fused: bool) -> [Var; 3] {
    let stats = t.record(BnStats { groups: groups.to_vec() }, &[x]).unwrap();
    let scale = t.one(BnCoeffs { eps: 1e-5 }, &[stats[1], gamma]).unwrap();
    let mean = if fused { stats[0] } else { t.one(Identity, &[stats[0]]).unwrap() };
    let op = ScaleShiftLeaky { groups: groups.to_vec(), leak: 0.2 };
    [t.one(op, &[x, mean, scale, beta]).unwrap(), stats[0], stats[1]]
}

struct Inputs {
    tape: Tape,
    /// x, gamma, beta, weights of the loss.
    v: Vec<Var>,
    data: Vec<Vec<f64>>,
}

fn inputs(dtype: DType) -> Inputs {
    let mut tape = Tape::new();
    let shapes: [&[usize]; 4] = [&SHAPE, &SHAPE[3..], &SHAPE[3..], &SHAPE];
    let v = shapes.iter().map(|s| tape.input("v", Spec::new(s, dtype))).collect();
    let data = shapes.iter().enumerate().map(|(i, s)| normals(s.iter().product(), 60 + i as u32)).collect();
    Inputs { tape, v, data }
}

impl Inputs {
    /// Outputs, then gradients of ⟨y, weights⟩ for x, gamma, beta.
    fn with_grads(&mut self, outputs: [Var; 3]) -> Vec<Var> {
        let l = dot(&mut self.tape, outputs[0], self.v[3]);
        let grads = grad(&mut self.tape, l, &self.v[..3]).unwrap();
        outputs.into_iter().chain(grads).collect()
    }

    fn grouped(&mut self, fused: bool) -> Vec<Var> {
        let out = batch_norm(&mut self.tape, &GROUPS, self.v[0], self.v[1], self.v[2], fused);
        self.with_grads(out)
    }

    fn apart(&mut self) -> Vec<Var> {
        let mut parts: Vec<[Var; 3]> = Vec::new();
        let mut start = 0;
        for rows in GROUPS {
            let x = self.tape.one(SliceRows { start, rows }, &[self.v[0]]).unwrap();
            parts.push(batch_norm(&mut self.tape, &[rows], x, self.v[1], self.v[2], true));
            start += rows;
        }
        let joined = [0, 1, 2].map(|i| {
            let of: Vec<Var> = parts.iter().map(|p| p[i]).collect();
            self.tape.one(ConcatRows, &of).unwrap()
        });
        self.with_grads(joined)
    }
}

const NAMES: [&str; 6] = ["y", "mean", "variance", "dx", "dgamma", "dbeta"];

#[test]
fn grouped_batch_norm_equals_batch_norms_apart_in_float64() {
    let mut p = inputs(DType::F64);
    let (together, apart) = (p.grouped(true), p.apart());
    let binds: Vec<(Var, &[f64])> = p.v.iter().copied().zip(p.data.iter().map(Vec::as_slice)).collect();
    let (got, want) = (eval(&p.tape, &together, &binds), eval(&p.tape, &apart, &binds));
    for (i, name) in NAMES.iter().enumerate() {
        close(name, &got[i], &want[i], EXACT);
    }
}

#[test]
fn grouped_batch_norm_has_the_same_bits_as_apart_in_float32() {
    let mut p = inputs(DType::F32);
    let (together, apart) = (p.grouped(true), p.apart());
    let data: Vec<Vec<f32>> = p.data.iter().map(|d| d.iter().map(|v| *v as f32).collect()).collect();
    let binds: Vec<(Var, HostTensor)> =
        p.v.iter().zip(&data).map(|(v, d)| (*v, HostTensor::F32(d))).collect();
    let all: Vec<Var> = together.iter().chain(&apart).copied().collect();
    let mut plan = p.tape.plan(&device(), &all).unwrap();
    plan.run(&mut State::new(), &binds).unwrap();
    for (i, name) in NAMES.iter().enumerate() {
        let read = |v: Var| plan.read::<f32>(v).unwrap().to_vec();
        let (got, want) = (read(together[i]), read(apart[i]));
        if i < 4 {
            assert_eq!(got, want, "{name}");
        } else {
            // The groups' shares are added in another order.
            let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            close(name, &wide(&got), &wide(&want), 1e-6);
        }
    }
}

#[test]
fn the_fused_gradient_runs_and_equals_the_unfused_one() {
    let mut p = inputs(DType::F64);
    let (fused, parts) = (p.grouped(true), p.grouped(false));
    let plan = p.tape.plan(&device(), &fused).unwrap();
    let counts = |plan: &engine::Plan| {
        ["bn_leaky_grad", "scale_shift_leaky_grad", "bn_stats_grad"].map(|n| plan.count(n))
    };
    assert_eq!(counts(&plan), [1, 0, 0]);
    assert_eq!(counts(&p.tape.plan(&device(), &parts).unwrap()), [0, 1, 1]);
    let binds: Vec<(Var, &[f64])> = p.v.iter().copied().zip(p.data.iter().map(Vec::as_slice)).collect();
    let (got, want) = (eval(&p.tape, &fused, &binds), eval(&p.tape, &parts, &binds));
    for (i, name) in NAMES.iter().enumerate() {
        close(name, &got[i], &want[i], EXACT);
    }
}

#[test]
fn the_fused_gradient_adds_to_other_uses_of_the_image() {
    for used_after in [false, true] {
        let results: Vec<Vec<Vec<f64>>> = [true, false]
            .into_iter()
            .map(|fused| {
                let mut p = inputs(DType::F64);
                let (x, w) = (p.v[0], p.v[3]);
                let first = (!used_after).then(|| dot(&mut p.tape, x, x));
                let out = batch_norm(&mut p.tape, &GROUPS, x, p.v[1], p.v[2], fused);
                let l = dot(&mut p.tape, out[0], w);
                let r = first.unwrap_or_else(|| dot(&mut p.tape, x, x));
                let l = add(&mut p.tape, l, r);
                let g = grad(&mut p.tape, l, &p.v[..3]).unwrap();
                assert_eq!(p.tape.count("bn_leaky_grad"), usize::from(fused));
                let binds: Vec<(Var, &[f64])> =
                    p.v.iter().copied().zip(p.data.iter().map(Vec::as_slice)).collect();
                eval(&p.tape, &g, &binds)
            })
            .collect();
        for (i, name) in NAMES[3..].iter().enumerate() {
            close(name, &results[0][i], &results[1][i], EXACT);
        }
    }
}

/// Statistics over groups of other sizes than those that are normalised: unusual, but computed as recorded.
#[test]
fn statistics_of_other_groups_are_not_fused_away() {
    let results: Vec<Vec<Vec<f64>>> = [true, false]
        .into_iter()
        .map(|fused| {
            let mut p = inputs(DType::F64);
            let stats = p.tape.record(BnStats { groups: vec![2, 3, 1] }, &[p.v[0]]).unwrap();
            let scale = p.tape.one(BnCoeffs { eps: 1e-5 }, &[stats[1], p.v[1]]).unwrap();
            let mean = if fused { stats[0] } else { p.tape.one(Identity, &[stats[0]]).unwrap() };
            let op = ScaleShiftLeaky { groups: GROUPS.to_vec(), leak: 0.2 };
            let y = p.tape.one(op, &[p.v[0], mean, scale, p.v[2]]).unwrap();
            let l = dot(&mut p.tape, y, p.v[3]);
            let g = grad(&mut p.tape, l, &p.v[..1]).unwrap();
            let binds: Vec<(Var, &[f64])> =
                p.v.iter().copied().zip(p.data.iter().map(Vec::as_slice)).collect();
            eval(&p.tape, &g, &binds)
        })
        .collect();
    close("dx", &results[0][0], &results[1][0], EXACT);
}
