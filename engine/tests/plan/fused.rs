//! Fused convolutions equal the composition of their parts, and record none of the passes that they replace.

use super::{close, device, dot, normals};
use engine::ops::bn_coeffs::BnCoeffs;
use engine::ops::bn_stats::BnStats;
use engine::ops::conv2d::{Conv2d, Geometry};
use engine::ops::fused_conv2d::FusedConv2d;
use engine::ops::scale_shift_leaky::ScaleShiftLeaky;
use engine::{DType, Device, HostTensor, Plan, Spec, State, Tape, Var, grad};

const GEOMETRY: Geometry = Geometry { stride: 1, pad: 1 };

/// Largest |a − b| / max|b| of fused against apart: chunks of the sums end elsewhere. In float32 that is some 2⁻²⁴ times
/// what the norms multiply it by.
const TOLERANCE: [(DType, f64); 2] = [(DType::F64, 1e-12), (DType::F32, 2e-5)];

/// What is recorded: the input's shape and groups, and the channels of both convolutions.
struct Net {
    shape: [usize; 4],
    groups: Vec<usize>,
    k: usize,
    fused: bool,
}

impl Net {
    fn conv(&self, t: &mut Tape, v: &[Var], norm: Option<[Var; 3]>, residual: Option<Var>) -> Vec<Var> {
        let op = ScaleShiftLeaky { groups: self.groups.clone(), leak: 0.2 };
        let [x, w, b] = [v[0], v[1], v[2]];
        if self.fused {
            let stats = Some(self.groups.clone());
            let has = residual.is_some();
            let fused = FusedConv2d { geometry: GEOMETRY, norm: norm.map(|_| op), residual: has, stats };
            let inputs: Vec<Var> =
                [x, w, b].into_iter().chain(norm.into_iter().flatten()).chain(residual).collect();
            return t.record(fused, &inputs).unwrap();
        }
        let x = norm.map_or(x, |[mean, scale, shift]| t.one(op, &[x, mean, scale, shift]).unwrap());
        let inputs: Vec<Var> = [x, w, b].into_iter().chain(residual).collect();
        let conv = Conv2d { geometry: GEOMETRY, bias: true, residual: residual.is_some() };
        let y = t.one(conv, &inputs).unwrap();
        let stats = t.record(BnStats { groups: self.groups.clone() }, &[y]).unwrap();
        vec![y, stats[0], stats[1]]
    }

    /// conv → norm → conv → norm → conv, plus the first's result; y, its statistics, then gradients of all inputs.
    fn record(&self, dtype: DType) -> (Tape, Vec<Var>, Vec<Var>) {
        let mut t = Tape::new();
        let (c, k) = (self.shape[3], self.k);
        let [n, h, w, _] = self.shape;
        let shapes: Vec<Vec<usize>> = vec![
            self.shape.to_vec(),
            vec![k, 3, 3, c],
            vec![k],
            vec![k, 3, 3, k],
            vec![k],
            vec![k],
            vec![k],
            vec![n, h, w, k],
        ];
        let v: Vec<Var> = shapes.iter().map(|s| t.input("v", Spec::new(s, dtype))).collect();
        let first = self.conv(&mut t, &v[..3], None, None);
        let mut last = first.clone();
        for residual in [None, Some(first[0])] {
            let scale = t.one(BnCoeffs { eps: 1e-5 }, &[last[2], v[5]]).unwrap();
            let norm = Some([last[1], scale, v[6]]);
            last = self.conv(&mut t, &[last[0], v[3], v[4]], norm, residual);
        }
        let l = dot(&mut t, last[0], v[7]);
        let grads = grad(&mut t, l, &v[..7]).unwrap();
        last.extend(grads);
        (t, v, last)
    }

    fn run(&self, dtype: DType, device: &Device) -> (Plan, Vec<Vec<f64>>) {
        let (t, v, out) = self.record(dtype);
        let mut plan = t.plan(device, &out).unwrap();
        let len = |v: &Var| t.spec(*v).unwrap().len();
        let wide: Vec<Vec<f64>> = v.iter().enumerate().map(|(i, v)| normals(len(v), 90 + i as u32)).collect();
        let narrow: Vec<Vec<f32>> = wide.iter().map(|x| x.iter().map(|v| *v as f32).collect()).collect();
        let host = |i: usize| match dtype {
            DType::F64 => HostTensor::F64(&wide[i]),
            _ => HostTensor::F32(&narrow[i]),
        };
        let binds: Vec<(Var, HostTensor)> = v.iter().enumerate().map(|(i, v)| (*v, host(i))).collect();
        plan.run(&mut State::new(), &binds).unwrap();
        let read = |v: &Var| match dtype {
            DType::F64 => plan.read::<f64>(*v).unwrap().to_vec(),
            _ => plan.read::<f32>(*v).unwrap().iter().map(|v| f64::from(*v)).collect(),
        };
        let values = out.iter().map(read).collect();
        (plan, values)
    }
}

/// Blocks that are whole images, that span groups, and that are rows of an image; groups of one image each.
#[test]
fn fused_programs_give_what_their_parts_give() {
    for (shape, groups, k) in [
        ([9, 8, 8, 3], vec![4, 4, 1], 16),
        ([7, 3, 5, 4], vec![2, 5], 5),
        ([3, 40, 36, 8], vec![1, 2], 40),
        ([6, 4, 4, 3], vec![1; 6], 7),
    ] {
        for (dtype, tolerance) in TOLERANCE {
            let net = |fused| Net { shape, groups: groups.clone(), k, fused };
            let (fused, got) = net(true).run(dtype, &device());
            let (apart, want) = net(false).run(dtype, &device());
            let names = ["bn_leaky_grad", "bn_stats_grad", "scale_shift_leaky_grad"];
            assert_eq!(names.map(|n| fused.count(n)), names.map(|n| apart.count(n)));
            let saved = ["bn_stats", "scale_shift_leaky", "scale_shift_leaky_reduce"];
            assert_eq!((saved.map(|n| fused.count(n)), saved.map(|n| apart.count(n))), ([0; 3], [3, 2, 2]));
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                // The first biases' gradient comes through the residual alone; no result is zero but for rounding.
                close(&format!("{dtype} {shape:?} {groups:?}, result {i}"), got, want, tolerance);
            }
        }
    }
}

#[test]
fn fused_programs_do_not_depend_on_threads() {
    let net = Net { shape: [9, 8, 8, 3], groups: vec![4, 5], k: 16, fused: true };
    let [one, two, three] = [1, 2, 3].map(|n| net.run(DType::F32, &Device::cpu(n)).1);
    assert_eq!(one, two);
    assert_eq!(one, three);
}
