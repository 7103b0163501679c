//! What a device can do at most: products of large matrices.

use std::ffi::{c_int, c_void};
use std::ptr;

use cudarc::cublas::sys;

use super::backend::Real;
use super::blas::check;
use super::context::{Gpu, Precision};
use super::error::GpuError;

/// Runs between two events.
const RUNS: u32 = 5;
/// How often that is measured; the shortest counts.
const TRIES: usize = 5;

/// The most floating-point operations a second of a product of `n × n` matrices by cuBLAS, summed in float32: of bf16
/// values, or of float32 values with the products that the device's precision has.
///
/// # Errors
/// Why there is no cuBLAS, or what it answers; [`GpuError::OutOfMemory`]; [`GpuError::Capturing`].
pub fn products(gpu: &Gpu, n: usize, dtype: Real) -> Result<f64, GpuError> {
    gpu.not_capturing("timing products")?;
    let size = c_int::try_from(n).ok().filter(|n| *n > 0);
    let size = size.ok_or_else(|| GpuError::shape("product", format!("{n} is no size for it")))?;
    // Patterns that are small numbers in either type, and no zeros, which devices multiply at less power.
    let pattern: Vec<u32> =
        (0..n * n * dtype.size() / 4).map(|i| 0x3f80_3f80 ^ (i as u32 % 97) << 16).collect();
    let (a, b) = (gpu.upload(&pattern)?, gpu.upload(&pattern)?);
    drop(pattern);
    let out = gpu.zeros::<u8>(n * n * dtype.size())?;
    let (a, b, out) = (gpu.pointer(&a)?, gpu.pointer(&b)?, gpu.pointer(&out)?);
    let kind = match dtype {
        Real::F32 => sys::cudaDataType::CUDA_R_32F,
        Real::Bf16 => sys::cudaDataType::CUDA_R_16BF,
    };
    let how = match (dtype, gpu.precision()) {
        (Real::F32, Precision::Tf32) => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let blas = gpu.blas()?;
    gpu.bind()?;
    let (one, zero) = (1.0f32, 0.0f32);
    let run = || {
        let scalar = |v: &f32| ptr::from_ref(v).cast::<c_void>();
        let (normal, algorithm) =
            (sys::cublasOperation_t::CUBLAS_OP_N, sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT);
        // SAFETY: the handle is good and on this stream; the three buffers hold n·n values of the type and live until
        // the last run has been waited for; the scalars are read before the call returns.
        let code = unsafe {
            sys::cublasGemmEx(
                blas.raw(),
                normal,
                normal,
                size,
                size,
                size,
                scalar(&one),
                a as *const c_void,
                kind,
                size,
                b as *const c_void,
                kind,
                size,
                scalar(&zero),
                out as *mut c_void,
                kind,
                size,
                how,
                algorithm,
            )
        };
        check("cublasGemmEx", code as u32)
    };
    run()?;
    let mut seconds = f64::INFINITY;
    for _ in 0..TRIES {
        seconds = seconds.min(gpu.seconds(|| (0..RUNS).try_for_each(|_| run()))?);
    }
    Ok(2.0 * (n as f64).powi(3) * f64::from(RUNS) / seconds)
}
