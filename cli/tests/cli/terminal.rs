//! The progress bar on a terminal of several widths, through a pseudo-terminal that `script` of util-linux makes.
#![cfg(unix)]

use super::{Place, TINY};
use std::process::Command;

/// What a run of some iterations writes to a terminal of `columns` columns; `None` if there is no `script` here.
fn on_terminal(place: &Place, columns: usize) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_jempp-cli");
    let out = format!("run{columns}");
    let train =
        [&["train", "--out", &out, "--threads", "1"], TINY, &["train.max_iters=80"]].concat().join(" ");
    let line = format!("stty cols {columns} rows 24; exec {program} {train}");
    let done = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(place.path())
        .env("JEMPP_CACHE_DIR", place.cache())
        .env("TERM", "xterm")
        .output();
    let Ok(done) = done else {
        println!("skipped: there is no `script`");
        return None;
    };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    Some(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The text between carriage returns and line ends, without control sequences.
fn frames(text: &str) -> Vec<String> {
    let (mut plain, mut escape) = (String::new(), false);
    for c in text.chars() {
        match (escape, c) {
            (false, '\u{1b}') => escape = true,
            // A control sequence ends with a letter.
            (true, c) if c.is_ascii_alphabetic() => {
                escape = false;
                plain.push('\n');
            }
            (true, _) => {}
            (false, c) => plain.push(c),
        }
    }
    let lines = plain.split(['\r', '\n']).filter(|l| l.starts_with(['█', '░']));
    lines.map(|l| l.trim_end().to_owned()).collect()
}

/// A frame with numbers as `#`, and without its bar.
fn masked(frame: &str) -> String {
    let text = frame.trim_start_matches(['█', '░']).trim();
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' | '.' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            '+' | '-' => {}
            c => out.push(c),
        }
    }
    out
}

#[test]
fn the_bar_shows_what_counts_at_60_80_and_120_columns() {
    let place = Place::empty();
    let whole = "# %  # s left  acc #  gap #  epoch #  ce #  loss #  # images/s  #/#";
    for (columns, least, most) in [
        (60, "# %  # s left  acc #  gap #", "# %  # s left  acc #  gap #  epoch #"),
        (80, "# %  # s left  acc #  gap #  epoch #", "# %  # s left  acc #  gap #  epoch #  ce #  loss #"),
        (120, "# %  # s left  acc #  gap #  epoch #  ce #  loss #", whole),
    ] {
        let Some(text) = on_terminal(&place, columns) else { return };
        let frames = frames(&text);
        assert!(!frames.is_empty(), "{columns}: {text}");
        for frame in &frames {
            assert!(frame.chars().count() < columns, "{columns}: {frame}");
            let shown = masked(frame);
            assert!(shown.starts_with(least) && most.starts_with(&shown), "{columns}: {shown}\n{frame}");
        }
        println!("{columns}: {}", frames[frames.len() / 2]);
    }
}
