//! What an op is: a shape rule, a cost, a kernel for each device, and a gradient recorded as further ops.
//!
//! Ops can be defined outside this crate: implement [`Op`], build its kernel with [`cpu_kernel`], and check it with
//! [`testing`](crate::testing). `examples/custom-op` in the repository is a worked example.

use crate::error::{Error, KernelError, Result};
use crate::spec::{DType, Spec};
use crate::tape::{Node, Tape, Var};
use core::any::Any;
use core::fmt::Debug;
pub use kernels::cpu::Cpu;
pub use kernels::gpu::Gpu;
use kernels::gpu::{Float, Launch};
pub use kernels::memory::{Io, MemoryError};
use std::sync::Arc;

/// Arithmetic and memory traffic of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
}

/// What one run of a node asks of a GPU that has cuDNN and cuBLAS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuWork {
    /// Launches of the project's own kernels.
    pub launches: u64,
    /// Bytes that these read and write, pass by pass.
    pub bytes: u64,
    /// Of these bytes, those that a second pass reads of the same tensors as the pass before it.
    pub again: u64,
    /// Calls of a library.
    pub calls: u64,
}

impl GpuWork {
    /// Kernels of the project alone, which read nothing again.
    pub fn own(launches: u64, bytes: u64) -> Self {
        Self { launches, bytes, ..Self::default() }
    }

    /// One call of a library.
    pub fn library() -> Self {
        Self { calls: 1, ..Self::default() }
    }
}

/// An operation on tensors. Its constants are fields of the type; its tensors are the inputs with which it is recorded.
pub trait Op: Any + Debug + Send + Sync {
    /// Its name in errors and in printed plans.
    fn name(&self) -> &'static str;

    /// The shape rule: output specs from input specs. Inputs have at least one element each.
    ///
    /// # Errors
    /// A sentence on what does not fit, without op, specs and line, which the tape adds.
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String>;

    /// Floating-point operations: one per output element unless overridden.
    fn flops(&self, _x: &[Spec], y: &[Spec]) -> u64 {
        y.iter().map(|s| s.len() as u64).sum()
    }

    /// Bytes read and written at least once: all inputs and outputs, unless overridden by an op that touches only a part
    /// of them.
    fn bytes(&self, x: &[Spec], y: &[Spec]) -> u64 {
        x.iter().chain(y).map(|s| s.bytes() as u64).sum()
    }

    /// What one run asks of a GPU with cuDNN and cuBLAS: one launch over [`Op::bytes`] unless overridden. Tests compare the
    /// launches with those of a simulated GPU.
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(1, self.bytes(x, y))
    }

    /// Whether all its outputs are zero, whatever its inputs are.
    fn is_zero(&self) -> bool {
        false
    }

    /// The pairs (output, input) for which the kernel may write the output over the input. For these it must use
    /// [`Io::input_or_place`], which says whether it does.
    fn may_alias(&self) -> &[(usize, usize)] {
        &[]
    }

    /// The CPU kernel for inputs of specs `x` and outputs of specs `y`, which [`Op::infer`] accepted. Called once when a
    /// program is planned: whatever depends on shapes alone is computed here. bf16 specs arrive as float32; the engine
    /// converts inputs and outputs.
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], y: &[Spec]) -> Prepared;

    /// The CUDA kernel for inputs of specs `x` and outputs of specs `y`, float32 or bf16.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless overridden; errors of the compiler and of CUDA's libraries.
    fn cuda(&self, _gpu: &Arc<Gpu>, _x: &[Spec], _y: &[Spec]) -> Result<Prepared> {
        Err(Error::Unsupported { op: self.name(), why: "it has no CUDA kernel" })
    }

    /// Records the vector-Jacobian product: the gradients of the inputs that `want` needs, from the gradients `dy` of the
    /// outputs (`None`: zero). Returns one [`Grad`] per input; missing ones at the end count as [`Grad::None`].
    ///
    /// # Errors
    /// [`Error::NoSecondOrder`] unless overridden: ops that only occur in gradients often leave it out.
    fn vjp(
        &self,
        _tape: &mut Tape,
        node: &Node,
        _dy: &[Option<Var>],
        _want: &GradRequest,
    ) -> Result<Vec<Grad>> {
        Err(Error::NoSecondOrder { op: self.name(), site: node.site })
    }
}

/// Which input gradients a vector-Jacobian product must record, and what they will be added to.
#[derive(Clone, Debug)]
pub struct GradRequest {
    /// Whether each input needs a gradient.
    pub need: Vec<bool>,
    /// For each input, the sum of the gradients recorded for it so far, if an op may add to it in its own kernel and
    /// return [`Grad::Accumulated`].
    pub accumulated: Vec<Option<Var>>,
}

impl GradRequest {
    /// Whether input `i` needs a gradient (false past the end).
    pub fn needs(&self, i: usize) -> bool {
        self.need.get(i).copied().unwrap_or(false)
    }

