//! Plans for a device that need not be present, described by cuDNN's JSON: what cuDNN supports, known without running
//! it.

use super::choice::candidates;
use super::convolution::ConvSpec;
use super::descriptor::{Properties, Target};
use super::engine::Config;
use super::graph::Graph;
use super::norm::NormSpec;
use super::patterns::Pattern;
use super::plan::{Plan, Plans};
use crate::conv_shape::ConvShape;
use crate::dtype::Float;
use crate::gpu::autotune::MAX_WORKSPACE;
use crate::gpu::driver::Precision;
use crate::gpu::error::GpuError;

/// An engine that supports a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnginePlan {
    /// The engine, by cuDNN's number, with the values of its knobs.
    pub engine: String,
    /// Bytes of workspace.
    pub workspace: usize,
}

/// Compiles plans of a pattern for the device that `json` describes. Returns the engines that support it, by global
/// index, with the bytes of workspace that each needs.
///
/// # Errors
/// Why cuDNN cannot be used, or its error.
pub fn plans_for(
    json: &str,
    pattern: Pattern,
    shape: ConvShape,
    float: Float,
    leak: f64,
    most: usize,
) -> Result<Vec<(i64, usize)>, GpuError> {
    let target = Target::Properties(Properties::from_json(json)?);
    let plans = Plans::compile(pattern.build(shape, float, leak)?, &target, (most, MAX_WORKSPACE))?;
    plans.iter().map(|p| Ok((p.engine()?, p.workspace))).collect()
}

/// Compiles the plan by which a batch norm would run on the device that `json` describes.
///
/// # Errors
/// Why cuDNN cannot be used, or its error.
pub fn norm_plan_for(json: &str, spec: NormSpec) -> Result<EnginePlan, GpuError> {
    let target = Target::Properties(Properties::from_json(json)?);
    let graph = Graph::new(spec.build()?, &target)?;
    let plan = spec.plan(&target, &graph, MAX_WORKSPACE)?;
    Ok(EnginePlan { engine: plan.text()?, workspace: plan.workspace })
}

/// Compiles plans of a convolution for the device that `json` describes, computing in `precision`: the first `most`
/// allowed engines that support it, the most promising first. Each was compiled a second time from its text alone, as an
/// engine from the cache is.
///
/// # Errors
/// Why cuDNN cannot be used, or its error.
pub fn conv_plans_for(
    json: &str,
    spec: ConvSpec,
    precision: Precision,
    most: usize,
) -> Result<Vec<EnginePlan>, GpuError> {
    let target = Target::Properties(Properties::from_json(json)?);
    let graph = Graph::new(spec.build()?, &target)?;
    let mut plans = Vec::new();
    for (engine, config) in candidates(&target, &graph, spec.precision(precision))? {
        if plans.len() >= most {
            break;
        }
        let Ok(plan) = Plan::new(&target, config, &graph) else { continue };
        let text = engine.to_string();
        let kept = text.parse().map_err(|()| GpuError::shape("a cuDNN graph", "an engine without a text"))?;
        let again = Plan::new(&target, Config::new(&graph, &target, &kept)?, &graph)?;
        if again.workspace != plan.workspace {
            return Err(GpuError::shape("a cuDNN graph", format!("{text} is not the same a second time")));
        }
        if plan.workspace <= MAX_WORKSPACE {
            plans.push(EnginePlan { engine: text, workspace: plan.workspace });
        }
    }
    Ok(plans)
}
