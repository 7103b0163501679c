//! Headings of groups of options.

/// Heading of the options that every command has.
pub(super) const GLOBAL: &str = "Global options";
/// Heading of options that choose the model and the images.
pub(super) const DATA: &str = "Data";
/// Heading of options that say what is written where.
pub(super) const OUTPUT: &str = "Output";
