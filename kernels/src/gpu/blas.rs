//! Matrix products by cuBLAS.
//!
//! What must hold: a handle works on the stream of the `Gpu` it was made for, and is used from one thread at a time
//! (it is not `Sync`). Its workspace is its own from the start, so that a product can be captured and its bits do not
//! depend on what else runs.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::cublas::sys;
use cudarc::driver::CudaStream;

use super::context::{Buffer, Gpu, Precision};
use super::error::GpuError;
use super::launch::exact;
use super::libs::{Id, libraries};
use crate::memory::Span;

/// What NVIDIA recommends from Hopper on.
const WORKSPACE: usize = 32 << 20;

/// A handle of cuBLAS.
#[derive(Debug)]
pub(crate) struct Blas {
    handle: sys::cublasHandle_t,
    stream: Arc<CudaStream>,
    workspace: Buffer<u8>,
}

// SAFETY: cuBLAS lets any thread use a handle, one at a time; it is not `Sync`, so it has one user at a time.
unsafe impl Send for Blas {}

/// A row-major product: `out` (rows × cols) is the sum over `inner` of `a` (rows × inner) and `b` (inner × cols).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of the result.
    pub rows: usize,
    /// What is summed over.
    pub inner: usize,
    /// Columns of the result.
    pub cols: usize,
    /// Whether `a` lies in memory as inner × rows.
    pub a_transposed: bool,
    /// Whether `b` lies in memory as cols × inner.
    pub b_transposed: bool,
}

/// An error for every status but success.
pub(super) fn check(doing: &str, code: u32) -> Result<(), GpuError> {
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
    pub(crate) fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        libraries().require(Id::Cublas)?;
        gpu.not_capturing("making a cuBLAS handle")?;
        gpu.bind()?;
        let (stream, workspace) = (gpu.stream().clone(), gpu.zeros(WORKSPACE)?);
        let mut blas = Self { handle: ptr::null_mut(), stream, workspace };
        // SAFETY: the symbol is there, and a device is bound to this thread; it writes one handle.
        check("cublasCreate", unsafe { sys::cublasCreate_v2(&mut blas.handle) } as u32)?;
        // SAFETY: the handle is good, and the stream lives as long as `blas`.
        check("cublasSetStream", unsafe { sys::cublasSetStream_v2(blas.handle, gpu.raw_stream().cast()) }
            as u32)?;
        let space = gpu.pointer(&blas.workspace)? as *mut c_void;
        // SAFETY: the handle is good; the workspace has this size and lives as long as `blas`, or as a graph that was
        // captured with it. Setting the stream took an earlier workspace away, so this comes after.
        check("cublasSetWorkspace", unsafe { sys::cublasSetWorkspace_v2(blas.handle, space, WORKSPACE) }
            as u32)?;
        let math = match gpu.precision() {
            Precision::F32 | Precision::Bf16 => sys::cublasMath_t::CUBLAS_DEFAULT_MATH,
            Precision::Tf32 => sys::cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH,
        };
        // SAFETY: the handle is good.
        check("cublasSetMathMode", unsafe { sys::cublasSetMathMode(blas.handle, math) } as u32)?;
        Ok(blas)
    }

    /// The handle itself, which lives as long as this does.
    pub(super) fn raw(&self) -> sys::cublasHandle_t {
        self.handle
    }

    /// A product in float32, added to what `out` holds if `more`. May be captured.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; what cuBLAS answers.
    pub(crate) fn product(
        &self,
        gpu: &Gpu,
        product: Product,
        (a, b): (Span<'_>, Span<'_>),
        more: bool,
        out: Span<'_>,
    ) -> Result<(), GpuError> {
        let Product { rows, inner, cols, a_transposed, b_transposed } = product;
        exact::<f32>("product: first factor", a, rows * inner)?;
        exact::<f32>("product: second factor", b, inner * cols)?;
        exact::<f32>("product: result", out, rows * cols)?;
        if !Arc::ptr_eq(&self.stream, gpu.stream()) {
            return Err(GpuError::shape("product", "the handle belongs to another Gpu"));
        }
        let int = |size: usize| {
            let int = c_int::try_from(size).ok().filter(|&size| size > 0);
            int.ok_or_else(|| GpuError::shape("product", format!("{size} is no size for it")))
        };
        let (m, k, n) = (int(rows)?, int(inner)?, int(cols)?);
        // A capture that goes on keeps the workspace.
        gpu.pointer(&self.workspace)?;
        gpu.bind()?;
        let form = |transposed| match transposed {
            true => sys::cublasOperation_t::CUBLAS_OP_T,
            false => sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let (a_step, b_step) = (if a_transposed { m } else { k }, if b_transposed { k } else { n });
        let (one, beta) = (1.0f32, if more { 1.0f32 } else { 0.0 });
        // cuBLAS counts by columns, in which our matrices are their transposes: outᵀ = bᵀ · aᵀ.
        // SAFETY: the handle is good and on this stream; the spans have the lengths that these sizes take, and live
        // until work after this on the stream frees them; the scalars are read before the call returns.
        let code = unsafe {
            sys::cublasSgemm_v2(
                self.handle,
                form(b_transposed),
                form(a_transposed),
                n,
                m,
                k,
                &one,
                b.address() as *const f32,
                b_step,
                a.address() as *const f32,
                a_step,
                &beta,
                out.address() as *mut f32,
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
