//! The replay buffer of sampling chains: gathering and scattering rows, and restarting chains.

use super::noise::{seed_and_step, sequence};
use crate::case::{Case, Cases, FillWith as F};
use crate::op::{GpuWork, Op, Prepared, check_inputs, cpu_kernel, cuda_kernel, cuda_launch, ensure, real};
use crate::rng::Stream;
use crate::spec::{DType, Spec};
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
pub use kernels::ops::replay::Kind as RestartKind;
use kernels::ops::replay::{self, ByClass};
use std::sync::Arc;

/// Rows of a buffer by index. Inputs: buffer, B×…; index `i32[n]`. Output: n×…. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct GatherRows;

impl Op for GatherRows {
    fn name(&self) -> &'static str {
        "gather_rows"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[1])?;
        ensure!(x[0].rank() > 1 && x[1].rank() == 1, "needs a buffer of rows and a list of indices");
        Ok(vec![x[0].with_first(x[1].len())])
    }
    fn flops(&self, _: &[Spec], _: &[Spec]) -> u64 {
        0
    }
    fn bytes(&self, x: &[Spec], y: &[Spec]) -> u64 {
        (x[1].bytes() + 2 * y[0].bytes()) as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let row = x[0].row_len();
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            replay::gather(cpu, row, io.input::<T>(0)?, io.input::<i32>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        let launch = replay::cuda::gather(gpu, x[0].first(), x[0].row_len(), x[1].len())?;
        cuda_launch(gpu, x, y, launch)
    }
}

/// A buffer with rows replaced. Inputs: buffer, B×…; index `i32[n]`; x, n×…. Output: B×…. Of equal indices the last wins. Not
/// differentiable.
#[derive(Clone, Copy, Debug)]
pub struct ScatterRows;

