//! The memory that a program owns, on the host or on a GPU.

use crate::device::Device;
use crate::error::Result;
use kernels::gpu::{self, Gpu};
use kernels::memory::Buffer;
use std::sync::Arc;

/// One block of memory for all values and workspaces of a program.
pub(crate) enum Arena {
    Host(Buffer),
    Gpu(Arc<Gpu>, gpu::Buffer<u8>),
}

impl Arena {
    pub(crate) fn new(device: &Device, bytes: usize) -> Result<Self> {
        Ok(match device.as_gpu() {
            None => Self::Host(Buffer::zeroed(bytes)?),
            Some(gpu) => Self::Gpu(Arc::clone(gpu), gpu.zeros(bytes)?),
        })
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Host(b) => b.len(),
            Self::Gpu(_, b) => b.len(),
        }
    }
}
