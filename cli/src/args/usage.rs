//! Reading the command line, with a hint where a key of the configuration was written as an option.

use super::Cli;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use jempp::config::keys;

/// Subcommands that take keys of the configuration.
const CONFIGURED: [&str; 3] = ["train", "sweep", "bench"];

/// Reads the command line; ends the program where it is wrong, or help is wanted.
pub(crate) fn parse() -> Cli {
    let given: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    Cli::try_parse().unwrap_or_else(|e| with_hint(e, &given).exit())
}

/// The error, with the key that was meant if an unknown option is named like one.
fn with_hint(mut error: Error, given: &[String]) -> Error {
    if let Some(setting) = meant(&error, given) {
        error.remove(ContextKind::SuggestedArg);
        let hint = format!("keys of the configuration are written key=value: {setting}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

/// The override that was meant by `--lr 0.05` or `--lr=0.05`.
fn meant(error: &Error, given: &[String]) -> Option<String> {
    let command = given.iter().skip(1).find(|a| !a.starts_with('-'))?;
    if error.kind() != ErrorKind::UnknownArgument || !CONFIGURED.contains(&command.as_str()) {
        return None;
    }
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let option = option.split('=').next()?;
    let at = given.iter().position(|a| a.split('=').next() == Some(option))?;
    let name = option.strip_prefix("--")?.replace('-', "_");
    let key = keys::find(&name).or_else(|| keys::all().find(|k| k.leaf() == name))?.name;
    let value = match given[at].split_once('=') {
        Some((_, value)) => Some(value),
        None => given.get(at + 1).map(String::as_str).filter(|v| !v.starts_with("--") && !v.contains('=')),
    };
    Some(format!("{key}={}", value.unwrap_or("VALUE")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        let given: Vec<String> = line.split(' ').map(str::to_owned).collect();
        with_hint(Cli::try_parse_from(&given).unwrap_err(), &given).render().to_string()
    }

    #[test]
    fn a_key_written_as_an_option_is_answered_by_the_key() {
        for (line, hint) in [
            ("jempp-cli train --lr 0.05", "key=value: train.lr=0.05"),
            ("jempp-cli train --lr=0.05 --out a", "key=value: train.lr=0.05"),
            ("jempp-cli -q train --batch-size 32", "key=value: train.batch_size=32"),
            ("jempp-cli train --train.epochs 3", "key=value: train.epochs=3"),
            ("jempp-cli train preset=jempp --widen-factor", "key=value: model.widen_factor=VALUE"),
            ("jempp-cli sweep --sigma 0.1", "key=value: data.sigma=0.1"),
        ] {
            let text = said(line);
            assert!(text.contains(hint) && text.contains("unexpected argument"), "{line}: {text}");
        }
        for line in ["jempp-cli train --dri-run", "jempp-cli sample --lr 3", "jempp-cli train --zzz 1"] {
            assert!(!said(line).contains("key=value:"), "{line}");
        }
    }
}
