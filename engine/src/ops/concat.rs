//! Concatenation of images along their channels, with zero padding around. With one input it only pads, also by different
//! amounts horizontally and vertically.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_kernel, cuda_launch, ensure,
    real,
};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
pub use kernels::ops::concat::Frame;
use kernels::ops::concat::{self, Inside};
use std::sync::Arc;

/// The concatenation of N×H×W×C inputs along the channels, zero-padded. The inputs differ in C only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Concat {
    /// The padding.
    pub frame: Frame,
}

impl Concat {
    /// Where each input lies in the output, and how many channels of zeros before and after it are written with it.
    fn places(&self, x: &[Spec]) -> Vec<(Inside, [usize; 2])> {
        let (mut before, mut left) = (self.frame.before, x.iter().map(Spec::last).sum::<usize>());
        let mut out = Vec::with_capacity(x.len());
        for (i, x) in x.iter().enumerate() {
            let (c, size) = (x.last(), |i| x.shape().get(i).copied().unwrap_or(0));
            left -= c;
            let frame = Frame { before, after: left + self.frame.after, ..self.frame };
            before += c;
            let zeros = [if i == 0 { frame.before } else { 0 }, if left == 0 { frame.after } else { 0 }];
            out.push((Inside { n: x.first(), h: size(1), w: size(2), c, frame }, zeros));
        }
        out
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=usize::MAX, &[])?;
        let Frame { rows, columns, before, after } = self.frame;
        let mut channels = before + after;
        for (i, v) in x.iter().enumerate() {
            ensure!(v.rank() == 4 && v.last() > 0, "needs N×H×W×C, got {v}");
            ensure!(v.shape()[..3] == x[0].shape()[..3], "image {i} is {v}, the first {}", x[0]);
            channels += v.last();
        }
        let s = x[0].shape();
        Ok(vec![x[0].with_shape(&[s[0], s[1] + 2 * rows, s[2] + 2 * columns, channels])])
    }
    fn flops(&self, _: &[Spec], _: &[Spec]) -> u64 {
        0
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(x.len() as u64, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let places = self.places(x);
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let y = io.output::<T>(0)?;
            for (i, (inside, zeros)) in places.iter().enumerate() {
                concat::place(cpu, inside, *zeros, io.input::<T>(i)?, y);
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let launch = |(inside, zeros): &(Inside, [usize; 2])| concat::cuda::place(gpu, inside, *zeros);
        let launches = self.places(x).iter().map(launch).collect::<core::result::Result<Vec<_>, _>>()?;
        cuda_kernel(gpu, 0, move |gpu, io| {
            for (i, launch) in launches.iter().enumerate() {
                launch.run(gpu, &[Some(io.gpu_input(i)?), Some(io.gpu_output(0)?)])?;
            }
            Ok(())
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let specs = node.inputs.iter().map(|x| t.spec(*x)).collect::<Result<Vec<_>>>()?;
        let places = self.places(&specs).into_iter().enumerate();
        places.map(|(i, (v, _))| want.add(i, || t.one(Cut { frame: v.frame }, &[dy]))).collect()
    }
}

/// The part of an image that lies inside a frame: the gradient of [`Concat`] for one of its inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cut {
    /// The frame that is cut off.
    pub frame: Frame,
}

impl Cut {
    fn inside(&self, x: &Spec) -> core::result::Result<Inside, String> {
        let Frame { rows, columns, before, after } = self.frame;
        let &[n, h, w, c] = x.shape() else { return Err(format!("needs N×H×W×C, got {x}")) };
        ensure!(
            h > 2 * rows && w > 2 * columns && c > before + after,
            "nothing of {x} is inside the frame {:?}",
            self.frame
        );
        Ok(Inside { n, h: h - 2 * rows, w: w - 2 * columns, c: c - before - after, frame: self.frame })
    }
}

impl Op for Cut {
    fn name(&self) -> &'static str {
        "cut"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        let v = self.inside(&x[0])?;
        Ok(vec![x[0].with_shape(&[v.n, v.h, v.w, v.c])])
    }
    fn flops(&self, _: &[Spec], _: &[Spec]) -> u64 {
        0
    }
    fn bytes(&self, _: &[Spec], y: &[Spec]) -> u64 {
        2 * y[0].bytes() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(v) = self.inside(&x[0]) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            concat::cut(cpu, &v, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let fits = self.inside(&x[0]);
        let v =
            fits.map_err(|_| crate::Error::Unsupported { op: self.name(), why: "its shapes do not fit" })?;
        cuda_launch(gpu, x, y, concat::cuda::cut(gpu, &v)?)
    }
    fn vjp(&self, t: &mut Tape, _: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(Concat { frame: self.frame }, &[dy]))?])
    }
}

pub(super) fn cases() -> Cases {
    let side = |t: &mut Tape, x: &[Var]| t.record(Concat::default(), x);
    let all = Frame { rows: 2, columns: 1, before: 3, after: 2 };
    let framed = move |t: &mut Tape, x: &[Var]| t.record(Concat { frame: all }, x);
    let margin = Frame { columns: 3, ..Frame::default() };
    let wide = move |t: &mut Tape, x: &[Var]| t.record(Concat { frame: margin }, x);
    let cut = move |t: &mut Tape, x: &[Var]| t.record(Cut { frame: all }, x);
    let image = |c| [8, 17, 17, c];
    Cases {
        small: vec![
            Case::new(
                "three",
                &[(&[2, 3, 4, 1], F::Normal), (&[2, 3, 4, 5], F::Normal), (&[2, 3, 4, 2], F::Normal)],
                side,
            ),
            Case::new("margin", &[(&[2, 3, 4, 5], F::Normal)], wide),
            Case::new("two in a frame", &[(&[2, 3, 4, 5], F::Normal), (&[2, 3, 4, 2], F::Normal)], framed),
            Case::new("cut", &[(&[2, 6, 5, 9], F::Normal)], cut),
        ],
        invalid: vec![
            Case::new("sizes", &[(&[2, 3, 4, 1], F::Normal), (&[2, 4, 3, 1], F::Normal)], side),
            Case::new("rank", &[(&[3, 4, 1], F::Normal)], side),
            Case::new("all frame", &[(&[2, 6, 5, 5], F::Normal)], cut),
        ],
        bench: vec![
            Case::new("two", &[(&image(192), F::Normal), (&image(320), F::Normal)], side),
            Case::new("margin", &[(&image(192), F::Normal)], wide),
        ],
    }
}
