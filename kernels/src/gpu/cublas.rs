//! Matrix products by cuBLAS.
//!
//! What must hold: a handle works on the stream of the `Gpu` it was made for, and is used from one thread at a time (it
//! is not `Sync`). It has a workspace of its own from the start, so that a product can be captured and its bits do not
//! depend on other work.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::cublas::sys;
use cudarc::driver::CudaStream;

use super::driver::{Buffer, Deferred, Gpu, Precision};
use super::error::GpuError;
use super::launch::exact;
use super::libraries::{Id, functions};
use crate::dtype::Float;
use crate::memory::Span;

functions! {
    Id::Cublas;
    cublasCreate_v2: fn(*mut sys::cublasHandle_t) -> c_int;
    cublasDestroy_v2: fn(sys::cublasHandle_t) -> c_int;
    cublasGemmEx: fn(
        sys::cublasHandle_t, sys::cublasOperation_t, sys::cublasOperation_t, c_int, c_int, c_int, *const c_void,
        *const c_void, sys::cudaDataType, c_int, *const c_void, sys::cudaDataType, c_int, *const c_void,
        *mut c_void, sys::cudaDataType, c_int, sys::cublasComputeType_t, sys::cublasGemmAlgo_t,
    ) -> c_int;
    cublasSetMathMode: fn(sys::cublasHandle_t, sys::cublasMath_t) -> c_int;
    cublasSetStream_v2: fn(sys::cublasHandle_t, *mut c_void) -> c_int;
    cublasSetWorkspace_v2: fn(sys::cublasHandle_t, *mut c_void, usize) -> c_int;
    cublasSgemm_v2: fn(
        sys::cublasHandle_t, sys::cublasOperation_t, sys::cublasOperation_t, c_int, c_int, c_int, *const f32,
        *const f32, c_int, *const f32, c_int, *const f32, *mut f32, c_int,
    ) -> c_int;
}

/// Bytes of workspace: what NVIDIA recommends from Hopper on.
const WORKSPACE: usize = 32 << 20;

/// A handle of cuBLAS.
#[derive(Debug)]
pub(crate) struct Cublas {
    // Declared before the workspace, so dropped first.
    raw: Deferred<Raw>,
    /// For the device's stream, and for the second one.
    workspaces: [Buffer<u8>; 2],
}

/// The handle itself, with the stream that it works on.
#[derive(Debug)]
struct Raw {
    handle: sys::cublasHandle_t,
    stream: Arc<CudaStream>,
    /// The stream that its work goes to now, and whether that is the second one.
    on: (*mut c_void, bool),
    functions: &'static Functions,
}

// SAFETY: cuBLAS allows any thread to use a handle, one at a time; it is not `Sync`, so it has one user at a time.
unsafe impl Send for Raw {}

/// A row-major product: `out` (rows × cols) is the sum over `inner` of `a` (rows × inner) and `b` (inner × cols).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of the result.
    pub rows: usize,
    /// Length of the sums: columns of `a` and rows of `b`.
    pub inner: usize,
    /// Columns of the result.
    pub cols: usize,
    /// Whether `a` is stored as inner × rows.
    pub a_transposed: bool,
    /// Whether `b` is stored as cols × inner.
    pub b_transposed: bool,
}

/// An error for every status but success. A status is an integer, so that one of a later version is an error too.
fn check(doing: &str, status: c_int) -> Result<(), GpuError> {
    match status.cast_unsigned() {
        0 => Ok(()),
        code => {
            Err(GpuError::Library { library: "cuBLAS", doing: doing.to_owned(), code, detail: String::new() })
        }
    }
}

