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
  jempp-cli train --resume   the newest unfinished run
  jempp-cli train --seeds 0..4   five runs and a table of means")]
#[command(after_long_help = "Examples:
  jempp-cli train                                      the built-in digits
  jempp-cli train --seed 1 train.epochs=20             shorter, another seed
  jempp-cli train --seeds 0..4                         five seeds, one table
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
    /// Keys that it leaves out have the values of its preset; a file without a preset has those of jempp. Without a file and
    /// without a preset on the command line, the preset is digits.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Train with each of several seeds, as 0..4 or 3,5,8
    ///
    /// 0..4 is 0, 1, 2, 3 and 4. The runs follow one another, in folders of a new folder, with one table and one report at
    /// the end: means and standard deviations over the seeds. If it is interrupted, `train --resume` with that folder goes
    /// on; runs that have ended are kept. `jempp-cli sweep` does the same for any key.
    #[arg(long, value_name = "SEEDS", value_parser = Seeds::parse)]
    #[arg(conflicts_with_all = ["resume", "seed", "dry_run", "print_config"])]
    pub seeds: Option<Seeds>,
    /// Resume a run [without DIR: the newest unfinished one]
    ///
    /// Training continues from the last checkpoint. Takes a run folder, a folder of --seeds or `sweep`, or `auto` for the
    /// newest unfinished run in runs/. Overrides apply to a run, such as a larger train.epochs.
    #[arg(
        long, value_name = "DIR", num_args = 0..=1, default_missing_value = "auto", require_equals = false,
        conflicts_with_all = ["config", "out", "dry_run", "print_config"]
    )]
    pub resume: Option<PathBuf>,
    /// Stop after this time (90s, 15m, 2h) and save
    ///
    /// The model is evaluated, too. The run can be resumed. With --seeds, the time of each run.
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

/// Several seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seeds(pub Vec<u64>);

impl Seeds {
    /// From a range of which both ends belong to it, `0..4`, or a list, `0,3,7`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let usage = "seeds are a range such as 0..4 (five seeds, 0 to 4) or a list such as 0,3,7";
        let number = |t: &str| t.trim().parse::<u64>().map_err(|_| format!("`{t}` is not a seed; {usage}"));
        let mut seeds = Vec::new();
        if let Some((first, last)) = text.split_once("..") {
            let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
            if first >= last || last - first >= 1000 {
                return Err(format!(
                    "{text}: the second seed is the last one, at most 999 after the first; {usage}"
                ));
            }
            seeds.extend(first..=last);
        } else if text.contains(',') {
            for part in text.split(',') {
                let seed = number(part)?;
                if seeds.contains(&seed) {
                    return Err(format!("seed {seed} is named twice"));
                }
                seeds.push(seed);
            }
        } else {
            return Err(format!("one seed is given by --seed {text}; {usage}"));
        }
        Ok(Self(seeds))
    }
}

/// Seconds, or a number with s, m or h.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
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
    fn seeds_are_ranges_or_lists() {
        let of = |t| super::Seeds::parse(t).map(|s| s.0);
        assert_eq!(of("0..4"), Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(of("7..=8"), Ok(vec![7, 8]));
        assert_eq!(of("3,5, 8"), Ok(vec![3, 5, 8]));
        for bad in ["", "5", "4..0", "3..3", "a..b", "1,1", "1,,2", "0..99999999", "-1..2"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

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
