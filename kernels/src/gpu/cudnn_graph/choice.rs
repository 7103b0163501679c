//! The engine of a convolution: measured once per shape, then remembered.
//!
//! What must hold: an engine is chosen only if it has given the same bits twice; a choice depends on what [`question`]
//! names, and on nothing else.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cudarc::cudnn::sys::cudnnHandle_t;

use super::convolution::{ConvPass, ConvSpec};
use super::descriptor::Target;
use super::engine::{Config, Engine, allowed};
use super::graph::{Graph, Heuristic};
use super::plan::Plan;
use crate::conv_shape::ConvShape;
use crate::gpu::autotune::{self, MAX_WORKSPACE};
use crate::gpu::driver::{Buffer, Gpu, Precision};
use crate::gpu::error::GpuError;
use crate::gpu::libraries::{Id, Status, libraries};

/// Engine configurations that are measured at most, the most promising first.
const MEASURED: usize = 32;
/// Bytes at either end of a result that must be the same in two runs.
const COMPARED: usize = 8 << 20;

/// The engine that a convolution runs by.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvChoice {
    /// The convolution.
    pub spec: ConvSpec,
    /// The precision of its products.
    pub precision: Precision,
    /// cuDNN's number of the engine, and the values of its knobs by their types.
    pub engine: String,
    /// Seconds that a run takes on the device, as measured when the engine was chosen; `None` if there was no memory to
    /// measure with.
    pub seconds: Option<f64>,
    /// Bytes of workspace.
    pub workspace: usize,
}

impl ConvChoice {
    /// The rate of its products, in 10¹² FLOPs per second.
    #[must_use]
    pub fn tflop_per_s(&self) -> Option<f64> {
        self.seconds.map(|seconds| self.spec.shape.flops() as f64 / seconds / 1e12)
    }
}

/// The choices that convolutions on a device were prepared with.
#[derive(Default)]
struct Prepared(Mutex<BTreeMap<String, ConvChoice>>);

impl Gpu {
    /// The engines of all convolutions that were prepared on this device, in the order of their descriptions.
    #[must_use]
    pub fn conv_choices(&self) -> Vec<ConvChoice> {
        let table = self.attached::<Prepared>().0.lock().unwrap_or_else(PoisonError::into_inner);
        table.values().cloned().collect()
    }
}

/// An engine with the time that it takes, as kept in the cache: `engine 62, knobs 2=5; 0.000123 s`.
#[derive(Clone, Debug)]
struct Answer {
    engine: Engine,
    seconds: Option<f64>,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (engine, seconds) = match text.split_once("; ") {
            Some((engine, seconds)) => (engine, Some(seconds.strip_suffix(" s")?.parse().ok()?)),
            None => (text, None),
        };
        Some(Self { engine: engine.parse().ok()?, seconds })
    }

    fn text(&self) -> String {
        match self.seconds {
            Some(seconds) => format!("{}; {seconds:.9} s", self.engine),
            None => self.engine.to_string(),
        }
    }
}

/// Everything that a choice may depend on, on one line. Cached choices and trainer states contain it.
fn question(gpu: &Gpu, of: ConvSpec) -> String {
    let version = match libraries().require(Id::Cudnn).map(|l| &l.status) {
        Ok(Status::Found { version, .. }) => version.to_string(),
        _ => String::new(),
    };
    let ConvShape { n, h, w, c, k, r, s, stride, pad } = of.shape;
    // These names are part of cached questions and of trainer states: they must not change.
    let result = match of.pass {
        ConvPass::Forward => "Output",
        ConvPass::InputGrad => "Input",
        ConvPass::WeightGrad => "Filters",
    };
    let added = if of.accumulate { ", added" } else { "" };
    let (device, precision, float) = (gpu.device(), of.precision(gpu.precision()), of.float);
    let (major, minor) = device.compute_capability;
    format!(
        "cuDNN {version}, {} {major}.{minor}, {precision:?}, {float:?}, {result}: {n}x{h}x{w}x{c} by {k}x{r}x{s}, \
         stride {stride}, pad {pad}{added}",
        device.name
    )
}

/// The fastest engine with its plan: the one remembered for this shape, or else the one that is fastest now.
pub(super) fn choose(
    gpu: &Gpu,
    handle: cudnnHandle_t,
    target: &Target,
    graph: &Graph,
    spec: ConvSpec,
) -> Result<(Engine, Plan), GpuError> {
    let (question, precision) = (question(gpu, spec), spec.precision(gpu.precision()));
    let remembered = autotune::remembered(gpu, &question).and_then(|text| Answer::parse(&text));
    let rebuilt = remembered.and_then(|answer| {
        let plan = plan_of(target, graph, &answer.engine, precision).ok()?;
        (plan.workspace <= MAX_WORKSPACE).then_some((answer, plan))
    });
    let (answer, plan) = match rebuilt {
        Some(found) => found,
        None => {
            let (answer, plan) = Measuring { gpu, handle, spec }.fastest(target, graph, precision)?;
            if answer.seconds.is_some() {
                autotune::store(&question, &answer.text());
            }
            (answer, plan)
        }
    };
    let choice = ConvChoice {
        spec,
        precision,
        engine: answer.engine.to_string(),
        seconds: answer.seconds,
        workspace: plan.workspace,
    };
    let mut prepared = gpu.attached::<Prepared>().0.lock().unwrap_or_else(PoisonError::into_inner);
    prepared.insert(question.clone(), choice);
    autotune::remember(gpu, question, answer.text());
    Ok((answer.engine, plan))
}

