//! Arguments of `train`.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `train`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli train                                      the built-in digits, half a minute on two cores
  jempp-cli train --seed 1 train.epochs=20             shorter, another seed
  jempp-cli train preset=softmax data.dataset=photos   the plain classifier of the same size, without chains
  jempp-cli train preset=jem data.dataset=photos       JEM as published: 20 steps of SGLD, Adam
  jempp-cli train train.optimizer=adam train.lr=1e-3 train.schedule=cosine train.ema=0.99
  jempp-cli train -c run.toml train.lr=0.05            a configuration with one change
  jempp-cli train data.dataset=photos                  images in photos/train/CLASS/ and photos/test/CLASS/
  jempp-cli train preset=jempp data.dataset=cifar-10-binary.tar.gz
  jempp-cli train --resume                             go on with the newest unfinished run in runs/
  jempp-cli train --resume runs/train-001 train.epochs=80
  jempp-cli train --print-config > run.toml            every key with its meaning, to start from
  jempp-cli train --dry-run model.widen_factor=4       what a wider network would cost")]
pub struct Train {
    /// Configuration in TOML; keys it leaves out keep the preset's defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Run folder, which must not exist; by default the next free runs/train-NNN
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with a run from its last checkpoint: a run folder, or auto for the newest unfinished one
    #[arg(
        long, value_name = "DIR", num_args = 0..=1, default_missing_value = "auto", require_equals = false,
        conflicts_with_all = ["config", "out", "dry_run", "print_config"]
    )]
    pub resume: Option<PathBuf>,
    /// End after this time (90, 90s, 15m, 2h), evaluated and saved
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_time: Option<Duration>,
    /// At most so many iterations an epoch
    #[arg(long, value_name = "N")]
    pub limit_batches: Option<u64>,
    /// Print the resolved configuration and stop
    #[arg(long)]
    pub print_config: bool,
    /// Print parameters, memory, FLOPs and iterations, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// Changes to the configuration, such as train.lr=0.05
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
