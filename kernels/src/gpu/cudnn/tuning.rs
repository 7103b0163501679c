//! The algorithm of a convolution: measured once per shape, then remembered.
//!
//! What must hold: a candidate is chosen only if it has given the same bits twice; a choice depends on what
//! [`question`] names, and on nothing else.

use super::Cudnn;
use super::candidates::{Candidate, candidates};
use super::convolution::{ConvPass, Convolution, Operands};
use crate::conv_shape::ConvShape;
use crate::gpu::autotune::{self, MAX_WORKSPACE};
use crate::gpu::driver::{Buffer, Gpu};
use crate::gpu::error::GpuError;
use crate::gpu::libraries::{Id, Status, libraries};

/// Everything that a choice may depend on, on one line. Cached choices and trainer states contain it.
fn question(gpu: &Gpu, of: &Convolution) -> String {
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
    let (device, precision, float) = (gpu.device(), of.precision, of.float);
    let (major, minor) = device.compute_capability;
    format!(
        "cuDNN {version}, {} {major}.{minor}, {precision:?}, {float:?}, {result}: {n}x{h}x{w}x{c} by {k}x{r}x{s}, \
         stride {stride}, pad {pad}",
        device.name
    )
}

impl Convolution {
    /// Picks the fastest candidate: the one remembered for this shape, or else the one that is fastest now.
    pub(super) fn choose(&mut self, gpu: &Gpu, cudnn: &Cudnn) -> Result<(), GpuError> {
        let all = candidates(self.pass, self.precision);
        let question = question(gpu, self);
        if let Some(name) = autotune::remembered(gpu, &question)
            && let Some(&candidate) = all.iter().find(|c| c.name() == name)
            && let Ok(bytes) = self.workspace_of(cudnn, candidate)
            && bytes <= MAX_WORKSPACE
        {
            autotune::remember(gpu, question, name);
            self.set(candidate, bytes);
            return Ok(());
        }
        let (candidate, measured) = self.measure(gpu, cudnn, &all)?;
        if measured {
            autotune::store(&question, &candidate.name());
        }
        autotune::remember(gpu, question, candidate.name());
        let bytes = self.workspace_of(cudnn, candidate)?;
        self.set(candidate, bytes);
        Ok(())
    }

    /// The fastest candidate, and whether it was measured: if there is no memory to measure with, it is the first that
    /// cuDNN supports.
    fn measure(&self, gpu: &Gpu, cudnn: &Cudnn, all: &[Candidate]) -> Result<(Candidate, bool), GpuError> {
        let (a, b, out) = self.lengths();
        let operands = autotune::operand(gpu, self.float, a, 1).and_then(|a| {
            let b = autotune::operand(gpu, self.float, b, 2)?;
            Ok([a, b, gpu.zeros(out * self.float.size())?])
        });
        let [a, b, out] = match operands {
            Ok(operands) => operands,
            Err(GpuError::OutOfMemory { .. }) => {
                let fits = |c: &&Candidate| self.workspace_of(cudnn, **c).is_ok_and(|n| n <= MAX_WORKSPACE);
                return all.iter().find(fits).map(|&c| (c, false)).ok_or_else(no_algorithm);
            }
            Err(error) => return Err(error),
        };
        let mut refusal = no_algorithm();
        let (mut tried, mut seconds) = (Vec::new(), Vec::new());
        for &candidate in all {
            match self.time(gpu, cudnn, candidate, [&a, &b, &out]) {
                Ok(Some(time)) => {
                    tried.push(candidate);
                    seconds.push(time);
                }
                Ok(None) => {}
                Err(error) => refusal = error,
            }
        }
        while let Some(i) = autotune::fastest(&seconds) {
            let best = tried.swap_remove(i);
            seconds.swap_remove(i);
            if self.repeats(gpu, cudnn, best, [&a, &b, &out])? {
                return Ok((best, true));
            }
            gpu.note(format!("cuDNN's {} gives other bits each time and is not used", best.name()));
        }
        Err(refusal)
    }

    /// Seconds that a candidate takes; `None` if its workspace is too large.
    fn time(
        &self,
        gpu: &Gpu,
        cudnn: &Cudnn,
        candidate: Candidate,
        buffers: [&Buffer<u8>; 3],
    ) -> Result<Option<f64>, GpuError> {
        let bytes = self.workspace_of(cudnn, candidate)?;
        if bytes > MAX_WORKSPACE {
            return Ok(None);
        }
        let space = gpu.zeros::<u8>(bytes)?;
        let at = operands(gpu, buffers, &space)?;
        autotune::seconds(gpu, || self.call(cudnn, candidate, bytes, at)).map(Some)
    }

    /// Whether a candidate gives the same bits twice.
    fn repeats(
        &self,
        gpu: &Gpu,
        cudnn: &Cudnn,
        candidate: Candidate,
        buffers: [&Buffer<u8>; 3],
    ) -> Result<bool, GpuError> {
        let bytes = self.workspace_of(cudnn, candidate)?;
        let space = gpu.zeros::<u8>(bytes)?;
        let at = operands(gpu, buffers, &space)?;
        let run = || {
            self.call(cudnn, candidate, bytes, at)?;
            gpu.read(buffers[2])
        };
        Ok(run()? == run()?)
    }
}

fn operands(gpu: &Gpu, [a, b, out]: [&Buffer<u8>; 3], space: &Buffer<u8>) -> Result<Operands, GpuError> {
    Ok(Operands {
        a: gpu.pointer(a)?,
        b: gpu.pointer(b)?,
        out: gpu.pointer(out)?,
        space: gpu.pointer(space)?,
        accumulate: false,
    })
}

fn no_algorithm() -> GpuError {
    GpuError::shape("convolution", "no algorithm has a workspace small enough and repeats its results")
}
