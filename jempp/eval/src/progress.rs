//! Progress callbacks.

use jempp::{Error, Result};

/// A callback that is told the name of the current stage, the steps done and the steps in total. If it returns false, the
/// work ends with [`Error::Cancelled`].
pub type ProgressFn<'a> = dyn FnMut(&str, usize, usize) -> bool + 'a;

/// Calls `progress`.
///
/// # Errors
/// [`Error::Cancelled`] if it returns false.
pub(crate) fn report_progress(
    progress: &mut ProgressFn<'_>,
    stage: &str,
    done: usize,
    total: usize,
) -> Result<()> {
    if progress(stage, done, total) { Ok(()) } else { Err(Error::Cancelled) }
}
