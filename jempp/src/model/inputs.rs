//! The images that are predicted for: files, folders and patterns of them, archives and arrays.
//!
//! Invariants: the order is that of the arguments, within a folder or pattern that of the names; each image knows the file that
//! it comes from; labels beside the images are not read.

use crate::error::{Error, Result};
use jempp_formats::codecs::is_named;
use jempp_formats::files::{expand_home, hint};
use jempp_formats::images::read_image;
use jempp_formats::npz::{self, Float, Npz};
use jempp_formats::resize::Resize;
use jempp_formats::unpack::Unpack;
use std::path::{Path, PathBuf};

/// How images are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct InputOptions {
    /// What image files of another size are scaled to, which is what the model takes.
    pub resize: Option<Resize>,
    /// What floats in archives and arrays range over.
    pub range: Option<Float>,
    /// What archives may unpack to.
    pub unpack: Unpack,
}

/// Images with the files that they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// n×H×W×C in [−1, 1].
    pub images: Vec<f32>,
    /// n: the file of each image, and its number there.
    pub sources: Vec<(PathBuf, usize)>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// The files that the arguments of a command stand for: a folder stands for the image files in it and below, and a name with `*`
/// or `?`, which a shell has not expanded, for the files that match.
///
/// # Errors
/// [`Error::Data`] naming what does not exist, or a folder or pattern without files; [`Error::Io`].
pub fn files(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for argument in arguments {
        let path = expand_home(argument);
        let before = out.len();
        if path.is_dir() {
            below(&path, &mut out)?;
        } else if path.exists() {
            out.push(path);
        } else if argument.to_string_lossy().contains(['*', '?']) {
            matching(&path, &mut out)?;
        } else {
            let shown = argument.display();
            return Err(Error::Data(format!("{shown}: there is no such file{}", hint(&path))));
        }
        if out.len() == before {
            let shown = argument.display();
            return Err(Error::Data(format!("{shown}: there are no images there")));
        }
    }
    Ok(out)
}

/// The sorted entries of a folder, but hidden ones.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail = |e| Error::io(folder, e);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && !name.starts_with("__MACOSX") && !name.starts_with("@eaDir") {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// Image files in a folder and its folders. Links to folders are not followed, so that there is an end.
fn below(folder: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() && !path.is_symlink() {
            below(&path, out)?;
        } else if is_named(&path) && path.is_file() {
            out.push(path);
        }
    }
    Ok(())
}

/// Files whose path matches a pattern, component by component.
fn matching(pattern: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let text = part.as_os_str().to_string_lossy();
        if !text.contains(['*', '?']) {
            found.iter_mut().for_each(|p| p.push(part));
            continue;
        }
        let pattern: Vec<char> = text.chars().collect();
        let mut next = Vec::new();
        for folder in found {
            let at = if folder == Path::new("") { Path::new(".") } else { &folder };
            if !at.is_dir() {
                continue;
            }
            for path in entries(at)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if matches(&pattern, &name.chars().collect::<Vec<_>>()) {
                    next.push(folder.join(name));
                }
            }
        }
        found = next;
    }
    out.extend(found.into_iter().filter(|p| p.is_file()));
    Ok(())
}

/// Whether a name matches a pattern of characters, `?` for any one and `*` for any number of them.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                // The last star takes one character more.
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Reads the images in `paths`, of `size` [H, W, C]: image files, and archives and arrays of any number of images.
///
/// # Errors
/// [`Error::Data`] when images are of another size or hold a NaN (naming the file and the place); [`Error::Format`] when a
/// file is damaged; [`Error::Io`].
pub fn read(paths: &[PathBuf], size: [usize; 3], options: &InputOptions) -> Result<Inputs> {
    let mut out = Inputs::default();
    for path in paths {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if !matches!(ending.as_str(), "npz" | "npy") {
            out.images.extend(read_image(path, size, options.resize)?);
            out.sources.push((path.clone(), 0));
            continue;
        }
        let images = npz::images(Npz::open_with(path, options.unpack)?, options.range)?;
        if images.size != size {
            let path = path.display();
            return Err(Error::Data(format!(
                "{path}: its images are {:?} (height, width, channels), the model takes {size:?}",
                images.size
            )));
        }
        out.sources.extend((0..images.count()).map(|i| (path.clone(), i)));
        out.warnings.extend(images.warning);
        out.images.extend(images.values);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn patterns_match_names() {
        let m = |p: &str, n: &str| matches(&p.chars().collect::<Vec<_>>(), &n.chars().collect::<Vec<_>>());
        for (p, n) in
            [("*", "x"), ("*.png", "a.png"), ("a?c*", "abcd"), ("*b*b", "abab"), ("**", ""), ("é?", "éa")]
        {
            assert!(m(p, n), "{p} {n}");
        }
        for (p, n) in [("*.png", "a.jpg"), ("?", ""), ("a", "ab"), ("*b", "ba")] {
            assert!(!m(p, n), "{p} {n}");
        }
    }

    #[test]
    fn folders_and_patterns_stand_for_their_images() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.JPG", "c/d.png", "c/e.bmp.txt", ".hidden.png", "__MACOSX/._b.png", "n.npz"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        let names = |what: &str| -> Vec<String> {
            let found = files(&[dir.path().join(what)]).unwrap();
            found.iter().map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(names(""), ["a.JPG", "b.png", "c/d.png"]);
        assert_eq!(names("*.png"), ["b.png"]);
        assert_eq!(names("*/d.*"), ["c/d.png"]);
        assert_eq!(names("n.npz"), ["n.npz"]);
        let said = |what: &str| files(&[dir.path().join(what)]).unwrap_err().to_string();
        assert!(said("x.png").contains("no such file") && said("*.gif").contains("no images there"));
        assert!(said("__MACOSX").contains("no images there"));
    }
}
