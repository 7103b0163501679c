//! Copies, constants, a·x + b·y and products, elementwise.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_kernel, cuda_launch,
    ensure, float, real,
};
use crate::spec::{DType, Spec};
use crate::tape::{Node, Tape, Var};
use core::any::Any;
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::elementwise;
use std::sync::Arc;

/// y = x, a copy.
#[derive(Debug)]
pub struct Identity;

impl Op for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        ensure!(x.len() == 1, "takes one input, got {}", x.len());
        Ok(x.to_vec())
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn gpu_work(&self, _: &[Spec], _: &[Spec]) -> GpuWork {
        // At most a copy.
        GpuWork::default()
    }
    fn cpu(&self, cpu: &Arc<Cpu>, _: &[Spec], _: &[Spec]) -> Prepared {
        cpu_kernel(cpu, 0, |_, io| {
            if let Some(x) = io.input_or_place::<u8>(0, 0)? {
                io.output::<u8>(0)?.copy_from_slice(x);
            }
            Ok(())
        })
    }
    fn cuda(&self, gpu: &Arc<Gpu>, _: &[Spec], _: &[Spec]) -> Result<Prepared> {
        cuda_kernel(gpu, 0, |gpu, io| {
            if !io.in_place(0, 0) {
                gpu.copy(io.gpu_input(0)?, io.gpu_output(0)?)?;
            }
            Ok(())
        })
    }
    fn vjp(&self, _: &mut Tape, _: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        Ok(vec![dy[0].filter(|_| want.needs(0)).map_or(Grad::None, Grad::Add)])
    }
}

/// A tensor whose elements all have one value.
#[derive(Debug)]
pub struct Fill {
    /// Its spec, of a real type.
    pub spec: Spec,
    /// Its value.
    pub value: f64,
}

impl Fill {
    /// The constant tensor of spec `spec` whose value is `factor` times that of `v`, if `v` is a constant tensor: what a kernel
    /// would compute, bit for bit.
    pub(crate) fn scaled(t: &Tape, v: Var, factor: f64, spec: Spec) -> Option<Self> {
        let value = Self::value_of(t, v)?;
        let value = match spec.dtype {
            DType::F64 => value * factor,
            _ => f64::from(value as f32 * factor as f32),
        };
        Some(Self { spec, value })
    }

    /// The value of all elements of `v`, if `v` is a constant tensor.
    pub(crate) fn value_of(t: &Tape, v: Var) -> Option<f64> {
        let op: &dyn Any = &*t.producer(v)?.op;
        op.downcast_ref::<Self>().map(|fill| fill.value)
    }
}

