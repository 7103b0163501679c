//! Keys that older versions had: configurations that still name one load, with a warning.
//!
//! Invariant: configurations are written with today's names only.

use super::ModelConfig;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use toml::Table;

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// It has this name now.
    #[cfg_attr(not(test), expect(dead_code, reason = "no key has been renamed yet"))]
    Renamed(&'static str),
    /// It is ignored, for this reason.
    Gone(&'static str),
}

/// A retired key and what became of it.
pub(super) type Retired = (&'static str, Fate);

/// All retired keys, wherever a configuration comes from: a TOML file, an override, a checkpoint.
pub(super) const RETIRED: &[Retired] =
    &[("eval.batch_size", Fate::Gone("it never had an effect: evaluation picks its batch size by itself"))];

/// What became of `name`, if it is retired.
pub(super) fn find(table: &[Retired], name: &str) -> Option<Fate> {
    table.iter().find(|(n, _)| *n == name).map(|(_, fate)| *fate)
}

/// The warning that `source` names the retired key `name`. `both` says that it names its successor too.
pub(super) fn warning(source: &str, name: &str, fate: Fate, both: bool) -> String {
    match fate {
        Fate::Renamed(new) if both => {
            format!("{source}: `{name}` is ignored: it is now `{new}`, which is given too")
        }
        Fate::Renamed(new) => format!("{source}: `{name}` is now called `{new}`"),
        Fate::Gone(why) => format!("{source}: `{name}` is ignored: {why}"),
    }
}

/// Logs warnings, each once per process: a command may read the configuration of one model several times.
pub(super) fn warn(warnings: &[String]) {
    static LOGGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    for warning in warnings {
        // Released before the log is called, which may load a configuration itself.
        let new = LOGGED.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.clone());
        if new {
            tracing::warn!("{warning}");
        }
    }
}

/// Replaces the retired keys of a `section` on its own, as a model file stores its architecture; returns warnings.
fn replace(retired: &[Retired], section: &str, table: &mut Table, source: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for &(name, fate) in retired {
        let leaf_of = |name: &'static str| name.strip_prefix(section).and_then(|n| n.strip_prefix('.'));
        let Some(value) = leaf_of(name).and_then(|leaf| table.remove(leaf)) else { continue };
        let mut both = false;
        // A key that has moved to another section has no place here.
        if let Fate::Renamed(new) = fate
            && let Some(leaf) = leaf_of(new)
        {
            both = table.contains_key(leaf);
            table.entry(leaf).or_insert(value);
        }
        warnings.push(warning(source, name, fate, both));
    }
    warnings
}

impl ModelConfig {
    /// The section as a model file stores it, in JSON, with the names of this or an older version. Ranges are not
    /// checked.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let (model, warnings) = read_model(RETIRED, text)?;
        warn(&warnings);
        Ok(model)
    }
}

fn read_model(retired: &[Retired], text: &str) -> Result<(ModelConfig, Vec<String>), String> {
    let current = serde_json::from_str(text).map_err(|e| e.to_string());
    // Only a file with retired keys needs the detour through a table, which takes more memory than a hostile file should.
    let named = |(name, _): &Retired| name.strip_prefix("model.").is_some_and(|leaf| text.contains(leaf));
    if current.is_ok() || !retired.iter().any(named) {
        return Ok((current?, Vec::new()));
    }
    let mut table: Table = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let warnings = replace(retired, "model", &mut table, "the model's architecture");
    Ok((table.try_into().map_err(|e: toml::de::Error| e.to_string())?, warnings))
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn retired_names_are_free_and_successors_exist() {
        for (name, fate) in RETIRED {
            assert!(keys::find(name).is_none(), "{name}");
            if let Fate::Renamed(new) = fate {
                assert!(keys::find(new).is_some(), "{name} -> {new}");
            }
        }
    }

    #[test]
    fn a_section_on_its_own_is_renewed() {
        let table = [
            ("model.width", Fate::Renamed("model.widen_factor")),
            ("model.layers", Fate::Renamed("model.depth")),
            ("model.old", Fate::Gone("it did nothing")),
            ("train.lr", Fate::Gone("not of this section")),
        ];
        let mut model: Table = "width = 3\nlayers = 10\ndepth = 16\nold = true\nlr = 1".parse().unwrap();
        let said = replace(&table, "model", &mut model, "here");
        assert_eq!(model, "widen_factor = 3\ndepth = 16\nlr = 1".parse().unwrap());
        assert_eq!(
            said,
            [
                "here: `model.width` is now called `model.widen_factor`",
                "here: `model.layers` is ignored: it is now `model.depth`, which is given too",
                "here: `model.old` is ignored: it did nothing",
            ]
        );
    }

    #[test]
    fn an_architecture_reads_back_and_older_files_may_lack_its_later_keys() {
        let model = ModelConfig { leak: 0.1 + 0.2, ..ModelConfig::default() };
        let text = serde_json::to_string(&model).unwrap();
        assert_eq!(ModelConfig::from_json(&text).unwrap(), model);
        let table =
            [("model.layers", Fate::Renamed("model.depth")), ("model.old", Fate::Gone("it did nothing"))];
        let renamed = text.replace("depth", "layers").replace('}', ",\"old\":[0.5]}");
        let (read, said) = read_model(&table, &renamed).unwrap();
        assert_eq!((read, said.len()), (model, 2));
        let old = r#"{"depth":28,"widen_factor":10,"image_size":[32,32,3],"classes":10,"bn_momentum":0.9,"leak":0.2}"#;
        assert_eq!(ModelConfig::from_json(old).unwrap(), ModelConfig::default());
        for wrong in [r#"{"depth":28}"#, &old.replace("depth", "deep"), &old.replace("28", "-1"), "[]", "{"] {
            assert!(ModelConfig::from_json(wrong).is_err(), "{wrong}");
        }
    }
}
