//! Batches of training images from the bytes of a data set: cropped, mirrored, with noise.

use super::noise::{seed_and_step, sequence};
use crate::case::{Case, Cases, FillWith as F};
use crate::op::{Op, Prepared, cpu_kernel, cuda_launch, ensure};
use crate::rng::Stream;
use crate::spec::{DType, Spec};
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::augment;
pub use kernels::ops::augment::{Args, value};
use std::sync::Arc;

/// Images by index, cropped, mirrored and with noise: see [`kernels::ops::augment`]. Not differentiable.
///
/// Inputs: images `u8[N, H·W·C]`; index `i32[n]`; seed `i32[2]`; step `i32[1]`. Output: `f32[n, H, W, C]`, in [−1, 1] before
/// noise; an image whose index is out of range is all NaN.
#[derive(Clone, Copy, Debug)]
pub struct Augment {
    /// Which augmentations, and how strong.
    pub args: Args,
    /// H, W and C.
    pub size: [usize; 3],
    /// The stream that crops, flips and noise are drawn from.
    pub stream: Stream,
}

impl Op for Augment {
    fn name(&self) -> &'static str {
        "augment"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        ensure!(x.len() == 4, "takes 4 inputs, got {}", x.len());
        let [h, w, c] = self.size;
        let list = x[0].dtype == DType::U8 && x[0].rank() == 2 && x[0].last() == h * w * c;
        ensure!(list, "{} is not a list of {h}×{w}×{c} images", x[0]);
        ensure!(x[1].dtype == DType::I32 && x[1].rank() == 1, "needs a list of indices, got {}", x[1]);
        let pad = self.args.pad;
        ensure!(pad < h.min(w), "a reflected border of {pad} pixels needs images larger than {h}×{w}");
        seed_and_step(&x[2], &x[3])?;
        Ok(vec![Spec::f32(&[x[1].len(), h, w, c])])
    }
    fn flops(&self, _: &[Spec], y: &[Spec]) -> u64 {
        if self.args.sigma > 0.0 { 40 * y[0].len() as u64 } else { 0 }
    }
    fn bytes(&self, x: &[Spec], y: &[Spec]) -> u64 {
        (y[0].len() + y[0].bytes() + x[1].bytes()) as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, _: &[Spec], _: &[Spec]) -> Prepared {
        let op = *self;
        cpu_kernel(cpu, 0, move |cpu, io| {
            let (images, index, at) = (io.input(0)?, io.input(1)?, sequence(io, 2, op.stream)?);
            augment::cpu(cpu, op.args, op.size, images, index, at, io.output::<f32>(0)?);
            Ok(())
        })
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        let (count, n) = (x[0].first(), x[1].len());
        let launch = augment::cuda::augment(gpu, self.args, self.size, count, n, self.stream.number())?;
        cuda_launch(gpu, x, y, launch)
    }
}

pub(super) fn cases() -> Cases {
    let case = |name: &str, args: Args, size: [usize; 3], images: usize, n: usize| {
        let inputs: [(&[usize], F); 4] = [
            (&[images, size.iter().product()], F::Bytes),
            (&[n], F::Below(images as i32)),
            (&[2], F::Ints(vec![7, -3])),
            (&[1], F::Ints(vec![5])),
        ];
        Case::new(name, &inputs, move |t: &mut Tape, x: &[Var]| {
            t.record(Augment { args, size, stream: Stream::TEST }, x)
        })
    };
    let all = Args { pad: 2, flip: true, sigma: 0.1 };
    Cases {
        small: vec![
            case("crop, mirror, noise", all, [5, 7, 3], 4, 6),
            case("plain", Args::default(), [3, 3, 1], 4, 3),
        ],
        invalid: vec![case("border", Args { pad: 3, ..all }, [3, 9, 1], 4, 3)],
        bench: vec![case("crop, mirror, noise", Args { pad: 4, ..all }, [32, 32, 3], 10_000, 64)],
    }
}
