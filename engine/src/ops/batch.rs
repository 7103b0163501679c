//! Rows of a batch: slices, their gradients, and concatenation.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs, check_inputs_bf16, cpu_kernel, cuda_kernel,
    cuda_launch, ensure, float, real,
};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::batch;
use std::sync::Arc;

/// Rows `start..start + rows` of the first axis.
#[derive(Clone, Copy, Debug)]
pub struct SliceRows {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub rows: usize,
}

impl Op for SliceRows {
    fn name(&self) -> &'static str {
        "slice_rows"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=1, &[], |_| true)?;
        let Self { start, rows } = *self;
        ensure!(x[0].rank() > 0 && rows > 0, "needs an axis and at least one row");
        ensure!(start + rows <= x[0].first(), "rows {start}..{} of {}", start + rows, x[0]);
        Ok(vec![x[0].with_first(rows)])
    }
    fn bytes(&self, _: &[Spec], y: &[Spec]) -> u64 {
        2 * y[0].bytes() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], y: &[Spec]) -> Prepared {
        let (at, len) = (self.start * x[0].row_len(), y[0].len());
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            io.output::<T>(0)?.copy_from_slice(&io.input::<T>(0)?[at..at + len]);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let (at, n) = (self.start * x[0].row_len(), y[0].len());
        cuda_launch(gpu, x, y, batch::cuda::copy(gpu, float(&y[0]), (x[0].len(), at), n, (n, 0))?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let of = t.spec(node.inputs[0])?.first();
        Ok(vec![want.add(0, || t.one(EmbedRows { start: self.start, of }, &[dy]))?])
    }
}

/// Places x at the rows `start..` of a tensor of `of` rows that is zero elsewhere: the gradient of [`SliceRows`].
#[derive(Clone, Copy, Debug)]
pub struct EmbedRows {
    /// First row.
    pub start: usize,
    /// Number of rows of the output.
    pub of: usize,
}

impl Op for EmbedRows {
    fn name(&self) -> &'static str {
        "embed_rows"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=1, &[], |_| true)?;
        ensure!(x[0].rank() > 0, "needs an axis");
        ensure!(self.start + x[0].first() <= self.of, "{} at row {} of {}", x[0], self.start, self.of);
        Ok(vec![x[0].with_first(self.of)])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (row, start) = (x[0].row_len(), self.start);
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            batch::embed(row, start, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let at = self.start * x[0].row_len();
        cuda_launch(gpu, x, y, batch::cuda::embed(gpu, float(&y[0]), x[0].len(), at, y[0].len())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        let rows = t.spec(node.inputs[0])?.first();
        Ok(vec![want.add(0, || t.one(SliceRows { start: self.start, rows }, &[u]))?])
    }
}

/// The concatenation of the inputs along the first axis.
#[derive(Clone, Copy, Debug)]
pub struct ConcatRows;

impl Op for ConcatRows {
    fn name(&self) -> &'static str {
        "concat_rows"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=usize::MAX, &[], |_| true)?;
        let same = |s: &Spec| s.rank() > 0 && s.with_first(1) == x[0].with_first(1);
        ensure!(x.iter().all(same), "inputs differ in more than the number of rows");
        Ok(vec![x[0].with_first(x.iter().map(Spec::first).sum())])
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(x.len() as u64, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let n = x.len();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let out = io.output::<T>(0)?;
            let mut at = 0;
            for i in 0..n {
                let part = io.input::<T>(i)?;
                out[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let mut at = 0;
        let mut parts = Vec::with_capacity(x.len());
        for part in x {
            parts.push(batch::cuda::copy(gpu, float(&y[0]), (part.len(), 0), part.len(), (y[0].len(), at))?);
            at += part.len();
        }
        cuda_kernel(gpu, 0, move |gpu, io| {
            for (i, part) in parts.iter().enumerate() {
                part.run(gpu, &[Some(io.gpu_input(i)?), Some(io.gpu_output(0)?)])?;
            }
            Ok(())
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let mut start = 0;
        let mut grads = Vec::new();
        for (i, v) in node.inputs.iter().enumerate() {
            let rows = t.spec(*v)?.first();
            grads.push(want.add(i, || t.one(SliceRows { start, rows }, &[dy]))?);
            start += rows;
        }
        Ok(grads)
    }
}

/// n scalars as one vector `[n]`, so that one readback brings them all. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Pack;

impl Op for Pack {
    fn name(&self) -> &'static str {
        "pack"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=usize::MAX, &[])?;
        ensure!(x.iter().all(|s| s.len() == 1), "packs scalars");
        Ok(vec![x[0].with_shape(&[x.len()])])
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(x.len() as u64, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], y: &[Spec]) -> Prepared {
        ConcatRows.cpu(cpu, x, y)
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        ConcatRows.cuda(gpu, x, y)
    }
}

pub(super) fn cases() -> Cases {
    let pack = |t: &mut Tape, x: &[Var]| t.record(Pack, x);
    let s: &[usize] = &[5, 3, 2];
    let cut = |t: &mut Tape, x: &[Var]| t.record(SliceRows { start: 1, rows: 3 }, x);
    let embed = |t: &mut Tape, x: &[Var]| t.record(EmbedRows { start: 2, of: 9 }, x);
    let join = |t: &mut Tape, x: &[Var]| t.record(ConcatRows, x);
    let image: &[usize] = &[64, 32, 32, 3];
    Cases {
        small: vec![
            Case::new("slice", &[(s, F::Normal)], cut).bf16(&[0]),
            Case::new("embed", &[(s, F::Normal)], embed).bf16(&[0]),
            Case::new("concat", &[(s, F::Normal), (&[2, 3, 2], F::Normal), (s, F::Normal)], join)
                .bf16(&[0, 1, 2]),
            Case::new("pack", &[(&[], F::Fixed), (&[1], F::Fixed), (&[], F::Fixed)], pack),
        ],
        invalid: vec![
            Case::new("slice", &[(&[2, 3], F::Normal)], cut),
            Case::new("embed", &[(&[8, 3], F::Normal)], embed),
            Case::new("concat", &[(s, F::Normal), (&[2, 4, 2], F::Normal)], join),
            Case::new("pack", &[(&[], F::Fixed), (&[2], F::Fixed)], pack),
        ],
        bench: vec![
            Case::new("concat", &[(image, F::Normal), (image, F::Normal), (image, F::Normal)], join)
                .bf16(&[0, 1, 2]),
        ],
    }
}
