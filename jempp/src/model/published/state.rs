//! The state dict in a file of another program: where it is, and what its tensors are called.
//!
//! Invariants: names are canonical: prefixes that wrappers add are gone, and aliases resolved; two names of one tensor have the
//! same values; counters that no network has are dropped, nothing else.

use crate::error::{Error, Result};
use jempp_formats::container::{Container, Tensor};
use jempp_formats::pickle::{Item, Pairs, Value};
use jempp_formats::place::shown;
use jempp_formats::torch::{Saved, View};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::file::REPLAY_BUFFER;

/// Keys under which programs save a state dict, the first of which is taken where there are several.
const KEYS: [&str; 12] = [
    "model_state_dict",
    "state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "model_state",
    "ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
];
/// Most dicts that are looked into.
const MOST_DICTS: usize = 1000;
/// Components of names that wrappers add: `torch.compile`, `DataParallel` and `AveragedModel`.
const WRAPPERS: [&str; 2] = ["_orig_mod", "module"];
/// A tensor of every network, by which a state dict is recognised.
const FIRST: [&str; 2] = ["f.conv1.weight", "f.layer_one.weight"];
/// The counter of `AveragedModel`.
const AVERAGED: &str = "n_averaged";

/// The network class that a state dict is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// JEM (wgrathwohl/JEM): with a linear layer in the network that nothing uses.
    Jem,
    /// JEM++ (sndnyang/JEMPP), `--model yopo`: with the layers under two names each.
    JemppYopo,
    /// JEM++, `--model wrn`, and SADA-JEM (sndnyang/SADAJEM).
    JemppWrn,
}

impl Variant {
    const ALL: [(Self, &str); 3] =
        [(Self::Jem, "jem"), (Self::JemppYopo, "jempp-yopo"), (Self::JemppWrn, "jempp-wrn")];

    /// Its name in metadata.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(v, _)| *v == self).map_or("", |(_, name)| name)
    }

    /// The variant of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(v, _)| *v)
    }
}

/// A tensor in the file.
#[derive(Debug)]
pub(super) enum Stored {
    /// In a storage of a file of `torch.save`.
    View(View),
    /// In memory.
    Whole(Tensor),
}

impl Stored {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::View(v) => &v.shape,
            Self::Whole(t) => &t.shape,
        }
    }

    fn is_scalar(&self) -> bool {
        self.shape().iter().all(|n| *n == 1)
    }
}

/// Where tensors are read from.
enum Origin<'a> {
    Torch(Box<Saved<'a>>),
    Safetensors(PathBuf),
}

/// A state dict.
pub(super) struct State<'a> {
    /// The tensors by their canonical names.
    pub tensors: BTreeMap<String, Stored>,
    /// The replay buffer beside it.
    pub buffer: Option<Stored>,
    /// What the file is, for the model's metadata.
    pub form: String,
    pub variant: Variant,
    origin: Origin<'a>,
}

