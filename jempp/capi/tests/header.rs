//! The header compiles on its own and declares exactly the symbols that the library exports. That it is the one generated
//! from the code is tested in `tests/slow`, which needs the generator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Language, here, installed, run, tool};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Compares a committed file with its expected content; `JEMPP_BLESS=1` writes it.
fn committed(name: &str, want: &str) {
    let path = here().join(name);
    if std::env::var_os("JEMPP_BLESS").is_some() {
        fs::write(&path, want).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == want, "{name} differs from the code; update it with JEMPP_BLESS=1 cargo test");
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let text = fs::read_to_string(here().join("include/jempp.h")).unwrap();
    let code = text.split("*/").map(|part| part.split("/*").next().unwrap()).collect::<String>();
    code.match_indices("jempp_")
        .filter_map(|(at, _)| {
            let rest = &code[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
            rest[end..].starts_with('(').then(|| rest[..end].to_owned())
        })
        .collect()
}

#[test]
fn every_function_has_a_comment() {
    let text = fs::read_to_string(here().join("include/jempp.h")).unwrap();
    assert_eq!(declared().len(), 39);
    for name in declared() {
        let at = text.find(&format!("{name}(")).unwrap();
        let before = text[..at].rfind("*/").unwrap();
        // Only the start of the declaration is between the comment and the name.
        assert!(!text[before..at].contains(';'), "{name}");
    }
}

#[test]
fn the_library_exports_what_the_header_declares() {
    let Some(nm) = tool("nm") else { return };
    let installed = installed();
    let list =
        run(Command::new(nm).args(["-D", "--defined-only", "--format=posix"]).arg(installed.library()));
    let exported: BTreeSet<String> =
        list.lines().filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect();
    assert_eq!(exported, declared());
    committed("symbols.txt", &exported.iter().map(|s| format!("{s}\n")).collect::<String>());
}

#[test]
fn the_header_compiles_alone_without_a_warning() {
    for (language, name) in [(Language::C, "alone.c"), (Language::Cpp, "alone.cpp")] {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join(name);
        fs::write(&source, "#include <jempp.h>\n").unwrap();
        let Some(mut compiler) = language.strict() else { return };
        run(compiler.arg("-c").arg(&source).arg("-o").arg(dir.path().join("alone.o")));
    }
}

/// Sizes and offsets on 64-bit machines, asserted by the C compiler.
#[test]
fn structs_have_the_sizes_that_c_sees() {
    if cfg!(not(target_pointer_width = "64")) {
        eprintln!("skipped: the sizes are those of 64-bit machines");
        return;
    }
    for language in [Language::C, Language::Cpp] {
        let Some(mut compiler) = language.strict() else { return };
        let out = tempfile::tempdir().unwrap();
        let source = match language {
            Language::C => here().join("tests/c/layout.c"),
            Language::Cpp => {
                let copy = out.path().join("layout.cpp");
                fs::copy(here().join("tests/c/layout.c"), &copy).unwrap();
                copy
            }
        };
        run(compiler.arg("-c").arg(source).arg("-o").arg(out.path().join("layout.o")));
    }
}

/// The library's soname, size and dependencies.
#[test]
fn the_library_needs_only_the_system_and_is_small() {
    let (Some(readelf), Some(strip)) = (tool("readelf"), tool("strip")) else { return };
    let installed = installed();
    let library = installed.library();
    let dynamic = run(Command::new(readelf).arg("-d").arg(&library));
    let of = |tag: &str| -> BTreeSet<String> {
        let lines = dynamic.lines().filter(|l| l.contains(tag));
        lines.filter_map(|l| Some(l.split_once('[')?.1.trim_end_matches(']').to_owned())).collect()
    };
    assert_eq!(of("(SONAME)"), BTreeSet::from(["libjempp.so.1".to_owned()]));
    for needed in of("(NEEDED)") {
        let system = ["libc.so", "libm.so", "libgcc_s.so", "libpthread.so", "libdl.so", "ld-linux"];
        assert!(system.iter().any(|s| needed.starts_with(s)), "the library needs {needed}");
    }
    let dir = tempfile::tempdir().unwrap();
    let stripped = dir.path().join("libjempp.so");
    run(Command::new(strip).arg("-o").arg(&stripped).arg(&library));
    let bytes = fs::metadata(&stripped).unwrap().len();
    eprintln!("stripped: {:.2} MB; needs {:?}", bytes as f64 / 1e6, of("(NEEDED)"));
    assert!(bytes <= 12_000_000, "{bytes} bytes");
}
