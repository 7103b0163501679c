//! Every small case of the registry on both devices: results, gradients, replays.

use super::whole::fresh;
use super::{Allowed, Found, Journal, Size, Wrong, largest};
use crate::Result;
use engine::ops::elementwise::{Axpby, Mul};
use engine::ops::reduce::SumAll;
use engine::ops::registry;
use engine::rng::{Philox, Stream};
use engine::testing::{Case, FillWith};
use engine::{BatchNormBy, DType, Device, HostTensor, Precision, Spec, State, Tape, Var, bf16, grad};
use serde_json::json;

/// Ops whose kernels are cuDNN's and cuBLAS's.
const LIBRARIES: [&str; 2] = ["conv2d", "linear"];

/// The cases that differ in this precision: with bf16 inputs, or those that may round to TF32.
fn cases(gpu: &Device, allowed: Allowed) -> Vec<(&'static str, Case)> {
    let low = gpu.activations() == DType::BF16;
    let all = registry().into_iter().flat_map(|(stem, c)| c.small.into_iter().map(move |case| (stem, case)));
    all.filter(|(stem, case)| match allowed.precision {
        Precision::Bf16 => low && !case.bf16.is_empty(),
        Precision::Tf32 => LIBRARIES.contains(stem),
        Precision::F32 => true,
    })
    .collect()
}

/// With small sizes one case of each op.
pub(super) fn checks(journal: &mut Journal, gpu: &Device, allowed: Allowed, size: Size) -> Result<()> {
    let mut cases = cases(gpu, allowed);
    if size == Size::Small {
        cases.dedup_by_key(|(stem, _)| *stem);
    }
    run(journal, gpu, allowed, cases)
}

/// One case of each op that runs on a kernel of the project.
pub(super) fn own_kernels(journal: &mut Journal, gpu: &Device, allowed: Allowed) -> Result<()> {
    let mut cases = cases(gpu, allowed);
    cases.retain(|(stem, _)| !LIBRARIES.contains(stem));
    cases.dedup_by_key(|(stem, _)| *stem);
    run(journal, gpu, allowed, cases)
}

/// The cases of batch norm in float32 and bf16 by cuDNN, as training has it where that is chosen.
pub(super) fn cudnn_norm(journal: &mut Journal, gpu: &Device, rules: Allowed) -> Result<()> {
    for precision in [Precision::F32, Precision::Bf16] {
        let device = fresh(gpu, precision)?;
        device.set_batch_norm(BatchNormBy::Cudnn);
        let allowed = super::allowed(&device).unwrap_or(rules);
        let mut cases = cases(&device, allowed);
        cases.retain(|(stem, _)| *stem == "batch_norm");
        run(journal, &device, allowed, cases)?;
    }
    Ok(())
}