impl<'a> State<'a> {
    /// Finds the state dict in a file of `torch.save`.
    ///
    /// # Errors
    /// [`Error::Format`] when the file is damaged or holds something else, saying what it is and where.
    pub(super) fn of_torch(bytes: &'a [u8], source: &Path) -> Result<Self> {
        let saved = Saved::open(bytes, source)?;
        let root = saved.root().as_pairs().ok_or_else(|| {
            let kind = saved.root().kind();
            saved.wrong(format!(
                "it holds {kind}, not a checkpoint or state dict; save model.state_dict() instead"
            ))
        })?;
        let found = find(root);
        let (key, pairs) = match found {
            Some((key, pairs)) => (key, pairs),
            None => match KEYS[..2].iter().find_map(|key| Some((*key, root.get(key)?))) {
                Some((key, item)) => (
                    key.to_owned(),
                    item.as_pairs().ok_or_else(|| {
                        let kind = item.kind();
                        saved.wrong(format!("the state dict is {kind}; save model.state_dict() instead"))
                    })?,
                ),
                None => (String::new(), root),
            },
        };
        let mut named = Vec::new();
        for (name, item) in pairs.iter() {
            let name = name.as_str().ok_or_else(|| saved.wrong("a key of the state dict is not a string"))?;
            let view = View::of(item).ok_or_else(|| {
                let (name, kind) = (shown(name), item.kind());
                saved.wrong(format!("`{name}` in the state dict is {kind}, not a tensor"))
            })?;
            let view = view.map_err(|e| saved.wrong(format!("tensor `{}`: {e}", shown(name))))?;
            named.push((name.to_owned(), Stored::View(view)));
        }
        // Without a state dict of its own it is one of its tensors.
        let buffer = root.get(REPLAY_BUFFER).filter(|i| !key.is_empty() && !is_nothing(*i));
        let buffer = buffer.map(|item| {
            let view = View::of(item).unwrap_or_else(|| Err(format!("it is {}, not a tensor", item.kind())));
            view.map(Stored::View).map_err(|e| saved.wrong(format!("`{REPLAY_BUFFER}`: {e}")))
        });
        let buffer = buffer.transpose()?;
        let usual = key.is_empty() || KEYS[..2].contains(&key.as_str());
        let at = if usual { String::new() } else { format!(", weights under `{}`", shown(&key)) };
        let form = format!("PyTorch checkpoint ({}){at}", saved.form());
        let origin = Origin::Torch(Box::new(saved));
        Self { tensors: BTreeMap::new(), buffer, form, variant: Variant::JemppWrn, origin }.named(named)
    }

    /// The state dict that a safetensors file without our metadata is.
    ///
    /// # Errors
    /// [`Error::Format`] when two names of one tensor have different values.
    pub(super) fn of_safetensors(file: Container, source: &Path) -> Result<Self> {
        let (mut named, mut buffer) = (Vec::new(), None);
        for tensor in file.tensors {
            match tensor.name == REPLAY_BUFFER {
                true => buffer = Some(Stored::Whole(tensor)),
                false => named.push((tensor.name.clone(), Stored::Whole(tensor))),
            }
        }
        let (tensors, origin) = (BTreeMap::new(), Origin::Safetensors(source.to_path_buf()));
        let form = "safetensors file of another program".to_owned();
        Self { tensors, buffer, form, variant: Variant::JemppWrn, origin }.named(named)
    }

    /// An [`Error::Format`] that names the file and the place in it.
    pub(super) fn wrong(&self, why: impl std::fmt::Display) -> Error {
        match &self.origin {
            Origin::Torch(saved) => saved.wrong(why).into(),
            Origin::Safetensors(path) => Error::Format(format!("{}: {why}", path.display())),
        }
    }

    /// The values of a tensor.
    pub(super) fn read(&self, name: &str, stored: Stored) -> Result<Tensor> {
        match (stored, &self.origin) {
            (Stored::View(view), Origin::Torch(saved)) => Ok(saved.read(name, &view)?),
            (Stored::Whole(tensor), _) => Ok(Tensor { name: name.to_owned(), ..tensor }),
            (Stored::View(_), _) => Err(Error::Internal("a view of no file".into())),
        }
    }

    /// Gives the tensors their canonical names.
    fn named(mut self, named: Vec<(String, Stored)>) -> Result<Self> {
        let prefix = named.iter().find_map(|(name, _)| prefix_of(&unwrapped(name))).unwrap_or_default();
        for (name, stored) in named {
            let inner = unwrapped(&name);
            if inner.ends_with(AVERAGED) && stored.is_scalar() {
                continue;
            }
            let inner = inner.strip_prefix(&prefix).unwrap_or(&inner);
            match inner {
                _ if inner.starts_with("f.linear.") => self.variant = Variant::Jem,
                _ if inner.starts_with("f.layer_one.") => self.variant = Variant::JemppYopo,
                _ => {}
            }
            let canonical = canonical_name(inner);
            match self.tensors.remove(&canonical) {
                None => drop(self.tensors.insert(canonical, stored)),
                Some(before) => {
                    let kept = self.same((&name, stored), (&canonical, before))?;
                    self.tensors.insert(canonical, kept);
                }
            }
        }
        Ok(self)
    }

