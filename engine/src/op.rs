//! What an op is: a shape rule, a cost, a kernel for each device, and a gradient recorded as further ops.

use crate::device::{Device, Kind};
use crate::emulate;
use crate::error::{Error, KernelError, Result};
use crate::spec::{DType, Spec};
use crate::tape::{NodeRef, Tape, Var};
use core::any::Any;
use core::fmt::Debug;
use kernels::cpu::Cpu;
use kernels::gpu::{Float, Gpu, Launch};
use kernels::memory::{Io, MemoryError};
use std::sync::Arc;

/// Work and traffic of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
}

/// The meaning of an op.
pub trait Op: Any + Debug + Send + Sync {
    /// Its name in errors and dumps.
    fn name(&self) -> &'static str;

    /// Output specs from input specs.
    ///
    /// # Errors
    /// A sentence on what does not fit; the tape adds op, specs and recording site.
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String>;

    /// FLOPs.
    fn flops(&self, _x: &[Spec], y: &[Spec]) -> u64 {
        y.iter().map(|s| s.len() as u64).sum()
    }

    /// Bytes read and written at least once: all inputs and outputs, unless the op touches a part of them.
    fn bytes(&self, x: &[Spec], y: &[Spec]) -> u64 {
        x.iter().chain(y).map(|s| s.bytes() as u64).sum()
    }

    /// (output, input) pairs that may share memory.
    fn may_alias(&self) -> &[(usize, usize)] {
        &[]
    }

    /// The CPU kernel, with everything decided that the shapes decide. It never meets bf16: specs that are come as float32
    /// (`emulate.rs`).
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], y: &[Spec]) -> Prepared;

    /// The CUDA kernel, likewise.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless overridden; what compiling or cuDNN answers.
    fn cuda(&self, _gpu: &Arc<Gpu>, _x: &[Spec], _y: &[Spec]) -> Result<Prepared> {
        Err(Error::Unsupported { op: self.name(), why: "it has no CUDA kernel" })
    }

    /// The kernel for a device.
    ///
    /// # Errors
    /// Those of [`Op::cuda`]; [`Error::Unsupported`] for float64 on a GPU.
    fn prepare(&self, device: &Device, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        match device.kind() {
            Kind::Cpu(cpu) if x.iter().chain(y).any(|s| s.dtype == DType::BF16) => {
                let wide = |specs: &[Spec]| specs.iter().map(Spec::wide).collect::<Vec<_>>();
                emulate::in_float32(self.cpu(cpu, &wide(x), &wide(y)), x, y)
            }
            Kind::Cpu(cpu) => Ok(self.cpu(cpu, x, y)),
            Kind::Cuda(_) if x.iter().chain(y).any(|s| s.dtype == DType::F64) => Err(Error::Unsupported {
                op: self.name(),
                why: "float64 is for oracles and runs on the CPU only",
            }),
            Kind::Cuda(gpu) => self.cuda(gpu, x, y),
        }
    }

    /// Records the gradients of the inputs in `want`.
    ///
    /// # Errors
    /// [`Error::NoSecondOrder`] unless overridden.
    fn vjp(
        &self,
        _tape: &mut Tape,
        node: &NodeRef,
        _dy: &[Option<Var>],
        _want: &Wanted,
    ) -> Result<Vec<Grad>> {
        Err(Error::NoSecondOrder { op: self.name(), site: node.site })
    }
}

/// Which input gradients are wanted, and what they will be added to.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// One flag an input.
    pub need: Vec<bool>,
    /// What the gradient of an input amounts to so far; an op may add it in and return [`Grad::Total`].
    pub so_far: Vec<Option<Var>>,
}

impl Wanted {
    /// Whether input `i` needs a gradient (false past the end).
    pub fn needs(&self, i: usize) -> bool {
        self.need.get(i).copied().unwrap_or(false)
    }

    /// Runs `f` if input `i` needs a gradient; its result is to be added to what there is.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn add(&self, i: usize, f: impl FnOnce() -> Result<Var>) -> Result<Grad> {
        if self.needs(i) { f().map(Grad::Add) } else { Ok(Grad::None) }
    }

    /// Runs `f` with what there is so far if input `i` needs a gradient; its result includes it.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn total(&self, i: usize, f: impl FnOnce(Option<Var>) -> Result<Var>) -> Result<Grad> {
        if self.needs(i) { f(self.so_far[i]).map(Grad::Total) } else { Ok(Grad::None) }
    }
}

/// The gradient of one input.
#[derive(Clone, Copy, Debug)]
pub enum Grad {
    /// Not wanted, or zero.
    None,
    /// To be added to what there is.
    Add(Var),
    /// Includes what there was.
    Total(Var),
}

