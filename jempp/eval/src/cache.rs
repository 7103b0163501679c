//! Parts of an evaluation kept as files, so that an interruption loses no finished one.
//!
//! Invariant: a part is used again only if it was made by the same program version from the same model, data and
//! settings, all of which its stamp names; a part that cannot be read is made anew.

use jempp::{Error, Result};
use jempp_formats::container::Container;
use jempp_formats::files::write_atomic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What says in a file of tensors what they were made of.
const STAMP: &str = "stamp";

/// Where parts are kept, if anywhere.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
    stamp: String,
}

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    stamp: String,
    value: T,
}

impl Cache {
    /// Keeps nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Keeps parts in `folder`, which is made if need be, for evaluations that `stamp` describes.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be made.
    pub fn at(folder: &Path, stamp: impl Into<String>) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        Ok(Self { folder: Some(folder.to_path_buf()), stamp: stamp.into() })
    }

    /// The same place, for parts that depend on `more` besides.
    #[must_use]
    pub fn with(&self, more: &str) -> Self {
        Self { folder: self.folder.clone(), stamp: format!("{} {more}", self.stamp) }
    }

    /// The part `name`, made by `make` unless it is kept already.
    ///
    /// # Errors
    /// Those of `make`; [`Error::Io`] when the part cannot be kept.
    pub fn part<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(folder) = &self.folder else { return make() };
        let path = folder.join(format!("{name}.json"));
        let kept = std::fs::read(&path).ok().and_then(|b| serde_json::from_slice::<Kept<T>>(&b).ok());
        if let Some(kept) = kept.filter(|k| k.stamp == self.stamp) {
            return Ok(kept.value);
        }
        let kept = Kept { stamp: self.stamp.clone(), value: make()? };
        let bytes = serde_json::to_vec(&kept).map_err(|e| Error::Internal(e.to_string()))?;
        write_atomic(&path, |w| w.write_all(&bytes))?;
        Ok(kept.value)
    }

    /// The same for tensors, which are many numbers.
    ///
    /// # Errors
    /// As [`Cache::part`].
    pub fn tensors(&self, name: &str, make: impl FnOnce() -> Result<Container>) -> Result<Container> {
        let Some(folder) = &self.folder else { return make() };
        let path = folder.join(format!("{name}.safetensors"));
        let kept = Container::read(&path).ok().filter(|c| c.meta.get(STAMP) == Some(&self.stamp));
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let mut made = make()?;
        made.meta.insert(STAMP.to_owned(), self.stamp.clone());
        made.write(&path)?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jempp_formats::container::Tensor;

    #[test]
    fn parts_are_made_once_for_each_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(&dir.path().join("parts"), "a").unwrap();
        let made = std::cell::Cell::new(0);
        let part = |cache: &Cache| {
            let make = || {
                made.set(made.get() + 1);
                Ok(vec![0.1f32, f32::MIN_POSITIVE])
            };
            cache.part("p", make).unwrap()
        };
        assert_eq!((part(&cache), made.get()), (vec![0.1, f32::MIN_POSITIVE], 1));
        assert_eq!((part(&cache), made.get()), (vec![0.1, f32::MIN_POSITIVE], 1));
        part(&cache.with("other settings"));
        assert_eq!(made.get(), 2);
        std::fs::write(dir.path().join("parts/p.json"), b"{torn").unwrap();
        part(&cache);
        assert_eq!(made.get(), 3);
        part(&Cache::none());
        part(&Cache::none());
        assert_eq!(made.get(), 5);
        let tensors = |cache: &Cache| {
            let make = || {
                made.set(made.get() + 1);
                Ok(Container::new([Tensor::f32("x", [2], vec![0.1, 2.0])]))
            };
            cache.tensors("t", make).unwrap().f32("x", &[2]).unwrap().to_vec()
        };
        assert_eq!((tensors(&cache), tensors(&cache), made.get()), (vec![0.1, 2.0], vec![0.1, 2.0], 6));
        tensors(&cache.with("other settings"));
        assert_eq!(made.get(), 7);
        let failed: Result<u8> = cache.part("q", || Err(Error::Cancelled));
        assert!(failed.is_err() && !dir.path().join("parts/q.json").exists());
    }
}
