//! The configuration as a TOML document in which every key is described.

use super::Config;
use super::keys::{KEYS, Key, SECTIONS};
use crate::error::{Error, Result};
use std::fmt::Write;
use toml::{Table, Value};

/// See [`Config::to_toml`].
pub(super) fn to_toml(config: &Config) -> Result<String> {
    let table = Table::try_from(config)
        .map_err(|e| Error::Config(format!("the configuration has no TOML form: {e}")))?;
    let mut out = String::from(
        "# Configuration of a jempp run. Every key is here; leave one out to take its preset's value.\n",
    );
    for key in KEYS.iter().filter(|k| !k.name.contains('.')) {
        line(&mut out, key, key.name, &table)?;
    }
    for (section, doc) in SECTIONS {
        // Writing to a string cannot fail.
        let _ = write!(out, "\n# {doc}.\n[{section}]\n");
        let values = table.get(*section).and_then(Value::as_table).ok_or_else(|| missing(section))?;
        for key in KEYS {
            if let Some(leaf) = key.name.strip_prefix(section).and_then(|n| n.strip_prefix('.')) {
                line(&mut out, key, leaf, values)?;
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

fn line(out: &mut String, key: &Key, leaf: &str, values: &Table) -> Result<()> {
    let value = values.get(leaf).ok_or_else(|| missing(key.name))?;
    let _ = write!(out, "# {}\n{leaf} = {value}\n", key.doc);
    Ok(())
}

fn missing(name: &str) -> Error {
    Error::Internal(format!("the table of keys names `{name}`, which the configuration lacks"))
}
