//! All keys of the configuration, gathered from its sections, and the search among them.

use super::Config;
use jempp_data::config::rows::Key;
use jempp_formats::edit::distance;

/// All keys, in the order in which they are written.
pub fn all() -> impl Iterator<Item = &'static Key> {
    Config::KEYS.iter().chain(Config::SECTIONS.iter().flat_map(|s| s.keys))
}

/// The key called `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|k| k.name == name)
}

/// Whether `name` is that of a section.
pub fn is_section(name: &str) -> bool {
    Config::SECTIONS.iter().any(|s| s.name == name)
}

/// What other programs call some keys.
const ELSEWHERE: &[(&str, &str)] = &[
    ("learning_rate", "train.lr"),
    ("max_epochs", "train.epochs"),
    ("num_epochs", "train.epochs"),
    ("num_classes", "model.classes"),
    ("width", "model.widen_factor"),
    ("optim", "train.optimizer"),
    ("dataset_path", "data.dataset"),
    ("n_steps", "sampler.outer_steps"),
    ("sgld_std", "sampler.noise"),
];

/// The key most likely meant by `name`, if any is near: by spelling, by its last part in another section, or by
/// what other programs call it.
pub fn suggest(name: &str) -> Option<&'static str> {
    let given = name.rsplit_once('.').map_or(name, |(_, leaf)| leaf);
    if let Some((_, key)) = ELSEWHERE.iter().find(|(other, _)| *other == given) {
        return Some(key);
    }
    let cost = |k: &Key| {
        let whole = distance(name, k.name);
        // A matching last part in another section costs a little, so that the section's own keys come first.
        let by_leaf = distance(given, k.leaf()) + usize::from(name.contains('.'));
        whole.min(by_leaf)
    };
    let best = all().min_by_key(|k| cost(k))?;
    (cost(best) <= 1.max(given.chars().count() / 3)).then_some(best.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ops::Bound;
    use jempp_data::config::rows::{Kind, Range};

    #[test]
    fn suggestions() {
        for (given, meant) in [
            ("train.lrr", Some("train.lr")),
            ("lr", Some("train.lr")),
            ("trian.lr", Some("train.lr")),
            ("model.lr", Some("train.lr")),
            ("buffer_siz", Some("sampler.buffer_size")),
            ("data.batch_size", Some("train.batch_size")),
            ("eval.ecebins", Some("eval.ece_bins")),
            ("sed", Some("seed")),
            ("train.learning_rate", Some("train.lr")),
            ("train.zzzzzzzz", None),
            ("", None),
        ] {
            assert_eq!(suggest(given), meant, "{given}");
        }
    }

    #[test]
    fn names_of_other_programs_are_no_keys_and_mean_keys() {
        for (other, key) in ELSEWHERE {
            assert!(find(key).is_some() && all().all(|k| k.leaf() != *other), "{other}");
        }
    }

    #[test]
    fn every_key_is_described_and_numbers_have_a_range_and_a_unit() {
        for k in all() {
            assert!(!k.doc.is_empty() && !k.doc.contains('\n'), "{}", k.name);
            let number = matches!(k.kind, Kind::Count | Kind::Number | Kind::Counts(_));
            let bounded = k.range != Range::Any || !k.relation.is_empty();
            assert!(bounded || !number, "{}", k.name);
            assert!(!number || !k.unit.is_empty() || k.name == "seed", "{}", k.name);
        }
        for s in Config::SECTIONS {
            assert!(!s.doc.is_empty() && s.keys.iter().all(|k| k.name.starts_with(&format!("{}.", s.name))));
        }
    }

    fn accepts(name: &str, value: impl core::fmt::Display) -> bool {
        // Values of other keys with which no relation constrains this one.
        let others =
            ["train.lr_min=0", "sampler.reinit_freq=0", "sampler.uniform_reinit_freq=0"].map(String::from);
        let overrides = [&others[..], &[format!("{name}={value}")]].concat();
        Config::from_sources("digits", None, &overrides).is_ok()
    }

    #[test]
    fn the_ends_of_ranges_are_those_that_hold() {
        for k in all() {
            match k.range {
                Range::Whole(low, high) => {
                    assert!(accepts(k.name, low) && (low == 0 || !accepts(k.name, low - 1)), "{}", k.name);
                    assert!(!accepts(k.name, -1), "{}", k.name);
                    // Above 2⁶³ − 1 there are no numbers in TOML.
                    if high != u64::MAX {
                        assert!(accepts(k.name, high) && !accepts(k.name, high + 1), "{} = {high}", k.name);
                    }
                }
                Range::Real(low, high) => {
                    let ends = [(low, -1e-9), (high, 1e-9)];
                    for (end, outwards) in ends {
                        match end {
                            Bound::Included(a) => {
                                assert!(accepts(k.name, a), "{} = {a}", k.name);
                                assert!(!accepts(k.name, a + outwards), "{} = {a}", k.name);
                            }
                            Bound::Excluded(a) => {
                                assert!(!accepts(k.name, a), "{} = {a}", k.name);
                                assert!(accepts(k.name, a - outwards), "{} = {a}", k.name);
                            }
                            Bound::Unbounded => assert!(!accepts(k.name, "inf"), "{}", k.name),
                        }
                    }
                }
                Range::Each(all) => {
                    for i in 0..all.len() {
                        let with = |i: usize, v: u64| {
                            let mut values: Vec<u64> = all.iter().map(|(low, _)| *low).collect();
                            values[i] = v;
                            format!("{values:?}")
                        };
                        let (low, high) = all[i];
                        assert!(
                            accepts(k.name, with(i, low)) && !accepts(k.name, with(i, low - 1)),
                            "{}",
                            k.name
                        );
                        assert!(
                            accepts(k.name, with(i, high)) && !accepts(k.name, with(i, high + 1)),
                            "{}",
                            k.name
                        );
                    }
                }
                Range::Any => {}
            }
        }
    }
}
