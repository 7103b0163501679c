//! Data sets that are folders of images: `train/CLASS/*.{png,jpg,jpeg}` and `test/CLASS/*`.
//!
//! Invariant: what is read depends on the files only: not on threads, nor on the order in which the system lists them,
//! nor on whether it comes from the cache.

mod cache;
mod decode;
mod list;
mod spread;

#[cfg(test)]
mod tests;

use super::{Dataset, Origin, Reading};
use crate::error::Result;
use cache::{Cache, Found};
use std::path::{Path, PathBuf};

/// A data set from a folder.
pub(super) struct Read {
    /// Images of `train`, class by class, then those of `test`.
    pub set: Dataset,
    /// How many are of `train`.
    pub train: usize,
    /// Where they came from.
    pub origin: Origin,
    /// What went wrong with the cache.
    pub warnings: Vec<String>,
}

/// Where decoded data sets are kept unless something else is asked for: `$JEMPP_CACHE_DIR`, else
/// `$XDG_CACHE_HOME/jempp`, else `~/.cache/jempp`; nowhere if there is no home either.
pub fn default_cache() -> Option<PathBuf> {
    cache::default_folder(|name| std::env::var_os(name), std::env::home_dir())
}

/// Reads the folder `name`.
///
/// # Errors
/// [`crate::Error::Data`] naming what is missing, out of place, damaged or unlike the rest.
pub(super) fn read(name: &str, reading: &mut Reading<'_>) -> Result<Read> {
    let root = Path::new(name);
    let listing = list::list(root, reading.threads)?;
    let cache = reading.cache.as_deref().map(|folder| Cache::new(folder, root)).transpose()?;
    let mut warnings = Vec::new();
    let train = listing.train;
    if let Some(cache) = &cache {
        let file = cache.file.display();
        match cache.read(name, &listing, reading.threads) {
            Found::Whole(set) => return Ok(Read { set: *set, train, origin: Origin::Cache, warnings }),
            Found::Nothing => {}
            Found::Stale => {
                warnings
                    .push(format!("files in {name} have changed since they were cached; reading them again"));
            }
            Found::Bad(why) => {
                warnings.push(format!("the cache {file} is of no use ({why}); reading {name} again"));
            }
        }
    }
    let (size, images) = decode::decode(&listing.files, reading.threads, &mut reading.progress)?;
    let labels = listing.files.iter().map(|f| f.label).collect();
    let set = Dataset::new(name, size, listing.classes.len(), images, labels)?
        .with_class_names(listing.classes.clone())?;
    if let Some(Err(e)) = cache.map(|c| c.write(&set, &listing)) {
        warnings.push(format!("the decoded images could not be cached: {e}; set JEMPP_CACHE_DIR"));
    }
    Ok(Read { set, train, origin: Origin::Files, warnings })
}
