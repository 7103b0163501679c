//! Byte ranges of device memory: what the engine's programs and state live in.
//!
//! What must hold: a range is checked against its buffer before an address leaves; copies between host and device are
//! waited for, copies on the device are work of the stream like any other.

use std::marker::PhantomData;

use cudarc::driver::result;

use super::context::{Buffer, Gpu};
use super::error::GpuError;
use crate::memory::Span;

impl Gpu {
    /// The bytes of a buffer, for launches.
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
    /// [`GpuError::Shape`] when they do not fit; what the driver answers; [`GpuError::Capturing`].
    pub fn write_at(&self, buffer: &mut Buffer<u8>, offset: usize, bytes: &[u8]) -> Result<(), GpuError> {
        self.not_capturing("copying to the device")?;
        let address = self.range(buffer, offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let fail = |e| GpuError::driver("copying to the device", e);
        self.bind()?;
        // SAFETY: the range lies in the buffer, which is alive for this call; the copy is waited for, so that `bytes`
        // outlives it.
        unsafe { result::memcpy_htod_async(address, bytes, self.stream().cu_stream()) }.map_err(fail)?;
        self.stream().synchronize().map_err(fail)
    }

    /// Copies bytes of a buffer from `offset` on, after all work asked for so far.
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
        // SAFETY: the range lies in the buffer; the copy is waited for before `bytes` is given back.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, address, self.stream().cu_stream()) };
        let waited = self.stream().synchronize();
        copied.and(waited).map_err(|e| GpuError::driver("copying from the device", e))
    }

    /// Copies `from` to `to` on the device, in the order of the stream; may be captured.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths differ; what the driver answers.
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
            result::memcpy_dtod_async(to.address, from.address, from.len, self.stream().cu_stream())
        };
        copied.map_err(|e| GpuError::driver("copying on the device", e))
    }

    pub(super) fn range(&self, buffer: &Buffer<u8>, offset: usize, len: usize) -> Result<u64, GpuError> {
        if offset.checked_add(len).is_none_or(|end| end > buffer.len()) {
            return Err(GpuError::shape("copy", format!("{len} bytes at {offset} of {}", buffer.len())));
        }
        Ok(self.pointer(buffer)? + offset as u64)
    }
}
