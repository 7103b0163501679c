//! A device with one stream, buffers on it and kernels for it.
//!
//! What must hold:
//! - All work of a [`Gpu`] goes to its one stream, so it happens in the order in which it was asked for, and memory
//!   is given back in that order too. `cudarc`'s own tracking of events is off, as capture needs it.
//! - A buffer or kernel is used only by the `Gpu` that made it.
//! - What a captured launch uses lives as long as the [`super::Graph`] that replays it.

use std::any::Any;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;
use cudarc::driver::sys::CUresult;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg,
    result,
};
use cudarc::nvrtc::Ptx;

use super::driver::Device;
use super::error::{GpuError, NoCuda, words};
use super::handles::Handles;
use super::modules::Modules;
use super::nvrtc::Image;
use crate::profile::Profile;

/// What captured launches use, while a capture goes on.
type Kept = Vec<Arc<dyn Any + Send + Sync>>;

/// `Some` while a capture goes on.
#[derive(Default)]
pub(crate) struct Capture(Mutex<Option<Kept>>);

impl Capture {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What activations are and how products are formed in convolutions and linear layers. Sums, statistics, energies, losses
/// and trained weights are float32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As float32.
    #[default]
    F32,
    /// With the factors rounded to TF32, where the device is faster so.
    Tf32,
    /// Activations and filters in bf16; what is left in float32, such as the last layer, is formed as float32.
    Bf16,
}

/// An open device with a stream of its own.
pub struct Gpu {
    // Before the context: what they hold belongs to it.
    modules: Modules,
    handles: Handles,
    precision: Precision,
    device: Device,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    capture: Arc<Capture>,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens a device that the probe has found, after the probe has found every symbol needed.
    pub(crate) fn open(device: Device) -> Result<Self, NoCuda> {
        let (ordinal, name) = (device.ordinal, device.name.clone());
        let fail = |error| NoCuda::Open { ordinal, name: name.clone(), reason: words(error) };
        let context = CudaContext::new(ordinal).map_err(fail)?;
        // SAFETY: what tracking would order across streams is in order without it: this context value makes the one
        // stream below and no other, and every buffer is made, used and freed on it.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(fail)?;
        Ok(Self {
            modules: Modules::default(),
            handles: Handles::default(),
            precision: Precision::default(),
            device,
            context,
            stream,
            capture: Arc::default(),
            turn: Mutex::default(),
        })
    }

    /// The same device with another precision of products.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// How products are formed.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Waits until no other thread has a turn. Several threads may share a device; each holds a turn over what must not
    /// be mixed with another's work, such as a capture. Nothing here takes one by itself.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernels loaded so far.
    pub(crate) fn modules(&self) -> &Modules {
        &self.modules
    }

    /// The handles of libraries.
    pub(crate) fn handles(&self) -> &Handles {
        &self.handles
    }

