//! Tests of ops, those of this crate and those defined outside it: [`Case`] says how an op is used, [`check_gradients`]
//! compares its gradients with differences, and [`CaseProgram`] runs a case with any element type on any device.

pub use crate::case::{Case, Cases, FillWith};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::execute::HostTensor;
use crate::grad::grad;
use crate::ops::elementwise::{Axpby, Mul};
use crate::ops::reduce::SumAll;
use crate::rng::{Philox, Stream};
use crate::spec::{DType, Spec};
use crate::state::State;
use crate::tape::{Tape, Var};
use kernels::dtype::bf16;
use std::sync::Arc;

/// Largest difference that [`check_gradients`] allows, relative to the largest element of the gradient.
pub const GRADIENT_TOLERANCE: f64 = 1e-6;

/// Values of one input of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseInput {
    /// Of a real type, in float64.
    Real(Vec<f64>),
    /// Int32.
    Int(Vec<i32>),
    /// Bytes.
    Byte(Vec<u8>),
}

/// Why an op's gradient is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum GradientError {
    /// The case could not be recorded or run.
    #[error("case `{case}`: {source}")]
    Engine {
        /// The case's name.
        case: String,
        /// Why.
        source: Box<Error>,
    },
    /// The case has no input that is differentiated ([`FillWith::Normal`] or [`FillWith::Positive`]).
    #[error("case `{0}` has no input whose gradient could be checked")]
    NothingToCheck(String),
    /// The gradient differs from the difference quotient.
    #[error("case `{case}`: the gradient of input {input} is {got} at element {element}, not {want}")]
    Mismatch {
        /// The case's name.
        case: String,
        /// Index of the input.
        input: usize,
        /// Index of the element.
        element: usize,
        /// The recorded gradient.
        got: f64,
        /// The difference quotient.
        want: f64,
    },
}

/// Compares the gradients of a case's inputs ([`FillWith::Normal`] and [`FillWith::Positive`]) with fourth-order central
/// differences, in float64 on the CPU, within [`GRADIENT_TOLERANCE`]; of large inputs only about 40 elements. What is
/// differentiated is a fixed quadratic function of all outputs. Returns the number of gradients checked.
///
/// # Errors
/// The first element that differs, or why the case cannot be recorded or run.
pub fn check_gradients(case: &Case) -> core::result::Result<usize, GradientError> {
    let failed = |e| GradientError::Engine { case: case.name.clone(), source: Box::new(e) };
    if !is_differentiable(case) {
        return Err(GradientError::NothingToCheck(case.name.clone()));
    }
    let (device, values) = (Device::cpu(1), case_inputs(case));
    let program = CaseProgram::record(case, DType::F64, true).map_err(failed)?;
    let results = program.run(&device, &values, DType::F64).map_err(failed)?;
    let first = program.outputs.len() + 1;
    // Only the function itself is evaluated at the displaced points.
    let function = CaseProgram { outputs: Vec::new(), gradients: Vec::new(), ..program.clone() };
    for (gradient, (input, _)) in results[first..].iter().zip(&program.gradients) {
        let scale = gradient.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        for element in (0..gradient.len()).step_by(gradient.len().div_ceil(40).max(1)) {
            let at = |h: f64| -> Result<f64> {
                let mut moved = values.clone();
                if let CaseInput::Real(x) = &mut moved[*input] {
                    x[element] += h;
                }
                Ok(function.run(&device, &moved, DType::F64)?[0][0])
            };
            let want = central_difference(at).map_err(failed)?;
            let got = gradient[element];
            if (got - want).abs() > GRADIENT_TOLERANCE * scale.max(want.abs()) || !got.is_finite() {
                let case = case.name.clone();
                return Err(GradientError::Mismatch { case, input: *input, element, got, want });
            }
        }
    }
    Ok(program.gradients.len())
}

/// The derivative at 0 by differences of fourth order: their truncation error is below the tolerance, and the step is so
/// small that hardly any piecewise linear function has a kink within it.
fn central_difference(f: impl Fn(f64) -> Result<f64>) -> Result<f64> {
    let h = 1e-5;
    Ok((8.0 * (f(h)? - f(-h)?) - (f(2.0 * h)? - f(-2.0 * h)?)) / (12.0 * h))
}

