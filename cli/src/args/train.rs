//! Arguments of `train`.

use super::headings::OUTPUT;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `train`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli train            the built-in digits
  jempp-cli train preset=jempp data.dataset=cifar-10-binary.tar.gz
  jempp-cli train --resume   the newest unfinished run")]
#[command(after_long_help = "Examples:
  jempp-cli train                                      the built-in digits
  jempp-cli train --seed 1 train.epochs=20             shorter, another seed
  jempp-cli train -c run.toml train.lr=0.05            one change to a file
  jempp-cli train data.dataset=photos                  a folder of images
  jempp-cli train preset=jempp data.dataset=cifar-10-binary.tar.gz
  jempp-cli train preset=jem data.dataset=photos       JEM: SGLD, Adam
  jempp-cli train preset=softmax data.dataset=photos   classifier alone
  jempp-cli train train.optimizer=adam train.lr=1e-3 train.ema=0.99
  jempp-cli train preset=jempp train.from=runs/softmax data.dataset=photos
  jempp-cli train --resume                             the newest unfinished run
  jempp-cli train --resume runs/train-001 train.epochs=80
  jempp-cli train --print-config > run.toml            every key, explained
  jempp-cli train --dry-run model.widen_factor=4       cost of a wider one")]
pub(crate) struct Train {
    /// Configuration file in TOML
    ///
    /// Keys that it leaves out have the values of its preset, by default jempp.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Resume a run [without DIR: the newest unfinished one]
    ///
    /// Training continues from the last checkpoint. Takes a run folder, or `auto` for the newest
    /// unfinished run in runs/. Overrides apply, such as a larger train.epochs.
    #[arg(
        long, value_name = "DIR", num_args = 0..=1, default_missing_value = "auto", require_equals = false,
        conflicts_with_all = ["config", "out", "dry_run", "print_config"]
    )]
    pub resume: Option<PathBuf>,
    /// Stop after this time (90s, 15m, 2h) and save
    ///
    /// The model is evaluated, too.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_time: Option<Duration>,
    /// Run at most N iterations per epoch
    #[arg(long, value_name = "N")]
    pub limit_batches: Option<u64>,
    /// Print the resolved configuration and exit
    #[arg(long)]
    pub print_config: bool,
    /// Print parameters, memory, FLOPs and time, and exit
    #[arg(long)]
    pub dry_run: bool,
    /// Run folder to create [default: the next runs/train-NNN]
    #[arg(short, long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: Option<PathBuf>,
    /// Print the result as one JSON object on standard output
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Configuration overrides, such as train.lr=0.05 or preset=jempp
    ///
    /// Presets are digits (the default), jempp, modern, jem, softmax and pgd. `jempp-cli train --print-config` lists all keys.
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Seconds, or a number with s, m or h.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let factor = match unit {
        "h" => 3600.0,
        "m" => 60.0,
        _ => 1.0,
    };
    match number.parse::<f64>() {
        Ok(n) if n > 0.0 && n.is_finite() => {
            Duration::try_from_secs_f64(n * factor).map_err(|e| e.to_string())
        }
        _ => Err("a time is a positive number of seconds, or one with s, m or h, such as 90s or 1.5h".into()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_units() {
        let seconds = |t| super::duration(t).map(|d| d.as_secs_f64());
        assert_eq!(seconds("90"), Ok(90.0));
        assert_eq!(seconds("1.5h"), Ok(5400.0));
        assert_eq!(seconds("2m"), Ok(120.0));
        for bad in ["", "h", "-3", "0", "nan", "1d", "1e400"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
