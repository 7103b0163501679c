//! Reader of files that PyTorch's `torch.save` wrote. PyTorch writes zip archives since version 1.6 and wrote a
//! sequence of pickles before; both are supported.
//!
//! Invariants: nothing in a file is executed; memory is bounded by the file's size, whatever it claims; an error names
//! the file and the entry or byte.

mod archive;
mod legacy;
mod storage;
mod tensor;

#[cfg(test)]
mod tests;

use crate::container::Tensor;
use crate::error::{Error, Result};
use crate::pickle::{Item, Pickle};
use crate::place::shown;
use archive::Archive;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use storage::{Declared, Dtype, View};
pub use tensor::Raw;

/// Magic bytes of a zip archive with entries.
const ZIP: &[u8] = b"PK\x03\x04";

/// Whether a file with this start may be one of `torch.save`; 15 bytes suffice.
pub fn is_torch(start: &[u8]) -> bool {
    start.starts_with(ZIP) || start.starts_with(&legacy::MAGIC)
}

/// A file of `torch.save` in memory. Tensors are decoded on demand.
pub struct Saved<'a> {
    source: PathBuf,
    pickle: Pickle<'a>,
    /// Location of the pickle, for messages.
    place: String,
    storages: Storages<'a>,
}

enum Storages<'a> {
    Zip(Archive<'a>),
    Legacy(HashMap<String, Raw<'a>>),
}

impl<'a> Saved<'a> {
    /// Opens a file. Error messages name it `source`.
    ///
    /// # Errors
    /// [`Error::Format`], with the entry or byte at fault.
    pub fn open(bytes: &'a [u8], source: &Path) -> Result<Self> {
        if bytes.starts_with(&legacy::MAGIC) {
            return Self::open_legacy(bytes, source);
        }
        let wrong = |why: String| Error::Format(format!("{}: {why}", source.display()));
        if !bytes.starts_with(ZIP) {
            return Err(wrong(
                "not a torch.save file: neither a zip archive nor the format before PyTorch 1.6".into(),
            ));
        }
        let archive = Archive::open(bytes, source)?;
        let place = archive.called("data.pkl");
        match archive.get("byteorder").map_err(wrong)? {
            None | Some(b"little") => {}
            Some(_) => return Err(wrong(format!("{}: not little-endian", archive.called("byteorder")))),
        }
        let pickled = archive.get("data.pkl").map_err(wrong)?;
        let pickled = pickled.ok_or_else(|| wrong(format!("there is no {place}: not a torch.save file")))?;
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

    /// The saved object.
    pub fn root(&self) -> Item<'_> {
        self.pickle.root()
    }

    /// The container format: `zip`, or `legacy` before PyTorch 1.6.
    pub fn form(&self) -> &'static str {
        match self.storages {
            Storages::Zip(_) => "zip",
            Storages::Legacy(_) => "legacy",
        }
    }

    /// An [`Error::Format`] with the reason `why` that names the file and the pickle.
    pub fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::Format(format!("{}: {}: {why}", self.source.display(), self.place))
    }

    /// The storage of a view, checked to contain it. `name` is the tensor's name for messages.
    ///
    /// # Errors
    /// [`Error::Format`] when the storage is missing or damaged or does not contain the view.
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

    /// The tensor `name` that a view describes: float32 if the storage has floating-point values, else int64.
    ///
    /// # Errors
    /// Those of [`Saved::raw`].
    pub fn read(&self, name: &str, view: &View) -> Result<Tensor> {
        Ok(tensor::read(name, view, &self.raw(name, view)?))
    }
}

/// The tensors of a saved dict, with the names and shapes in the file. Error messages name the file `source`.
///
/// # Errors
/// [`Error::Format`] when the file is damaged or does not contain a dict of tensors.
pub fn tensors(bytes: &[u8], source: &Path) -> Result<Vec<Tensor>> {
    let saved = Saved::open(bytes, source)?;
    let tensor = |(key, item): (Item<'_>, Item<'_>)| {
        let name = key.as_str().ok_or_else(|| saved.wrong("a key of the dict is not a string"))?;
        let view = View::of(item).unwrap_or_else(|| Err(format!("it is {}, not a tensor", item.kind())));
        saved.read(name, &view.map_err(|e| saved.wrong(format!("`{}`: {e}", shown(name))))?)
    };
    let pairs = saved.root().as_pairs().ok_or_else(|| {
        let kind = saved.root().kind();
        saved.wrong(format!("it contains {kind}, not a dict of tensors; save model.state_dict()"))
    })?;
    pairs.iter().map(tensor).collect()
}

/// The storages that a pickle refers to, by key.
fn declared(pickle: &Pickle<'_>) -> Result<HashMap<String, Declared>, String> {
    let mut out = HashMap::new();
    for item in pickle.persistent() {
        let (key, what) = storage::storage(item)?;
        if out.insert(key.to_owned(), what).is_some_and(|before| before != what) {
            return Err(format!("storage {key:.40?} is declared with two types or sizes"));
        }
    }
    Ok(out)
}
