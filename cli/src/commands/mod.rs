//! One file a subcommand.

pub mod train;

use crate::args::Global;
use jempp::config::Config;
use jempp::{Error, Result};
use std::path::Path;

/// The configuration from a file, overrides and `--seed`. Without a file the digits' preset is the default, with one
/// the published setting.
pub fn configuration(global: &Global, file: Option<&Path>, overrides: &[String]) -> Result<Config> {
    let text = match file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Config(format!("{}: there is no such file", path.display()))
            }
            _ => Error::io(path, e),
        })?),
        None => None,
    };
    let name = file.map(|p| p.display().to_string()).unwrap_or_default();
    let mut all: Vec<String> = overrides.to_vec();
    all.extend(global.seed.map(|s| format!("seed={s}")));
    let preset = if file.is_some() { "jempp" } else { "digits" };
    Config::from_sources(preset, text.as_deref().map(|t| (t, name.as_str())), &all)
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    match n {
        0..10_240 => format!("{n} B"),
        10_240..10_485_760 => format!("{:.0} KiB", n as f64 / 1024.0),
        10_485_760..10_737_418_240 => format!("{:.0} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

/// Seconds for people.
pub fn duration(s: f64) -> String {
    let t = s.max(0.0).round() as u64;
    match t {
        0..60 => format!("{s:.1} s"),
        60..3600 => format!("{} min {:02} s", t / 60, t % 60),
        _ => format!("{} h {:02} min", t / 3600, t % 3600 / 60),
    }
}
