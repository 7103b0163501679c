//! Finished parts of an evaluation, kept as files so that an interrupted evaluation can be resumed.
//!
//! Invariant: a part is reused only if its stamp agrees, which names the program version, the model, the data and the
//! settings that it depends on; a part that cannot be read is computed again.

use jempp::{Error, Result};
use jempp_formats::container::Container;
use jempp_formats::files::write_atomic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Metadata key of the stamp in a safetensors file.
const STAMP: &str = "stamp";

/// A folder of finished parts, or no folder, in which case nothing is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
    stamp: String,
}

#[derive(Serialize, Deserialize)]
struct StampedPart<T> {
    stamp: String,
    value: T,
}

impl Cache {
    /// A cache that keeps nothing.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// A cache in `folder`, which is created if it does not exist. `stamp` names what all its parts depend on.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be created.
    pub(crate) fn at(folder: &Path, stamp: impl Into<String>) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        Ok(Self { folder: Some(folder.to_path_buf()), stamp: stamp.into() })
    }

    /// A cache in the same folder, for parts that also depend on `more`.
    #[must_use]
    pub(crate) fn with(&self, more: &str) -> Self {
        Self { folder: self.folder.clone(), stamp: format!("{} {more}", self.stamp) }
    }

    /// The part `name`: read from the folder, or else computed by `make` and written there as JSON.
    ///
    /// # Errors
    /// Those of `make`; [`Error::Io`] if the part cannot be written.
    pub(crate) fn part<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(folder) = &self.folder else { return make() };
        let path = folder.join(format!("{name}.json"));
        let kept = std::fs::read(&path).ok().and_then(|b| serde_json::from_slice::<StampedPart<T>>(&b).ok());
        if let Some(kept) = kept.filter(|k| k.stamp == self.stamp) {
            return Ok(kept.value);
        }
        let kept = StampedPart { stamp: self.stamp.clone(), value: make()? };
        let bytes = serde_json::to_vec(&kept).map_err(|e| Error::Internal(e.to_string()))?;
        write_atomic(&path, |w| w.write_all(&bytes))?;
        Ok(kept.value)
    }

    /// The part `name` as [`Cache::part`] returns it, but of tensors, which are kept in a safetensors file.
    ///
    /// # Errors
    /// Those of `make`; [`Error::Io`] if the part cannot be written.
    pub(crate) fn tensors(&self, name: &str, make: impl FnOnce() -> Result<Container>) -> Result<Container> {
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
    fn parts_are_computed_once_per_stamp() {
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
