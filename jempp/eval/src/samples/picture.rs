//! Image files in the results folder.

use serde::{Deserialize, Serialize};

/// An image file and its caption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Name of the file in the results folder.
    pub file: String,
    /// What it shows, and how its images were selected.
    pub caption: String,
}
