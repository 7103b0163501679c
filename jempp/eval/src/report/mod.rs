//! An HTML page about one or several runs, in one self-contained file.
//!
//! Invariants: the page has no scripts and refers to no other file; every table says what it was measured on.

mod comparison;
mod markup;
mod page;
mod results;
mod sections;

pub use page::html;
pub use results::{RunResults, read, read_with};
