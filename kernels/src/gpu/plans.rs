//! Which algorithm a convolution runs by: measured once for a shape, then remembered.
//!
//! What must hold: only algorithms that add in a fixed order are tried, and the one chosen has given the same bits
//! twice; a choice depends on all that [`question`] names; the same question gets the same answer through all of a
//! process, from a run's own table or by way of the store in later ones too.

use cudarc::cudnn::sys::cudnnConvolutionBwdDataAlgo_t as Data;
use cudarc::cudnn::sys::cudnnConvolutionBwdFilterAlgo_t as Filter;
use cudarc::cudnn::sys::cudnnConvolutionFwdAlgo_t as Fwd;
use cudarc::cudnn::sys::cudnnMathType_t as Math;

use super::context::{Buffer, Gpu, Precision};
use super::cudnn::{Convolution, Cudnn, Gives, Places};
use super::error::GpuError;
use super::launch::Float;
use super::libs::{Id, Status, libraries};
use super::store;
use crate::cpu::conv::ConvShape;
use crate::ops::cast::bf16;

/// More workspace than this is not asked for.
const MOST_WORKSPACE: usize = 256 << 20;
/// Runs of a candidate between two events.
const RUNS: u32 = 3;
/// How often that is measured; the shortest counts.
const TRIES: usize = 3;
/// A later candidate must be faster than an earlier one by this factor.
const CLEARLY: f64 = 0.95;
/// Numbers drawn for the data that candidates are timed on; longer data repeat them.
const DRAWN: usize = 4099;

/// An algorithm of cuDNN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Algorithm {
    Output(Fwd),
    Input(Data),
    Filters(Filter),
}

/// An algorithm and how it may form its products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) algorithm: Algorithm,
    pub(super) math: Math,
}

impl Candidate {
    /// By cuDNN's names, without what they have in common.
    pub(super) fn name(self) -> String {
        let algorithm = match self.algorithm {
            Algorithm::Output(a) => format!("{a:?}"),
            Algorithm::Input(a) => format!("{a:?}"),
            Algorithm::Filters(a) => format!("{a:?}"),
        };
        let math = format!("{:?}", self.math);
        let algorithm = algorithm.rsplit("_ALGO_").next().unwrap_or_default();
        format!("{algorithm} {}", math.trim_start_matches("CUDNN_").trim_end_matches("_MATH"))
    }
}

/// In the order of trying. Left out are those that add in an order that varies (data 0, filter 0 and 3), and those by
/// Fourier transforms. Winograd's, whose errors are larger than those of plain sums, stand where float32 products are
/// rounded more than that anyway; transforms of bf16 would be rounded to bf16 themselves.
pub(super) fn candidates(gives: Gives, precision: Precision) -> Vec<Candidate> {
    let maths: &[Math] = match precision {
        Precision::F32 => &[Math::CUDNN_FMA_MATH],
        // The default lets the library round float32 to TF32.
        Precision::Tf32 => &[Math::CUDNN_DEFAULT_MATH, Math::CUDNN_FMA_MATH],
        // What the device has for bf16.
        Precision::Bf16 => &[Math::CUDNN_DEFAULT_MATH],
    };
    let algorithms = match gives {
        Gives::Output => [
            Algorithm::Output(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM),
            Algorithm::Output(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM),
            Algorithm::Output(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD),
            Algorithm::Output(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED),
        ]
        .to_vec(),
        Gives::Input => [
            Algorithm::Input(Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1),
            Algorithm::Input(Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD),
            Algorithm::Input(Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED),
        ]
        .to_vec(),
        Gives::Filters => [
            Algorithm::Filters(Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1),
            Algorithm::Filters(Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED),
        ]
        .to_vec(),
    };
    let exact = precision != Precision::Tf32;
    let every =
        algorithms.iter().flat_map(|&algorithm| maths.iter().map(move |&math| Candidate { algorithm, math }));
    every.filter(|c| !(exact && c.name().contains("WINOGRAD"))).collect()
}

