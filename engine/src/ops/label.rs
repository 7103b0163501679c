//! Gathering the label's logit, scattering to it, and counting correct predictions.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::label;
use std::sync::Arc;

fn logits_and_labels(x: &[Spec]) -> core::result::Result<(), String> {
    check_inputs(x, 2..=2, &[1])?;
    ensure!(x[0].rank() == 2, "needs N×classes logits, got {}", x[0]);
    ensure!(x[1].shape() == [x[0].first()], "needs {} labels, got {}", x[0].first(), x[1]);
    Ok(())
}

/// `y[n] = x[n, label[n]]`.
#[derive(Clone, Copy, Debug)]
pub struct GatherLabel;

impl Op for GatherLabel {
    fn name(&self) -> &'static str {
        "gather_label"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        logits_and_labels(x)?;
        Ok(vec![x[0].with_shape(&[x[0].first()])])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            label::gather(c, io.input::<T>(0)?, io.input::<i32>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, label::cuda::gather(gpu, x[0].first(), x[0].last())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let classes = t.spec(node.inputs[0])?.last();
        Ok(vec![want.add(0, || t.one(ScatterLabel { classes }, &[dy, node.inputs[1]]))?])
    }
}

/// `x[n, c]` = `v[n]` where c = `label[n]`, else 0.
#[derive(Clone, Copy, Debug)]
pub struct ScatterLabel {
    /// Number of classes.
    pub classes: usize,
}

impl Op for ScatterLabel {
    fn name(&self) -> &'static str {
        "scatter_label"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[1])?;
        ensure!(x[0].rank() == 1 && x[0].shape() == x[1].shape(), "{} and {} differ in shape", x[0], x[1]);
        Ok(vec![x[0].with_shape(&[x[0].first(), self.classes])])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = self.classes;
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            label::scatter(c, io.input::<T>(0)?, io.input::<i32>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, label::cuda::scatter(gpu, x[0].len(), self.classes)?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(GatherLabel, &[u, node.inputs[1]]))?])
    }
}

/// `y[n]` = 1 if the largest logit of row n is that of its label, else 0. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Hits;

impl Op for Hits {
    fn name(&self) -> &'static str {
        "hits"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        logits_and_labels(x)?;
        Ok(vec![x[0].with_shape(&[x[0].first()])])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            label::hits(c, io.input::<T>(0)?, io.input::<i32>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, label::cuda::hits(gpu, x[0].first(), x[0].last())?)
    }
}

pub(super) fn cases() -> Cases {
    let m: &[usize] = &[5, 7];
    let big: &[usize] = &[192, 10];
    let gather = |t: &mut Tape, x: &[Var]| t.record(GatherLabel, x);
    let scatter = |t: &mut Tape, x: &[Var]| t.record(ScatterLabel { classes: 7 }, x);
    let hits = |t: &mut Tape, x: &[Var]| t.record(Hits, x);
    Cases {
        small: vec![
            Case::new("gather", &[(m, F::Normal), (&[5], F::Below(7))], gather),
            Case::new("scatter", &[(&[5], F::Normal), (&[5], F::Below(7))], scatter),
            Case::new("hits", &[(m, F::Fixed), (&[5], F::Below(7))], hits),
        ],
        invalid: vec![
            Case::new("float labels", &[(m, F::Normal), (&[5], F::Normal)], gather),
            Case::new("label count", &[(m, F::Normal), (&[4], F::Below(7))], hits),
            Case::new("scatter", &[(m, F::Normal), (&[5], F::Below(7))], scatter),
        ],
        bench: vec![Case::new("gather", &[(big, F::Normal), (&[192], F::Below(10))], gather)],
    }
}
