//! Sums and broadcasts, which are each other's gradients.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs, check_inputs_bf16, cpu_kernel, cuda_kernel,
    cuda_launch, ensure, float, real,
};
use crate::ops::elementwise::Fill;
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::reduce;
use std::sync::Arc;

/// `out[c]` = Σ over all axes but the last.
#[derive(Clone, Copy, Debug)]
pub struct SumRows;

impl Op for SumRows {
    fn name(&self) -> &'static str {
        "sum_rows"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=1, &[], |_| true)?;
        ensure!(x[0].rank() > 1, "needs two axes or more, got {}", x[0]);
        Ok(vec![x[0].wide().with_shape(&[x[0].last()])])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        x[0].len() as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(2, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let sum = reduce::SumRows::new(x[0].rows(), x[0].last());
        let ws = sum.workspace() * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            sum.run(cpu, io.input::<T>(0)?, io.output::<T>(0)?, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let sum = reduce::cuda::Sum::rows(gpu, float(&x[0]), x[0].rows(), x[0].last())?;
        cuda_kernel(gpu, sum.workspace(), move |gpu, io| {
            Ok(sum.run(gpu, io.gpu_input(0)?, io.gpu_output(0)?, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let to = t.spec(node.inputs[0])?;
        Ok(vec![want.add(0, || t.one(BroadcastRows { to }, &[dy]))?])
    }
}

/// `v[c]` broadcast over all axes of `to` but the last.
#[derive(Clone, Copy, Debug)]
pub struct BroadcastRows {
    /// Spec of the output.
    pub to: Spec,
}

impl Op for BroadcastRows {
    fn name(&self) -> &'static str {
        "broadcast_rows"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        let fits = x[0].shape() == [self.to.last()] && x[0].dtype == self.to.dtype.wide();
        ensure!(fits, "{} cannot be broadcast to {}", x[0], self.to);
        Ok(vec![self.to])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            reduce::broadcast_rows(io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(
            gpu,
            x,
            y,
            reduce::cuda::broadcast_rows(gpu, float(&self.to), self.to.rows(), self.to.last())?,
        )
    }
    fn vjp(&self, t: &mut Tape, _: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(SumRows, &[u]))?])
    }
}

/// factor · Σ x: a scalar.
#[derive(Clone, Copy, Debug)]
pub struct SumAll {
    /// The factor.
    pub factor: f64,
}

impl Op for SumAll {
    fn name(&self) -> &'static str {
        "sum_all"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=1, &[], |_| true)?;
        Ok(vec![x[0].wide().with_shape(&[])])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        x[0].len() as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(reduce::cuda::launches(x[0].len()) as u64, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let factor = self.factor;
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            io.output::<T>(0)?[0] = reduce::sum_all(factor, io.input::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let sum = reduce::cuda::Sum::all(gpu, float(&x[0]), self.factor, x[0].len())?;
        cuda_kernel(gpu, sum.workspace(), move |gpu, io| {
            Ok(sum.run(gpu, io.gpu_input(0)?, io.gpu_output(0)?, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let (to, factor) = (t.spec(node.inputs[0])?, self.factor);
        let dx = want.add(0, || match Fill::scaled(t, dy, factor, to) {
            Some(constant) => t.one(constant, &[]),
            None => t.one(Spread { to, factor }, &[dy]),
        })?;
        Ok(vec![dx])
    }
}

/// factor · s in every element of a tensor of spec `to`, from the scalar s.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Spec of the output.
    pub to: Spec,
    /// The factor.
    pub factor: f64,
}

impl Op for Spread {
    fn name(&self) -> &'static str {
        "spread"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        let fits = x[0].len() == 1 && x[0].dtype == self.to.dtype.wide();
        ensure!(fits, "needs a scalar of {}, got {}", self.to.dtype.wide(), x[0]);
        Ok(vec![self.to])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let factor = self.factor;
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let v = io.input::<T>(0)?[0] * factor as T;
            io.output::<T>(0)?.fill(v);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, reduce::cuda::spread(gpu, float(&self.to), self.factor, y[0].len())?)
    }
    fn vjp(&self, t: &mut Tape, _: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(SumAll { factor: self.factor }, &[u]))?])
    }
}

