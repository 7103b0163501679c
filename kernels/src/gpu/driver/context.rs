//! An open device with its stream.
//!
//! What must hold:
//! - All work of a [`Gpu`] goes to its stream, or to a second one that forks from it and joins it again (`branch`), so it runs in the order of submission, and memory is freed in that
//!   order too. `cudarc`'s own event tracking is off, since stream capture requires that.
//! - A buffer or kernel is used only by the `Gpu` that made it.
//! - What a captured launch uses lives as long as the [`super::Graph`] that replays it.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::{CudaContext, CudaStream};

use super::attachments::Attachments;
use super::branch::Branch;
use super::device::Device;
use super::graph::Capture;
use super::pool;
use crate::gpu::error::{GpuError, NoCuda, words};
use crate::profile::Profile;

/// The precision of activations, and of the products in convolutions and linear layers. Sums, statistics, energies,
/// losses and trained weights are always float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Float32 throughout.
    #[default]
    F32,
    /// Float32 activations; the factors of products may be rounded to TF32 where that is faster.
    Tf32,
    /// Activations and filters in bf16; layers that stay in float32, such as the last one, use float32 products.
    Bf16,
}

/// Whose kernels compute batch norm in train mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BatchNormBy {
    /// The project's own.
    #[default]
    Own,
    /// cuDNN's, group by group, where the images of each group begin at 16 bytes; the rectifier, and sums before and
    /// after, are own kernels.
    Cudnn,
}

/// Who is told each note at once.
type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// An open device with a stream of its own.
pub struct Gpu {
    // Declared before the context, so dropped first: what is attached belongs to it.
    attachments: Attachments,
    profile: Profile,
    launches: AtomicU64,
    notes: Mutex<Vec<String>>,
    listener: OnceLock<Listener>,
    strict: AtomicBool,
    cudnn_batch_norm: AtomicBool,
    precision: Precision,
    device: Device,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    branch: Branch,
    capture: Capture,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens a device that the probe has found, once the probe has found every symbol needed.
    pub(crate) fn open(device: Device) -> Result<Self, NoCuda> {
        let (ordinal, name) = (device.ordinal, device.name.clone());
        let fail = |error| NoCuda::Open { ordinal, name: name.clone(), reason: words(error) };
        let context = CudaContext::new(ordinal).map_err(fail)?;
        // SAFETY: event tracking orders work across streams. Every buffer is allocated and freed on the stream below; the
        // second one works only between a fork from it and a join, which order the two.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(fail)?;
        let branch = Branch::new(&context).map_err(fail)?;
        pool::keep(&context).map_err(fail)?;
        Ok(Self {
            attachments: Attachments::default(),
            profile: Profile::default(),
            launches: AtomicU64::new(0),
            notes: Mutex::default(),
            listener: OnceLock::new(),
            strict: AtomicBool::new(false),
            cudnn_batch_norm: AtomicBool::new(false),
            precision: Precision::default(),
            device,
            context,
            stream,
            branch,
            capture: Capture::default(),
            turn: Mutex::default(),
        })
    }

    /// This device, with another precision.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Chooses whose kernels compute batch norm in programs that are prepared from now on.
    pub fn set_batch_norm(&self, by: BatchNormBy) {
        self.cudnn_batch_norm.store(by == BatchNormBy::Cudnn, Ordering::Relaxed);
    }

    /// Whose kernels compute batch norm.
    #[must_use]
    pub fn batch_norm(&self) -> BatchNormBy {
        if self.cudnn_batch_norm.load(Ordering::Relaxed) { BatchNormBy::Cudnn } else { BatchNormBy::Own }
    }

    /// The precision of activations and products.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Locks the device for the calling thread. Several threads may share a device; each holds this lock over work that
    /// must not be interleaved with another thread's, such as a capture. No method of `Gpu` takes the lock itself.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value that belongs to this device, one per type: made at its first use and dropped before the context.
    pub(in crate::gpu) fn attached<T: Any + Default + Send + Sync>(&self) -> &T {
        self.attachments.get()
    }

    /// Launches of the project's own kernels so far, captured ones included; replays of a graph are not counted.
    #[must_use]
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }

    pub(super) fn count_launch(&self) {
        self.launches.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a remark on how this device is used, once, and tells it to the listener.
    pub(crate) fn note(&self, note: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.contains(&note) {
            return;
        }
        if let Some(listener) = self.listener.get() {
            listener(&note);
        }
        notes.push(note);
    }

    /// Makes `listener` hear each later remark at once, before the work goes on. The first listener stays.
    pub fn on_note(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// From now on, a library that is there and fails is an error, in place of a remark and a slower implementation.
    pub fn require_libraries(&self) {
        self.strict.store(true, Ordering::Relaxed);
    }

    /// Records that something else takes the place of a library's work, which is `what`.
    ///
    /// # Errors
    /// `why`, if the library is there and this device [requires](Self::require_libraries) it.
    pub(crate) fn falls_back(&self, what: &str, why: GpuError) -> Result<(), GpuError> {
        let why = match why {
            GpuError::NoCuda(why) => why.brief(),
            why if self.strict.load(Ordering::Relaxed) => return Err(why),
            why => why.to_string(),
        };
        self.note(format!("{what}: {why}"));
        Ok(())
    }

    /// Remarks on how this device is used, such as libraries that are missing and what is used in their place.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time that programs spend by kind of work, while profiling is on.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The device's description.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Free memory, in bytes: what the driver has, and what freed buffers have left in the pool.
    ///
    /// # Errors
    /// A driver error.
    pub fn memory_free(&self) -> Result<u64, GpuError> {
        let fail = |e| GpuError::driver("asking for free memory", e);
        let (free, _) = self.context.mem_get_info().map_err(fail)?;
        Ok(free as u64 + self.memory_kept().map_err(fail)?)
    }

    /// Waits for all work submitted so far.
    ///
    /// # Errors
    /// A driver error, including errors of that work; [`GpuError::Capturing`].
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.not_capturing("waiting")?;
        self.stream.synchronize().map_err(|e| GpuError::driver("waiting for the device", e))
    }

    /// The context.
    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The second stream.
    pub(super) fn branch(&self) -> &Branch {
        &self.branch
    }

    /// The stream.
    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The state of stream capture.
    pub(super) fn capture_state(&self) -> &Capture {
        &self.capture
    }

    /// Makes this device the current one of the calling thread, as CUDA's libraries expect.
    pub(crate) fn bind(&self) -> Result<(), GpuError> {
        self.context.bind_to_thread().map_err(|e| GpuError::driver("binding the device to a thread", e))
    }

    /// An error while a capture is in progress.
    pub(crate) fn not_capturing(&self, op: &'static str) -> Result<(), GpuError> {
        if self.capture.lock().is_some() { Err(GpuError::Capturing { op }) } else { Ok(()) }
    }

    /// During a capture, makes the graph keep `what` alive.
    pub(super) fn keep<T: Any + Send + Sync>(&self, what: impl FnOnce() -> Arc<T>) {
        if let Some(kept) = self.capture.lock().as_mut() {
            kept.push(what());
        }
    }
}