/// Whether the case has an input whose gradient is checked.
pub fn is_differentiable(case: &Case) -> bool {
    case.inputs.iter().any(|(_, fill)| is_differentiated(fill))
}

fn is_differentiated(fill: &FillWith) -> bool {
    matches!(fill, FillWith::Normal | FillWith::Positive)
}

/// Values for the inputs of a case, the same at each call.
pub fn case_inputs(case: &Case) -> Vec<CaseInput> {
    let mut rng = Philox::new(17, Stream::TEST, case.name.len() as u32);
    let real = |n: usize, f: &mut dyn FnMut() -> f64| CaseInput::Real((0..n).map(|_| f()).collect());
    let fill = |(shape, fill): &(Vec<usize>, FillWith)| {
        let n = shape.iter().product();
        match fill {
            FillWith::Normal | FillWith::Fixed => real(n, &mut || f64::from(rng.normal())),
            FillWith::Positive => real(n, &mut || 0.5 + f64::from(rng.uniform())),
            FillWith::Below(k) => CaseInput::Int((0..n).map(|_| rng.below(*k as u32) as i32).collect()),
            FillWith::Ints(v) => CaseInput::Int(v.clone()),
            FillWith::Bytes => CaseInput::Byte((0..n).map(|_| rng.below(256) as u8).collect()),
        }
    };
    case.inputs.iter().map(fill).collect()
}

/// A case as a program: its outputs, a function of them, and the gradients of that function.
#[derive(Clone, Debug)]
pub struct CaseProgram {
    /// The inputs, in order.
    pub inputs: Vec<Var>,
    /// The outputs of the case.
    pub outputs: Vec<Var>,
    /// A fixed quadratic function of all outputs, a scalar, if gradients were asked for.
    pub loss: Option<Var>,
    /// Index and gradient of each input that is differentiated.
    pub gradients: Vec<(usize, Var)>,
    /// The tape.
    pub tape: Arc<Tape>,
}

impl CaseProgram {
    /// Records the case with real inputs of type `real` (bf16: those of [`Case::bf16`], the others float32), with
    /// gradients or without.
    ///
    /// # Errors
    /// If the op refuses the inputs or has no gradient.
    pub fn record(case: &Case, real: DType, with_gradients: bool) -> Result<Self> {
        let mut tape = Tape::new();
        let spec = |(i, (shape, _)): (usize, &(Vec<usize>, FillWith))| Spec::new(shape, case.dtype(i, real));
        let inputs: Vec<Var> = case.inputs.iter().enumerate().map(|x| tape.input("x", spec(x))).collect();
        let outputs = (case.record)(&mut tape, &inputs)?;
        let (mut loss, mut gradients) = (None, Vec::new());
        if with_gradients {
            let l = record_loss(&mut tape, &outputs)?;
            let wrt: Vec<usize> =
                (0..inputs.len()).filter(|i| is_differentiated(&case.inputs[*i].1)).collect();
            let vars: Vec<Var> = wrt.iter().map(|i| inputs[*i]).collect();
            if let Some(l) = l {
                gradients = wrt.into_iter().zip(grad(&mut tape, l, &vars)?).collect();
            }
            loss = l;
        }
        Ok(Self { inputs, outputs, loss, gradients, tape: Arc::new(tape) })
    }

    /// The outputs, then the loss, then the gradients.
    pub fn results(&self) -> Vec<Var> {
        let gradients = self.gradients.iter().map(|g| g.1);
        self.outputs.iter().copied().chain(self.loss).chain(gradients).collect()
    }

    /// Plans and runs it once; returns the values of [`CaseProgram::results`] as float64.
    ///
    /// # Errors
    /// If it cannot be planned or run.
    pub fn run(&self, device: &Device, inputs: &[CaseInput], real: DType) -> Result<Vec<Vec<f64>>> {
        Ok(self.run_repeatedly(device, inputs, real, 1)?.swap_remove(0))
    }

