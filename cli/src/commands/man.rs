//! `jempp-cli man`, for packagers.

use crate::args::{Cli, Man};
use clap::CommandFactory;
use jempp::{Error, Result};

/// Writes a man page for the program and each of its commands.
pub(crate) fn run(a: &Man) -> Result<()> {
    clap_mangen::generate_to(Cli::command(), &a.folder).map_err(|e| Error::io(&a.folder, e))
}
