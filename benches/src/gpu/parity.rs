//! Every small case of the registry on both devices: results, gradients, replays.

use super::{Check, Found, check, largest};
use crate::Result;
use engine::ops::elementwise::{Axpby, Mul};
use engine::ops::reduce::SumAll;
use engine::ops::{Case, Fill, registry};
use engine::rng::{Philox, Stream};
use engine::{DType, Device, Host, Spec, State, Tape, Var, grad};
use serde_json::json;

/// Largest |a − b| / max|b| that float32 may show: sums in another order.
const TOLERANCE: f64 = 2e-5;

pub(super) fn checks(gpu: &Device) -> Vec<Check> {
    let cpu = Device::cpu(1);
    let cases =
        registry().into_iter().flat_map(|(stem, c)| c.small.into_iter().map(move |case| (stem, case)));
    cases
        .map(|(stem, case)| {
            check("op, CPU and GPU", format!("{stem}: {}", case.name), || one(&case, &cpu, gpu))
        })
        .collect()
}

fn one(case: &Case, cpu: &Device, gpu: &Device) -> Result<Found> {
    let (program, data) = (Program::record(case)?, Data::of(case));
    let want = program.run(cpu, &data, 1)?.remove(0);
    // A plain run, a captured one, a replay.
    let got = program.run(gpu, &data, 3)?;
    let mut worst = 0.0f64;
    for (got, want) in got[0].iter().zip(&want) {
        worst = worst.max(largest(got, want));
    }
    let bits = |r: &[Vec<f32>]| r.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
    if let Some(i) = (1..got.len()).find(|&i| bits(&got[0]) != bits(&got[i])) {
        return Ok(Err(format!("run {i}, by a captured graph, differs from the plain run")));
    }
    if worst > TOLERANCE {
        return Ok(Err(format!("largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")));
    }
    let text = format!("{} results; largest difference {worst:.1e}; replays the same", want.len());
    Ok(Ok((text, json!({ "results": want.len(), "largest_difference": worst }))))
}

/// The inputs of a case.
struct Data(Vec<Input>);

enum Input {
    Real(Vec<f32>),
    Int(Vec<i32>),
    Byte(Vec<u8>),
}

impl Input {
    fn host(&self) -> Host<'_> {
        match self {
            Self::Real(x) => Host::F32(x),
            Self::Int(x) => Host::I32(x),
            Self::Byte(x) => Host::U8(x),
        }
    }
}

impl Data {
    fn of(case: &Case) -> Self {
        let mut rng = Philox::new(23, Stream::Test, case.name.len() as u32);
        let fill = |(shape, fill): &(Vec<usize>, Fill)| {
            let n = shape.iter().product();
            match fill {
                Fill::Normal | Fill::Fixed => Input::Real((0..n).map(|_| rng.normal()).collect()),
                Fill::Positive => Input::Real((0..n).map(|_| 0.5 + rng.uniform()).collect()),
                Fill::Below(k) => Input::Int((0..n).map(|_| rng.below(*k as u32) as i32).collect()),
                Fill::Ints(v) => Input::Int(v.clone()),
                Fill::Bytes => Input::Byte((0..n).map(|_| rng.below(256) as u8).collect()),
            }
        };
        Self(case.inputs.iter().map(fill).collect())
    }
}

struct Program {
    tape: Tape,
    inputs: Vec<Var>,
    results: Vec<Var>,
}

impl Program {
    /// The case's outputs and the gradients of a combination of them.
    fn record(case: &Case) -> Result<Self> {
        let mut tape = Tape::new();
        let input = |(shape, fill): &(Vec<usize>, Fill)| {
            let dtype = match fill {
                Fill::Below(_) | Fill::Ints(_) => DType::I32,
                Fill::Bytes => DType::U8,
                Fill::Normal | Fill::Positive | Fill::Fixed => DType::F32,
            };
            tape.input("x", Spec::new(shape, dtype))
        };
        let inputs: Vec<Var> = case.inputs.iter().map(input).collect();
        let mut results = (case.record)(&mut tape, &inputs)?;
        let smooth =
            |(i, v): (usize, &Var)| matches!(case.inputs[i].1, Fill::Normal | Fill::Positive).then_some(*v);
        let wrt: Vec<Var> = inputs.iter().enumerate().filter_map(smooth).collect();
        if !wrt.is_empty() {
            let mut loss = None;
            for (i, y) in results.clone().into_iter().enumerate() {
                let square = tape.one(Mul, &[y, y])?;
                let sum = tape.one(SumAll { factor: 0.3 + i as f64 }, &[square])?;
                loss = Some(match loss {
                    None => sum,
                    Some(l) => tape.one(Axpby { a: 1.0, b: 1.0 }, &[l, sum])?,
                });
            }
            if let Some(loss) = loss {
                results.push(loss);
                results.extend(grad(&mut tape, loss, &wrt)?);
            }
        }
        Ok(Self { tape, inputs, results })
    }

    /// The results of `times` runs of one plan.
    fn run(&self, device: &Device, data: &Data, times: usize) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut plan = self.tape.plan(device, &self.results)?;
        let mut state = State::on(device);
        let binds: Vec<(Var, Host<'_>)> =
            self.inputs.iter().copied().zip(data.0.iter().map(Input::host)).collect();
        let mut all = Vec::new();
        for _ in 0..times {
            plan.run(&mut state, &binds)?;
            let read = self.results.iter().map(|v| plan.fetch::<f32>(*v));
            all.push(read.collect::<engine::Result<Vec<_>>>()?);
        }
        Ok(all)
    }
}
