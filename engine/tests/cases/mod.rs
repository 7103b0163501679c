//! The registry's cases as programs: what the tests of ops share.
#![allow(dead_code)]

use engine::ops::elementwise::Mul;
use engine::ops::reduce::SumAll;
use engine::ops::{Case, Fill, registry};
use engine::rng::{Philox, Stream};
use engine::{DType, Device, Host, Spec, State, Tape, Var, bf16, grad};

#[derive(Clone, Debug)]
pub enum Data {
    Real(Vec<f64>),
    Int(Vec<i32>),
    Byte(Vec<u8>),
}

pub fn data(case: &Case) -> Vec<Data> {
    let mut rng = Philox::new(17, Stream::Test, case.name.len() as u32);
    let real = |n: usize, f: &mut dyn FnMut() -> f64| Data::Real((0..n).map(|_| f()).collect());
    case.inputs
        .iter()
        .map(|(shape, fill)| {
            let n = shape.iter().product();
            match fill {
                Fill::Normal | Fill::Fixed => real(n, &mut || f64::from(rng.normal())),
                Fill::Positive => real(n, &mut || 0.5 + f64::from(rng.uniform())),
                Fill::Below(k) => Data::Int((0..n).map(|_| rng.below(*k as u32) as i32).collect()),
                Fill::Ints(v) => Data::Int(v.clone()),
                Fill::Bytes => Data::Byte((0..n).map(|_| rng.below(256) as u8).collect()),
            }
        })
        .collect()
}

pub struct Program {
    pub inputs: Vec<Var>,
    pub outputs: Vec<Var>,
    pub loss: Option<Var>,
    pub grads: Vec<(usize, Var)>,
    pub tape: Tape,
}

/// Records the case with real inputs of `dtype` (bf16: those of `Case::low`, the others in float32); the loss is a fixed random combination of all its outputs.
pub fn record(case: &Case, dtype: DType, with_grad: bool) -> engine::Result<Program> {
    let mut tape = Tape::new();
    let of = |(i, (shape, _)): (usize, &(Vec<usize>, Fill))| Spec::new(shape, case.dtype(i, dtype));
    let inputs: Vec<Var> = case.inputs.iter().enumerate().map(|x| tape.input("x", of(x))).collect();
    let outputs = (case.record)(&mut tape, &inputs)?;
    let (mut loss, mut grads) = (None, Vec::new());
    if with_grad {
        for (i, y) in outputs.iter().enumerate() {
            let spec = tape.spec(*y)?;
            // A quadratic term, so that the gradient of the output differs from element to element.
            let square = tape.one(Mul, &[*y, *y])?;
            let a = tape.one(SumAll { factor: 0.3 + i as f64 }, &[square])?;
            let b = tape.one(SumAll { factor: 1.0 / spec.len() as f64 }, &[*y])?;
            for v in [a, b] {
                let sum = |l| tape.one(engine::ops::elementwise::Axpby { a: 1.0, b: 1.0 }, &[l, v]);
                loss = Some(loss.map_or(Ok(v), sum)?);
            }
        }
        let wrt: Vec<usize> = (0..inputs.len())
            .filter(|i| matches!(case.inputs[*i].1, Fill::Normal | Fill::Positive))
            .collect();
        let vars: Vec<Var> = wrt.iter().map(|i| inputs[*i]).collect();
        if let Some(l) = loss {
            grads = wrt.into_iter().zip(grad(&mut tape, l, &vars)?).collect();
        }
    }
    Ok(Program { inputs, outputs, loss, grads, tape })
}

impl Program {
    /// The spec of one of its values.
    pub fn spec(&self, v: Var) -> Spec {
        self.tape.spec(v).unwrap()
    }

    /// Runs and returns outputs, then loss, then gradients, as float64.
    pub fn run(&self, device: &Device, data: &[Data], dtype: DType) -> Vec<Vec<f64>> {
        self.run_often(device, data, dtype, 1).remove(0)
    }

    /// The results of `times` runs of one plan.
    pub fn run_often(
        &self,
        device: &Device,
        data: &[Data],
        dtype: DType,
        times: usize,
    ) -> Vec<Vec<Vec<f64>>> {
        let mut read = self.outputs.clone();
        read.extend(self.loss);
        read.extend(self.grads.iter().map(|g| g.1));
        let mut plan = self.tape.plan(device, &read).unwrap();
        let narrow: Vec<Vec<f32>> = data
            .iter()
            .map(|d| if let Data::Real(x) = d { x.iter().map(|v| *v as f32).collect() } else { Vec::new() })
            .collect();
        let low: Vec<Vec<bf16>> =
            narrow.iter().map(|x| x.iter().map(|v| bf16::from_f32(*v)).collect()).collect();
        let binds: Vec<(Var, Host)> = (0..data.len())
            .map(|i| {
                let host = match (&data[i], dtype) {
                    (Data::Real(x), DType::F64) => Host::F64(x),
                    (Data::Real(_), _) if self.spec(self.inputs[i]).dtype == DType::BF16 => {
                        Host::BF16(&low[i])
                    }
                    (Data::Real(_), _) => Host::F32(&narrow[i]),
                    (Data::Int(x), _) => Host::I32(x),
                    (Data::Byte(x), _) => Host::U8(x),
                };
                (self.inputs[i], host)
            })
            .collect();
        let mut state = State::on(device);
        let mut once = || {
            plan.run(&mut state, &binds).unwrap();
            assert_eq!(plan.capture_refused(), None);
            read.iter()
                .map(|v| match self.spec(*v).dtype {
                    DType::F64 => plan.fetch::<f64>(*v).unwrap(),
                    DType::BF16 => {
                        plan.fetch::<bf16>(*v).unwrap().iter().map(|x| f64::from(x.to_f32())).collect()
                    }
                    DType::I32 => plan.fetch::<i32>(*v).unwrap().into_iter().map(f64::from).collect(),
                    _ => plan.fetch::<f32>(*v).unwrap().iter().map(|x| f64::from(*x)).collect(),
                })
                .collect()
        };
        (0..times).map(|_| once()).collect()
    }
}

/// The same data with every input of `Case::low` rounded to bf16, so that programs of either type begin alike.
pub fn rounded(case: &Case) -> Vec<Data> {
    let mut all = data(case);
    for i in &case.low {
        if let Data::Real(x) = &mut all[*i] {
            x.iter_mut().for_each(|v| *v = f64::from(bf16::from_f64(*v).to_f32()));
        }
    }
    all
}

pub fn differentiable(case: &Case) -> bool {
    case.inputs.iter().any(|(_, f)| matches!(f, Fill::Normal | Fill::Positive))
}

pub fn only_f32(case: &Case) -> bool {
    case.inputs.iter().any(|(_, f)| *f == Fill::Bytes)
}

pub fn each(mut f: impl FnMut(&str, &Case)) {
    for (stem, cases) in registry() {
        assert!(!cases.small.is_empty(), "{stem} has no test case");
        cases.small.iter().for_each(|c| f(&format!("{stem}: {}", c.name), c));
    }
}

pub fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * scale, "{what}: element {i} is {g}, not {w} (scale {scale})");
    }
}