/// A kernel with its workspace.
pub struct Prepared {
    /// Bytes of workspace.
    pub workspace: usize,
    /// The kernel.
    pub kernel: Box<dyn Kernel>,
}

/// Something that runs on the memory of one node.
pub trait Kernel: Send {
    /// Runs once.
    ///
    /// # Errors
    /// If the memory handed out is not what the kernel expects, or a GPU refuses.
    fn run(&mut self, io: &mut Io<'_>) -> core::result::Result<(), KernelError>;
}

struct OnDevice<D, F> {
    device: Arc<D>,
    f: F,
}

impl<D, E, F> Kernel for OnDevice<D, F>
where
    D: Send + Sync,
    E: Into<KernelError>,
    F: FnMut(&D, &mut Io<'_>) -> core::result::Result<(), E> + Send,
{
    fn run(&mut self, io: &mut Io<'_>) -> core::result::Result<(), KernelError> {
        (self.f)(&self.device, io).map_err(Into::into)
    }
}

/// A CPU kernel from a closure, with `workspace` bytes.
pub(crate) fn cpu_kernel<F>(cpu: &Arc<Cpu>, workspace: usize, f: F) -> Prepared
where
    F: FnMut(&Cpu, &mut Io<'_>) -> core::result::Result<(), MemoryError> + Send + 'static,
{
    Prepared { workspace, kernel: Box::new(OnDevice { device: Arc::clone(cpu), f }) }
}

/// A CUDA kernel from a closure, with `workspace` bytes.
pub(crate) fn cuda_kernel<F>(gpu: &Arc<Gpu>, workspace: usize, f: F) -> Result<Prepared>
where
    F: FnMut(&Gpu, &mut Io<'_>) -> core::result::Result<(), KernelError> + Send + 'static,
{
    Ok(Prepared { workspace, kernel: Box::new(OnDevice { device: Arc::clone(gpu), f }) })
}

/// A CUDA kernel of one launch that takes all inputs in order, then all outputs.
pub(crate) fn cuda_launch(gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec], launch: Launch) -> Result<Prepared> {
    let (inputs, outputs) = (x.len(), y.len());
    cuda_kernel(gpu, 0, move |gpu, io| {
        let spans = (0..inputs).map(|i| io.gpu_input(i)).chain((0..outputs).map(|o| io.gpu_output(o)));
        let spans = spans.map(|s| s.map(Some)).collect::<core::result::Result<Vec<_>, MemoryError>>()?;
        Ok(launch.run(gpu, &spans)?)
    })
}

/// Runs `$body` with `$t` bound to the float type of `$spec` on a CPU (float32 unless it is float64).
macro_rules! real {
    ($spec:expr, $t:ident => $body:expr) => {
        match $spec.dtype {
            $crate::spec::DType::F64 => {
                type $t = f64;
                $body
            }
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}
pub(crate) use real;

/// Fails with a sentence unless a condition holds.
macro_rules! ensure {
    ($cond:expr, $($text:tt)*) => {
        if !$cond {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use ensure;

/// Checks the number of inputs, that the real ones (all but `ints`) share one real type other than bf16, and that `ints`
/// are i32.
pub(crate) fn arity(
    x: &[Spec],
    n: core::ops::RangeInclusive<usize>,
    ints: &[usize],
) -> core::result::Result<(), String> {
    mixed(x, n, ints, |_| false)
}

/// The same for ops that take bf16: inputs of which `low` is true are activations and share one type, which may be bf16;
/// the others are of its wide type ([`DType::wide`]).
pub(crate) fn mixed(
    x: &[Spec],
    n: core::ops::RangeInclusive<usize>,
    ints: &[usize],
    low: impl Fn(usize) -> bool,
) -> core::result::Result<(), String> {
    ensure!(n.contains(&x.len()), "takes {n:?} inputs, got {}", x.len());
    let (mut wide, mut narrow) = (None, None);
    for (i, s) in x.iter().enumerate() {
        if ints.contains(&i) {
            ensure!(s.dtype == DType::I32, "input {i} must be i32, got {s}");
            continue;
        }
        let may = if low(i) { "f32, f64 or bf16" } else { "f32 or f64" };
        ensure!(s.dtype.is_real() && (low(i) || s.dtype != DType::BF16), "input {i} must be {may}, got {s}");
        ensure!(wide.is_none_or(|d| d == s.dtype.wide()), "inputs mix f32 and f64");
        wide = Some(s.dtype.wide());
        if low(i) {
            ensure!(narrow.is_none_or(|d| d == s.dtype), "activations mix {} and other types", s.dtype);
            narrow = Some(s.dtype);
        }
    }
    Ok(())
}

/// The type of a kernel's activations.
pub(crate) fn float(spec: &Spec) -> Float {
    if spec.dtype == DType::BF16 { Float::Bf16 } else { Float::F32 }
}
