//! Matrix products by cuBLAS.
//!
//! What must hold: a handle works on the stream of the `Gpu` it was made for, and is used from one thread at a time
//! (it is not `Sync`). Capturing is refused: a captured product would use the handle's workspace after its end.

use std::ffi::c_int;
use std::ptr;
use std::sync::Arc;

use cudarc::cublas::sys;
use cudarc::driver::CudaStream;

use super::context::{Buffer, Gpu};
use super::error::GpuError;
use super::libs::{Id, libraries};

/// A handle of cuBLAS.
#[derive(Debug)]
pub struct Blas {
    handle: sys::cublasHandle_t,
    stream: Arc<CudaStream>,
}

fn check(doing: &str, code: u32) -> Result<(), GpuError> {
    match code {
        0 => Ok(()),
        code => {
            Err(GpuError::Library { library: "cuBLAS", doing: doing.to_owned(), code, detail: String::new() })
        }
    }
}

impl Blas {
    /// A handle for a device.
    ///
    /// # Errors
    /// Why there is no cuBLAS, or what it answers.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        libraries().require(Id::Cublas)?;
        gpu.not_capturing("making a cuBLAS handle")?;
        gpu.bind()?;
        let mut blas = Self { handle: ptr::null_mut(), stream: gpu.stream().clone() };
        // SAFETY: the symbol is there, and a device is bound to this thread; it writes one handle.
        check("cublasCreate", unsafe { sys::cublasCreate_v2(&mut blas.handle) } as u32)?;
        // SAFETY: the handle is good, and the stream lives as long as `blas`.
        check("cublasSetStream", unsafe { sys::cublasSetStream_v2(blas.handle, gpu.raw_stream().cast()) }
            as u32)?;
        Ok(blas)
    }

    /// `c = a · b` in float32, all row-major: `a` is m × k, `b` k × n, `c` m × n.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; what cuBLAS answers; [`GpuError::Capturing`].
    pub fn sgemm(
        &self,
        gpu: &Gpu,
        (m, k, n): (usize, usize, usize),
        a: &Buffer<f32>,
        b: &Buffer<f32>,
        c: &mut Buffer<f32>,
    ) -> Result<(), GpuError> {
        gpu.not_capturing("sgemm")?;
        let fits = |buffer: &Buffer<f32>, rows: usize, cols| rows.checked_mul(cols) == Some(buffer.len());
        if !(fits(a, m, k) && fits(b, k, n) && fits(c, m, n)) {
            let reason = format!("{m} × {k} × {n} with buffers of {}, {}, {}", a.len(), b.len(), c.len());
            return Err(GpuError::shape("sgemm", reason));
        }
        if !Arc::ptr_eq(&self.stream, gpu.stream()) {
            return Err(GpuError::shape("sgemm", "the handle belongs to another Gpu"));
        }
        let int = |size: usize| {
            let int = c_int::try_from(size).ok().filter(|&size| size > 0);
            int.ok_or_else(|| GpuError::shape("sgemm", format!("{size} is no size for it")))
        };
        let (m, k, n) = (int(m)?, int(k)?, int(n)?);
        let (a, b, c) = (gpu.pointer(a)?, gpu.pointer(b)?, gpu.pointer(c)?);
        gpu.bind()?;
        let plain = sys::cublasOperation_t::CUBLAS_OP_N;
        let (one, zero) = (1.0f32, 0.0f32);
        // cuBLAS counts by columns, in which our matrices are their transposes: cᵀ = bᵀ · aᵀ.
        // SAFETY: the handle is good and on this stream; the buffers have the lengths that these sizes take, and live
        // until work after this on the stream frees them; the scalars are read before the call returns.
        let code = unsafe {
            sys::cublasSgemm_v2(
                self.handle,
                plain,
                plain,
                n,
                m,
                k,
                &one,
                b as *const f32,
                n,
                a as *const f32,
                k,
                &zero,
                c as *mut f32,
                n,
            )
        };
        check("cublasSgemm", code as u32)
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: made by cublasCreate and destroyed once. It waits for the handle's work.
            let _ = unsafe { sys::cublasDestroy_v2(self.handle) };
        }
    }
}
