//! The algorithms of cuDNN that a convolution may run by.
//!
//! What must hold: only algorithms that add in a fixed order are listed.

use cudarc::cudnn::sys::cudnnConvolutionBwdDataAlgo_t as Data;
use cudarc::cudnn::sys::cudnnConvolutionBwdFilterAlgo_t as Filter;
use cudarc::cudnn::sys::cudnnConvolutionFwdAlgo_t as Fwd;
use cudarc::cudnn::sys::cudnnMathType_t as Math;

use super::ConvPass;
use crate::gpu::driver::Precision;

/// An algorithm of cuDNN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Algorithm {
    Forward(Fwd),
    InputGrad(Data),
    WeightGrad(Filter),
}

/// An algorithm with its math type, which says what precision products may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) algorithm: Algorithm,
    pub(super) math: Math,
}

impl Candidate {
    /// cuDNN's names of both, without their common prefixes.
    pub(super) fn name(self) -> String {
        let algorithm = match self.algorithm {
            Algorithm::Forward(a) => format!("{a:?}"),
            Algorithm::InputGrad(a) => format!("{a:?}"),
            Algorithm::WeightGrad(a) => format!("{a:?}"),
        };
        let math = format!("{:?}", self.math);
        let algorithm = algorithm.rsplit("_ALGO_").next().unwrap_or_default();
        format!("{algorithm} {}", math.trim_start_matches("CUDNN_").trim_end_matches("_MATH"))
    }
}

/// The candidates in the order in which they are tried. Left out are algorithms whose order of additions varies
/// (backward data 0, backward filter 0 and 3) and those by Fourier transforms. Winograd's algorithms have larger errors
/// than plain sums; they are used only at TF32 precision, whose rounding of factors is coarser still. With bf16 the
/// transformed values would be rounded to bf16 themselves.
pub(super) fn candidates(pass: ConvPass, precision: Precision) -> Vec<Candidate> {
    let maths: &[Math] = match precision {
        Precision::F32 => &[Math::CUDNN_FMA_MATH],
        // The default math allows rounding float32 to TF32.
        Precision::Tf32 => &[Math::CUDNN_DEFAULT_MATH, Math::CUDNN_FMA_MATH],
        // Whatever the device has for bf16.
        Precision::Bf16 => &[Math::CUDNN_DEFAULT_MATH],
    };
    let algorithms = match pass {
        ConvPass::Forward => [
            Algorithm::Forward(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM),
            Algorithm::Forward(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM),
            Algorithm::Forward(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD),
            Algorithm::Forward(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED),
        ]
        .to_vec(),
        ConvPass::InputGrad => [
            Algorithm::InputGrad(Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1),
            Algorithm::InputGrad(Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD),
            Algorithm::InputGrad(Data::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED),
        ]
        .to_vec(),
        ConvPass::WeightGrad => [
            Algorithm::WeightGrad(Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1),
            Algorithm::WeightGrad(Filter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED),
        ]
        .to_vec(),
    };
    let exact = precision != Precision::Tf32;
    let every =
        algorithms.iter().flat_map(|&algorithm| maths.iter().map(move |&math| Candidate { algorithm, math }));
    every.filter(|c| !(exact && c.name().contains("WINOGRAD"))).collect()
}

#[cfg(test)]
mod tests;
