//! Errors: why no GPU can be used ([`NoCuda`]), and what failed on one ([`GpuError`]).

use cudarc::driver::result::DriverError;

/// Why no GPU can be used. An ordinary answer on a machine without one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoCuda {
    /// A library was not found.
    #[error("{library} was not found; searched for {} in: {}. {advice}", names.join(", "), places.join("; "))]
    Missing {
        /// The library's usual name.
        library: &'static str,
        /// The file names searched for.
        names: Vec<String>,
        /// The places searched, in order.
        places: Vec<String>,
        /// How to install it.
        advice: String,
    },
    /// A library was found but cannot be used.
    #[error("{library} at {path} cannot be used: {reason}. {advice}")]
    Unusable {
        /// The library's usual name.
        library: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// How to install a working one.
        advice: String,
    },
    /// The driver returned an error.
    #[error("the NVIDIA driver at {path}: {call} returned {name} ({code}). {advice}")]
    Driver {
        /// The driver's library.
        path: String,
        /// The function called.
        call: &'static str,
        /// CUDA's name for the error.
        name: String,
        /// CUDA's number for the error.
        code: i32,
        /// What to check.
        advice: &'static str,
    },
    /// There is no device with that number.
    #[error(
        "there is no CUDA device {ordinal}: the driver reports {count} (CUDA_VISIBLE_DEVICES may hide some)"
    )]
    NoSuchDevice {
        /// The requested number.
        ordinal: usize,
        /// The number of devices.
        count: usize,
    },
    /// The device could not be opened.
    #[error("CUDA device {ordinal} ({name}) could not be opened: {reason}")]
    Open {
        /// The device's number.
        ordinal: usize,
        /// The device's name.
        name: String,
        /// The driver's error.
        reason: String,
    },
}

impl NoCuda {
    /// The message without the places searched, which are the same for every library.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Missing { library, names, advice, .. } => {
                format!("{library} was not found (searched for {}). {advice}", names.join(", "))
            }
            other => other.to_string(),
        }
    }
}

/// What went wrong on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// A library that the work needs is missing or unusable.
    #[error(transparent)]
    NoCuda(#[from] NoCuda),
    /// A driver call failed.
    #[error("{doing}: NVIDIA driver error {error}")]
    Driver {
        /// What was being done.
        doing: String,
        /// CUDA's name and description of the error.
        error: String,
    },
    /// The device has too little free memory.
    #[error("out of memory on the GPU: {wanted} bytes requested, {free} free")]
    OutOfMemory {
        /// Bytes requested.
        wanted: u64,
        /// Bytes free just after the failure.
        free: u64,
    },
    /// A kernel did not compile.
    #[error("{file} does not compile for {target} (NVRTC error {code}):\n{log}")]
    Compile {
        /// The source's name.
        file: String,
        /// The architecture compiled for.
        target: String,
        /// NVRTC's error number.
        code: u32,
        /// The compiler's log.
        log: String,
    },
    /// A library call failed.
    #[error("{doing}: {library} error {code}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Library {
        /// The library's usual name.
        library: &'static str,
        /// What was being done.
        doing: String,
        /// The library's error number.
        code: u32,
        /// The library's own message, if there is one.
        detail: String,
    },
    /// Arguments do not fit together.
    #[error("{op}: {reason}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// Not allowed while launches are being captured.
    #[error("{op} is not possible while launches are being captured")]
    Capturing {
        /// The operation.
        op: &'static str,
    },
}

impl GpuError {
    /// A driver error, with CUDA's own description.
    pub(crate) fn driver(doing: impl Into<String>, error: DriverError) -> Self {
        Self::Driver { doing: doing.into(), error: words(error) }
    }

    /// An operation that was refused, with the reason: for callers that capture their own work.
    #[must_use]
    pub fn refused(op: &'static str, reason: String) -> Self {
        Self::Shape { op, reason }
    }

    /// Arguments that do not fit.
    pub(crate) fn shape(op: &'static str, reason: impl Into<String>) -> Self {
        Self::Shape { op, reason: reason.into() }
    }
}

/// CUDA's name and description of an error.
pub(crate) fn words(error: DriverError) -> String {
    let code = error.0 as u32;
    let name = error.error_name().map(|n| n.to_string_lossy().into_owned());
    let text = error.error_string().map(|t| t.to_string_lossy().into_owned());
    format!("{} ({code}), {}", name.as_deref().unwrap_or("an error"), text.as_deref().unwrap_or("unnamed"))
}