fn run(
    journal: &mut Journal,
    gpu: &Device,
    allowed: Allowed,
    cases: Vec<(&'static str, Case)>,
) -> Result<()> {
    let cpu = Device::cpu(1);
    for (stem, case) in cases {
        let by = match gpu.as_gpu().map(|gpu| gpu.batch_norm()) {
            Some(BatchNormBy::Cudnn) => format!(", cuDNN's, {:?}", allowed.precision),
            _ => String::new(),
        };
        let name = format!("{stem}: {}{by}", case.name);
        journal.check("op, CPU and GPU", name, || one(&case, &cpu, gpu, allowed.op))?;
    }
    Ok(())
}

fn one(case: &Case, cpu: &Device, gpu: &Device, tolerance: f64) -> Result<Found> {
    let real = gpu.activations();
    let (program, data) = (Program::record(case, real)?, Data::of(case, real));
    let want = program.run(cpu, &data, 1)?.remove(0);
    // A plain run, a captured one, a replay.
    let got = program.run(gpu, &data, 3)?;
    let mut worst = 0.0f64;
    for (got, want) in got[0].iter().zip(&want) {
        worst = worst.max(largest(got, want));
    }
    let bits = |r: &[Vec<f32>]| r.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
    if let Some(i) = (1..got.len()).find(|&i| bits(&got[0]) != bits(&got[i])) {
        return Ok(Err(format!("run {i}, by a captured graph, differs from the plain run").into()));
    }
    let data = json!({ "results": want.len(), "largest_difference": worst, "tolerance": tolerance });
    let text = format!("{} results; largest difference {worst:.1e} of {tolerance:.0e} allowed", want.len());
    if worst > tolerance {
        return Ok(Err(Wrong { text, data }));
    }
    Ok(Ok((text, data)))
}

/// The inputs of a case.
struct Data(Vec<Input>);

enum Input {
    Real(Vec<f32>),
    Bf16(Vec<bf16>),
    Int(Vec<i32>),
    Byte(Vec<u8>),
}

impl Input {
    fn host(&self) -> HostTensor<'_> {
        match self {
            Self::Real(x) => HostTensor::F32(x),
            Self::Bf16(x) => HostTensor::BF16(x),
            Self::Int(x) => HostTensor::I32(x),
            Self::Byte(x) => HostTensor::U8(x),
        }
    }
}

impl Data {
    fn of(case: &Case, real: DType) -> Self {
        let mut rng = Philox::new(23, Stream::TEST, case.name.len() as u32);
        let fill = |(i, (shape, fill)): (usize, &(Vec<usize>, FillWith))| {
            let n = shape.iter().product();
            match fill {
                FillWith::Normal | FillWith::Fixed if case.dtype(i, real) == DType::BF16 => {
                    Input::Bf16((0..n).map(|_| bf16::from_f32(rng.normal())).collect())
                }
                FillWith::Normal | FillWith::Fixed => Input::Real((0..n).map(|_| rng.normal()).collect()),
                FillWith::Positive => Input::Real((0..n).map(|_| 0.5 + rng.uniform()).collect()),
                FillWith::Below(k) => Input::Int((0..n).map(|_| rng.below(*k as u32) as i32).collect()),
                FillWith::Ints(v) => Input::Int(v.clone()),
                FillWith::Bytes => Input::Byte((0..n).map(|_| rng.below(256) as u8).collect()),
            }
        };
        Self(case.inputs.iter().enumerate().map(fill).collect())
    }
}

struct Program {
    tape: Tape,
    inputs: Vec<Var>,
    results: Vec<Var>,
}

impl Program {
    /// The case's outputs and the gradients of a combination of them, with activations of type `real`.
    fn record(case: &Case, real: DType) -> Result<Self> {
        let mut tape = Tape::new();
        let input = |(i, (shape, _)): (usize, &(Vec<usize>, FillWith))| {
            tape.input("x", Spec::new(shape, case.dtype(i, real)))
        };
        let inputs: Vec<Var> = case.inputs.iter().enumerate().map(input).collect();
        let mut results = (case.record)(&mut tape, &inputs)?;
        let smooth = |(i, v): (usize, &Var)| {
            matches!(case.inputs[i].1, FillWith::Normal | FillWith::Positive).then_some(*v)
        };
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
        let binds: Vec<(Var, HostTensor<'_>)> =
            self.inputs.iter().copied().zip(data.0.iter().map(Input::host)).collect();
        let mut all = Vec::new();
        for _ in 0..times {
            plan.run(&mut state, &binds)?;
            let read = self.results.iter().map(|v| match self.tape.spec(*v)?.dtype {
                DType::BF16 => Ok(plan.fetch::<bf16>(*v)?.iter().map(|x| x.to_f32()).collect()),
                DType::I32 => Ok(plan.fetch::<i32>(*v)?.into_iter().map(|i| i as f32).collect()),
                _ => plan.fetch::<f32>(*v),
            });
            all.push(read.collect::<engine::Result<Vec<_>>>()?);
        }
        Ok(all)
    }
}
