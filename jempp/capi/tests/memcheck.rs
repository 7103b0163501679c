//! The examples under Valgrind: no invalid access, nothing leaked. It takes minutes, so `cargo test` leaves it out:
//! ```text
//! cargo test --release --test memcheck -- --ignored
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{digits, here, installed, picture, run, tool};
use std::path::Path;
use std::process::Command;

/// Valgrind's memcheck, failing on errors and on leaks; `None` after saying why it is not available. It does not
/// support AVX-512, so the kernels are limited to AVX2. It runs one thread at a time, so the process is pinned to one
/// core if possible: its threads would only wait for one another.
fn memcheck() -> Option<Command> {
    let valgrind = tool("valgrind")?;
    let mut command = match tool("taskset") {
        Some(taskset) => {
            let mut command = Command::new(taskset);
            command.args(["1", &valgrind]);
            command
        }
        None => Command::new(valgrind),
    };
    command.env("JEMPP_SIMD", "avx2").args([
        "--quiet",
        "--error-exitcode=99",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite,indirect,possible",
    ]);
    Some(command)
}

/// Runs a program of this crate's folder under memcheck.
fn check(source: &str, arguments: impl FnOnce(&Path, &mut Command)) {
    let (installed, dir) = (installed(), digits());
    let Some(program) = installed.program(&here().join(source)) else { return };
    let Some(mut memcheck) = memcheck() else { return };
    arguments(dir.path(), memcheck.arg(&program));
    run(&mut memcheck);
}

#[test]
#[ignore = "slow: Valgrind"]
fn classify_leaks_nothing() {
    check("examples/classify.c", |dir, program| {
        program.arg(dir.join("model")).arg(picture(dir));
    });
}

#[test]
#[ignore = "slow: Valgrind"]
fn train_leaks_nothing() {
    check("examples/train.c", |dir, program| {
        program.arg(dir.join("digits.csv")).arg(dir.join("checked")).arg("1");
    });
}

#[test]
#[ignore = "slow: Valgrind"]
fn serve_leaks_nothing() {
    check("examples/serve.cpp", |dir, program| {
        program.arg(dir.join("model")).args(["2", "3"]);
    });
}

#[test]
#[ignore = "slow: Valgrind"]
fn threads_leak_nothing() {
    check("tests/c/threads.c", |dir, program| {
        program.arg(dir.join("model")).args(["2", "8", "1"]);
    });
}
