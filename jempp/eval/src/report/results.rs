//! The results of a run, read from its folder.

use crate::samples::Picture;
use crate::summary::{FOLDER, SUMMARY, Summary};
use jempp::{Error, Result};
use jempp_formats::files::hint;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The results of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResults {
    /// Name of the run folder.
    pub name: String,
    /// Contents of `result.json`, which training writes at its end.
    pub result: Option<Value>,
    /// Results of `jempp-cli eval all`.
    pub summary: Option<Summary>,
    /// Contents of `metrics.jsonl`.
    #[serde(skip)]
    pub(super) metrics: String,
    /// Image files as data URIs, with their captions.
    #[serde(skip)]
    pub(super) pictures: Vec<(String, String)>,
}

/// Reads the results of the run in the folder `run`.
///
/// # Errors
/// [`Error::Data`] if it is not a run folder; [`Error::Format`] if a file in it is damaged; [`Error::Io`].
pub fn read(run: &Path) -> Result<RunResults> {
    read_with(run, &run.join(FOLDER))
}

/// Reads a run like [`read`], with the results of `jempp-cli eval all` in another folder, `eval`.
///
/// # Errors
/// Those of [`read`].
pub fn read_with(run: &Path, eval: &Path) -> Result<RunResults> {
    let known = ["metrics.jsonl", "config.toml", FOLDER];
    if !known.iter().any(|f| run.join(f).exists()) && !eval.exists() {
        let at = run.display();
        let why = format!("{at}: there is no run folder here (looked for {})", known.join(", "));
        return Err(Error::Data(why + &hint(run)));
    }
    let text = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io(path, e)),
    };
    let damaged = |path: &Path, e: serde_json::Error| Error::Format(format!("{}: {e}", path.display()));
    let [ended, kept] = [run.join("result.json"), eval.join(SUMMARY)];
    let result = text(&ended)?.map(|t| serde_json::from_str(&t)).transpose();
    let summary: Option<Summary> =
        text(&kept)?.map(|t| serde_json::from_str(&t)).transpose().map_err(|e| damaged(&kept, e))?;
    let pictures = match summary.as_ref().and_then(|s| s.samples.as_ref()) {
        Some(samples) => {
            let file = |p: &Picture| (eval.join(&p.file), p.caption.clone());
            embed(samples.pictures.iter().map(file))
        }
        None => embed(
            [
                ("chains_last.png", "Chains of the replay buffer at the end of training, in random order."),
                ("chains_by_class.png", "Chains of the replay buffer, one row per class."),
            ]
            .into_iter()
            .map(|(name, caption)| (run.join("samples").join(name), caption.to_owned())),
        ),
    };
    Ok(RunResults {
        name: run.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned(),
        result: result.map_err(|e| damaged(&ended, e))?,
        summary,
        metrics: text(&run.join("metrics.jsonl"))?.unwrap_or_default(),
        pictures,
    })
}

/// Image files as data URIs, with their captions; files that do not exist are left out.
fn embed(files: impl Iterator<Item = (PathBuf, String)>) -> Vec<(String, String)> {
    let one = |(path, caption): (PathBuf, String)| {
        let bytes = fs::read(&path).ok()?;
        let kind = if path.extension().is_some_and(|e| e == "gif") { "gif" } else { "png" };
        Some((format!("data:image/{kind};base64,{}", base64(&bytes)), caption))
    };
    files.filter_map(one).collect()
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
    use crate::report::html;

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
    fn the_page_of_a_run_that_was_not_evaluated_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("no run folder"));
        let run = dir.path().join("a<b");
        fs::create_dir_all(run.join(FOLDER)).unwrap();
        fs::write(run.join("metrics.jsonl"), "").unwrap();
        let read_run = read(&run).unwrap();
        let page = html(&[read_run.clone(), read_run]);
        assert!(page.contains("a&lt;b") && page.contains("Not evaluated yet") && page.ends_with("</html>\n"));
        assert!(!page.contains("<script") && !page.contains("src=\"http"));
        fs::write(run.join(FOLDER).join(SUMMARY), "{").unwrap();
        assert_eq!(read(&run).unwrap_err().exit_code(), 6);
    }
}
