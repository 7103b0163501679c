//! The pool that device memory is allocated from.
//!
//! What must hold: memory that is freed stays in the pool, since handing it back to the driver at every synchronisation,
//! and asking for it again, takes longer than the work between; the pool belongs to the device and outlives each [`Gpu`].

use cudarc::driver::sys::{self, CUmemPool_attribute, CUmemoryPool};
use cudarc::driver::{CudaContext, DriverError};

use super::context::Gpu;
use crate::gpu::error::GpuError;

/// The device's pool; none where the device has no pools.
fn pool(context: &CudaContext) -> Result<Option<CUmemoryPool>, DriverError> {
    if !context.has_async_alloc() {
        return Ok(None);
    }
    let mut pool = std::ptr::null_mut();
    // SAFETY: the device is that of the context; it writes one handle.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()) }.result()?;
    Ok(Some(pool))
}

fn set(pool: CUmemoryPool, attribute: CUmemPool_attribute, mut value: u64) -> Result<(), DriverError> {
    // SAFETY: both attributes that this file sets are 64-bit numbers.
    unsafe { sys::cuMemPoolSetAttribute(pool, attribute, std::ptr::from_mut(&mut value).cast()) }.result()
}

fn get(pool: CUmemoryPool, attribute: CUmemPool_attribute) -> Result<u64, DriverError> {
    let mut value = 0u64;
    // SAFETY: the attributes that this file asks for are 64-bit numbers.
    unsafe { sys::cuMemPoolGetAttribute(pool, attribute, std::ptr::from_mut(&mut value).cast()) }.result()?;
    Ok(value)
}

/// Makes the pool keep all memory.
pub(super) fn keep(context: &CudaContext) -> Result<(), DriverError> {
    match pool(context)? {
        Some(pool) => set(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX),
        None => Ok(()),
    }
}

impl Gpu {
    /// The most bytes that buffers had at one time since the device was first opened or
    /// [`Gpu::restart_memory_peak`]; `None` where the device has no memory pools. What libraries and loaded kernels take
    /// for themselves is not in it.
    ///
    /// # Errors
    /// A driver error.
    pub fn memory_peak(&self) -> Result<Option<u64>, GpuError> {
        let fail = |e| GpuError::driver("asking for the most memory used", e);
        let Some(pool) = pool(self.context()).map_err(fail)? else { return Ok(None) };
        get(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH).map(Some).map_err(fail)
    }

    /// Bytes that no buffer has and that the pool keeps for the next one.
    pub(super) fn memory_kept(&self) -> Result<u64, DriverError> {
        let Some(pool) = pool(self.context())? else { return Ok(0) };
        let reserved = get(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        Ok(reserved.saturating_sub(get(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?))
    }

    /// Makes [`Gpu::memory_peak`] count from what is in use now.
    ///
    /// # Errors
    /// A driver error.
    pub fn restart_memory_peak(&self) -> Result<(), GpuError> {
        let fail = |e| GpuError::driver("restarting the count of memory", e);
        match pool(self.context()).map_err(fail)? {
            Some(pool) => set(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0).map_err(fail),
            None => Ok(()),
        }
    }
}
