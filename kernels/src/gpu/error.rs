//! What can go wrong: before there is a GPU ([`NoCuda`]) and on one ([`GpuError`]).

use cudarc::driver::result::DriverError;

/// Why no GPU can be used. An ordinary answer on a machine without one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoCuda {
    /// A library is nowhere to be found.
    #[error("{library} was not found; looked for {} in: {}. {advice}", names.join(", "), places.join("; "))]
    Missing {
        /// The library, as people call it.
        library: &'static str,
        /// The file names looked for.
        names: Vec<String>,
        /// The places looked in, in order.
        places: Vec<String>,
        /// How to get it.
        advice: String,
    },
    /// A library is there and cannot be used.
    #[error("{library} at {path} cannot be used: {reason}. {advice}")]
    Unusable {
        /// The library, as people call it.
        library: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// How to get a good one.
        advice: String,
    },
    /// The driver answers with an error.
    #[error("the NVIDIA driver at {path} answers {call} with {name} ({code}). {advice}")]
    Driver {
        /// The driver's library.
        path: String,
        /// The function called.
        call: &'static str,
        /// CUDA's name of the error.
        name: String,
        /// CUDA's number of the error.
        code: i32,
        /// What to look at.
        advice: &'static str,
    },
    /// There is no device of that number.
    #[error(
        "there is no CUDA device {ordinal}: the driver shows {count} (CUDA_VISIBLE_DEVICES may hide some)"
    )]
    NoSuchDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The device is there and could not be opened.
    #[error("CUDA device {ordinal} ({name}) could not be opened: {reason}")]
    Open {
        /// The device's number.
        ordinal: usize,
        /// The device's name.
        name: String,
        /// What the driver said.
        reason: String,
    },
}

impl NoCuda {
    /// The same without the places looked in, which are the same for every library.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Missing { library, names, advice, .. } => {
                format!("{library} was not found (looked for {}). {advice}", names.join(", "))
            }
            other => other.to_string(),
        }
    }
}

/// What went wrong on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// A library that the work needs is missing or of no use.
    #[error(transparent)]
    NoCuda(#[from] NoCuda),
    /// The driver refused.
    #[error("{doing}: the NVIDIA driver answers {error}")]
    Driver {
        /// What was being done.
        doing: String,
        /// CUDA's name and words for the error.
        error: String,
    },
    /// The device has no such memory.
    #[error("out of memory on the GPU: {wanted} bytes wanted, {free} free")]
    OutOfMemory {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes free just after.
        free: u64,
    },
    /// A kernel did not compile.
    #[error("{file} does not compile for {target} (NVRTC error {code}):\n{log}")]
    Compile {
        /// The source's name.
        file: String,
        /// The architecture compiled for.
        target: String,
        /// NVRTC's number of the error.
        code: u32,
        /// The compiler's log.
        log: String,
    },
    /// A library refused.
    #[error("{doing}: {library} answers with error {code}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Library {
        /// The library, as people call it.
        library: &'static str,
        /// What was being done.
        doing: String,
        /// The library's number of the error.
        code: u32,
        /// The library's own words, where it has some.
        detail: String,
    },
    /// Arguments do not fit each other.
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
    /// An error of the driver, in its own words.
    pub(crate) fn driver(doing: impl Into<String>, error: DriverError) -> Self {
        Self::Driver { doing: doing.into(), error: words(error) }
    }

    /// A refusal with its reason, for callers that capture their own work.
    #[must_use]
    pub fn refused(op: &'static str, reason: String) -> Self {
        Self::Shape { op, reason }
    }

    /// Arguments that do not fit.
    pub(crate) fn shape(op: &'static str, reason: impl Into<String>) -> Self {
        Self::Shape { op, reason: reason.into() }
    }
}

/// CUDA's name of an error and its sentence about it.
pub(crate) fn words(error: DriverError) -> String {
    let code = error.0 as u32;
    let name = error.error_name().map(|n| n.to_string_lossy().into_owned());
    let text = error.error_string().map(|t| t.to_string_lossy().into_owned());
    format!("{} ({code}), {}", name.as_deref().unwrap_or("an error"), text.as_deref().unwrap_or("unnamed"))
}
