//! `jempp-cli completions`.

use super::print;
use crate::args::{Cli, Completions};
use clap::CommandFactory;
use jempp::Result;

/// Prints a shell's completion script.
pub(crate) fn run(a: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(a.shell, &mut Cli::command(), "jempp-cli", &mut script);
    print(&String::from_utf8_lossy(&script))
}
