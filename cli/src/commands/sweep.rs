//! `jempp-cli sweep`.

use super::Sources;
use super::series::{self, Series};
use crate::args::{Global, Sweep};
use jempp::Result;
use jempp::run::Limits;
use std::process::ExitCode;

/// Trains once for each combination of values.
pub(crate) fn run(global: &Global, a: &Sweep) -> Result<ExitCode> {
    let limits = Limits { time: a.max_time, batches: a.limit_batches };
    if let Some(folder) = &a.resume {
        return series::resume(global, folder, limits, a.json);
    }
    let sources = Sources::read("digits", a.config.as_deref())?;
    let series = Series::of_settings(global, sources, &a.settings, a.seeds.as_ref())?;
    series::run(global, &series, a.out.as_deref(), limits, a.json)
}
