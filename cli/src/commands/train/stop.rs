//! Signals that end a run in order.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use jempp::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::process::ExitCode;
use std::sync::Arc;

/// Set by Ctrl-C (SIGINT) and SIGTERM.
pub(crate) struct StopFlag {
    requested: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl StopFlag {
    /// The first signal requests a stop after the current iteration; a second one exits at once.
    pub(crate) fn on_signals() -> Result<Self> {
        let stop = Self { requested: Arc::default(), signal: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            let fail = |e| Error::Internal(format!("signal handler: {e}"));
            let requested = || Arc::clone(&stop.requested);
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, requested())
                .map_err(fail)?;
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.signal), signal as usize)
                .map_err(fail)?;
            signal_hook::flag::register(signal, requested()).map_err(fail)?;
        }
        Ok(stop)
    }

    /// True once a stop is requested.
    pub(crate) fn requested(&self) -> &AtomicBool {
        &self.requested
    }

    /// The exit code of a program that was stopped: 128 and the number of the signal.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let signal = if self.signal.load(Ordering::Relaxed) == SIGTERM as usize { SIGTERM } else { SIGINT };
        ExitCode::from(128 + signal as u8)
    }
}
