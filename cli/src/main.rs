//! The command line of `jempp`: arguments in, messages and exit codes out. The work is done in the library.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod args;
mod commands;
mod device;
mod invocation;
mod progress;

use args::{Cli, Command, Global};
use clap::{CommandFactory, error::ErrorKind};
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let cli = args::parse();
    let global = &cli.global;
    if let Some(why) = global.conflict() {
        Cli::command().error(ErrorKind::ArgumentConflict, why).exit();
    }
    log_to_stderr(global);
    let result = match &cli.command {
        Command::Train(a) => return finish(commands::train::run(global, a)),
        Command::Sweep(a) => return finish(commands::sweep::run(global, a)),
        Command::Sample(a) => commands::sample::run(global, a),
        Command::Predict(a) => commands::predict::run(global, a),
        Command::Eval(a) => commands::eval::run(global, a),
        Command::Convert(a) => commands::convert::run(global, a),
        Command::Report(a) => commands::report::run(global, a),
        Command::Inspect(a) => commands::inspect::run(global, a),
        Command::Devices(a) => commands::devices::run(global, a),
        Command::Bench(a) => commands::bench::run(global, a),
        Command::Completions(a) => commands::completions::run(a),
        Command::Man(a) => commands::man::run(a),
    };
    finish(result.map(|()| ExitCode::SUCCESS))
}

fn finish(result: jempp::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        ExitCode::from(e.exit_code())
    })
}

/// Sends the libraries' log messages to standard error: warnings, with `-v` more, with `-q` errors only.
fn log_to_stderr(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).without_time();
    match global.log_format {
        args::LogFormat::Json => log.json().init(),
        args::LogFormat::Text => log.with_target(false).init(),
    }
}
