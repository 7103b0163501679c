//! The configuration as a TOML document in which every key is described.

use super::{Config, keys};
use crate::error::{Error, Result};
use jempp_data::config::rows::Key;
use std::fmt::Write;
use toml::{Table, Value};

/// See [`Config::to_toml`].
pub(super) fn to_toml(config: &Config) -> Result<String> {
    let table = Table::try_from(config)
        .map_err(|e| Error::Config(format!("the configuration has no TOML form: {e}")))?;
    // The values of an unknown preset are their own defaults.
    let preset = Config::preset(&config.preset).unwrap_or_else(|_| config.clone());
    let preset = Table::try_from(&preset).map_err(|e| Error::Internal(e.to_string()))?;
    let mut out = String::from(
        "# Configuration of a jempp run. All keys are listed; a key that is left out takes its default, the preset's value.\n",
    );
    for key in Config::KEYS {
        line(&mut out, key, &table, &preset)?;
    }
    for section in Config::SECTIONS {
        // Writing to a string cannot fail.
        let _ = write!(out, "\n# {}\n[{}]\n", section.doc, section.name);
        for key in section.keys {
            line(&mut out, key, &table, &preset)?;
        }
    }
    Ok(out)
}

/// See [`Config::changes`].
pub(super) fn changes(config: &Config) -> Result<Vec<String>> {
    let table = |c: &Config| Table::try_from(c).map_err(|e| Error::Config(e.to_string()));
    let (now, base) = (table(config)?, table(&Config::preset(&config.preset)?)?);
    let changed = keys::all().filter(|k| value(&now, k) != value(&base, k));
    Ok(changed.filter_map(|k| Some(format!("{}={}", k.name, short(value(&now, k)?)))).collect())
}

/// See [`Config::values`].
pub(super) fn values(config: &Config) -> Result<Vec<(&'static str, String)>> {
    let table = Table::try_from(config).map_err(|e| Error::Config(e.to_string()))?;
    Ok(keys::all().filter_map(|k| Some((k.name, short(value(&table, k)?)))).collect())
}

/// A value as TOML, numbers without needless zeros: `0.1`, `1e-9`, `2`.
fn short(value: &Value) -> String {
    match value {
        Value::Float(v) if *v != 0.0 && !(1e-4..1e6).contains(&v.abs()) => format!("{v:e}"),
        Value::Float(v) => v.to_string(),
        other => other.to_string(),
    }
}

/// The value of `key` in a whole configuration.
fn value<'a>(table: &'a Table, key: &Key) -> Option<&'a Value> {
    match key.name.split_once('.') {
        Some((section, leaf)) => table.get(section)?.get(leaf),
        None => table.get(key.name),
    }
}

fn line(out: &mut String, key: &Key, values: &Table, defaults: &Table) -> Result<()> {
    let of = |table| {
        let missing = || Error::Internal(format!("the configuration lacks its key `{}`", key.name));
        value(table, key).ok_or_else(missing)
    };
    let (now, default) = (of(values)?, of(defaults)?);
    let _ = write!(out, "# {}\n# ({}; default {default})\n{} = {now}\n", key.doc, about(key), key.leaf());
    Ok(())
}

/// What a key may hold, and in what unit.
fn about(key: &Key) -> String {
    let parts = [key.kind.to_string(), key.range.to_string(), key.relation.into(), key.unit.into()];
    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("; ")
}
