//! Image files in the results folder.

use serde::{Deserialize, Serialize};

/// An image file and its caption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Name of the file in the results folder.
    pub file: String,
    /// What it shows, and how its images were selected.
    pub caption: String,
    /// Number of rows if each is a class, from the first class on; 0 if they are not.
    #[serde(default)]
    pub class_rows: usize,
}
