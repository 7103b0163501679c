//! Rust sources as text: what they import, and where functions begin and end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A source file.
pub(crate) struct Source {
    pub path: PathBuf,
    /// The folder at which module paths begin.
    base: PathBuf,
    pub text: String,
}

/// Names that a crate's root re-exports, and the module that each comes from.
pub(crate) fn exports(root: &Source) -> BTreeMap<String, String> {
    let code = blank(&root.text);
    let mut out = BTreeMap::new();
    for part in code.split(';') {
        let Some((_, path)) = part.split_once("pub use ") else { continue };
        let Some((module, names)) = path.trim().split_once("::") else { continue };
        let names = names.rsplit_once("::").map_or(names, |(_, last)| last);
        let names = if path.contains('{') { path.split_once('{').map_or("", |(_, l)| l) } else { names };
        for name in names.split([',', '{', '}']).map(str::trim).filter(|n| !n.is_empty()) {
            let name = name.rsplit("::").next().unwrap_or(name);
            out.insert(name.to_owned(), module.to_owned());
        }
    }
    out
}

/// Every `.rs` file below `base`.
pub(crate) fn sources(base: &Path) -> Vec<Source> {
    let mut out = Vec::new();
    let mut folders = vec![base.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for path in entries.map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                out.push(Source { path, base: base.to_path_buf(), text });
            }
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

/// The sources of a crate: its code, tests, benchmarks and examples, without crates nested in its folder.
pub(crate) fn of_crate(folder: &Path) -> Vec<Source> {
    let mut out: Vec<Source> = ["src", "tests", "benches", "examples"]
        .iter()
        .map(|part| folder.join(part))
        .filter(|part| part.is_dir())
        .flat_map(|part| sources(&part))
        .collect();
    let build = folder.join("build.rs");
    if let Ok(text) = fs::read_to_string(&build) {
        out.push(Source { path: build, base: folder.to_path_buf(), text });
    }
    out
}

/// The workspace crates that a manifest depends on, without dev-dependencies and build-dependencies.
pub(crate) fn crates_of(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()));
    let mut out = Vec::new();
    let mut section = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section == "dependencies" {
            match line.split(['.', ' ', '=']).next().unwrap_or_default() {
                "kernels" => out.push("jempp-kernels".to_owned()),
                "engine" => out.push("jempp-engine".to_owned()),
                name if name == "jempp" || name.starts_with("jempp-") => out.push(name.to_owned()),
                _ => {}
            }
        }
    }
    out
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(i, _)| {
        let after = if word.ends_with("::") { None } else { line[i + word.len()..].chars().next() };
        !part(line[..i].chars().next_back()) && !part(after)
    })
}

impl Source {
    /// The top-level module that the file belongs to; `None` for the crate's root.
    pub(crate) fn module(&self) -> Option<String> {
        let inside = self.path.strip_prefix(&self.base).ok()?;
        let first = inside.components().next()?.as_os_str().to_str()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "lib" | "main")).then(|| name.to_owned())
    }

    /// Whether the file holds only tests.
    pub(crate) fn is_test(&self) -> bool {
        let inside = self.path.strip_prefix(&self.base).unwrap_or(&self.path);
        inside.components().any(|c| c.as_os_str().to_str().is_some_and(|c| c == "tests" || c == "tests.rs"))
    }

    /// The code, with comments, strings and character literals blanked out.
    pub(crate) fn code(&self) -> String {
        blank(&self.text)
    }

    /// What the file names directly below `crate::`, with the line; tests at its end are left out.
    pub(crate) fn uses(&self) -> Vec<(usize, String)> {
        let code = blank(&self.text);
        let end = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
        let mut out = Vec::new();
        for (at, _) in code[..end].match_indices("crate::") {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let line = code[..at].lines().count().max(1);
            let rest = &code[at + "crate::".len()..];
            let name =
                |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            match rest.strip_prefix('{') {
                Some(list) => out.extend(heads(list).iter().map(|s| (line, name(s)))),
                None => out.push((line, name(rest))),
            }
        }
        out
    }

    /// Name, first line and number of lines of every function.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let code = blank(&self.text);
        let mut out = Vec::new();
        for (at, _) in code.match_indices("fn ") {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let name: String =
                code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if let (false, Some(length)) = (name.is_empty(), body(&code[at..])) {
                let line = code[..at].matches('\n').count() + 1;
                out.push((name, line, length));
            }
        }
        out
    }
}

