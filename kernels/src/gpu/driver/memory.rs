//! Device memory: buffers, copies between host and device, and checked byte ranges.
//!
//! What must hold: a range is checked against its buffer before an address leaves this file; copies between host and
//! device are waited for, copies on the device are work of the stream like any other.

use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaSlice, DevicePtr, result};

use super::context::Gpu;
use super::release::Deferred;
use crate::gpu::error::GpuError;
use crate::memory::Span;

/// Values of type `T` on a device.
pub struct Buffer<T> {
    memory: Arc<Deferred<CudaSlice<u8>>>,
    len: usize,
    element: PhantomData<T>,
}

impl<T> Buffer<T> {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> std::fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer<{}>({})", std::any::type_name::<T>(), self.len)
    }
}

impl Gpu {
    /// Allocates a buffer of `len` zeros.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], or another error of the driver; [`GpuError::Capturing`].
    pub fn zeros<T: Pod>(&self, len: usize) -> Result<Buffer<T>, GpuError> {
        self.not_capturing("allocating")?;
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| GpuError::shape("zeros", "too long"))?;
        // CUDA refuses to allocate zero bytes.
        let memory = self.stream().alloc_zeros::<u8>(bytes.max(1));
        let memory = memory.map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                GpuError::OutOfMemory { wanted: bytes as u64, free: self.memory_free().unwrap_or(0) }
            }
            _ => GpuError::driver(format!("allocating {bytes} bytes"), e),
        })?;
        Ok(Buffer { memory: Arc::new(Deferred::new(memory)), len, element: PhantomData })
    }

    /// Allocates a buffer and copies `values` into it.
    ///
    /// # Errors
    /// As [`Gpu::zeros`] and [`Gpu::write`].
    pub fn upload<T: Pod>(&self, values: &[T]) -> Result<Buffer<T>, GpuError> {
        let mut buffer = self.zeros(values.len())?;
        self.write(&mut buffer, values)?;
        Ok(buffer)
    }

    /// A buffer of `len` values that repeat `values`. Only `values` are copied from the host.
    ///
    /// # Errors
    /// As [`Gpu::zeros`] and [`Gpu::write_at`]; [`GpuError::Shape`] if there are no values to repeat.
    pub fn repeated<T: Pod>(&self, values: &[T], len: usize) -> Result<Buffer<T>, GpuError> {
        let buffer = self.zeros::<T>(len)?;
        if values.is_empty() && len > 0 {
            return Err(GpuError::shape("repeated", "there are no values to repeat"));
        }
        let first = &bytemuck::cast_slice::<T, u8>(values)[..size_of_val(values).min(len * size_of::<T>())];
        let whole = self.span(&buffer)?;
        self.send(whole.address, first)?;
        let mut done = first.len();
        while done < whole.len() {
            // What is there already, once more: the repetition stays in step.
            let more = done.min(whole.len() - done);
            let part = |at| Span { address: whole.address + at as u64, len: more, life: PhantomData };
            self.copy(part(0), part(done))?;
            done += more;
        }
        Ok(buffer)
    }

    /// Overwrites a buffer.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths differ or the buffer is another `Gpu`'s; a driver error;
    /// [`GpuError::Capturing`].
    pub fn write<T: Pod>(&self, buffer: &mut Buffer<T>, values: &[T]) -> Result<(), GpuError> {
        self.not_capturing("copying to the device")?;
        if values.len() != buffer.len {
            return Err(GpuError::shape("write", format!("{} values for {}", values.len(), buffer.len)));
        }
        let pointer = self.pointer(buffer)?;
        if values.is_empty() {
            return Ok(());
        }
        let fail = |e| GpuError::driver("copying to the device", e);
        self.bind()?;
        // SAFETY: the buffer has room for as many bytes as `values` has, is alive for this call, and the copy is waited
        // for below, so that `values` outlives it.
        unsafe {
            result::memcpy_htod_async(
                pointer,
                bytemuck::cast_slice::<T, u8>(values),
                self.stream().cu_stream(),
            )
        }
        .map_err(fail)?;
        self.stream().synchronize().map_err(fail)
    }

    /// A copy of a buffer's values, after all work submitted so far.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the buffer is another `Gpu`'s; a driver error; [`GpuError::Capturing`].
    pub fn read<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, GpuError> {
        self.not_capturing("copying from the device")?;
        let pointer = self.pointer(buffer)?;
        if buffer.is_empty() {
            return Ok(Vec::new());
        }
        let fail = |e| GpuError::driver("copying from the device", e);
        self.bind()?;
        let mut values = vec![T::zeroed(); buffer.len];
        let bytes = bytemuck::cast_slice_mut::<T, u8>(&mut values);
        // SAFETY: the buffer holds as many bytes as `values`, any bytes are valid values of a `Pod`, and the copy is
        // waited for before `values` is returned or dropped.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, pointer, self.stream().cu_stream()) };
        let waited = self.stream().synchronize();
        copied.and(waited).map_err(fail)?;
        Ok(values)
    }

    /// The address of a buffer for work on this `Gpu`. During a capture, the graph keeps the buffer alive from here on.
    pub(crate) fn pointer<T>(&self, buffer: &Buffer<T>) -> Result<u64, GpuError> {
        if !Arc::ptr_eq(buffer.memory.stream(), self.stream()) {
            return Err(GpuError::shape("buffer", "it belongs to another Gpu"));
        }
        self.keep(|| buffer.memory.clone());
        Ok((**buffer.memory).device_ptr(self.stream()).0)
    }

    /// All bytes of a buffer, as an argument for launches.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the buffer is another `Gpu`'s.
    pub fn span<'a, T>(&self, buffer: &'a Buffer<T>) -> Result<Span<'a>, GpuError> {
        let len = buffer.len() * size_of::<T>();
        Ok(Span { address: self.pointer(buffer)?, len, life: PhantomData })
    }

    /// Overwrites bytes of a buffer from `offset` on.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when they do not fit; a driver error; [`GpuError::Capturing`].
    pub fn write_at(&self, buffer: &mut Buffer<u8>, offset: usize, bytes: &[u8]) -> Result<(), GpuError> {
        self.not_capturing("copying to the device")?;
        self.send(self.range(buffer, offset, bytes.len())?, bytes)
    }

    /// Copies bytes to an address, which the caller has checked to be in a live buffer with room for them.
    fn send(&self, address: u64, bytes: &[u8]) -> Result<(), GpuError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let fail = |e| GpuError::driver("copying to the device", e);
        self.bind()?;
        // SAFETY: the range lies in a buffer that is alive for this call; the copy is waited for, so that `bytes`
        // outlives it.
        unsafe { result::memcpy_htod_async(address, bytes, self.stream().cu_stream()) }.map_err(fail)?;
        self.stream().synchronize().map_err(fail)
    }

    /// Copies bytes of a buffer from `offset` on, after all work submitted so far.
    ///
    /// # Errors
    /// As [`Gpu::write_at`].
    pub fn read_at(&self, buffer: &Buffer<u8>, offset: usize, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.not_capturing("copying from the device")?;
        let address = self.range(buffer, offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the range lies in the buffer; the copy is waited for before `bytes` is read.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, address, self.stream().cu_stream()) };
        let waited = self.stream().synchronize();
        copied.and(waited).map_err(|e| GpuError::driver("copying from the device", e))
    }

    /// Copies `from` to `to` on the device, in the order of the stream; may be captured.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths differ; a driver error.
    pub fn copy(&self, from: Span<'_>, to: Span<'_>) -> Result<(), GpuError> {
        if from.len != to.len {
            return Err(GpuError::shape("copy", format!("{} bytes to {}", from.len, to.len)));
        }
        if from.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: a span is a checked range of a live buffer of this device; both have this length.
        let copied = unsafe {
            result::memcpy_dtod_async(to.address, from.address, from.len, self.current().cu_stream())
        };
        copied.map_err(|e| GpuError::driver("copying on the device", e))
    }

    /// Fills `span` with zero bytes, in the order of the stream; may be captured.
    ///
    /// # Errors
    /// A driver error.
    pub(crate) fn clear(&self, span: Span<'_>) -> Result<(), GpuError> {
        if span.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: a span is a checked range of a live buffer of this device.
        let cleared =
            unsafe { result::memset_d8_async(span.address, 0, span.len, self.current().cu_stream()) };
        cleared.map_err(|e| GpuError::driver("clearing memory on the device", e))
    }

    pub(super) fn range(&self, buffer: &Buffer<u8>, offset: usize, len: usize) -> Result<u64, GpuError> {
        if offset.checked_add(len).is_none_or(|end| end > buffer.len()) {
            return Err(GpuError::shape("copy", format!("{len} bytes at {offset} of {}", buffer.len())));
        }
        Ok(self.pointer(buffer)? + offset as u64)
    }
}
