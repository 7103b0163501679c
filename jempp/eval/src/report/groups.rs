//! Runs of one setting, which differ in their seed alone, and what the settings differ in.

use super::markup::{mean_and_deviation, spread};
use super::results::{Outcome, RunResults};
use std::collections::BTreeMap;

/// Keys that a name of a setting lists, at most.
const NAMED: usize = 3;

/// Runs of one setting.
pub(super) struct Group<'a> {
    /// Its name: what it differs in, or the name of its run.
    pub(super) name: String,
    pub(super) runs: Vec<&'a RunResults>,
    /// The values of the keys that differ between the settings, in their order; `None` if the run has no configuration.
    values: Option<Vec<(String, String)>>,
}

/// A number of the summary.
pub(super) struct Measure {
    pub(super) name: &'static str,
    /// What it is, for a reader who does not know the name.
    pub(super) about: &'static str,
    pub(super) higher_is_better: bool,
    pub(super) of: fn(&RunResults) -> Option<f64>,
}

/// The five numbers that a run is summed up in.
pub(super) const MEASURES: [Measure; 5] = [
    Measure {
        name: "accuracy",
        about: "test images classified right",
        higher_is_better: true,
        of: RunResults::accuracy,
    },
    Measure {
        name: "ECE",
        about: "confidence minus accuracy, expected",
        higher_is_better: false,
        of: RunResults::ece,
    },
    Measure {
        name: "NLL",
        about: "mean −log p(label), in nats",
        higher_is_better: false,
        of: RunResults::nll,
    },
    Measure {
        name: "AUROC",
        about: "log p(x), data and shuffled pixels",
        higher_is_better: true,
        of: RunResults::auroc,
    },
    Measure {
        name: "gap",
        about: "largest, log p(x) of data and chains",
        higher_is_better: false,
        of: RunResults::gap,
    },
];

/// The runs, by setting, in the order of their first runs.
pub(super) fn groups(runs: &[RunResults]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in runs {
        let values = run.settings();
        let same = |g: &&mut Group<'_>| values.is_some() && g.values == values;
        match groups.iter_mut().find(same) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { name: run.name.clone(), runs: vec![run], values }),
        }
    }
    let differing = differing(&groups);
    for group in &mut groups {
        let mine = group
            .values
            .take()
            .map(|values| values.into_iter().filter(|(key, _)| differing.contains(key)).collect::<Vec<_>>());
        let several = group.runs.len() > 1;
        match mine.as_deref() {
            Some([]) if several => group.name = "all seeds".into(),
            Some(few) if few.len() <= NAMED && several => {
                let named = few.iter().map(|(k, v)| format!("{}={v}", k.rsplit('.').next().unwrap_or(k)));
                group.name = named.collect::<Vec<_>>().join(", ");
            }
            _ if several => group.name = format!("{} and {} more", group.name, group.runs.len() - 1),
            _ => {}
        }
        group.values = mine;
    }
    groups
}

/// The keys that the settings differ in.
fn differing(groups: &[Group<'_>]) -> Vec<String> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    let mut keys: Vec<String> = Vec::new();
    for (key, value) in groups.iter().flat_map(|g| g.values.iter().flatten()) {
        let first = seen.entry(key).or_insert(value);
        if first != value && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

impl Group<'_> {
    /// The key's value, if the settings differ in it.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().flatten().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The keys that the settings differ in.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.iter().flatten().map(|(k, _)| k.as_str())
    }

    /// Mean ± standard deviation of a number over the runs that have it.
    pub(super) fn spread(&self, of: impl Fn(&RunResults) -> Option<f64>) -> Option<String> {
        spread(&self.numbers(of))
    }

    /// The mean of a number over the runs that have it.
    pub(super) fn mean(&self, of: impl Fn(&RunResults) -> Option<f64>) -> Option<f64> {
        mean_and_deviation(&self.numbers(of)).map(|m| m.0)
    }

    fn numbers(&self, of: impl Fn(&RunResults) -> Option<f64>) -> Vec<f64> {
        self.runs.iter().filter_map(|r| of(r)).collect()
    }

    /// What has become of its runs, in few words.
    pub(super) fn outcome(&self) -> String {
        let n = self.runs.len();
        let mut counts: Vec<(String, usize)> = Vec::new();
        for text in self.runs.iter().map(|r| r.outcome.short()) {
            match counts.iter_mut().find(|c| c.0 == text) {
                Some(count) => count.1 += 1,
                None => counts.push((text, 1)),
            }
        }
        let part = |(text, k): &(String, usize)| if n == 1 { text.clone() } else { format!("{k} {text}") };
        counts.iter().map(part).collect::<Vec<_>>().join(", ")
    }

    /// Whether one of its runs diverged.
    pub(super) fn diverged(&self) -> bool {
        self.runs.iter().any(|r| matches!(r.outcome, Outcome::Diverged(_)))
    }
}

/// For each number, the setting with the best mean; `None` where fewer than two settings have it, or all are equal.
pub(super) fn best(
    groups: &[Group<'_>],
    of: impl Fn(&RunResults) -> Option<f64> + Copy,
    higher: bool,
) -> Option<usize> {
    let sign = if higher { 1.0 } else { -1.0 };
    let means: Vec<(usize, f64)> =
        groups.iter().enumerate().filter_map(|(i, g)| Some((i, sign * g.mean(of)?))).collect();
    let best = means.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let equal = means.iter().filter(|m| m.1 == best.1).count();
    (means.len() > 1 && equal == 1).then_some(best.0)
}