impl Cublas {
    /// A handle for a device.
    ///
    /// # Errors
    /// Why cuBLAS cannot be used, or its error.
    pub(crate) fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let functions = functions()?;
        gpu.not_capturing("making a cuBLAS handle")?;
        gpu.bind()?;
        let (stream, on) = (gpu.stream().clone(), (ptr::null_mut(), false));
        let raw = Deferred::new(Raw { handle: ptr::null_mut(), stream, on, functions });
        let mut cublas = Self { raw, workspaces: [gpu.zeros(WORKSPACE)?, gpu.zeros(WORKSPACE)?] };
        // SAFETY: a device is bound to this thread; it writes one handle.
        check("cublasCreate", unsafe { (functions.cublasCreate_v2)(&mut cublas.raw.handle) })?;
        cublas.follow(gpu)?;
        let math = match gpu.precision() {
            Precision::F32 | Precision::Bf16 => sys::cublasMath_t::CUBLAS_DEFAULT_MATH,
            Precision::Tf32 => sys::cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH,
        };
        // SAFETY: the handle is good.
        check("cublasSetMathMode", unsafe { (functions.cublasSetMathMode)(cublas.raw.handle, math) })?;
        Ok(cublas)
    }

    /// Lets its work go to the stream that the device submits to now, with the workspace for that stream.
    fn follow(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        let on = gpu.raw_stream();
        if on == self.raw.on {
            return Ok(());
        }
        let (functions, handle) = (self.raw.functions, self.raw.handle);
        // SAFETY: the handle is good, and the device's streams outlive the handle.
        check("cublasSetStream", unsafe { (functions.cublasSetStream_v2)(handle, on.0) })?;
        let space = gpu.pointer(&self.workspaces[usize::from(on.1)])? as *mut c_void;
        // SAFETY: the handle is good; the workspace has this size and lives as long as the handle, or as a graph that was
        // captured with it. Setting the stream resets the workspace, so the workspace is set after it.
        check("cublasSetWorkspace", unsafe { (functions.cublasSetWorkspace_v2)(handle, space, WORKSPACE) })?;
        self.raw.on = on;
        Ok(())
    }

    /// A float32 product; `accumulate` adds it to what `out` holds. May be captured.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; cuBLAS's error.
    pub(crate) fn product(
        &self,
        gpu: &Gpu,
        product: Product,
        (a, b): (Span<'_>, Span<'_>),
        accumulate: bool,
        out: Span<'_>,
    ) -> Result<(), GpuError> {
        let Product { rows, inner, cols, a_transposed, b_transposed } = product;
        exact::<f32>("product: first factor", a, rows * inner)?;
        exact::<f32>("product: second factor", b, inner * cols)?;
        exact::<f32>("product: result", out, rows * cols)?;
        if !Arc::ptr_eq(&self.raw.stream, gpu.stream()) {
            return Err(GpuError::shape("product", "the handle belongs to another Gpu"));
        }
        let int = |size: usize| {
            let int = c_int::try_from(size).ok().filter(|&size| size > 0);
            int.ok_or_else(|| GpuError::shape("product", format!("{size} is not a valid size")))
        };
        let (m, k, n) = (int(rows)?, int(inner)?, int(cols)?);
        // A capture in progress keeps the workspace alive.
        gpu.pointer(&self.workspaces[usize::from(self.raw.on.1)])?;
        gpu.bind()?;
        let form = |transposed| match transposed {
            true => sys::cublasOperation_t::CUBLAS_OP_T,
            false => sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let (a_step, b_step) = (if a_transposed { m } else { k }, if b_transposed { k } else { n });
        let (one, beta) = (1.0f32, if accumulate { 1.0f32 } else { 0.0 });
        // cuBLAS is column-major and thus sees the transposes of our matrices: outᵀ = bᵀ · aᵀ.
        // SAFETY: the handle is good and on this stream; the spans have the lengths that these sizes require, and live
        // until work after this on the stream frees them; the scalars are read before the call returns.
        let code = unsafe {
            (self.raw.functions.cublasSgemm_v2)(
                self.raw.handle,
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
        check("cublasSgemm", code)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: made by cublasCreate and destroyed once. It waits for the handle's work.
            let _ = unsafe { (self.functions.cublasDestroy_v2)(self.handle) };
        }
    }
}

/// The handle of a device, made at first use.
#[derive(Default)]
struct Handle(OnceLock<Result<Mutex<Cublas>, GpuError>>);

impl Gpu {
    /// The device's cuBLAS handle, made at first use, which may not be during a capture.
    pub(crate) fn cublas(&self) -> Result<MutexGuard<'_, Cublas>, GpuError> {
        let handle = &self.attached::<Handle>().0;
        if handle.get().is_none() {
            self.not_capturing("taking the cuBLAS handle")?;
        }
        let made = handle.get_or_init(|| Cublas::new(self).map(Mutex::new));
        let made = made.as_ref().map_err(Clone::clone)?;
        let mut handle = made.lock().unwrap_or_else(PoisonError::into_inner);
        handle.follow(self)?;
        Ok(handle)
    }

    /// The float32 product `a` · `b`, in the precision of this device; `accumulate` adds it to what `out` holds. May be
    /// captured once the cuBLAS handle exists.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; why cuBLAS cannot be used, or its error.
    pub fn product(
        &self,
        product: Product,
        factors: (Span<'_>, Span<'_>),
        accumulate: bool,
        out: Span<'_>,
    ) -> Result<(), GpuError> {
        self.cublas()?.product(self, product, factors, accumulate, out)
    }

    /// The product of two n × n matrices of type `float`, neither transposed, summed in float32: what a peak rate is
    /// measured with. Float32 factors are rounded to TF32 if that is the precision of this device.
    ///
    /// # Errors
    /// As [`Gpu::product`].
    pub fn square_product(
        &self,
        float: Float,
        n: usize,
        (a, b): (Span<'_>, Span<'_>),
        out: Span<'_>,
    ) -> Result<(), GpuError> {
        let values = n.saturating_mul(n);
        for (what, span) in
            [("product: first factor", a), ("product: second factor", b), ("product: result", out)]
        {
            float.exact(what, span, values)?;
        }
        let size = c_int::try_from(n).ok().filter(|n| *n > 0);
        let size = size.ok_or_else(|| GpuError::shape("product", format!("{n} is not a valid size")))?;
        let kind = match float {
            Float::F32 => sys::cudaDataType::CUDA_R_32F,
            Float::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        };
        let compute = match (float, self.precision()) {
            (Float::F32, Precision::Tf32) => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let cublas = self.cublas()?;
        self.bind()?;
        let (one, zero) = (1.0f32, 0.0f32);
        let scalar = |v: &f32| ptr::from_ref(v).cast::<c_void>();
        let factor = |span: Span<'_>| span.address() as *const c_void;
        let (normal, algorithm) =
            (sys::cublasOperation_t::CUBLAS_OP_N, sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT);
        // Column-major, so outᵀ = bᵀ · aᵀ. The line breaks follow cuBLAS's parameter groups.
        // SAFETY: the handle is good and on this stream; the three spans hold n·n values of the type and live until
        // work after this on the stream frees them; the scalars are read before the call returns.
        #[rustfmt::skip]
        let code = unsafe {
            (cublas.raw.functions.cublasGemmEx)(
                cublas.raw.handle, normal, normal, size, size, size,
                scalar(&one), factor(b), kind, size, factor(a), kind, size,
                scalar(&zero), out.address() as *mut c_void, kind, size, compute, algorithm,
            )
        };
        check("cublasGemmEx", code)
    }
}
