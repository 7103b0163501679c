//! The manifest of a checkpoint: the sizes and checksums by which a reader verifies the other files.
//!
//! Invariant: a manifest that [`Manifest::parse`] accepts is, byte for byte, one that [`Manifest::render`] wrote. Its
//! own checksum covers all of it, so that a changed digit cannot pass for another step or size.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the folder's format.
const FORMAT: u64 = 1;

/// Size and checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub bytes: u64,
    /// CRC-32C (Castagnoli), eight hexadecimal digits.
    pub crc32c: String,
}

impl Entry {
    pub(super) fn new(bytes: u64, crc: u32) -> Self {
        Self { bytes, crc32c: format!("{crc:08x}") }
    }
}

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u64,
    /// The training step that the checkpoint was taken after.
    pub step: u64,
    /// The other files, by name.
    pub files: BTreeMap<String, Entry>,
    /// Checksum of this manifest with an empty string here.
    crc32c: String,
}

/// The version alone, so that a later format is reported as such and not as damage.
#[derive(Deserialize)]
struct Version {
    format: u64,
}

impl Manifest {
    pub(super) fn new(step: u64, files: BTreeMap<String, Entry>) -> Self {
        Self { format: FORMAT, step, files, crc32c: String::new() }
    }

    /// The text of the file, with its checksum.
    pub(super) fn render(&self) -> Result<String, serde_json::Error> {
        let mut sealed = Self { crc32c: String::new(), ..self.clone() };
        let bare = serde_json::to_string_pretty(&sealed)?;
        sealed.crc32c = format!("{:08x}", crc32c::crc32c(bare.as_bytes()));
        Ok(serde_json::to_string_pretty(&sealed)? + "\n")
    }

    /// Parses the bytes of the file, or says why they are not a valid manifest.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let damaged = |_| "it is damaged".to_string();
        let Version { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(format!("it is damaged, or of format {format}; this version reads format {FORMAT}"));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        if manifest.render().map_err(damaged)?.as_bytes() != bytes {
            return Err("it is damaged: its checksum does not match".to_string());
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_bytes_are_accepted() {
        let files = BTreeMap::from([("model.safetensors".to_string(), Entry::new(12, 0xABC))]);
        let manifest = Manifest::new(40, files);
        let text = manifest.render().unwrap();
        assert!(text.contains("\"crc32c\": \"00000abc\""), "{text}");
        let read = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!((read.step, &read.files), (40, &manifest.files));
        for i in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[i] ^= 1 << bit;
                assert!(Manifest::parse(&bytes).is_err(), "bit {bit} of byte {i}");
            }
            assert!(Manifest::parse(&text.as_bytes()[..i]).is_err(), "cut at {i}");
        }
        assert!(Manifest::parse(format!("{text} ").as_bytes()).is_err());
    }

    #[test]
    fn a_later_format_is_called_so() {
        let e = Manifest::parse(br#"{"format": 2, "parts": []}"#).unwrap_err();
        assert!(e.contains("of format 2; this version reads format 1"), "{e}");
    }
}
