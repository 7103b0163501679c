//! An HTML page about one or several runs, in one self-contained file.
//!
//! Invariants: the page has no scripts and refers to no other file; every table says what it was measured on.

mod comparison;
mod groups;
mod markup;
mod overview;
mod page;
mod pictures;
mod results;
mod sections;

pub use overview::text_table;
pub use page::html;
pub use results::{Outcome, RunResults, read, read_with};