impl Op for ScatterRows {
    fn name(&self) -> &'static str {
        "scatter_rows"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 3..=3, &[1])?;
        ensure!(x[0].rank() > 1 && x[1].rank() == 1, "needs a buffer of rows and a list of indices");
        ensure!(x[2] == x[0].with_first(x[1].len()), "the rows {} do not fit", x[2]);
        Ok(vec![x[0]])
    }
    fn flops(&self, _: &[Spec], _: &[Spec]) -> u64 {
        0
    }
    fn bytes(&self, x: &[Spec], _: &[Spec]) -> u64 {
        // In place, as in training, only the replaced rows are touched.
        (x[1].bytes() + 2 * x[2].bytes()) as u64
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(2, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let row = x[0].row_len();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let (b, i, x) = (io.input_or_place::<T>(0, 0)?, io.input::<i32>(1)?, io.input::<T>(2)?);
            replay::scatter(row, b, i, x, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> crate::error::Result<Prepared> {
        let scatter = replay::cuda::Scatter::new(gpu, x[0].first(), x[0].row_len(), x[1].len())?;
        cuda_kernel(gpu, scatter.workspace(), move |gpu, io| {
            let out = io.gpu_output(0)?;
            if !io.in_place(0, 0) {
                gpu.copy(io.gpu_input(0)?, out)?;
            }
            Ok(scatter.run(gpu, io.gpu_input(1)?, io.gpu_input(2)?, out, io.gpu_workspace()?)?)
        })
    }
}

/// Chains, some of them restarted, by kind and class; see [`kernels::ops::replay::restart`]. Not differentiable.
///
/// Inputs: x n×H×W×C; kind `i32[n]` (a [`RestartKind`]); class `i32[n]`; training images `u8[N, H·W·C]` sorted by class;
/// offsets `i32[classes + 1]`; means `f32[classes, H·W·C]`; seed `i32[2]`; step `i32[1]`.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// The stream that restarts are drawn from.
    pub stream: Stream,
}

impl Op for Restart {
    fn name(&self) -> &'static str {
        "restart"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        ensure!(x.len() == 8, "takes 8 inputs, got {}", x.len());
        let (n, row) = (x[0].first(), x[0].row_len());
        ensure!(x[0].dtype == DType::F32 && x[0].rank() == 4, "needs f32 N×H×W×C images, got {}", x[0]);
        ensure!(
            x[1] == Spec::i32(&[n]) && x[2] == Spec::i32(&[n]),
            "needs a kind and a class for each image"
        );
        ensure!(
            x[3].dtype == DType::U8 && x[3].rank() == 2 && x[3].last() == row,
            "{} is not a list of images",
            x[3]
        );
        ensure!(
            x[4].dtype == DType::I32 && x[4].rank() == 1 && x[4].len() > 1,
            "{} is not a list of offsets",
            x[4]
        );
        ensure!(x[5] == Spec::f32(&[x[4].len() - 1, row]), "{} does not hold the class means", x[5]);
        seed_and_step(&x[6], &x[7])?;
        Ok(vec![x[0]])
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn bytes(&self, x: &[Spec], y: &[Spec]) -> u64 {
        // Images and means are read for chains that restart only, and how many do is not known before a run.
        (x[0].bytes() + y[0].bytes()) as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(2, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (row, stream) = (x[0].row_len(), self.stream);
        cpu_kernel(cpu, 0, move |cpu, io| {
            let data = ByClass { images: io.input(3)?, offsets: io.input(4)?, means: io.input(5)? };
            let (x, kind, class) = (io.input_or_place::<f32>(0, 0)?, io.input(1)?, io.input(2)?);
            replay::restart(cpu, row, data, x, kind, class, sequence(io, 6, stream)?, io.output::<f32>(0)?);
            Ok(())
        })
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> crate::error::Result<Prepared> {
        let (chains, data) = ((x[0].first(), x[0].row_len()), (x[3].first(), x[4].len() - 1));
        let restart = replay::cuda::Restart::new(gpu, chains, data, self.stream.number())?;
        cuda_kernel(gpu, restart.workspace(), move |gpu, io| {
            let from = replay::cuda::From {
                x: io.gpu_input(0)?,
                kind: io.gpu_input(1)?,
                class: io.gpu_input(2)?,
                images: io.gpu_input(3)?,
                offsets: io.gpu_input(4)?,
                means: io.gpu_input(5)?,
                seed: io.gpu_input(6)?,
                step: io.gpu_input(7)?,
            };
            Ok(restart.run(gpu, from, io.gpu_output(0)?, io.gpu_workspace()?)?)
        })
    }
}

fn restart_case(n: usize, images: usize, side: usize, kinds: Vec<i32>) -> Case {
    let row = side * side * 3;
    let half = images as i32 / 2;
    Case::new(
        format!("restart {n}"),
        &[
            (&[n, side, side, 3], F::Fixed),
            (&[n], F::Ints(kinds)),
            (&[n], F::Below(2)),
            (&[images, row], F::Bytes),
            (&[3], F::Ints(vec![0, half, images as i32])),
            (&[2, row], F::Fixed),
            (&[2], F::Ints(vec![1, 2])),
            (&[1], F::Ints(vec![3])),
        ],
        |t, x| t.record(Restart { stream: Stream::TEST }, x),
    )
}

pub(super) fn cases() -> Cases {
    let gather = |t: &mut Tape, x: &[Var]| t.record(GatherRows, x);
    let scatter = |t: &mut Tape, x: &[Var]| t.record(ScatterRows, x);
    let (b, x): (&[usize], &[usize]) = (&[9, 2, 3], &[4, 2, 3]);
    let big: &[usize] = &[10_000, 32, 32, 3];
    let batch: &[usize] = &[64, 32, 32, 3];
    let mut kinds = vec![0; 64];
    (kinds[3], kinds[20], kinds[50], kinds[51]) = (1, 1, 1, 2);
    Cases {
        small: vec![
            Case::new("gather", &[(b, F::Fixed), (&[4], F::Below(9))], gather),
            Case::new("scatter", &[(b, F::Fixed), (&[4], F::Ints(vec![3, 8, 3, 0])), (x, F::Fixed)], scatter),
            restart_case(4, 10, 3, vec![0, 1, 2, 1]),
        ],
        invalid: vec![
            Case::new("gather", &[(b, F::Fixed), (&[4], F::Fixed)], gather),
            Case::new("scatter", &[(b, F::Fixed), (&[3], F::Below(9)), (x, F::Fixed)], scatter),
        ],
        bench: vec![
            Case::new("gather", &[(big, F::Fixed), (&[64], F::Below(10_000))], gather),
            Case::new("scatter", &[(big, F::Fixed), (&[64], F::Below(10_000)), (batch, F::Fixed)], scatter),
            restart_case(64, 10_000, 32, kinds),
        ],
    }
}