/// The plan of an engine that was chosen before.
fn plan_of(target: &Target, graph: &Graph, engine: &Engine, precision: Precision) -> Result<Plan, GpuError> {
    let config = Config::new(graph, target, engine)?;
    if !allowed(&config.notes()?, precision) {
        return Err(GpuError::shape("convolution", "the engine is not allowed at this precision"));
    }
    Plan::new(target, config, graph)
}

/// The configurations that are allowed, the most promising first, each once.
///
/// # Errors
/// cuDNN's error if it proposes none.
pub(super) fn candidates(
    target: &Target,
    graph: &Graph,
    precision: Precision,
) -> Result<Vec<(Engine, Config)>, GpuError> {
    let (mut found, mut refusal) = (Vec::<(Engine, Config)>::new(), None);
    for heuristic in [Heuristic::Best, Heuristic::Fallback] {
        let proposed = match graph.propose(target, heuristic) {
            Ok(proposed) => proposed,
            Err(error) => {
                refusal = Some(error);
                continue;
            }
        };
        for config in proposed {
            if !allowed(&config.notes()?, precision) {
                continue;
            }
            let engine = config.engine()?;
            if found.iter().all(|(other, _)| *other != engine) {
                found.push((engine, config));
            }
        }
    }
    match found.is_empty() {
        true => Err(refusal.unwrap_or_else(none)),
        false => Ok(found),
    }
}

/// A convolution whose engines are measured.
struct Measuring<'a> {
    gpu: &'a Gpu,
    handle: cudnnHandle_t,
    spec: ConvSpec,
}

impl Measuring<'_> {
    /// The fastest engine that repeats its bits. If there is no memory to measure with, the first that fits.
    fn fastest(
        &self,
        target: &Target,
        graph: &Graph,
        precision: Precision,
    ) -> Result<(Answer, Plan), GpuError> {
        let most = autotune::workspace_limit(self.gpu)?;
        let all = candidates(target, graph, precision)?;
        let (mut refusal, mut plans) = (none(), Vec::new());
        for (engine, config) in all.into_iter().take(MEASURED) {
            match Plan::new(target, config, graph) {
                Ok(plan) if plan.workspace <= most => plans.push((engine, plan)),
                Ok(_) => {}
                Err(error) => refusal = error,
            }
        }
        let buffers = match self.operands() {
            Ok(buffers) => buffers,
            Err(GpuError::OutOfMemory { .. }) => {
                let first = plans.into_iter().next().ok_or(refusal)?;
                return Ok((Answer { engine: first.0, seconds: None }, first.1));
            }
            Err(error) => return Err(error),
        };
        // What is chosen was once the best so far, so it was checked: an earlier one stands unless it is clearly beaten.
        let (mut timed, mut seconds, mut best) = (Vec::new(), Vec::new(), f64::INFINITY);
        for (engine, plan) in plans {
            let time = match self.time(&plan, &buffers, best) {
                Ok(Some(time)) => time,
                Ok(None) => continue,
                Err(error) => {
                    refusal = error;
                    continue;
                }
            };
            if time < best && !self.repeats(&plan, &buffers)? {
                self.gpu.note(format!("cuDNN's {engine} gives other bits each time and is not used"));
                continue;
            }
            best = best.min(time);
            timed.push((engine, plan));
            seconds.push(time);
        }
        let Some(i) = autotune::fastest(&seconds) else { return Err(refusal) };
        let (engine, plan) = timed.swap_remove(i);
        Ok((Answer { engine, seconds: Some(seconds[i]) }, plan))
    }

    fn operands(&self) -> Result<[Buffer<u8>; 3], GpuError> {
        let [a, b, out] = self.spec.lengths();
        let float = self.spec.float;
        Ok([
            autotune::operand(self.gpu, float, a, 1)?,
            autotune::operand(self.gpu, float, b, 2)?,
            self.gpu.zeros(out * float.size())?,
        ])
    }

    fn run(&self, plan: &Plan, buffers: &[Buffer<u8>; 3], space: &Buffer<u8>) -> Result<(), GpuError> {
        let [a, b, out] = buffers;
        let addresses = [self.gpu.pointer(a)?, self.gpu.pointer(b)?, self.gpu.pointer(out)?];
        let space = self.gpu.pointer(space)?;
        // SAFETY: the plan was made for this handle; the buffers have the lengths of its tensors and live until the
        // caller has waited.
        unsafe { plan.run(self.handle, &addresses, space) }
    }

    /// Seconds that a run takes; `None` if that is clearly more than `best`.
    fn time(&self, plan: &Plan, buffers: &[Buffer<u8>; 3], best: f64) -> Result<Option<f64>, GpuError> {
        let space = self.gpu.zeros::<u8>(plan.workspace)?;
        autotune::seconds(self.gpu, best, || self.run(plan, buffers, &space))
    }

    /// Whether a plan gives the same bits twice.
    fn repeats(&self, plan: &Plan, buffers: &[Buffer<u8>; 3]) -> Result<bool, GpuError> {
        let space = self.gpu.zeros::<u8>(plan.workspace)?;
        let out = &buffers[2];
        let len = out.len().min(COMPARED);
        let result = || {
            self.gpu.clear(self.gpu.span(out)?)?;
            self.run(plan, buffers, &space)?;
            let (mut start, mut end) = (vec![0u8; len], vec![0u8; len]);
            self.gpu.read_at(out, 0, &mut start)?;
            self.gpu.read_at(out, out.len() - len, &mut end)?;
            Ok::<_, GpuError>((start, end))
        };
        Ok(result()? == result()?)
    }
}

fn none() -> GpuError {
    GpuError::shape("convolution", "cuDNN has no engine for it that adds in a fixed order at this precision")
}

#[cfg(test)]
mod tests;
