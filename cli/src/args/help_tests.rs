//! Holds the help of every command to its promises: short enough to read, complete, and with examples that parse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::Cli;
use super::headings::GLOBAL;
use clap::{Command, CommandFactory, Parser};
use std::path::{Path, PathBuf};

/// Width that `-h` is laid out for: a wider terminal changes nothing.
const WIDTH: usize = 100;
/// Lines of `-h`, at most: one screen of a terminal that is not small.
const LINES: usize = 40;
/// Columns of an example, at most, so that it stays on one line of a narrow terminal.
const EXAMPLE: usize = 83;

/// Endings of file names whose first part may be the name of a section.
const FILES: [&str; 12] =
    ["md", "csv", "rs", "toml", "json", "html", "py", "sh", "npz", "safetensors", "onnx", "pt"];

/// Every command of the program, with its parents' names in front.
fn commands() -> Vec<(String, Command)> {
    fn walk(prefix: &str, c: &Command, all: &mut Vec<(String, Command)>) {
        let name = format!("{prefix} {}", c.get_name()).trim().to_owned();
        for sub in c.get_subcommands().filter(|s| s.get_name() != "help") {
            walk(&name, sub, all);
        }
        all.push((name, c.clone()));
    }
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut all = Vec::new();
    walk("", &root, &mut all);
    assert!(all.len() >= 22, "{}", all.len());
    all
}

/// Short and long help of a command.
fn helps(c: &Command) -> [String; 2] {
    let mut c = c.clone();
    [c.render_help().to_string(), c.render_long_help().to_string()]
}

/// Asserts that a command line parses. Comments after it, redirections and variables before it are left out.
fn parses(line: &str) -> Result<(), String> {
    let line = line.trim().trim_start_matches("$ ");
    let end = [" #", " > ", " | ", " || ", "  "]
        .iter()
        .filter_map(|stop| line.find(stop))
        .min()
        .unwrap_or(line.len());
    let words = line[..end].split_whitespace().skip_while(|w| w.contains('=') && !w.starts_with("jempp"));
    let words: Vec<String> = words.map(|w| w.replace(['\'', '"'], "")).collect();
    match Cli::try_parse_from(&words) {
        Ok(_) => Ok(()),
        Err(e) if matches!(e.kind(), clap::error::ErrorKind::DisplayHelp) => Ok(()),
        Err(e) => Err(format!("{words:?}: {e}")),
    }
}

#[test]
fn clap_finds_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples_that_parse() {
    for (name, c) in commands() {
        for help in helps(&c) {
            let (_, rest) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{name}: {help}"));
            let examples: Vec<&str> = rest.lines().take_while(|l| l.starts_with("  ")).collect();
            assert!(!examples.is_empty(), "{name}");
            for line in examples {
                assert!(line.chars().count() <= EXAMPLE, "{name}: too wide: {line}");
                parses(line).unwrap_or_else(|e| panic!("{name}: {line}: {e}"));
            }
        }
    }
}

#[test]
fn short_help_fits_one_screen() {
    for (name, c) in commands() {
        let [short, long] = helps(&c);
        let n = short.lines().count();
        println!("{n:>3} {name}");
        assert!(n <= LINES, "{name} -h has {n} lines\n{short}");
        assert!(short.lines().all(|l| l.chars().count() <= WIDTH), "{name}\n{short}");
        assert!(long.len() >= short.len(), "{name}: --help says less than -h");
        // Deeper indented than any option's name is only the second line of an option's help.
        let wrapped = short.lines().find(|l| l.starts_with(&" ".repeat(14)));
        assert_eq!(wrapped, None, "{name}: an option takes two lines\n{short}");
    }
}

#[test]
fn global_options_come_last_under_a_heading_of_their_own() {
    for (name, c) in commands() {
        for help in helps(&c) {
            let headings: Vec<&str> = help
                .lines()
                .filter(|l| l.ends_with(':') && !l.starts_with(' ') && !l.starts_with("Exit"))
                .filter(|l| !l.starts_with("Usage"))
                .collect();
            let at = headings.iter().position(|h| h.trim_end_matches(':') == GLOBAL);
            let at = at.unwrap_or_else(|| panic!("{name}: {headings:?}"));
            assert_eq!(headings[at + 1], "Examples:", "{name}");
        }
        for arg in c.get_arguments().filter(|a| a.is_global_set()) {
            assert_eq!(arg.get_help_heading(), Some(GLOBAL), "{name} {}", arg.get_id());
        }
        let own = c.get_arguments().filter(|a| !a.is_global_set());
        for arg in own {
            assert_ne!(arg.get_help_heading(), Some(GLOBAL), "{name} {}", arg.get_id());
        }
    }
}

#[test]
fn every_option_has_help_text() {
    for (name, c) in commands() {
        assert!(c.get_about().is_some(), "{name}");
        for arg in c.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 8, "{name} {}: {help}", arg.get_id());
            assert!(!help.ends_with('.'), "{name} {}: {help}", arg.get_id());
        }
    }
}

#[test]
fn former_names_still_work() {
    for line in [
        "jempp-cli eval ood -m m --against svhn",
        "jempp-cli eval all -m m --against svhn --attacked 10 --transfer n --inception w --sampled 8",
        "jempp-cli eval attack -m m --transfer n",
        "jempp-cli sample -m m --start bank --inner 2",
        "jempp-cli bench train-step --dump",
        "jempp-cli bench ops --filter conv2d",
    ] {
        parses(line).unwrap();
    }
}

/// Markdown files of the repository's documentation.
fn documents(folder: &Path, all: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if path.is_dir() {
            documents(&path, all);
        } else if path.extension().is_some_and(|e| e == "md") {
            all.push(path);
        }
    }
}

#[test]
fn commands_in_the_documentation_parse() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md")];
    documents(&root.join("docs"), &mut files);
    let (mut found, mut wrong) = (0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap().replace("\\\n", " ");
        // Alternatives, as in `eval calibration|ood`, are no command.
        let lines = text.lines().map(str::trim).filter(|l| l.starts_with("jempp-cli "));
        for line in lines.filter(|l| !is_pattern(l)) {
            found += 1;
            if let Err(e) = parses(line) {
                wrong.push(format!("{}: {e}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 30, "{found}");
}

#[test]
fn keys_in_the_documentation_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md")];
    documents(&root.join("docs"), &mut files);
    let (mut found, mut wrong) = (0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for code in text.split('`').skip(1).step_by(2) {
            let name: String =
                code.chars().take_while(|c| c.is_ascii_alphanumeric() || "._".contains(*c)).collect();
            let Some((section, leaf)) = name.split_once('.') else { continue };
            // Not a file, a module or a call.
            let file_or_path =
                FILES.contains(&leaf) || code[name.len()..].starts_with(['/', '(', ':', '*', '-']);
            if !jempp::config::keys::is_section(section) || leaf.is_empty() || file_or_path {
                continue;
            }
            found += 1;
            if jempp::config::keys::find(&name).is_none() {
                wrong.push(format!("{}: `{name}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 100, "{found}");
}

/// Whether a line shows alternatives or has something left out.
fn is_pattern(line: &str) -> bool {
    let pipe = line.as_bytes().windows(3).any(|w| w[1] == b'|' && w[0] != b' ' && w[2] != b' ');
    pipe || line.contains('…') || line.contains("...")
}
