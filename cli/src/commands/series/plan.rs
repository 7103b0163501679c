//! Which runs a series has.

use crate::args::{Global, Seeds};
use crate::commands::Sources;
use jempp::{Error, Result};
use serde::{Deserialize, Serialize};

/// Runs of a series, at most.
const MOST: usize = 1000;
/// Letters of a folder's name, at most.
const NAME: usize = 100;

/// Several runs, which differ in some keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    /// What all runs have in common.
    pub(super) sources: Sources,
    /// The runs, in order.
    pub(super) jobs: Vec<Job>,
    /// Beginning of the folder's name, where none is given.
    pub(super) kind: String,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Job {
    /// Name of its folder.
    pub(super) folder: String,
    /// Its overrides.
    pub(super) overrides: Vec<String>,
}

impl Series {
    /// The same setting with each of several seeds.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration is not valid.
    pub(crate) fn of_seeds(
        global: &Global,
        sources: Sources,
        overrides: &[String],
        seeds: &Seeds,
    ) -> Result<Self> {
        let fixed: Vec<Axis> = overrides.iter().map(|o| Axis::fixed(o)).collect::<Result<_>>()?;
        Self::checked(global, sources, &[fixed, vec![Axis::of_seeds(seeds)]].concat(), "seeds")
    }

    /// Each combination of the values of `settings`, written `key=value` or `key=a,b,c`, the last key changing fastest, with
    /// each of the seeds.
    ///
    /// # Errors
    /// [`Error::Config`] if no key has several values, or a configuration is not valid.
    pub(crate) fn of_settings(
        global: &Global,
        sources: Sources,
        settings: &[String],
        seeds: Option<&Seeds>,
    ) -> Result<Self> {
        let mut axes: Vec<Axis> = settings.iter().map(|s| Axis::parse(s)).collect::<Result<_>>()?;
        axes.extend(seeds.map(Axis::of_seeds));
        Self::checked(global, sources, &axes, "sweep")
    }

    fn checked(global: &Global, sources: Sources, axes: &[Axis], kind: &str) -> Result<Self> {
        let jobs = jobs(axes)?;
        // Every configuration is found valid before the first run starts.
        for job in &jobs {
            let valid = sources.builder(global, &job.overrides);
            valid.map_err(|e| Error::Config(format!("{}: {e}", job.folder)))?;
        }
        Ok(Self { sources, jobs, kind: kind.to_owned() })
    }
}

/// A key and its values.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    key: String,
    values: Vec<String>,
}

impl Axis {
    fn parse(text: &str) -> Result<Self> {
        let Self { key, values } = Self::fixed(text)?;
        let all = values.first().map(String::as_str).unwrap_or_default();
        if key == "seed"
            && let Ok(seeds) = Seeds::parse(all)
        {
            return Ok(Self::of_seeds(&seeds));
        }
        let values = split(all);
        let twice = values.iter().enumerate().find(|(i, v)| values[..*i].contains(v));
        if let Some((_, value)) = twice {
            return Err(Error::Config(format!("command line: `{key}` has the value {value} twice")));
        }
        Ok(Self { key, values })
    }

    /// A key with one value, whatever is in it.
    fn fixed(text: &str) -> Result<Self> {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Error::Config(format!("command line: `{text}` is not of the form key=value or key=a,b,c"))
        })?;
        Ok(Self { key: key.trim().to_owned(), values: vec![value.trim().to_owned()] })
    }

    fn of_seeds(seeds: &Seeds) -> Self {
        Self { key: "seed".to_owned(), values: seeds.0.iter().map(u64::to_string).collect() }
    }

    /// The last part of the key.
    fn leaf(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or(&self.key)
    }
}

/// The parts between commas that are not within brackets, braces or quotes.
fn split(text: &str) -> Vec<String> {
    let (mut depth, mut quote, mut parts) = (0usize, None, vec![String::new()]);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts.into_iter().map(|p| p.trim().to_owned()).collect()
}

/// Each key once. Of a key that is given more than once, the last value counts, as in a single run.
fn distinct(axes: &[Axis]) -> Result<Vec<Axis>> {
    let mut all: Vec<Axis> = Vec::new();
    for axis in axes {
        match all.iter_mut().find(|a| a.key == axis.key) {
            Some(before) if before.values.len() == 1 && axis.values.len() == 1 => *before = axis.clone(),
            Some(_) => {
                return Err(Error::Config(format!("command line: `{}` is given twice", axis.key)));
            }
            None => all.push(axis.clone()),
        }
    }
    Ok(all)
}

