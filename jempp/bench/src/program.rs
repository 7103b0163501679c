//! A bench case of the op registry, ready to run.
//!
//! Invariant: inputs lie in slots of the state, so that a run computes but copies no inputs.

use engine::op::Cost;
use engine::ops::registry;
use engine::rng::{Philox, Stream};
use engine::testing::{Case, FillWith};
use engine::{DType, Device, Plan, Slot, Spec, State, Tape, Var, bf16};
use jempp::{Error, Result};

/// Distinct random numbers of an input; longer inputs repeat them.
const DRAWN: usize = 4099;

/// A planned bench case.
#[derive(Debug)]
pub struct BenchProgram {
    /// The largest of its inputs and outputs.
    pub spec: Spec,
    /// FLOPs and bytes of a run.
    pub cost: Cost,
    plan: Plan,
    state: State,
    slots: Vec<Slot>,
    outputs: Vec<Var>,
    /// Inputs that are not filled yet.
    inputs: Vec<(Slot, FillWith)>,
}

impl BenchProgram {
    /// Records and plans the case, with the activations of the device; inputs are zero until [`BenchProgram::fill`].
    ///
    /// # Errors
    /// If the case cannot be recorded, or there is no memory for it.
    pub fn new(case: &Case, device: &Device) -> Result<Self> {
        let (mut tape, mut state) = (Tape::new(), State::on(device));
        let mut inputs = Vec::new();
        let mut vars = Vec::new();
        for (i, (shape, fill)) in case.inputs.iter().enumerate() {
            let slot = state.add("input", Spec::new(shape, case.dtype(i, device.activations())))?;
            vars.push(tape.read(slot));
            inputs.push((slot, fill.clone()));
        }
        let outputs: Vec<Var> = (case.record)(&mut tape, &vars)?;
        let plan = tape.plan(device, &outputs)?;
        let specs = vars.iter().chain(&outputs).map(|v| tape.spec(*v));
        let specs = specs.collect::<engine::Result<Vec<Spec>>>()?;
        let spec = specs.into_iter().max_by_key(Spec::len).unwrap_or(Spec::f32(&[]));
        let slots = inputs.iter().map(|(slot, _)| *slot).collect();
        Ok(Self { spec, cost: plan.cost(), plan, state, slots, outputs, inputs })
    }

    /// Fills the inputs as the case says; further calls do nothing.
    ///
    /// # Errors
    /// If an input is not of the type that its case gives it.
    pub fn fill(&mut self) -> Result<()> {
        for (i, (slot, fill)) in core::mem::take(&mut self.inputs).into_iter().enumerate() {
            let mut rng = Philox::new(29, Stream::TEST, i as u32);
            let n = slot.spec.len();
            match fill {
                FillWith::Normal | FillWith::Fixed if slot.spec.dtype == DType::BF16 => {
                    self.state.set(slot, &repeated(n, || bf16::from_f32(rng.normal())))?;
                }
                FillWith::Normal | FillWith::Fixed => self.state.set(slot, &repeated(n, || rng.normal()))?,
                FillWith::Positive => self.state.set(slot, &repeated(n, || 0.5 + rng.uniform()))?,
                FillWith::Below(k) => self.state.set(slot, &repeated(n, || rng.below(k as u32) as i32))?,
                FillWith::Ints(v) => self.state.set(slot, &v)?,
                FillWith::Bytes => self.state.set(slot, &repeated(n, || rng.below(256) as u8))?,
            }
        }
        Ok(())
    }

    /// The values of input `i`, in float32.
    ///
    /// # Errors
    /// If there is no such input, or it is not float32.
    pub fn input(&self, i: usize) -> Result<Vec<f32>> {
        let slot = self.slots.get(i).ok_or_else(|| Error::Internal(format!("there is no input {i}")))?;
        Ok(self.state.fetch(*slot)?)
    }

    /// The values of output `i` of the last run, in float32.
    ///
    /// # Errors
    /// If there is no such output, or it is not float32.
    pub fn output(&self, i: usize) -> Result<Vec<f32>> {
        let var = self.outputs.get(i).ok_or_else(|| Error::Internal(format!("there is no output {i}")))?;
        Ok(self.plan.fetch(*var)?)
    }

    /// Runs once.
    ///
    /// # Errors
    /// Those of the plan.
    pub fn run(&mut self) -> Result<()> {
        Ok(self.plan.run_shared(&self.state, &[])?)
    }
}

fn repeated<T: Copy>(n: usize, mut draw: impl FnMut() -> T) -> Vec<T> {
    let drawn: Vec<T> = (0..n.min(DRAWN)).map(|_| draw()).collect();
    let mut values = Vec::with_capacity(n);
    while values.len() < n {
        values.extend_from_slice(&drawn[..drawn.len().min(n - values.len())]);
    }
    values
}

/// The bench cases whose `op/name` contains `filter`, with their ops.
pub fn cases(filter: Option<&str>) -> Vec<(&'static str, Case)> {
    let all = registry().into_iter().flat_map(|(op, c)| c.bench.into_iter().map(move |case| (op, case)));
    all.filter(|(op, case)| filter.is_none_or(|f| format!("{op}/{}", case.name).contains(f))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bench_case_is_recorded_and_has_work() {
        let device = Device::cpu(1);
        let all = cases(None);
        assert!(all.len() > 40);
        for (op, case) in &all {
            let p = BenchProgram::new(case, &device).unwrap_or_else(|e| panic!("{op} {}: {e}", case.name));
            assert!(p.cost.bytes > 0 && !p.spec.is_empty(), "{op} {}", case.name);
        }
        assert!(cases(Some("logsumexp/soft")).iter().all(|(s, c)| *s == "logsumexp" && c.name == "softmax"));
    }

    #[test]
    fn a_program_runs_on_its_inputs() {
        let (_, case) = cases(Some("label/gather")).remove(0);
        let mut p = BenchProgram::new(&case, &Device::cpu(1)).unwrap();
        p.fill().unwrap();
        p.run().unwrap();
        assert_eq!(repeated(3, || 7), [7; 3]);
    }
}
