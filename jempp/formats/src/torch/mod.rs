//! Files of PyTorch: published checkpoints in, state dicts out.
//!
//! Invariants: nothing in a file is ever run; what is read is bounded by the file's size, whatever it claims; an error
//! names the file and the entry or byte. `torch.save` wrote zip archives from version 1.6 on and a row of pickles before;
//! both are read.

mod archive;
mod legacy;
mod storage;
mod tensor;

#[cfg(test)]
mod tests;

use crate::container::Tensor;
use crate::error::{Error, Result};
use crate::pickle::{Item, Pickle};
use archive::Archive;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use storage::Declared;

pub use archive::shown;
pub use storage::View;
pub use tensor::Raw;

/// How a zip archive with entries begins.
const ZIP: &[u8] = b"PK\x03\x04";

/// Whether bytes, of which some twenty suffice, begin as files of `torch.save` do.
pub fn is_torch(start: &[u8]) -> bool {
    start.starts_with(ZIP) || start.starts_with(&legacy::MAGIC)
}

/// An object of `torch.save` in memory, its tensors still in the file.
pub struct Saved<'a> {
    source: PathBuf,
    pickle: Pickle<'a>,
    /// Where the pickle is, for messages.
    place: String,
    storages: Storages<'a>,
}

enum Storages<'a> {
    Zip(Archive<'a>),
    Legacy(HashMap<String, Raw<'a>>),
}

impl<'a> Saved<'a> {
    /// Opens a file; messages call it `source`.
    ///
    /// # Errors
    /// [`Error::Format`] naming the entry or byte.
    pub fn open(bytes: &'a [u8], source: &Path) -> Result<Self> {
        if bytes.starts_with(&legacy::MAGIC) {
            return Self::open_legacy(bytes, source);
        }
        let wrong = |why: String| Error::Format(format!("{}: {why}", source.display()));
        if !bytes.starts_with(ZIP) {
            return Err(wrong("not a file of torch.save: neither a zip archive nor its old form".into()));
        }
        let archive = Archive::open(bytes, source)?;
        let place = archive.called("data.pkl");
        match archive.get("byteorder").map_err(wrong)? {
            None | Some(b"little") => {}
            Some(_) => return Err(wrong(format!("{}: not little-endian", archive.called("byteorder")))),
        }
        if archive.get("constants.pkl").map_err(wrong)?.is_some() {
            return Err(wrong(
                "it holds a program (TorchScript); save the model's state_dict() instead".into(),
            ));
        }
        let pickled = archive.get("data.pkl").map_err(wrong)?;
        let pickled =
            pickled.ok_or_else(|| wrong(format!("there is no {place}: not a file of torch.save")))?;
        let pickle = Pickle::read(pickled).map_err(|f| wrong(format!("{place}: {f}")))?;
        Ok(Self { source: source.to_path_buf(), pickle, place, storages: Storages::Zip(archive) })
    }

    fn open_legacy(bytes: &'a [u8], source: &Path) -> Result<Self> {
        let wrong = |why: String| Error::Format(format!("{}: {why}", source.display()));
        let (pickle, at) = legacy::object(bytes).map_err(wrong)?;
        let declared = declared(&pickle).map_err(wrong)?;
        let storages = legacy::storages(bytes, at, &declared).map_err(wrong)?;
        let (source, place) = (source.to_path_buf(), "its object".to_owned());
        Ok(Self { source, pickle, place, storages: Storages::Legacy(storages) })
    }

    /// The object.
    pub fn root(&self) -> Item<'_> {
        self.pickle.root()
    }

    /// How it was written, in words.
    pub fn form(&self) -> &'static str {
        match self.storages {
            Storages::Zip(_) => "zip",
            Storages::Legacy(_) => "legacy",
        }
    }

    /// That the object is not what it should be.
    pub fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::Format(format!("{}: {}: {why}", self.source.display(), self.place))
    }

    /// The storage of a view, which fits it.
    pub fn raw(&self, name: &str, view: &View) -> Result<Raw<'a>> {
        let of = |why: String| {
            let (file, name) = (self.source.display(), shown(name));
            Error::Format(format!("{file}: tensor `{name}`: {why}"))
        };
        let raw = match &self.storages {
            Storages::Legacy(all) => all.get(&view.key).cloned(),
            Storages::Zip(archive) => {
                let entry = format!("data/{}", view.key);
                let bytes = archive.get(&entry).map_err(of)?;
                bytes.map(|bytes| Raw { bytes, place: archive.called(&entry) })
            }
        };
        let raw = raw.ok_or_else(|| of(format!("its storage {:.40?} is not in the file", view.key)))?;
        tensor::check(view, &raw).map_err(of)?;
        Ok(raw)
    }

    /// The values of a view: float32 of floats, int64 of integers.
    pub fn read(&self, name: &str, view: &View) -> Result<Tensor> {
        Ok(tensor::read(name, view, &self.raw(name, view)?))
    }
}

/// The tensors of a dict, by the names and in the shapes that they have there.
///
/// # Errors
/// [`Error::Format`] when the file is damaged or holds something else.
pub fn tensors(bytes: &[u8], source: &Path) -> Result<Vec<Tensor>> {
    let saved = Saved::open(bytes, source)?;
    let tensor = |(key, item): (Item<'_>, Item<'_>)| {
        let name = key.as_str().ok_or_else(|| saved.wrong("a name in the dict is no string"))?;
        let view = View::of(item).unwrap_or_else(|| Err(format!("it is {}, not a tensor", item.kind())));
        saved.read(name, &view.map_err(|e| saved.wrong(format!("`{}`: {e}", shown(name))))?)
    };
    let pairs = saved.root().as_pairs().ok_or_else(|| {
        let kind = saved.root().kind();
        saved.wrong(format!("it holds {kind}, not a dict of tensors; save model.state_dict()"))
    })?;
    pairs.iter().map(tensor).collect()
}

/// All storages that a pickle names.
fn declared(pickle: &Pickle<'_>) -> Result<HashMap<String, Declared>, String> {
    let mut out = HashMap::new();
    for item in pickle.persistent() {
        let (key, what) = storage::storage(item)?;
        if out.insert(key.to_owned(), what).is_some_and(|before| before != what) {
            return Err(format!("storage {key:.40?} is of two types or sizes"));
        }
    }
    Ok(out)
}
