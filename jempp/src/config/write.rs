//! The configuration as a TOML document in which every key is described.

use super::Config;
use super::keys::{KEYS, Key, Kind, SECTIONS};
use super::limits;
use crate::error::{Error, Result};
use std::fmt::Write;
use toml::{Table, Value};

/// See [`Config::to_toml`].
pub(super) fn to_toml(config: &Config) -> Result<String> {
    let table = Table::try_from(config)
        .map_err(|e| Error::Config(format!("the configuration has no TOML form: {e}")))?;
    // One that is not known here is its own default.
    let preset = Config::preset(&config.preset).unwrap_or_else(|_| config.clone());
    let preset = Table::try_from(&preset).map_err(|e| Error::Internal(e.to_string()))?;
    let mut out = String::from(
        "# Configuration of a jempp run. Every key is here; leave one out to take its preset's value, its default below.\n",
    );
    for key in KEYS.iter().filter(|k| !k.name.contains('.')) {
        line(&mut out, key, key.name, &table, &preset)?;
    }
    for (section, doc) in SECTIONS {
        // Writing to a string cannot fail.
        let _ = write!(out, "\n# {doc}.\n[{section}]\n");
        let part =
            |t: &Table| t.get(*section).and_then(Value::as_table).cloned().ok_or_else(|| missing(section));
        let (values, defaults) = (part(&table)?, part(&preset)?);
        for key in KEYS {
            if let Some(leaf) = key.name.strip_prefix(section).and_then(|n| n.strip_prefix('.')) {
                line(&mut out, key, leaf, &values, &defaults)?;
            }
        }
    }
    Ok(out)
}

/// See [`Config::changes`].
pub(super) fn changes(config: &Config) -> Result<Vec<String>> {
    let table = |c: &Config| Table::try_from(c).map_err(|e| Error::Config(e.to_string()));
    let (now, base) = (table(config)?, table(&Config::preset(&config.preset)?)?);
    let value = |t: &Table, name: &str| match name.split_once('.') {
        Some((section, leaf)) => t.get(section).and_then(|s| s.get(leaf)).cloned(),
        None => t.get(name).cloned(),
    };
    let changed = |k: &&Key| value(&now, k.name) != value(&base, k.name);
    let shown = |k: &Key| value(&now, k.name).map(|v| format!("{}={v}", k.name));
    Ok(KEYS.iter().filter(changed).filter_map(shown).collect())
}

fn line(out: &mut String, key: &Key, leaf: &str, values: &Table, defaults: &Table) -> Result<()> {
    let [value, default] = [values, defaults].map(|t| t.get(leaf).ok_or_else(|| missing(key.name)));
    let _ = write!(out, "# {}\n# {}\n{leaf} = {}\n", key.doc, about(key, default?), value?);
    Ok(())
}

/// What a key may hold, in what unit, and its preset's value.
fn about(key: &Key, default: &Value) -> String {
    let (range, unit) = limits::of(key.name).unwrap_or_default();
    let kind = match key.kind {
        Kind::Count => "whole number",
        Kind::Number => "number",
        Kind::Switch => "true or false",
        Kind::Text => "text",
        Kind::Choice(_) => "one of",
        Kind::Counts(_) => "list of whole numbers",
    };
    let mut out = format!("({kind}");
    if let Kind::Choice(all) = key.kind {
        let _ = write!(out, " {}", all.join(", "));
    }
    for more in [range, unit].into_iter().filter(|m| !m.is_empty()) {
        let _ = write!(out, "; {more}");
    }
    let _ = write!(out, "; default {default})");
    out
}

fn missing(name: &str) -> Error {
    Error::Internal(format!("the table of keys names `{name}`, which the configuration lacks"))
}
