//! What can go wrong, with the op, the shapes and the line that recorded the op.

use crate::out_of_memory::{Allocation, OutOfMemory, free_host_memory};
use crate::spec::Spec;
use core::fmt;
use core::panic::Location;
use kernels::gpu::GpuError;
use kernels::memory::MemoryError;

/// A result of the engine.
pub type Result<T> = core::result::Result<T, Error>;

/// The source line that recorded an op.
pub type Site = &'static Location<'static>;

/// The engine's errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The inputs do not fit the op.
    #[error("{op}: {detail} (inputs {}; recorded at {site})", list(.inputs))]
    Shape {
        /// The op.
        op: &'static str,
        /// What does not fit.
        detail: String,
        /// The inputs' specs.
        inputs: Vec<Spec>,
        /// Where it was recorded.
        site: Site,
    },
    /// A variable of another tape, a slot of another spec, or a gradient of a value that is not a scalar.
    #[error("{detail} (at {site})")]
    Tape {
        /// What is wrong.
        detail: String,
        /// The caller.
        site: Site,
    },
    /// The op's gradient cannot be differentiated again.
    #[error("{op} has no second-order gradient (recorded at {site})")]
    NoSecondOrder {
        /// The op.
        op: &'static str,
        /// Where it was recorded.
        site: Site,
    },
    /// The first value that was NaN or infinite, in debug mode `nan`.
    #[error("{op} (recorded at {site}) gave {value} at element {index} of its output {output}, {spec}")]
    NonFinite {
        /// The op.
        op: &'static str,
        /// Where it was recorded.
        site: Site,
        /// Index of the output.
        output: usize,
        /// The output's spec.
        spec: Spec,
        /// Index of the element.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Data given to a program, or asked of it, does not match its inputs, outputs or slots.
    #[error("bind: {0}")]
    Bind(String),
    /// A kernel failed.
    #[error("{op} (recorded at {site}): {source}")]
    Kernel {
        /// The op.
        op: &'static str,
        /// Where it was recorded.
        site: Site,
        /// Why.
        source: KernelError,
    },
    /// The op does not run on this device.
    #[error("{op} on a GPU: {why}; use the CPU")]
    Unsupported {
        /// The op.
        op: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// There is not enough memory for a program or for state.
    #[error("{0}")]
    OutOfMemory(Box<OutOfMemory>),
    /// The GPU's driver or one of its libraries reported an error.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// Memory could not be allocated or handed out.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl Error {
    /// A program was run on a state that lives on another device.
    pub(crate) fn different_devices() -> Self {
        Self::Bind(
            "the program and the state live on different devices; make the state with State::on".into(),
        )
    }
}

/// Why a kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel asked for memory that its node does not have.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The GPU's driver or one of its libraries reported an error.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

fn list(specs: &[Spec]) -> String {
    specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Turns an allocation that failed because memory ran out into an [`Error::OutOfMemory`] that lists the largest
/// `allocations`; any other result is passed on.
pub(crate) fn explain_out_of_memory<T>(
    result: Result<T>,
    device: impl fmt::Display,
    (program_bytes, state_bytes): (usize, usize),
    allocations: impl FnOnce() -> Vec<Allocation>,
) -> Result<T> {
    let (wanted, free) = match &result {
        Err(Error::Gpu(GpuError::OutOfMemory { wanted, free })) => (*wanted, Some(*free)),
        Err(Error::Memory(MemoryError::OutOfMemory { bytes })) => (*bytes as u64, free_host_memory()),
        _ => return result,
    };
    Err(Error::OutOfMemory(Box::new(OutOfMemory {
        device: device.to_string(),
        wanted,
        free,
        program_bytes: program_bytes as u64,
        state_bytes: state_bytes as u64,
        largest: allocations(),
    })))
}