/// Everything that a choice may depend on, on one line.
fn question(gpu: &Gpu, of: &Convolution) -> String {
    let version = match libraries().require(Id::Cudnn).map(|l| &l.status) {
        Ok(Status::Found { version, .. }) => version.to_string(),
        _ => String::new(),
    };
    let ConvShape { n, h, w, c, k, r, s, stride, pad } = of.shape;
    let (device, precision, float, gives) = (gpu.device(), of.precision, of.float, of.gives);
    let (major, minor) = device.compute_capability;
    format!(
        "cuDNN {version}, {} {major}.{minor}, {precision:?}, {float:?}, {gives:?}: {n}x{h}x{w}x{c} by {k}x{r}x{s}, \
         stride {stride}, pad {pad}",
        device.name
    )
}

/// A candidate that ran: its time, which it is, and its workspace.
struct Timed {
    seconds: f64,
    candidate: Candidate,
    bytes: usize,
}

impl Convolution {
    /// Takes the fastest candidate: the one remembered for this shape, or the one that is fastest now.
    pub(super) fn choose(&mut self, gpu: &Gpu, cudnn: &Cudnn) -> Result<(), GpuError> {
        let all = candidates(self.gives, self.precision);
        let question = question(gpu, self);
        let folder = store::folder();
        let kept =
            || store::get(folder.as_deref(), question.as_bytes()).and_then(|b| String::from_utf8(b).ok());
        if let Some(name) = gpu.choice(&question).or_else(kept)
            && let Some(&candidate) = all.iter().find(|c| c.name() == name)
            && let Ok(bytes) = self.workspace_of(cudnn, candidate)
            && bytes <= MOST_WORKSPACE
        {
            gpu.choose(question, name);
            self.take(candidate, bytes);
            return Ok(());
        }
        let (candidate, measured) = self.measure(gpu, cudnn, &all)?;
        if measured {
            store::put(folder.as_deref(), question.as_bytes(), candidate.name().as_bytes());
        }
        gpu.choose(question, candidate.name());
        let bytes = self.workspace_of(cudnn, candidate)?;
        self.take(candidate, bytes);
        Ok(())
    }

    /// The fastest candidate, and whether it was measured: where there is no memory to measure with, it is the first
    /// that cuDNN takes.
    fn measure(&self, gpu: &Gpu, cudnn: &Cudnn, all: &[Candidate]) -> Result<(Candidate, bool), GpuError> {
        let (a, b, out) = self.lengths();
        let operands = noise(gpu, self.float, a, 1)
            .and_then(|a| Ok([a, noise(gpu, self.float, b, 2)?, gpu.zeros(out * self.float.size())?]));
        let [a, b, out] = match operands {
            Ok(operands) => operands,
            Err(GpuError::OutOfMemory { .. }) => {
                let fits = |c: &&Candidate| self.workspace_of(cudnn, **c).is_ok_and(|n| n <= MOST_WORKSPACE);
                return all.iter().find(fits).map(|&c| (c, false)).ok_or_else(none);
            }
            Err(error) => return Err(error),
        };
        let mut refusal = none();
        let mut timed = Vec::new();
        for &candidate in all {
            match self.time(gpu, cudnn, candidate, [&a, &b, &out]) {
                Ok(found) => timed.extend(found),
                Err(error) => refusal = error,
            }
        }
        while let Some(i) = fastest(&timed) {
            let best = timed.swap_remove(i);
            if self.repeats(gpu, cudnn, &best, [&a, &b, &out])? {
                return Ok((best.candidate, true));
            }
            gpu.note(format!("cuDNN's {} gives other bits each time and is not used", best.candidate.name()));
        }
        Err(refusal)
    }

    fn places(
        &self,
        gpu: &Gpu,
        [a, b, out]: [&Buffer<u8>; 3],
        space: &Buffer<u8>,
    ) -> Result<Places, GpuError> {
        Ok(Places {
            a: gpu.pointer(a)?,
            b: gpu.pointer(b)?,
            out: gpu.pointer(out)?,
            space: gpu.pointer(space)?,
            more: false,
        })
    }

    /// How long a candidate takes; none if its workspace is too large.
    fn time(
        &self,
        gpu: &Gpu,
        cudnn: &Cudnn,
        candidate: Candidate,
        buffers: [&Buffer<u8>; 3],
    ) -> Result<Option<Timed>, GpuError> {
        let bytes = self.workspace_of(cudnn, candidate)?;
        if bytes > MOST_WORKSPACE {
            return Ok(None);
        }
        let space = gpu.zeros::<u8>(bytes)?;
        let places = self.places(gpu, buffers, &space)?;
        let run = || self.call(cudnn, candidate, bytes, places);
        run()?;
        gpu.synchronize()?;
        let mut seconds = f64::INFINITY;
        for _ in 0..TRIES {
            seconds = seconds.min(gpu.seconds(|| (0..RUNS).try_for_each(|_| run()))?);
        }
        Ok(Some(Timed { seconds, candidate, bytes }))
    }

