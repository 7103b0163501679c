//! Merging a TOML document and overrides into a preset, with messages that say what is wrong in which source.

use super::retired::{self, Fate, Retired};
use super::{Config, PRESETS, keys};
use crate::error::{Error, Result};
use jempp_data::config::rows::{Kind, describe};
use std::collections::BTreeSet;
use std::path::Path;
use toml::{Table, Value};

/// A dotted key, its value and the source it came from.
struct Setting {
    name: String,
    value: Value,
    source: String,
}

/// The merged sources.
pub(super) struct Merged {
    /// The configuration, not validated yet.
    pub config: Config,
    /// The keys that the sources name.
    pub given: BTreeSet<String>,
    /// Warnings about retired keys.
    pub warnings: Vec<String>,
}

/// Merges the preset, the document `(text, name)` and the overrides; later ones win.
pub(super) fn merge(
    default_preset: &str,
    document: Option<(&str, &str)>,
    overrides: &[String],
    retired: &[Retired],
) -> Result<Merged> {
    let mut settings = Vec::new();
    if let Some((text, name)) = document {
        let table: Table = text.parse().map_err(|e| Error::Config(format!("{name}: {e}")))?;
        flatten("", table, name, &mut settings)?;
    }
    for text in overrides {
        settings.push(parse_override(retired, text)?);
    }
    let warnings = replace_retired(retired, &mut settings);
    for s in &mut settings {
        check(s)?;
    }
    let preset = settings.iter().rev().find(|s| s.name == "preset").and_then(|s| s.value.as_str());
    let base = Config::preset(preset.unwrap_or(default_preset))?;
    let given = settings.iter().map(|s| s.name.clone()).collect();
    let config = changed(&base, settings.into_iter().map(|s| (s.name, s.value)))?;
    Ok(Merged { config, given, warnings })
}

/// `base` with other values of some keys, which have been checked to exist and to be of the keys' kinds.
pub(super) fn changed(base: &Config, settings: impl IntoIterator<Item = (String, Value)>) -> Result<Config> {
    let mut table = Table::try_from(base).map_err(|e| Error::Internal(e.to_string()))?;
    for (name, value) in settings {
        let (section, leaf) = match name.split_once('.') {
            Some((section, leaf)) => (table.get_mut(section).and_then(Value::as_table_mut), leaf),
            None => (Some(&mut table), name.as_str()),
        };
        if let Some(section) = section {
            section.insert(leaf.to_string(), value);
        }
    }
    table.try_into().map_err(|e| Error::Config(format!("{e}")))
}

/// The keys of `table` with their values, which are of the keys' kinds; messages call the table `source`.
pub(super) fn settings(table: Table, source: &str) -> Result<Vec<(String, Value)>> {
    let mut settings = Vec::new();
    flatten("", table, source, &mut settings)?;
    let warnings = replace_retired(retired::RETIRED, &mut settings);
    retired::warn(&warnings);
    settings.iter_mut().try_for_each(check)?;
    Ok(settings.into_iter().map(|s| (s.name, s.value)).collect())
}

/// Lists the leaves of `table` with their dotted names.
fn flatten(prefix: &str, table: Table, source: &str, out: &mut Vec<Setting>) -> Result<()> {
    for (k, value) in table {
        let name = if prefix.is_empty() { k } else { format!("{prefix}.{k}") };
        match value {
            Value::Table(_) if keys::find(&name).is_some_and(|k| k.kind == Kind::Tables) => {
                return Err(Error::Config(format!(
                    "{source}: `{name}` is a list of tables; begin each with [[{name}]]"
                )));
            }
            Value::Table(t) if keys::find(&name).is_none() => {
                // An empty section of an unknown name would otherwise pass unseen.
                if t.is_empty() && !keys::is_section(&name) {
                    return Err(unknown(source, &name));
                }
                flatten(&name, t, source, out)?;
            }
            value => out.push(Setting { name, value, source: source.to_string() }),
        }
    }
    Ok(())
}

/// Reads `key=value`: the value as TOML, or as a bare string if it is not valid TOML.
fn parse_override(retired: &[Retired], text: &str) -> Result<Setting> {
    let source = "command line".to_string();
    let Some((name, raw)) = text.split_once('=') else {
        let meant = if PRESETS.contains(&text) {
            format!("; did you mean preset={text}?")
        } else if Path::new(text).exists() {
            format!("; did you mean data.dataset={text}?")
        } else {
            String::new()
        };
        return Err(Error::Config(format!("{source}: `{text}` is not of the form key=value{meant}")));
    };
    let (name, raw) = (name.trim().to_string(), raw.trim());
    let text = || Value::String(raw.to_string());
    let value = raw.parse::<Value>().unwrap_or_else(|_| text());
    let key = match retired::find(retired, &name) {
        Some(Fate::Renamed(new)) => keys::find(new),
        _ => keys::find(&name),
    };
    // A path or name that happens to be a TOML number is still a path or name.
    let value = if key.is_some_and(|k| k.kind.is_text()) && !value.is_str() { text() } else { value };
    Ok(Setting { name, value, source })
}

/// Gives retired keys their new names, drops those that are gone, and returns warnings about both. Where one source
/// names a key by both names, the new one counts.
fn replace_retired(retired: &[Retired], settings: &mut Vec<Setting>) -> Vec<String> {
    let named: BTreeSet<(String, String)> =
        settings.iter().map(|s| (s.source.clone(), s.name.clone())).collect();
    let mut warnings = Vec::new();
    settings.retain_mut(|s| {
        let Some(fate) = retired::find(retired, &s.name) else { return true };
        let (both, new) = match fate {
            Fate::Renamed(new) => (named.contains(&(s.source.clone(), new.to_string())), Some(new)),
            Fate::Gone(_) => (false, None),
        };
        warnings.push(retired::warning(&s.source, &s.name, fate, both));
        match new.filter(|_| !both) {
            Some(new) => s.name = new.to_string(),
            None => return false,
        }
        true
    });
    warnings
}

/// Checks that the key exists and its value is of its kind; converts whole numbers to floating-point ones where
/// the key takes those.
fn check(s: &mut Setting) -> Result<()> {
    let Some(key) = keys::find(&s.name) else {
        return Err(if keys::is_section(&s.name) {
            let got = describe(&s.value);
            Error::Config(format!("{}: `{}` is a section of keys, got {got}", s.source, s.name))
        } else {
            unknown(&s.source, &s.name)
        });
    };
    let wrong = |why| Error::Config(format!("{}: `{}` {why}", s.source, s.name));
    s.value = key.kind.accept(s.value.clone()).map_err(wrong)?;
    Ok(())
}

fn unknown(source: &str, name: &str) -> Error {
    let hint = match keys::suggest(name) {
        Some(k) => format!("did you mean `{k}`?"),
        None => "`--print-config` lists them all".to_string(),
    };
    Error::Config(format!("{source}: unknown key `{name}`; {hint}"))
}