impl Op for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        ensure!(x.is_empty(), "takes no inputs, got {}", x.len());
        ensure!(self.spec.dtype.is_real(), "fills f32, f64 or bf16, not {}", self.spec);
        Ok(vec![self.spec])
    }
    fn is_zero(&self) -> bool {
        self.value == 0.0
    }
    fn cpu(&self, cpu: &Arc<Cpu>, _: &[Spec], _: &[Spec]) -> Prepared {
        let value = self.value;
        real!(self.spec, T => cpu_kernel(cpu, 0, move |_, io| {
            io.output::<T>(0)?.fill(value as T);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, elementwise::cuda::fill(gpu, float(&y[0]), self.value, y[0].len())?)
    }
    fn vjp(&self, _: &mut Tape, _: &Node, _: &[Option<Var>], _: &GradRequest) -> Result<Vec<Grad>> {
        Ok(Vec::new())
    }
}

/// a·x + b·y; with one input, a·x.
#[derive(Debug)]
pub struct Axpby {
    /// Factor of the first input.
    pub a: f64,
    /// Factor of the second.
    pub b: f64,
}

impl Op for Axpby {
    fn name(&self) -> &'static str {
        "axpby"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=2, &[], |_| true)?;
        ensure!(x.iter().all(|s| s == &x[0]), "shapes differ");
        Ok(vec![x[0]])
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (a, b, one) = (self.a, self.b, x.len() == 1);
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let x = io.input_or_place::<T>(0, 0)?;
            let out = io.output::<T>(0)?;
            if one {
                if let Some(x) = x {
                    out.copy_from_slice(x);
                }
                out.iter_mut().for_each(|o| *o *= a as T);
            } else {
                elementwise::axpby(cpu, a, x, b, io.input::<T>(1)?, out);
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let n = y[0].len();
        let launch = match x.len() {
            1 => elementwise::cuda::scale(gpu, float(&y[0]), self.a, n)?,
            _ => elementwise::cuda::axpby(gpu, float(&y[0]), self.a, self.b, n)?,
        };
        cuda_launch(gpu, x, y, launch)
    }
    fn vjp(&self, t: &mut Tape, _: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let spec = t.spec(dy)?;
        let mut scaled = |i: usize, f: f64| {
            want.add(i, || match Fill::scaled(t, dy, f, spec) {
                _ if f == 1.0 => Ok(dy),
                Some(constant) => t.one(constant, &[]),
                None => t.one(Self { a: f, b: 0.0 }, &[dy]),
            })
        };
        Ok(vec![scaled(0, self.a)?, scaled(1, self.b)?])
    }
}

/// x·y.
#[derive(Debug)]
pub struct Mul;

impl Op for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 2..=2, &[], |_| true)?;
        ensure!(x[0] == x[1], "shapes differ");
        Ok(vec![x[0]])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            elementwise::mul(cpu, io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, elementwise::cuda::mul(gpu, float(&y[0]), y[0].len())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let (x, y) = (node.inputs[0], node.inputs[1]);
        Ok(vec![want.add(0, || t.one(Self, &[dy, y]))?, want.add(1, || t.one(Self, &[dy, x]))?])
    }
}

pub(super) fn cases() -> Cases {
    let s: &[usize] = &[3, 5, 7, 2];
    let big: &[usize] = &[64, 32, 32, 32];
    let axpby = |t: &mut Tape, x: &[Var]| t.record(Axpby { a: 0.5, b: -2.0 }, x);
    let mul = |t: &mut Tape, x: &[Var]| t.record(Mul, x);
    Cases {
        small: vec![
            Case::new("axpby", &[(s, F::Normal), (s, F::Normal)], axpby).bf16(&[0, 1]),
            Case::new("scale", &[(s, F::Normal)], |t, x| t.record(Axpby { a: -3.0, b: 0.0 }, x)).bf16(&[0]),
            Case::new("mul", &[(s, F::Normal), (s, F::Normal)], mul).bf16(&[0, 1]),
            Case::new("square", &[(s, F::Normal)], |t, x| t.record(Mul, &[x[0], x[0]])).bf16(&[0]),
            Case::new("identity", &[(s, F::Normal)], |t, x| t.record(Identity, x)).bf16(&[0]),
            Case::new("fill", &[(s, F::Normal)], |t, x| {
                let spec = t.spec(x[0])?;
                let c = t.one(Fill { spec, value: 0.25 }, &[])?;
                t.record(Mul, &[x[0], c])
            })
            .bf16(&[0]),
        ],
        invalid: vec![
            Case::new("axpby", &[(s, F::Normal), (&[3], F::Normal)], axpby),
            Case::new("mul", &[(s, F::Normal), (s, F::Below(3))], mul),
        ],
        bench: vec![
            Case::new("axpby", &[(big, F::Normal), (big, F::Normal)], axpby).bf16(&[0, 1]),
            Case::new("mul", &[(big, F::Normal), (big, F::Normal)], mul).bf16(&[0, 1]),
            Case::new("axpby", &[(&[64, 32, 32, 160], F::Normal), (&[64, 32, 32, 160], F::Normal)], axpby)
                .bf16(&[0, 1]),
        ],
    }
}