    /// If input `i` needs a gradient, calls `f` to record it; the engine adds it to the others.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn add(&self, i: usize, f: impl FnOnce() -> Result<Var>) -> Result<Grad> {
        if self.needs(i) { f().map(Grad::Add) } else { Ok(Grad::None) }
    }

    /// If input `i` needs a gradient, calls `f` with the gradient accumulated so far, to which `f` must add.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn accumulate(&self, i: usize, f: impl FnOnce(Option<Var>) -> Result<Var>) -> Result<Grad> {
        if self.needs(i) { f(self.accumulated[i]).map(Grad::Accumulated) } else { Ok(Grad::None) }
    }
}

/// The gradient of one input.
#[derive(Clone, Copy, Debug)]
pub enum Grad {
    /// Not needed, or zero.
    None,
    /// One term, which the engine adds to the others.
    Add(Var),
    /// The sum of this term and [`GradRequest::accumulated`].
    Accumulated(Var),
}

/// A kernel that is ready to run, made by [`cpu_kernel`].
pub struct Prepared {
    /// Bytes of scratch memory that it needs.
    pub workspace: usize,
    /// The kernel.
    pub kernel: Box<dyn Kernel>,
}

/// Code that computes the outputs of one node from its inputs.
pub trait Kernel: Send {
    /// Runs once.
    ///
    /// # Errors
    /// If it asks `io` for memory that the node does not have, or a GPU reports an error.
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

/// A CPU kernel from a closure that gets the CPU (threads and instruction set) and the node's memory: inputs to read,
/// outputs to write in full, and `workspace` bytes of scratch memory.
pub fn cpu_kernel<F>(cpu: &Arc<Cpu>, workspace: usize, f: F) -> Prepared
where
    F: FnMut(&Cpu, &mut Io<'_>) -> core::result::Result<(), MemoryError> + Send + 'static,
{
    Prepared { workspace, kernel: Box::new(OnDevice { device: Arc::clone(cpu), f }) }
}

/// A CUDA kernel from a closure, with `workspace` bytes of scratch memory.
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

/// `real!(spec, T => body)` evaluates `body` with the type `T` bound to the element type of `spec` in CPU kernels: `f64`
/// for float64, else `f32`.
#[doc(hidden)]
#[macro_export]
macro_rules! __real {
    ($spec:expr, $t:ident => $body:expr) => {
        match $spec.dtype {
            $crate::DType::F64 => {
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
#[doc(inline)]
pub use __real as real;

/// `ensure!(condition, "format", …)` returns `Err` with the formatted sentence unless the condition holds: for
/// [`Op::infer`].
#[doc(hidden)]
#[macro_export]
macro_rules! __ensure {
    ($cond:expr, $($text:tt)*) => {
        if !$cond {
            return ::core::result::Result::Err(::std::format!($($text)*));
        }
    };
}
#[doc(inline)]
pub use __ensure as ensure;

/// Checks the inputs of an op that does not take bf16: their number; that those listed in `ints` are int32; and that all
/// others are of one type, float32 or float64.
///
/// # Errors
/// A sentence for [`Op::infer`] that says what does not fit.
pub fn check_inputs(
    x: &[Spec],
    n: core::ops::RangeInclusive<usize>,
    ints: &[usize],
) -> core::result::Result<(), String> {
    check_inputs_bf16(x, n, ints, |_| false)
}

/// Checks the inputs of an op that takes bf16 activations: their number; that those listed in `ints` are int32; that the
/// inputs for which `activation` is true share one type, float32, float64 or bf16; and that all others have the type in
/// which sums over activations are formed ([`DType::wide`]).
///
/// # Errors
/// A sentence for [`Op::infer`] that says what does not fit.
pub fn check_inputs_bf16(
    x: &[Spec],
    n: core::ops::RangeInclusive<usize>,
    ints: &[usize],
    activation: impl Fn(usize) -> bool,
) -> core::result::Result<(), String> {
    ensure!(n.contains(&x.len()), "takes {}, got {}", count(&n), x.len());
    let (mut wide, mut narrow) = (None, None);
    for (i, s) in x.iter().enumerate() {
        if ints.contains(&i) {
            ensure!(s.dtype == DType::I32, "input {i} must be i32, got {s}");
            continue;
        }
        let bf16 = activation(i);
        let allowed = if bf16 { "f32, f64 or bf16" } else { "f32 or f64" };
        ensure!(
            s.dtype.is_real() && (bf16 || s.dtype != DType::BF16),
            "input {i} must be {allowed}, got {s}"
        );
        ensure!(wide.is_none_or(|d| d == s.dtype.wide()), "inputs mix f32 and f64");
        wide = Some(s.dtype.wide());
        if bf16 {
            ensure!(narrow.is_none_or(|d| d == s.dtype), "activations mix {} and other types", s.dtype);
            narrow = Some(s.dtype);
        }
    }
    Ok(())
}

fn count(n: &core::ops::RangeInclusive<usize>) -> String {
    match (*n.start(), *n.end()) {
        (1, 1) => "1 input".into(),
        (a, b) if a == b => format!("{a} inputs"),
        (a, usize::MAX) => format!("{a} or more inputs"),
        (a, b) => format!("{a} to {b} inputs"),
    }
}

/// The element type of a CUDA kernel's activations.
pub(crate) fn float(spec: &Spec) -> Float {
    if spec.dtype == DType::BF16 { Float::Bf16 } else { Float::F32 }
}