    /// Whether a candidate gives the same bits twice.
    fn repeats(
        &self,
        gpu: &Gpu,
        cudnn: &Cudnn,
        timed: &Timed,
        buffers: [&Buffer<u8>; 3],
    ) -> Result<bool, GpuError> {
        let space = gpu.zeros::<u8>(timed.bytes)?;
        let places = self.places(gpu, buffers, &space)?;
        let run = || {
            self.call(cudnn, timed.candidate, timed.bytes, places)?;
            gpu.read(buffers[2])
        };
        Ok(run()? == run()?)
    }
}

fn none() -> GpuError {
    GpuError::shape("convolution", "no algorithm has a workspace small enough and repeats its results")
}

/// The first that no later one beats clearly.
fn fastest(timed: &[Timed]) -> Option<usize> {
    let least = timed.iter().map(|t| t.seconds).min_by(f64::total_cmp)?;
    timed.iter().position(|t| t.seconds * CLEARLY <= least)
}

/// Data to time with: not zeros, which devices multiply faster than others.
fn noise(gpu: &Gpu, float: Float, n: usize, seed: u64) -> Result<Buffer<u8>, GpuError> {
    let drawn = super::reference::uniform(n.min(DRAWN), 1.0, seed);
    let bytes: Vec<Vec<u8>> = drawn
        .iter()
        .map(|&v| match float {
            Float::F32 => v.to_ne_bytes().to_vec(),
            Float::Bf16 => bf16::from_f32(v).to_ne_bytes().to_vec(),
        })
        .collect();
    let values: Vec<u8> = bytes.iter().cycle().take(n).flatten().copied().collect();
    gpu.upload(&values)
}

impl Gpu {
    /// What was chosen by measurement so far, as (question, answer), in order of the questions.
    #[must_use]
    pub fn choices(&self) -> Vec<(String, String)> {
        self.handles().choices()
    }

    /// Takes choices of an earlier run, to be asked before the store: what is prepared from now on goes by them where
    /// the question is the same to the letter. Others are not met and do no harm.
    pub fn recall(&self, choices: impl IntoIterator<Item = (String, String)>) {
        choices.into_iter().for_each(|(question, answer)| self.choose(question, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float32_is_neither_rounded_nor_transformed() {
        for gives in [Gives::Output, Gives::Input, Gives::Filters] {
            let exact = candidates(gives, Precision::F32);
            let loose = candidates(gives, Precision::Tf32);
            assert!(exact.iter().all(|c| c.math == Math::CUDNN_FMA_MATH && !c.name().contains("WINO")));
            assert!(!exact.is_empty() && exact.len() < loose.len());
            for c in &loose {
                let first = loose.iter().filter(|o| o.name() == c.name()).count();
                assert_eq!(first, 1, "{} names two", c.name());
                let varying = ["BWD_DATA_ALGO_0", "BWD_FILTER_ALGO_0", "BWD_FILTER_ALGO_3", "FFT"];
                let raw = format!("{:?}", c.algorithm);
                assert!(!varying.iter().any(|v| raw.contains(v)), "{raw}");
            }
        }
        assert_eq!(candidates(Gives::Input, Precision::F32)[0].name(), "1 FMA");
    }

    #[test]
    fn an_earlier_candidate_stands_unless_clearly_beaten() {
        let all = candidates(Gives::Output, Precision::Tf32);
        let of = |seconds: &[f64]| -> Vec<Timed> {
            let timed = seconds.iter().zip(&all);
            timed.map(|(&seconds, &candidate)| Timed { seconds, candidate, bytes: 0 }).collect()
        };
        assert_eq!(fastest(&of(&[1.0, 0.97])), Some(0));
        assert_eq!(fastest(&of(&[1.0, 0.90, 0.88])), Some(1));
        assert_eq!(fastest(&[]), None);
    }
}
