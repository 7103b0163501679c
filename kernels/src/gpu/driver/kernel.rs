//! Kernels on a device: loading them from compiled modules and launching them.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaModule, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

use super::context::Gpu;
use super::release::Deferred;
use crate::gpu::error::GpuError;

/// Addresses that a kernel for many tensors gets by value (`Pointers` in `cuda/common.cuh`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Pointers(pub(crate) [u64; POINTERS]);

/// Number of addresses in [`Pointers`].
pub(crate) const POINTERS: usize = 384;

// SAFETY: as the kernels' struct of the same name, an array of 64-bit integers.
unsafe impl DeviceRepr for Pointers {}

/// An argument of a kernel.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    /// The address of a buffer, or 0 for a null pointer.
    Pointer(u64),
    /// A `long long`.
    I64(i64),
    /// An `int`.
    I32(i32),
    /// An `unsigned`.
    U32(u32),
    /// A `float`.
    F32(f32),
    /// A `double`.
    F64(f64),
    /// The addresses of many tensors.
    Pointers(Box<Pointers>),
}

impl Arg {
    /// A null pointer.
    pub(crate) const NULL: Self = Self::Pointer(0);
}

/// A kernel loaded on a device.
#[derive(Clone, Debug)]
pub struct Kernel {
    loaded: Arc<LoadedKernel>,
}

#[derive(Debug)]
struct LoadedKernel {
    // Declared before its module, so dropped first: the module's own reference is the last one.
    function: CudaFunction,
    module: Arc<Deferred<Module>>,
}

/// A loaded module: the code of its kernels.
#[derive(Debug)]
pub(in crate::gpu) struct Module {
    code: Arc<CudaModule>,
    stream: Arc<CudaStream>,
}

impl Drop for Module {
    fn drop(&mut self) {
        // The code must not be unloaded while a launch of it is running. The next call will report an error again.
        let _ = self.stream.synchronize();
    }
}

impl Gpu {
    /// Loads a module from its code, compiled for `target` (such as `sm_90`).
    pub(in crate::gpu) fn load_module(
        &self,
        code: &[u8],
        target: &str,
    ) -> Result<Arc<Deferred<Module>>, GpuError> {
        let code = self.context().load_module(Ptx::from_binary(code.to_vec()));
        let code = code.map_err(|e| GpuError::driver(format!("loading a module for {target}"), e))?;
        Ok(Arc::new(Deferred::new(Module { code, stream: self.stream().clone() })))
    }

    /// Finds a kernel in a loaded module.
    pub(in crate::gpu) fn function(
        &self,
        module: &Arc<Deferred<Module>>,
        kernel: &str,
    ) -> Result<Kernel, GpuError> {
        let function = module.code.load_function(kernel);
        let function = function.map_err(|e| GpuError::driver(format!("finding the kernel {kernel}"), e))?;
        Ok(Kernel { loaded: Arc::new(LoadedKernel { function, module: module.clone() }) })
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// `args` must match the kernel's parameters in order and type, and at this launch size the kernel must stay inside
    /// the buffers that its pointers are of; those pointers must come from [`Gpu::pointer`] on this `Gpu` after the last
    /// capture began, and the buffers may not be read on the host before the stream is synchronised.
    pub(crate) unsafe fn launch(
        &self,
        kernel: &Kernel,
        size: LaunchConfig,
        args: &[Arg],
    ) -> Result<(), GpuError> {
        if !Arc::ptr_eq(&kernel.loaded.module.stream, self.stream()) {
            return Err(GpuError::shape("launch", "the kernel was loaded by another Gpu"));
        }
        self.keep(|| kernel.loaded.clone());
        self.count_launch();
        let mut launch = self.current().launch_builder(&kernel.loaded.function);
        for arg in args {
            match arg {
                Arg::Pointer(pointer) => launch.arg(pointer),
                Arg::I64(value) => launch.arg(value),
                Arg::I32(value) => launch.arg(value),
                Arg::U32(value) => launch.arg(value),
                Arg::F32(value) => launch.arg(value),
                Arg::F64(value) => launch.arg(value),
                Arg::Pointers(all) => launch.arg(&**all),
            };
        }
        // SAFETY: the caller guarantees the arguments; the kernel and the context are those of this stream.
        let launched = unsafe { launch.launch(size) };
        launched.map(|_| ()).map_err(|e| GpuError::driver("launching a kernel", e))
    }
}
