//! The error of the pickle reader.

use std::fmt;

/// Why a pickle cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset in bytes of the instruction at fault.
    pub offset: usize,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pickle, byte {}: {}", self.offset, self.why)
    }
}
