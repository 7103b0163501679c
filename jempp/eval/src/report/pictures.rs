//! Pictures in the page, as data URIs.

use crate::samples::Picture;
use jempp_formats::plot::escape;
use std::fs;
use std::path::Path;

/// A picture to be embedded.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    uri: String,
    caption: String,
    /// What stands before each of its rows; empty: nothing.
    rows: Vec<String>,
}

/// The pictures in a folder; files that do not exist are left out.
pub(super) fn embed(folder: &Path, pictures: &[Picture], classes: &[String]) -> Vec<Figure> {
    let one = |p: &Picture| {
        let path = folder.join(&p.file);
        let bytes = fs::read(&path).ok()?;
        let kind = if path.extension().is_some_and(|e| e == "gif") { "gif" } else { "png" };
        let uri = format!("data:image/{kind};base64,{}", base64(&bytes));
        let rows = classes.iter().take(p.class_rows).cloned().collect();
        Some(Figure { uri, caption: p.caption.clone(), rows })
    };
    pictures.iter().filter_map(one).collect()
}

/// The pictures side by side.
pub(super) fn pictures(figures: &[Figure]) -> String {
    format!("<div class=\"pictures\">\n{}</div>\n", figures.iter().map(Figure::html).collect::<String>())
}

impl Figure {
    fn html(&self) -> String {
        let text = escape(&self.caption);
        let image = format!("<img src=\"{}\" alt=\"{text}\">", self.uri);
        let grid = if self.rows.is_empty() {
            image
        } else {
            let names: String = self.rows.iter().map(|r| format!("<li>{}</li>", escape(r))).collect();
            format!("<div class=\"grid\"><ol>{names}</ol>{image}</div>")
        };
        format!("<figure>{grid}<figcaption>{text}</figcaption></figure>\n")
    }
}

/// Base64 with padding, as in RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let at = |i: usize| u32::from(part.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= part.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (text, want) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), want);
        }
        assert_eq!(base64(&[0xFF, 0xEF, 0xFE]), "/+/+");
    }

    #[test]
    fn rows_have_the_names_of_the_classes() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.png"), "").unwrap();
        let picture = |file: &str, class_rows| Picture { file: file.into(), caption: "c".into(), class_rows };
        let classes = ["cat".to_owned(), "a<b".to_owned()];
        let all = embed(dir.path(), &[picture("a.png", 20), picture("none.png", 20)], &classes);
        assert_eq!(all.len(), 1);
        let html = pictures(&all);
        assert!(html.contains("<li>cat</li><li>a&lt;b</li>"), "{html}");
        assert!(!pictures(&embed(dir.path(), &[picture("a.png", 0)], &classes)).contains("<li>"));
    }
}
