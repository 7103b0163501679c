//! The stages of a training: tables `[[stage]]` that say for how many epochs a stage lasts and what differs in it.
//!
//! Invariant: the configuration of a stage is complete and valid by itself, and has no stages; network, data set and replay
//! buffer have the same shape in all of them.

use super::{Config, merge};
use crate::error::{Error, Result};
use jempp_data::config::rows::{Field, Kind};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The stages of a training, in order: tables of `epochs` and of the keys that differ from the rest of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stages(Vec<Table>);

impl Stages {
    /// Whether there are none: the training is one stage, of `train.epochs`.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of stages.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Field for Stages {
    const KIND: Kind = Kind::Tables;

    fn shown(&self) -> String {
        Value::Array(self.0.iter().cloned().map(Value::Table).collect()).to_string()
    }
}

/// Keys outside `train`, `sampler` and `eval` that may differ between stages.
const AUGMENTATION: [&str; 5] = ["data.sigma", "data.p_x_sigma", "data.pad", "data.flip", "data.p_x_augment"];
/// Keys of `train` and `sampler` that may not.
const FIXED: [&str; 7] = [
    "train.from",
    "train.max_iters",
    "train.tensorboard",
    "train.on_divergence",
    "train.max_rollbacks",
    "sampler.buffer_size",
    "sampler.init_prior",
];

/// Whether `key` may differ between stages.
fn may_differ(key: &str) -> bool {
    let section = key.split_once('.').map_or("", |(section, _)| section);
    AUGMENTATION.contains(&key) || (matches!(section, "train" | "sampler" | "eval") && !FIXED.contains(&key))
}

impl Config {
    /// The configuration of each stage; of a training without stages the configuration itself.
    ///
    /// # Errors
    /// [`Error::Config`] naming the stage and the key, for a stage without `epochs`, an unknown key, one that must be the same
    /// in all stages, or a value out of range.
    pub fn stages(&self) -> Result<Vec<Self>> {
        if self.stage.is_empty() {
            return Ok(vec![self.clone()]);
        }
        let each = self.stage.0.iter().enumerate();
        each.map(|(i, table)| self.stage_of(table, &format!("stage {}", i + 1))).collect()
    }

    fn stage_of(&self, table: &Table, name: &str) -> Result<Self> {
        let wrong = |why: String| Error::Config(format!("{name}: {why}"));
        let mut table = table.clone();
        let epochs = table
            .remove("epochs")
            .ok_or_else(|| wrong("it lacks `epochs`, the number of epochs that it lasts".to_owned()))?;
        let mut settings = vec![(
            "train.epochs".to_owned(),
            Kind::Count.accept(epochs).map_err(|why| wrong(format!("`epochs` {why}")))?,
        )];
        for (key, value) in merge::settings(table, name)? {
            if key == "train.epochs" {
                return Err(wrong("`train.epochs` is said by `epochs` in a stage".to_owned()));
            }
            if !may_differ(&key) {
                return Err(wrong(format!(
                    "`{key}` must be the same in all stages; give it outside of them"
                )));
            }
            settings.push((key, value));
        }
        let base = Self { stage: Stages::default(), ..self.clone() };
        let config = merge::changed(&base, settings)?;
        config.validate().map_err(|e| wrong(e.to_string()))?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "preset = \"digits\"\n[train]\nlr = 0.2\n\
        [[stage]]\nepochs = 3\ntrain.p_x_weight = 0\n\
        [[stage]]\nepochs = 2\n[stage.train]\nlr = 0.01\nschedule = \"cosine\"\n[stage.sampler]\nouter_steps = 5\n";

    fn config(text: &str, overrides: &[&str]) -> Result<Config> {
        let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
        Config::from_sources("digits", Some((text, "run.toml")), &overrides)
    }

    #[test]
    fn stages_differ_where_they_say_so() {
        let c = config(TWO, &["seed=9"]).unwrap();
        let [a, b] = &c.stages().unwrap()[..] else { panic!("two stages") };
        assert_eq!((a.train.epochs, a.train.lr, a.train.p_x_weight, a.seed), (3, 0.2, 0.0, 9));
        assert_eq!((b.train.epochs, b.train.lr, b.train.p_x_weight, b.seed), (2, 0.01, 1.0, 9));
        assert_eq!((a.sampler.outer_steps, b.sampler.outer_steps), (10, 5));
        assert!(a.stage.is_empty() && a.stages().unwrap() == [a.clone()]);
        // Written and read again, and given as an override.
        let again = Config::from_sources("jempp", Some((&c.to_toml().unwrap(), "again")), &[]).unwrap();
        assert_eq!(again, c);
        let short = config("", &["stage=[{epochs=1, train.p_x_weight=0}, {epochs=2}]"]).unwrap();
        assert_eq!((short.stage.len(), short.stages().unwrap()[0].train.p_x_weight), (2, 0.0));
        assert!(short.changes().unwrap().iter().any(|c| c.starts_with("stage=[")), "{:?}", short.changes());
    }

    #[test]
    fn what_a_stage_cannot_change_is_refused() {
        for (text, part) in [
            ("[[stage]]\ntrain.lr = 1", "stage 1: it lacks `epochs`"),
            ("[[stage]]\nepochs = 1\n[[stage]]\nepochs = 0", "stage 2: `train.epochs` = 0"),
            ("[[stage]]\nepochs = \"x\"", "stage 1: `epochs` expects a whole number"),
            (
                "[[stage]]\nepochs = 1\nmodel.depth = 16",
                "stage 1: `model.depth` must be the same in all stages",
            ),
            ("[[stage]]\nepochs = 1\ndata.dataset = \"x\"", "`data.dataset` must be the same"),
            ("[[stage]]\nepochs = 1\nsampler.buffer_size = 9", "`sampler.buffer_size` must be the same"),
            ("[[stage]]\nepochs = 1\nseed = 3", "`seed` must be the same"),
            ("[[stage]]\nepochs = 1\ntrain.epochs = 3", "`train.epochs` is said by `epochs`"),
            (
                "[[stage]]\nepochs = 1\ntrain.lrr = 3",
                "stage 1: unknown key `train.lrr`; did you mean `train.lr`?",
            ),
            ("[[stage]]\nepochs = 1\ntrain.lr = \"x\"", "stage 1: `train.lr` expects a number"),
            ("[[stage]]\nepochs = 1\ntrain.lr = -1", "stage 1: `train.lr` = -1"),
            ("stage = 3", "`stage` expects a list of tables"),
            ("[stage]\nepochs = 1", "[[stage]]"),
        ] {
            let e = config(text, &[]).unwrap_err().to_string();
            assert!(e.contains(part), "{text}: {e}");
        }
    }
}
