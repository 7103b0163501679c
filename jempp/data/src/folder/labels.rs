//! Labels of images in a table: a CSV of names and labels, or the annotations of TinyImageNet.

use super::list::fail;
use jempp_formats::Result;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Largest table in bytes.
const LONGEST: u64 = 1 << 26;
/// Headings of the column of images and of that of labels; without one of them the first and the second column.
const NAMES: [&str; 10] =
    ["id", "image", "image_id", "img", "file", "filename", "file_name", "image_name", "path", "name"];
const LABELS: [&str; 9] =
    ["label", "labels", "class", "class_name", "category", "target", "breed", "species", "y"];

/// Labels by the name of the image, with and without its ending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(BTreeMap<String, String>);

impl Table {
    /// The label of an image.
    pub(crate) fn get(&self, path: &Path) -> Option<&str> {
        let name = path.file_name()?.to_string_lossy();
        let stem = path.file_stem()?.to_string_lossy();
        self.0.get(&*name).or_else(|| self.0.get(&*stem)).map(String::as_str)
    }
}

/// Reads the table in a file.
///
/// # Errors
/// [`jempp_formats::Error::Data`] if it is too long, not UTF-8 or no table of names and labels; [`jempp_formats::Error::Io`].
pub(super) fn read(path: &Path) -> Result<Table> {
    let length = fs::metadata(path).map_err(|e| jempp_formats::files::missing_or(path, e))?.len();
    if length > LONGEST {
        return fail(path, &format!("is larger than {} MiB", LONGEST >> 20));
    }
    let bytes = fs::read(path).map_err(|e| jempp_formats::Error::io(path, e))?;
    table(path, &bytes)
}

/// Parses a table: fields separated by commas, semicolons or tabs, with double quotes around those that contain one. A first
/// line with one of the usual headings says which columns are meant.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn table(path: &Path, bytes: &[u8]) -> Result<Table> {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(e) => return fail(path, &format!("is not UTF-8 at byte {}", e.valid_up_to())),
    };
    let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).peekable();
    let first = lines.peek().map_or("", |(_, l)| *l);
    let most = |c: &char| first.matches(*c).count();
    let separator = ['\t', ';', ','].into_iter().max_by_key(most).unwrap_or(',');
    let heads: Vec<String> = fields(first, separator).iter().map(|f| f.to_lowercase()).collect();
    let column = |known: &[&str]| heads.iter().position(|h| known.contains(&h.as_str()));
    let [name, label] = match (column(&NAMES), column(&LABELS)) {
        (None, None) => [0, 1],
        (name, label) => {
            lines.next();
            let name = name.unwrap_or_else(|| usize::from(label == Some(0)));
            [name, label.unwrap_or_else(|| usize::from(name == 0))]
        }
    };
    let mut out = BTreeMap::new();
    for (i, line) in lines {
        let fields = fields(line, separator);
        let (Some(image), Some(label)) = (fields.get(name), fields.get(label)) else {
            return fail(path, &format!("line {} has no name and label of an image", i + 1));
        };
        let image = image.rsplit(['/', '\\']).next().unwrap_or_default();
        if image.is_empty() || label.is_empty() {
            return fail(path, &format!("line {} has no name and label of an image", i + 1));
        }
        if out.insert(image.to_owned(), label.clone()).is_some_and(|before| before != *label) {
            return fail(path, &format!("line {} gives an image a second label", i + 1));
        }
    }
    if out.is_empty() {
        return fail(path, "is a table without rows");
    }
    Ok(Table(out))
}

/// The fields of a line.
fn fields(line: &str, separator: char) -> Vec<String> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            c if c == separator && !quoted => out.push(std::mem::take(&mut field).trim().to_owned()),
            c => field.push(c),
        }
    }
    out.push(field.trim().to_owned());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_as_people_write_them() {
        let read = |text: &str| table(Path::new("labels.csv"), text.as_bytes());
        for text in [
            "id,label\n7,frog\n8,cat\n",
            "label;file\r\nfrog;7.png\r\ncat;8.png\r\n",
            "\u{feff}\"image_id\",\"other\",\"breed\"\n\"7\",\"a,b\",\"frog\"\n\"8\",\"\",\"cat\"",
            "train/7.png,frog\ntrain/8.png,cat",
            "7.png\tfrog\t0\t32\t44\t62\n8.png\tcat\t1\t2\t3\t4\n",
        ] {
            let t = read(text).unwrap();
            assert_eq!(t.get(Path::new("x/7.png")), Some("frog"), "{text}");
            assert_eq!((t.get(Path::new("8.png")), t.get(Path::new("9.png"))), (Some("cat"), None), "{text}");
        }
        for (text, why) in [
            ("", "without rows"),
            ("id,label\n", "without rows"),
            ("id,label\n7\n", "line 2 has no name"),
            ("id,label\n7,\n", "line 2 has no name"),
            ("7,frog\n7,cat", "line 2 gives an image a second label"),
        ] {
            assert!(read(text).unwrap_err().to_string().contains(why), "{text}");
        }
        assert!(table(Path::new("x.csv"), b"a,\xff").unwrap_err().to_string().contains("UTF-8 at byte 2"));
    }
}
