//! What a run prints to go on with must run from where the user stands.
#![cfg(unix)]

use super::{Place, TINY};
use std::path::Path;
use std::process::Command;

/// The commands below `Next:`.
fn commands(out: &str) -> Vec<String> {
    let (_, next) = out.split_once("Next:\n").unwrap_or_else(|| panic!("{out}"));
    let lines = next.lines().take_while(|l| l.starts_with("  "));
    // What it does stands before two spaces or more.
    lines.map(|l| l.trim_start().split_once("  ").unwrap().1.trim().to_owned()).collect()
}

fn shell(place: &Place, folder: &Path, path: &str, line: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("PATH", path).env("JEMPP_CACHE_DIR", place.cache());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{line}\n{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_printed_commands_run_without_the_program_on_the_path() {
    let place = Place::empty();
    let bare = "/usr/bin:/bin";
    let train = |out: &str, more: &[&str]| {
        let args = [&["train", "-q", "--out", out], TINY, more].concat();
        place.run_with(&[("PATH", bare)], &args).ok()
    };
    let out = train("my run", &["data.valid_size=40"]);
    let all = commands(&out);
    assert_eq!(all.len(), 4, "{out}");
    for line in all.iter().filter(|l| !l.contains("eval all")) {
        assert!(!line.starts_with("jempp-cli ") && line.contains("'my run'"), "{line}");
        shell(&place, place.path(), bare, line);
    }
    let full = all.iter().find(|l| l.contains("eval all")).unwrap();
    shell(&place, place.path(), bare, &format!("{full} -n 30 --attack-n 2"));
    assert!(
        place.path().join("my run/report.html").exists() && place.path().join("samples-001.png").exists()
    );
    // With a time limit, the first is to go on.
    let out = train("short", &["--max-time", "0.001s"]);
    assert!(out.contains("stopped by the time limit"), "{out}");
    let first = &commands(&out)[0];
    assert!(first.contains("train --resume short"), "{first}");
    shell(&place, place.path(), bare, first);
    // `--resume` alone finds a run in `runs` that was stopped by time.
    place.run(&[&["train", "-q", "--max-time", "0.001s"], TINY].concat()).ok();
    let out = place.run(&["train", "-q", "--resume"]).ok();
    assert!(out.contains("trained            3 iterations in"), "{out}");
}

#[test]
fn the_name_alone_is_printed_where_the_path_finds_it() {
    let place = Place::empty();
    let bin = place.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_jempp-cli"), bin.join("jempp-cli")).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let args = [&["train", "-q", "--out", "run"], TINY].concat();
    let out = place.run_with(&[("PATH", &path)], &args).ok();
    let all = commands(&out);
    assert!(all.iter().all(|l| l.starts_with("jempp-cli ")), "{all:?}");
    shell(&place, place.path(), &path, &all[3]);
}
