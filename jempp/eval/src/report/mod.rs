//! One page about one or several runs: an HTML file that needs nothing beside itself.
//!
//! Invariants: the page holds no script and names no other file; every table says what it was measured on.

mod page;
mod sections;

use super::all::{FOLDER, SUMMARY, Summary};
use jempp::{Error, Result};
use jempp_formats::files::hint;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What is known of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What it is called.
    pub name: String,
    /// What training ended with: `result.json`.
    pub result: Option<Value>,
    /// What `eval all` found.
    pub summary: Option<Summary>,
    /// The lines of `metrics.jsonl`.
    #[serde(skip)]
    metrics: String,
    /// Pictures with their captions, as data URIs.
    #[serde(skip)]
    pictures: Vec<(String, String)>,
}

/// Reads a run folder.
///
/// # Errors
/// [`Error::Data`] when it is none; [`Error::Format`] when a file in it is damaged; [`Error::Io`].
pub fn read(run: &Path) -> Result<Run> {
    read_with(run, &run.join(FOLDER))
}

/// Reads a run folder, and an evaluation that is kept elsewhere.
///
/// # Errors
/// As [`read`].
pub fn read_with(run: &Path, eval: &Path) -> Result<Run> {
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
            let file = |p: &super::samples::Picture| (eval.join(&p.file), p.caption.clone());
            embed(samples.pictures.iter().map(file))
        }
        None => {
            let grid = |name: &str, caption: &str| (run.join("samples").join(name), caption.to_owned());
            embed(
                [
                    grid("chains_last.png", "Chains of the replay buffer at the run's end, in random order."),
                    grid("chains_by_class.png", "Chains of the replay buffer, one row a class."),
                ]
                .into_iter(),
            )
        }
    };
    Ok(Run {
        name: run.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned(),
        result: result.map_err(|e| damaged(&ended, e))?,
        summary,
        metrics: text(&run.join("metrics.jsonl"))?.unwrap_or_default(),
        pictures,
    })
}

/// The pictures that are there; one that has been removed is left out.
fn embed(files: impl Iterator<Item = (std::path::PathBuf, String)>) -> Vec<(String, String)> {
    let one = |(path, caption): (std::path::PathBuf, String)| {
        let bytes = fs::read(&path).ok()?;
        let kind = if path.extension().is_some_and(|e| e == "gif") { "gif" } else { "png" };
        Some((format!("data:image/{kind};base64,{}", base64(&bytes)), caption))
    };
    files.filter_map(one).collect()
}

/// The page.
pub fn html(runs: &[Run]) -> String {
    page::html(runs)
}

/// RFC 4648.
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
    fn a_run_without_an_evaluation_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("no run folder"));
        let run = dir.path().join("a<b");
        fs::create_dir_all(run.join(FOLDER)).unwrap();
        fs::write(run.join("metrics.jsonl"), "").unwrap();
        let read_run = read(&run).unwrap();
        let page = html(&[read_run.clone(), read_run]);
        assert!(page.contains("a&lt;b") && page.contains("eval all") && page.ends_with("</html>\n"));
        assert!(!page.contains("<script") && !page.contains("src=\"http"));
        fs::write(run.join(FOLDER).join(SUMMARY), "{").unwrap();
        assert_eq!(read(&run).unwrap_err().exit_code(), 6);
    }
}