/// The items of a list in braces, up to the closing brace.
fn heads(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (0, 0, Vec::new());
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                out.push(list[start..i].trim());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(list[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    out
}

/// Number of lines from the start of a function to its closing brace; `None` for a declaration without a body.
fn body(code: &str) -> Option<usize> {
    let mut depth = 0usize;
    // Inside the brackets of types and constants a semicolon ends nothing.
    let mut brackets = 0isize;
    for (i, c) in code.char_indices() {
        match c {
            '(' | '[' if depth == 0 => brackets += 1,
            ')' | ']' if depth == 0 => brackets -= 1,
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(code[..i].matches('\n').count() + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The text with comments, strings and character literals blanked out; each line keeps its length.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let keep = |c: char| if c == '\n' { '\n' } else { ' ' };
    while i < chars.len() {
        let end = skip(&chars, i);
        if end > i {
            out.extend(chars[i..end].iter().map(|c| keep(*c)));
            i = end;
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

/// Where the comment, string or character literal that starts at `i` ends; `i` if none starts there.
fn skip(c: &[char], i: usize) -> usize {
    let at = |k: usize| c.get(k).copied().unwrap_or('\0');
    let word = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
    match (at(i), at(i + 1)) {
        ('/', '/') => (i..c.len()).find(|k| at(*k) == '\n').unwrap_or(c.len()),
        ('/', '*') => {
            (i + 3..c.len()).find(|k| at(*k) == '/' && at(*k - 1) == '*').map_or(c.len(), |k| k + 1)
        }
        ('r', '"' | '#') if !word => raw(c, i),
        ('"', _) => quoted(c, i, '"'),
        // A lifetime has no closing quote two or more characters later.
        ('\'', '\\') => quoted(c, i, '\''),
        ('\'', _) if at(i + 2) == '\'' => i + 3,
        _ => i,
    }
}

fn quoted(c: &[char], i: usize, quote: char) -> usize {
    let mut k = i + 1;
    while k < c.len() && c[k] != quote {
        k += if c[k] == '\\' { 2 } else { 1 };
    }
    (k + 1).min(c.len())
}

fn raw(c: &[char], i: usize) -> usize {
    let hashes = c[i + 1..].iter().take_while(|h| **h == '#').count();
    if c.get(i + 1 + hashes) != Some(&'"') {
        return i;
    }
    let mut k = i + 2 + hashes;
    while k < c.len() {
        if c[k] == '"' && c[k + 1..].iter().take_while(|h| **h == '#').count() >= hashes {
            return k + 1 + hashes;
        }
        k += 1;
    }
    c.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_text() {
        let text = "fn a() {\n  // fn b() {\n  let s = \"}\"; let c = '}'; let r = r#\"}\"}\"#;\n}\nfn d<'a>(x: [u8; 3]);\n";
        let source = Source { path: "src/x.rs".into(), base: "src".into(), text: text.into() };
        assert_eq!(source.functions(), [("a".to_owned(), 1, 4)]);
        assert_eq!(source.module().as_deref(), Some("x"));
        let text = "use crate::{a::B, c};\nuse crate::d::E;\n// crate::f\n";
        let source = Source { text: text.into(), ..source };
        let uses: Vec<String> = source.uses().into_iter().map(|u| u.1).collect();
        assert_eq!(uses, ["a", "c", "d"]);
        assert!(
            has_word("a law here", "law") && !has_word("a lawn", "law") && has_word("x infer::y", "infer::")
        );
    }
}