/// `out[r, c]` = `x[r, c]`·`v[r]`.
#[derive(Clone, Copy, Debug)]
pub struct MulRows;

impl Op for MulRows {
    fn name(&self) -> &'static str {
        "mul_rows"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 2..=2, &[], |i| i == 0)?;
        ensure!(
            x[0].rank() == 2 && x[1].shape() == [x[0].first()],
            "a matrix {} needs one factor per row, got {}",
            x[0],
            x[1]
        );
        Ok(vec![x[0]])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            reduce::mul_rows(io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, reduce::cuda::mul_rows(gpu, float(&x[0]), x[0].first(), x[0].last())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        let (x, v) = (node.inputs[0], node.inputs[1]);
        Ok(vec![want.add(0, || t.one(Self, &[u, v]))?, want.add(1, || t.one(RowDot, &[x, u]))?])
    }
}

/// `out[r]` = Σ_c `x[r, c]`·`y[r, c]`.
#[derive(Clone, Copy, Debug)]
pub struct RowDot;

impl Op for RowDot {
    fn name(&self) -> &'static str {
        "row_dot"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 2..=2, &[], |_| true)?;
        ensure!(x[0].rank() == 2 && x[0] == x[1], "{} and {} differ or are not matrices", x[0], x[1]);
        Ok(vec![x[0].wide().with_shape(&[x[0].first()])])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        2 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            reduce::row_dot(io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, reduce::cuda::row_dot(gpu, float(&x[0]), x[0].first(), x[0].last())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        let (x, y) = (node.inputs[0], node.inputs[1]);
        Ok(vec![want.add(0, || t.one(MulRows, &[y, u]))?, want.add(1, || t.one(MulRows, &[x, u]))?])
    }
}

pub(super) fn cases() -> Cases {
    let rows = |t: &mut Tape, x: &[Var]| t.record(SumRows, x);
    let dot = |t: &mut Tape, x: &[Var]| t.record(RowDot, x);
    let mul = |t: &mut Tape, x: &[Var]| t.record(MulRows, x);
    let m: &[usize] = &[5, 7];
    Cases {
        small: vec![
            Case::new("sum_rows", &[(&[3, 5, 7, 3], F::Normal)], rows).bf16(&[0]),
            Case::new("broadcast_rows", &[(&[7], F::Normal)], |t, x| {
                let to = t.spec(x[0])?.with_shape(&[3, 2, 7]);
                t.record(BroadcastRows { to }, x)
            }),
            Case::new("sum_all", &[(m, F::Normal)], |t, x| t.record(SumAll { factor: -0.5 }, x)).bf16(&[0]),
            Case::new("spread", &[(&[], F::Normal)], |t, x| {
                let to = t.spec(x[0])?.with_shape(&[3, 4]);
                t.record(Spread { to, factor: 0.25 }, x)
            }),
            Case::new("mul_rows", &[(m, F::Normal), (&[5], F::Normal)], mul).bf16(&[0]),
            Case::new("row_dot", &[(m, F::Normal), (m, F::Normal)], dot).bf16(&[0, 1]),
        ],
        invalid: vec![
            Case::new("sum_rows", &[(&[3], F::Normal)], rows),
            Case::new("mul_rows", &[(m, F::Normal), (&[7], F::Normal)], mul),
            Case::new("row_dot", &[(m, F::Normal), (&[7, 5], F::Normal)], dot),
        ],
        bench: vec![
            Case::new("sum_rows", &[(&[192, 32, 32, 32], F::Normal)], rows).bf16(&[0]),
            Case::new("sum_rows", &[(&[192, 32, 32, 160], F::Normal)], rows).bf16(&[0]),
        ],
    }
}
