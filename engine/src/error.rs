//! What can go wrong, with the op, the shapes and the place where the op was recorded.

use crate::shortage::Shortage;
use crate::spec::Spec;
use core::panic::Location;

/// A result of the engine.
pub type Result<T> = core::result::Result<T, Error>;

/// Where an op was recorded.
pub type Site = &'static Location<'static>;

/// The engine's errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Inputs that do not fit the op.
    #[error("{op}: {detail} (inputs {}; recorded at {site})", show(.inputs))]
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
    /// A variable of another tape, or a gradient of something that is no scalar.
    #[error("{detail} (at {site})")]
    Tape {
        /// What is wrong.
        detail: String,
        /// Where.
        site: Site,
    },
    /// A gradient of a gradient that is not defined here.
    #[error("{op} has no second-order gradient (recorded at {site})")]
    NoSecondOrder {
        /// The op.
        op: &'static str,
        /// Where it was recorded.
        site: Site,
    },
    /// The first value that was not finite, in debug mode `nan`.
    #[error("{op} (recorded at {site}) gave {value} at element {index} of its output {output}, {spec}")]
    NonFinite {
        /// The op.
        op: &'static str,
        /// Where it was recorded.
        site: Site,
        /// Which output.
        output: usize,
        /// Its spec.
        spec: Spec,
        /// Which element.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Data given to a program does not fit it.
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
    /// An op that the device cannot do.
    #[error("{op} on a GPU: {why}; use the CPU")]
    Unsupported {
        /// The op.
        op: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// There is not enough memory for a program or for state.
    #[error("{0}")]
    OutOfMemory(Box<Shortage>),
    /// A GPU refused.
    #[error(transparent)]
    Gpu(#[from] kernels::gpu::GpuError),
    /// Memory.
    #[error(transparent)]
    Memory(#[from] kernels::memory::MemoryError),
}

/// Why a kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Its memory.
    #[error(transparent)]
    Memory(#[from] kernels::memory::MemoryError),
    /// The GPU.
    #[error(transparent)]
    Gpu(#[from] kernels::gpu::GpuError),
}

fn show(specs: &[Spec]) -> String {
    specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
