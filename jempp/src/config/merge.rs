//! Laying a TOML document and overrides over a preset, with messages that name what is wrong where.

use super::Config;
use super::keys::{self, Kind};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// A dotted key, its value and the source it came from.
struct Setting {
    name: String,
    value: Value,
    source: String,
}

/// The configuration that the sources give, not validated yet, and the keys that they name.
pub(super) fn merge(
    default_preset: &str,
    document: Option<(&str, &str)>,
    overrides: &[String],
) -> Result<(Config, BTreeSet<String>)> {
    let mut settings = Vec::new();
    if let Some((text, name)) = document {
        let table: Table = text.parse().map_err(|e| Error::Config(format!("{name}: {e}")))?;
        flatten("", table, name, &mut settings)?;
    }
    for text in overrides {
        settings.push(parse_override(text)?);
    }
    for s in &mut settings {
        check(s)?;
    }
    let preset = settings.iter().rev().find(|s| s.name == "preset").and_then(|s| s.value.as_str());
    let base = Config::preset(preset.unwrap_or(default_preset))?;
    let mut table = Table::try_from(&base).map_err(|e| Error::Internal(e.to_string()))?;
    let given = settings.iter().map(|s| s.name.clone()).collect();
    for s in settings {
        let (section, leaf) = match s.name.split_once('.') {
            Some((section, leaf)) => (table.get_mut(section).and_then(Value::as_table_mut), leaf),
            None => (Some(&mut table), s.name.as_str()),
        };
        if let Some(section) = section {
            section.insert(leaf.to_string(), s.value);
        }
    }
    let config = table.try_into().map_err(|e| Error::Config(format!("{e}")))?;
    Ok((config, given))
}

/// Lists the leaves of `table` with their dotted names.
fn flatten(prefix: &str, table: Table, source: &str, out: &mut Vec<Setting>) -> Result<()> {
    for (k, value) in table {
        let name = if prefix.is_empty() { k } else { format!("{prefix}.{k}") };
        match value {
            Value::Table(t) if keys::find(&name).is_none() => {
                // An empty section of an unknown name would otherwise pass unseen.
                if t.is_empty() && !keys::SECTIONS.iter().any(|(s, _)| *s == name) {
                    return Err(unknown(source, &name));
                }
                flatten(&name, t, source, out)?;
            }
            value => out.push(Setting { name, value, source: source.to_string() }),
        }
    }
    Ok(())
}

/// Reads `key=value`: the value as TOML, or as a bare string where it is none.
fn parse_override(text: &str) -> Result<Setting> {
    let source = "command line".to_string();
    let Some((name, raw)) = text.split_once('=') else {
        return Err(Error::Config(format!("{source}: `{text}` is not of the form key=value")));
    };
    let (name, raw) = (name.trim().to_string(), raw.trim());
    let text = || Value::String(raw.to_string());
    let value = raw.parse::<Value>().unwrap_or_else(|_| text());
    let is_text = matches!(keys::find(&name).map(|k| k.kind), Some(Kind::Text | Kind::Choice(_)));
    // A path or name that happens to be a TOML number is still a path or name.
    let value = if is_text && !value.is_str() { text() } else { value };
    Ok(Setting { name, value, source })
}

/// Checks that the key exists and its value is of its kind; turns whole numbers into numbers where those are due.
fn check(s: &mut Setting) -> Result<()> {
    let Some(key) = keys::find(&s.name) else {
        return Err(if keys::SECTIONS.iter().any(|(n, _)| *n == s.name) {
            let got = describe(&s.value);
            Error::Config(format!("{}: `{}` is a section of keys, got {got}", s.source, s.name))
        } else {
            unknown(&s.source, &s.name)
        });
    };
    let count = |v: &Value| v.as_integer().is_some_and(|i| i >= 0);
    let fits = match (key.kind, &s.value) {
        (Kind::Number, Value::Integer(i)) => {
            s.value = Value::Float(*i as f64);
            true
        }
        (Kind::Number, Value::Float(_)) | (Kind::Switch, Value::Boolean(_)) => true,
        (Kind::Count, v) => count(v),
        (Kind::Text, Value::String(_)) => true,
        (Kind::Choice(all), Value::String(v)) => all.contains(&v.as_str()),
        (Kind::Counts(n), Value::Array(a)) => a.iter().all(count) && n.is_none_or(|n| n == a.len()),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let (expected, got) = (expects(key.kind), describe(&s.value));
    Err(Error::Config(format!("{}: `{}` expects {expected}, got {got}", s.source, s.name)))
}

fn unknown(source: &str, name: &str) -> Error {
    let hint = match keys::suggest(name) {
        Some(k) => format!("did you mean `{k}`?"),
        None => "`--print-config` lists them all".to_string(),
    };
    Error::Config(format!("{source}: unknown key `{name}`; {hint}"))
}

/// What a key of this kind expects, in words.
fn expects(kind: Kind) -> String {
    match kind {
        Kind::Count => "a whole number, 0 or above".to_string(),
        Kind::Number => "a number".to_string(),
        Kind::Switch => "true or false".to_string(),
        Kind::Text => "a string".to_string(),
        Kind::Choice(all) => {
            format!("one of {}", all.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", "))
        }
        Kind::Counts(Some(n)) => format!("a list of {n} whole numbers, 0 or above"),
        Kind::Counts(None) => "a list of whole numbers, 0 or above".to_string(),
    }
}

/// What a value is, in words.
fn describe(value: &Value) -> String {
    match value {
        Value::String(_) => format!("the string {value}"),
        Value::Integer(_) | Value::Float(_) => format!("the number {value}"),
        Value::Boolean(_) => format!("{value}"),
        Value::Array(_) => format!("the list {value}"),
        Value::Datetime(_) => format!("the date {value}"),
        Value::Table(_) => "a table".to_string(),
    }
}
