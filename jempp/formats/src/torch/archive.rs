//! A zip archive of `torch.save` in memory, and the ranges of its entries.
//!
//! Invariants: nothing is unpacked or copied; entries lie within the archive and do not overlap; an entry's checksum is
//! verified when its bytes are requested.

use crate::error::{Error, Result};
use crate::place::shown;
use flate2::Crc;
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

/// The entries in the archive's only folder.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    /// Name of the folder.
    folder: String,
    entries: HashMap<String, Entry>,
}

struct Entry {
    range: Range<usize>,
    crc: u32,
}

impl<'a> Archive<'a> {
    /// Indexes the entries.
    ///
    /// # Errors
    /// [`Error::Format`] naming file and entry.
    pub(super) fn open(bytes: &'a [u8], source: &Path) -> Result<Self> {
        let wrong = |why: String| Error::Format(format!("{}: {why}", source.display()));
        let mut zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| wrong(format!("not a whole zip archive ({e}); cut short or damaged")))?;
        let program = |name: &str| name.contains("/code/") || name.ends_with("/constants.pkl");
        if zip.file_names().any(|n| n.is_ok_and(|n| program(&n))) {
            return Err(wrong(
                "it contains a program (TorchScript, torch.jit.save); save the model's state_dict() instead"
                    .into(),
            ));
        }
        let mut found = Self { bytes, folder: String::new(), entries: HashMap::new() };
        for i in 0..zip.len() {
            let (name, entry) = entry(&mut zip, i, bytes.len()).map_err(wrong)?;
            let Some((folder, rest)) = name.split_once('/') else {
                return Err(wrong(format!(
                    "entry `{}` is not in a folder: not a torch.save file",
                    shown(&name)
                )));
            };
            if i > 0 && folder != found.folder {
                let (a, b) = (shown(&found.folder), shown(folder));
                return Err(wrong(format!("it has the folders `{a}` and `{b}`: not a torch.save file")));
            }
            found.folder = folder.to_owned();
            found.entries.insert(rest.to_owned(), entry);
        }
        found.check_apart().map_err(wrong)?;
        Ok(found)
    }

    /// Checks that no two entries overlap, which would let a small archive expand to a large one.
    fn check_apart(&self) -> Result<(), String> {
        let mut all: Vec<_> = self.entries.iter().filter(|(_, e)| !e.range.is_empty()).collect();
        all.sort_by_key(|(_, e)| e.range.start);
        match all.windows(2).find(|w| w[1].1.range.start < w[0].1.range.end) {
            Some(w) => {
                let (a, b) = (self.called(w[0].0), self.called(w[1].0));
                Err(format!("{a} and {b} overlap from byte {}", w[1].1.range.start))
            }
            None => Ok(()),
        }
    }

    /// The name of an entry for messages.
    pub(super) fn called(&self, name: &str) -> String {
        format!("entry `{}/{}`", shown(&self.folder), shown(name))
    }

    /// The bytes of the entry `name`, if there is one.
    ///
    /// # Errors
    /// A message, if their checksum differs.
    pub(super) fn get(&self, name: &str) -> Result<Option<&'a [u8]>, String> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let bytes = self.bytes.get(entry.range.clone()).unwrap_or_default();
        let mut crc = Crc::new();
        crc.update(bytes);
        if crc.sum() != entry.crc {
            let (called, sum, said) = (self.called(name), crc.sum(), entry.crc);
            return Err(format!("{called}: corrupt: its checksum is {sum:08x}, the archive says {said:08x}"));
        }
        Ok(Some(bytes))
    }
}

/// The name and range of entry `i` of an archive of `length` bytes.
fn entry(zip: &mut ZipArchive<Cursor<&[u8]>>, i: usize, length: usize) -> Result<(String, Entry), String> {
    let file = zip.by_index_raw(i).map_err(|e| format!("entry {i} of the archive: {e}"))?;
    let name = file.name().map_err(|e| format!("entry {i} of the archive: {e}"))?.into_owned();
    let wrong = |why: &str| Err(format!("entry `{}`: {why}", shown(&name)));
    if name.starts_with('/') || name.contains('\\') || name.split('/').any(|p| p == "..") {
        return wrong("its path leads out of the archive");
    }
    if file.encrypted() {
        return wrong("it is encrypted");
    }
    if file.compression() != CompressionMethod::Stored || file.size() != file.compressed_size() {
        return wrong("it is compressed, which torch.save never does; load and save the file with PyTorch");
    }
    let start = file.data_start().and_then(|s| usize::try_from(s).ok());
    let end = start.and_then(|s| s.checked_add(usize::try_from(file.size()).ok()?)).filter(|e| *e <= length);
    match (start, end) {
        (Some(start), Some(end)) => {
            let entry = Entry { range: start..end, crc: file.crc32() };
            Ok((name, entry))
        }
        _ => wrong(&format!("its {} bytes are not in the file; cut short or damaged", file.size())),
    }
}