/// Every combination of the values, named after those keys that have several.
fn jobs(axes: &[Axis]) -> Result<Vec<Job>> {
    let axes = &distinct(axes)?[..];
    let n = axes.iter().try_fold(1usize, |n, a| n.checked_mul(a.values.len())).unwrap_or(usize::MAX);
    if n < 2 {
        let why = "nothing to compare: give a key several values, such as train.lr=0.05,0.1, or --seeds 0..4";
        return Err(Error::Config(why.into()));
    }
    if n > MOST {
        return Err(Error::Config(format!("these are {n} runs; {MOST} are the most")));
    }
    let mut all: Vec<Job> = Vec::new();
    for mut k in 0..n {
        let (mut overrides, mut names) = (Vec::new(), Vec::new());
        for axis in axes.iter().rev() {
            let value = &axis.values[k % axis.values.len()];
            k /= axis.values.len();
            overrides.insert(0, format!("{}={value}", axis.key));
            if axis.values.len() > 1 {
                let shared = axes.iter().filter(|a| a.leaf() == axis.leaf()).count() > 1;
                let name = if shared { &axis.key } else { axis.leaf() };
                names.insert(0, format!("{name}={value}"));
            }
        }
        let folder = folder_name(&names.join(","), &all);
        all.push(Job { folder, overrides });
    }
    Ok(all)
}

/// A name that file systems accept and that no job has yet.
fn folder_name(text: &str, taken: &[Job]) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "=._-+,".contains(c) { c } else { '_' };
    let name: String = text.chars().map(plain).take(NAME).collect();
    let free = |n: &String| !taken.iter().any(|j| j.folder == *n);
    let numbered = (2..).map(|i| format!("{name}-{i}"));
    std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[&str]) -> Result<Vec<Job>> {
        jobs(&settings.iter().map(|s| Axis::parse(s)).collect::<Result<Vec<_>>>()?)
    }

    #[test]
    fn every_combination_is_a_run() {
        let all = of(&["train.lr=0.05,0.1", "train.epochs=3", "seed=0..2"]).unwrap();
        let names: Vec<&str> = all.iter().map(|j| j.folder.as_str()).collect();
        assert_eq!(
            names,
            [
                "lr=0.05,seed=0",
                "lr=0.05,seed=1",
                "lr=0.05,seed=2",
                "lr=0.1,seed=0",
                "lr=0.1,seed=1",
                "lr=0.1,seed=2"
            ]
        );
        assert_eq!(all[5].overrides, ["train.lr=0.1", "train.epochs=3", "seed=2"]);
        // The last of several values for all runs counts.
        let last = of(&["train.epochs=3", "train.lr=1,2", "train.epochs=4"]).unwrap();
        assert_eq!(last[1].overrides, ["train.epochs=4", "train.lr=2"]);
    }

    #[test]
    fn values_may_be_lists_and_names_are_unique() {
        let all = of(&["train.decay_epochs=[1, 2],[3]", "train.from=a/b,\"a,b\",a:b"]).unwrap();
        assert_eq!(all.len(), 6);
        assert_eq!(all[0].overrides, ["train.decay_epochs=[1, 2]", "train.from=a/b"]);
        assert_eq!(all[1].overrides[1], "train.from=\"a,b\"");
        let mut names: Vec<&String> = all.iter().map(|j| &j.folder).collect();
        assert_eq!(names[0], "decay_epochs=_1,_2_,from=a_b");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 6);
    }

    #[test]
    fn what_is_no_series_is_refused() {
        for (settings, part) in [
            (&["train.lr=0.1"][..], "several values"),
            (&[], "several values"),
            (&["train.lr"], "key=a,b,c"),
            (&["train.lr=1,1"], "the value 1 twice"),
            (&["train.lr=1,2", "train.lr=3"], "`train.lr` is given twice"),
            (&["seed=0..999", "train.lr=1,2"], "2000 runs"),
        ] {
            let e = of(settings).unwrap_err();
            assert!(e.exit_code() == 3 && e.to_string().contains(part), "{settings:?}: {e}");
        }
    }
}
