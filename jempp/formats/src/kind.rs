//! What a file is, by its first bytes: for messages about files that are not what they were taken for.

use crate::codecs;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without any bytes.
    Empty,
    /// A pointer of Git LFS, in place of the file.
    LfsPointer,
    /// A web page.
    Html,
    /// Text in JSON.
    Json,
    /// HDF5: Keras, or MATLAB since 7.3.
    Hdf5,
    /// A graph of ONNX.
    Onnx,
    /// A zip archive.
    Zip,
    /// Packed by gzip.
    Gzip,
    /// A pickle of Python.
    Pickle,
    /// A NumPy array.
    Npy,
    /// An image in this format.
    Image(&'static str),
    /// Anything else.
    Unknown,
}

/// What a file with these first bytes is; some hundred bytes suffice.
pub fn of(bytes: &[u8]) -> Kind {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let text = bytes.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lower = |n: usize| text.get(..n).unwrap_or_default().to_ascii_lowercase();
    if bytes.is_empty() {
        Kind::Empty
    } else if starts(b"version https://git-lfs") {
        Kind::LfsPointer
    } else if starts(b"\x89HDF\r\n\x1a\n") {
        Kind::Hdf5
    } else if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") {
        Kind::Zip
    } else if starts(b"\x1f\x8b") {
        Kind::Gzip
    } else if starts(b"\x93NUMPY") {
        Kind::Npy
    } else if let Some(name) = codecs::name(bytes) {
        Kind::Image(name)
    } else if lower(14) == b"<!doctype html"
        || lower(5) == b"<html"
        || lower(5) == b"<?xml"
        || lower(5) == b"<head"
    {
        Kind::Html
    } else if is_onnx(bytes) {
        Kind::Onnx
    } else if starts(b"\x80") && bytes.get(1).is_some_and(|v| (2..=5).contains(v)) {
        Kind::Pickle
    } else if text.starts_with(b"{") || text.starts_with(b"[") {
        Kind::Json
    } else {
        Kind::Unknown
    }
}

/// ONNX begins with the version of its format, field 1, and then the producer, a string, or the domain, opset or graph.
fn is_onnx(bytes: &[u8]) -> bool {
    matches!(*bytes, [0x08, 1..=20, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..])
}

impl Kind {
    /// With an article, for messages: `a web page (HTML)`.
    pub fn with_article(self) -> String {
        match self {
            Self::Empty => "an empty file".into(),
            Self::LfsPointer => {
                "a pointer of Git LFS, not the file itself: get it with `git lfs pull`".into()
            }
            Self::Html => "a web page (HTML), as when a download asks to sign in or does not exist".into(),
            Self::Json => "text in JSON".into(),
            Self::Hdf5 => "an HDF5 file, as of Keras".into(),
            Self::Onnx => "an ONNX graph".into(),
            Self::Zip => "a zip archive".into(),
            Self::Gzip => "a file packed by gzip".into(),
            Self::Pickle => "a Python pickle".into(),
            Self::Npy => "a NumPy array (.npy)".into(),
            Self::Image(name) => format!("a {name} image"),
            Self::Unknown => "not in a known format".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_first_bytes() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d4d\nsize 14\n";
        for (bytes, kind) in [
            (&b""[..], Kind::Empty),
            (pointer, Kind::LfsPointer),
            (b"<!DOCTYPE html><html>", Kind::Html),
            (b"\n  <HTML lang=en>", Kind::Html),
            (b"<?xml version=\"1.0\"?>", Kind::Html),
            (b"{\"error\": 404}", Kind::Json),
            (b"\x89HDF\r\n\x1a\n\0\0", Kind::Hdf5),
            (b"\x08\x08\x12\x05jempp", Kind::Onnx),
            (b"\x08\x07:\x80\x01", Kind::Onnx),
            (b"PK\x03\x04\0\0", Kind::Zip),
            (b"\x1f\x8b\x08", Kind::Gzip),
            (b"\x80\x04\x95", Kind::Pickle),
            (b"\x93NUMPY\x01\0", Kind::Npy),
            (b"\xff\xd8\xff\xe0", Kind::Image("Jpeg")),
            (b"some text", Kind::Unknown),
            (b"\x08\x63\x12", Kind::Unknown),
        ] {
            assert_eq!(of(bytes), kind, "{}", bytes.escape_ascii());
            assert!(!kind.with_article().is_empty());
        }
    }
}