    /// Two names of one tensor must have the same values: usually the same storage. Returns the one that was there.
    fn same(&self, (name, a): (&str, Stored), (canonical, b): (&str, Stored)) -> Result<Stored> {
        let differs = || {
            let (name, canonical) = (shown(name), shown(canonical));
            self.wrong(format!("tensor `{name}` differs from `{canonical}`, of which it is an alias"))
        };
        match (a, b) {
            (Stored::View(a), Stored::View(b)) if a == b => Ok(Stored::View(b)),
            (a, b) if a.shape() != b.shape() => Err(differs()),
            (Stored::Whole(a), Stored::Whole(b)) if a.data == b.data => Ok(Stored::Whole(b)),
            (Stored::View(a), Stored::View(b)) => {
                let Origin::Torch(saved) = &self.origin else { return Err(differs()) };
                let [x, y] = [&a, &b].map(|v| saved.read(name, v).map(|t| t.data));
                if x? == y? { Ok(Stored::View(b)) } else { Err(differs()) }
            }
            _ => Err(differs()),
        }
    }
}

/// Whether a value stands for a replay buffer that there is not: None or an empty list.
fn is_nothing(item: Item<'_>) -> bool {
    matches!(item.value(), Value::None) || item.as_items().is_some_and(|items| items.iter().next().is_none())
}

/// The dict of tensors of a network in a file's dict, at most three levels deep, and its key; none if it is the file's dict
/// itself.
fn find(root: Pairs<'_>) -> Option<(String, Pairs<'_>)> {
    let mut level = vec![(String::new(), root)];
    let (mut found, mut seen): (Vec<(String, Pairs<'_>)>, usize) = (Vec::new(), 0);
    for _ in 0..3 {
        let mut next = Vec::new();
        for (key, pairs) in level {
            seen += 1;
            if seen > MOST_DICTS {
                break;
            }
            let names = || pairs.iter().filter_map(|(k, _)| k.as_str());
            if names().any(|name| prefix_of(&unwrapped(name)).is_some()) {
                found.push((key, pairs));
                continue;
            }
            let inner = pairs.iter().filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_pairs()?)));
            next.extend(inner.take(MOST_DICTS));
        }
        level = next;
    }
    let rank = |key: &str| KEYS.iter().position(|k| *k == key).unwrap_or(KEYS.len());
    found.into_iter().min_by_key(|(key, _)| rank(key))
}

/// Whether this is the name of a network's first filter.
pub(super) fn is_first(name: &str) -> bool {
    prefix_of(&unwrapped(name)).is_some()
}

/// A name without the components that wrappers add.
fn unwrapped(name: &str) -> String {
    let kept: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    kept.join(".")
}

/// What precedes the network's part of the name of its first filter, such as `model.`; `None` for other tensors.
fn prefix_of(name: &str) -> Option<String> {
    let prefix = FIRST.iter().find_map(|first| name.strip_suffix(first))?;
    (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
}

/// The canonical name of a tensor that may be an alias: `f.layer_one` is `f.conv1`, `f.other_layers` are the three layers and the
/// last norm.
fn canonical_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("f.layer_one.") {
        return format!("f.conv1.{rest}");
    }
    match name.strip_prefix("f.other_layers.").and_then(|r| r.split_once('.')) {
        Some(("3", rest)) => format!("f.bn1.{rest}"),
        Some((i @ ("0" | "1" | "2"), rest)) => format!("f.layer{}.{rest}", i.as_bytes()[0] - b'0' + 1),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_off_in_any_nesting() {
        for name in [
            "f.conv1.weight",
            "module.f.conv1.weight",
            "_orig_mod.module.f.conv1.weight",
            "module._orig_mod.f.layer_one.weight",
            "model.f.conv1.weight",
            "net.module.model.f._orig_mod.conv1.weight",
        ] {
            let inner = unwrapped(name);
            let prefix = prefix_of(&inner).unwrap();
            assert_eq!(canonical_name(inner.strip_prefix(&prefix).unwrap()), "f.conv1.weight", "{name}");
        }
        assert_eq!((prefix_of("xf.conv1.weight"), prefix_of("conv1.weight")), (None, None));
        for (variant, name) in Variant::ALL {
            assert_eq!((variant.name(), Variant::of(name)), (name, Some(variant)));
        }
    }
}