    /// What programs spend their time on, while it is asked for.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.handles.profile
    }

    /// What the device is.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Free memory, in bytes.
    ///
    /// # Errors
    /// What the driver answers.
    pub fn memory_free(&self) -> Result<u64, GpuError> {
        let (free, _) =
            self.context.mem_get_info().map_err(|e| GpuError::driver("asking for free memory", e))?;
        Ok(free as u64)
    }

    /// Waits for all work asked for so far.
    ///
    /// # Errors
    /// What the driver answers, including errors of the work waited for; [`GpuError::Capturing`].
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.not_capturing("waiting")?;
        self.stream.synchronize().map_err(|e| GpuError::driver("waiting for the device", e))
    }

    /// A new buffer of `len` zeros.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], or another error of the driver; [`GpuError::Capturing`].
    pub fn zeros<T: Pod>(&self, len: usize) -> Result<Buffer<T>, GpuError> {
        self.not_capturing("allocating")?;
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| GpuError::shape("zeros", "too long"))?;
        // CUDA refuses an allocation of nothing.
        let memory = self.stream.alloc_zeros::<u8>(bytes.max(1));
        let memory = memory.map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                GpuError::OutOfMemory { wanted: bytes as u64, free: self.memory_free().unwrap_or(0) }
            }
            _ => GpuError::driver(format!("allocating {bytes} bytes"), e),
        })?;
        Ok(Buffer { memory: Arc::new(memory), capture: self.capture.clone(), len, element: PhantomData })
    }

    /// A new buffer with a copy of `values`.
    ///
    /// # Errors
    /// As [`Gpu::zeros`] and [`Gpu::write`].
    pub fn upload<T: Pod>(&self, values: &[T]) -> Result<Buffer<T>, GpuError> {
        let mut buffer = self.zeros(values.len())?;
        self.write(&mut buffer, values)?;
        Ok(buffer)
    }

    /// Overwrites a buffer.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths differ or the buffer is another `Gpu`'s; what the driver answers;
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
        self.context.bind_to_thread().map_err(fail)?;
        // SAFETY: the buffer has room for as many bytes as `values` has, is alive for this call, and the copy is waited
        // for below, so that `values` outlives it.
        unsafe {
            result::memcpy_htod_async(pointer, bytemuck::cast_slice::<T, u8>(values), self.stream.cu_stream())
        }
        .map_err(fail)?;
        self.stream.synchronize().map_err(fail)
    }

    /// A copy of a buffer's values, after all work asked for so far.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the buffer is another `Gpu`'s; what the driver answers; [`GpuError::Capturing`].
    pub fn read<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, GpuError> {
        self.not_capturing("copying from the device")?;
        let pointer = self.pointer(buffer)?;
        if buffer.is_empty() {
            return Ok(Vec::new());
        }
        let fail = |e| GpuError::driver("copying from the device", e);
        self.context.bind_to_thread().map_err(fail)?;
        let mut values = vec![T::zeroed(); buffer.len];
        let bytes = bytemuck::cast_slice_mut::<T, u8>(&mut values);
        // SAFETY: the buffer holds as many bytes as `values`, any bytes are good values of a `Pod`, and the copy is
        // waited for before `values` is given away or dropped.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, pointer, self.stream.cu_stream()) };
        let waited = self.stream.synchronize();
        copied.and(waited).map_err(fail)?;
        Ok(values)
    }

    /// Loads a kernel of a compiled file.
    ///
    /// # Errors
    /// What the driver answers, as when the image is for another device or has no such kernel.
    pub fn load(&self, image: &Image, kernel: &str) -> Result<Kernel, GpuError> {
        self.not_capturing("loading a kernel")?;
        self.function(&self.load_module(image)?, kernel)
    }

    /// Loads a compiled file.
    pub(crate) fn load_module(&self, image: &Image) -> Result<Arc<CudaModule>, GpuError> {
        let module = self.context.load_module(Ptx::from_binary(image.bytes().to_vec()));
        module.map_err(|e| GpuError::driver(format!("loading a module for {}", image.target()), e))
    }

    /// A kernel of a loaded file.
    pub(crate) fn function(&self, module: &Arc<CudaModule>, kernel: &str) -> Result<Kernel, GpuError> {
        let function = module.load_function(kernel);
        let function = function.map_err(|e| GpuError::driver(format!("finding the kernel {kernel}"), e))?;
        Ok(Kernel { loaded: Arc::new(LoadedKernel { function, stream: self.stream.clone() }) })
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// `args` must be what the kernel takes, in order and type, and its accesses at this size must stay inside the
    /// buffers whose pointers they are; those buffers must come from [`Gpu::pointer`] on this `Gpu` after the last
    /// capture began, and may not be read on the host before the stream is waited for.
    pub(crate) unsafe fn launch(
        &self,
        kernel: &Kernel,
        size: LaunchConfig,
        args: &[Arg],
    ) -> Result<(), GpuError> {
        if !Arc::ptr_eq(&kernel.loaded.stream, &self.stream) {
            return Err(GpuError::shape("launch", "the kernel was loaded by another Gpu"));
        }
        self.keep(|| kernel.loaded.clone());
        let mut launch = self.stream.launch_builder(&kernel.loaded.function);
        for arg in args {
            match arg {
                Arg::Pointer(pointer) => launch.arg(pointer),
                Arg::I64(value) => launch.arg(value),
                Arg::I32(value) => launch.arg(value),
                Arg::U32(value) => launch.arg(value),
                Arg::F32(value) => launch.arg(value),
                Arg::F64(value) => launch.arg(value),
            };
        }
        // SAFETY: the caller vouches for the arguments; the kernel and the context are those of this stream.
        let launched = unsafe { launch.launch(size) };
        launched.map(|_| ()).map_err(|e| GpuError::driver("launching a kernel", e))
    }

    /// The address of a buffer for work on this `Gpu`; a capture going on keeps the buffer from now.
    pub(crate) fn pointer<T>(&self, buffer: &Buffer<T>) -> Result<u64, GpuError> {
        if !Arc::ptr_eq(buffer.memory.stream(), &self.stream) {
            return Err(GpuError::shape("buffer", "it belongs to another Gpu"));
        }
        self.keep(|| buffer.memory.clone());
        Ok(buffer.memory.device_ptr(&self.stream).0)
    }

    /// The stream as other libraries take it.
    pub(crate) fn raw_stream(&self) -> *mut c_void {
        self.stream.cu_stream().cast()
    }

    /// The stream.
    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The state of capture.
    pub(crate) fn capture_state(&self) -> &Arc<Capture> {
        &self.capture
    }

    /// Makes this device the calling thread's, as libraries of CUDA expect.
    pub(crate) fn bind(&self) -> Result<(), GpuError> {
        self.context.bind_to_thread().map_err(|e| GpuError::driver("binding the device to a thread", e))
    }

    /// An error while a capture goes on.
    pub(crate) fn not_capturing(&self, op: &'static str) -> Result<(), GpuError> {
        if self.capture.lock().is_some() { Err(GpuError::Capturing { op }) } else { Ok(()) }
    }

    fn keep<T: Any + Send + Sync>(&self, what: impl FnOnce() -> Arc<T>) {
        if let Some(kept) = self.capture.lock().as_mut() {
            kept.push(what());
        }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// The address of a buffer; 0 for none.
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
}

impl Arg {
    /// No buffer.
    pub(crate) const NULL: Self = Self::Pointer(0);
}

/// Values of type `T` on a device.
pub struct Buffer<T> {
    memory: Arc<CudaSlice<u8>>,
    capture: Arc<Capture>,
    len: usize,
    element: PhantomData<T>,
}

impl<T> Buffer<T> {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
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

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // Giving memory back would become part of the capture.
        if let Some(kept) = self.capture.lock().as_mut() {
            kept.push(self.memory.clone());
        }
    }
}

/// A kernel loaded on a device.
#[derive(Clone, Debug)]
pub struct Kernel {
    loaded: Arc<LoadedKernel>,
}

#[derive(Debug)]
struct LoadedKernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Drop for LoadedKernel {
    fn drop(&mut self) {
        // The code must not go while a launch of it is under way. An error here is met again by the next call.
        let _ = self.stream.synchronize();
    }
}