    /// Plans it and runs the plan `times` times; returns the values of [`CaseProgram::results`] of each run as float64.
    ///
    /// # Errors
    /// If it cannot be planned or run, or (on a GPU) not be captured as a CUDA graph.
    pub fn run_repeatedly(
        &self,
        device: &Device,
        inputs: &[CaseInput],
        real: DType,
        times: usize,
    ) -> Result<Vec<Vec<Vec<f64>>>> {
        let results = self.results();
        let mut plan = self.tape.plan(device, &results)?;
        let converted = inputs.iter().zip(&self.inputs).map(|(values, v)| {
            let spec = self.tape.spec(*v)?;
            Ok((*v, Converted::new(values, if spec.dtype.is_real() { spec.dtype } else { real })))
        });
        let converted = converted.collect::<Result<Vec<_>>>()?;
        let given: Vec<(Var, HostTensor<'_>)> = converted.iter().map(|(v, c)| (*v, c.tensor())).collect();
        let mut state = State::on(device);
        let mut all = Vec::with_capacity(times);
        for _ in 0..times {
            plan.run(&mut state, &given)?;
            if let Some(why) = plan.capture_refused() {
                return Err(Error::Bind(format!("the program could not be captured: {why}")));
            }
            let fetch = |v: &Var| {
                Ok(match self.tape.spec(*v)?.dtype {
                    DType::F64 => plan.fetch::<f64>(*v)?,
                    DType::F32 => plan.fetch::<f32>(*v)?.into_iter().map(f64::from).collect(),
                    DType::BF16 => plan.fetch::<bf16>(*v)?.iter().map(|x| f64::from(x.to_f32())).collect(),
                    DType::I32 => plan.fetch::<i32>(*v)?.into_iter().map(f64::from).collect(),
                    DType::U8 => plan.fetch::<u8>(*v)?.into_iter().map(f64::from).collect(),
                })
            };
            all.push(results.iter().map(fetch).collect::<Result<Vec<_>>>()?);
        }
        Ok(all)
    }
}

/// Σ over outputs y of (0.3 + i)·Σ y² + mean(y): its gradient with respect to y differs from element to element.
fn record_loss(tape: &mut Tape, outputs: &[Var]) -> Result<Option<Var>> {
    let mut loss = None;
    for (i, y) in outputs.iter().enumerate() {
        let spec = tape.spec(*y)?;
        let square = tape.one(Mul, &[*y, *y])?;
        let a = tape.one(SumAll { factor: 0.3 + i as f64 }, &[square])?;
        let b = tape.one(SumAll { factor: 1.0 / spec.len() as f64 }, &[*y])?;
        for v in [a, b] {
            let sum = |l| tape.one(Axpby { a: 1.0, b: 1.0 }, &[l, v]);
            loss = Some(loss.map_or(Ok(v), sum)?);
        }
    }
    Ok(loss)
}

/// An input in the element type of the program.
enum Converted {
    F64(Vec<f64>),
    F32(Vec<f32>),
    BF16(Vec<bf16>),
    I32(Vec<i32>),
    U8(Vec<u8>),
}

impl Converted {
    fn new(values: &CaseInput, real: DType) -> Self {
        match (values, real) {
            (CaseInput::Real(x), DType::F64) => Self::F64(x.clone()),
            // By way of float32, as programs convert.
            (CaseInput::Real(x), DType::BF16) => {
                Self::BF16(x.iter().map(|v| bf16::from_f32(*v as f32)).collect())
            }
            (CaseInput::Real(x), _) => Self::F32(x.iter().map(|v| *v as f32).collect()),
            (CaseInput::Int(x), _) => Self::I32(x.clone()),
            (CaseInput::Byte(x), _) => Self::U8(x.clone()),
        }
    }

    fn tensor(&self) -> HostTensor<'_> {
        match self {
            Self::F64(x) => HostTensor::F64(x),
            Self::F32(x) => HostTensor::F32(x),
            Self::BF16(x) => HostTensor::BF16(x),
            Self::I32(x) => HostTensor::I32(x),
            Self::U8(x) => HostTensor::U8(x),
        }
    }
}
