//! End-to-end tests of `jempp-cli`: what it prints, what it writes, and its exit codes.
//!
//! Invariant: every test works in a temporary folder of its own and does not depend on the current folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod board;
mod convert;
mod eval;
mod faults;
mod fid;
mod folders;
mod gpu;
mod inputs;
mod next;
mod runs;
mod schema;
mod series;
mod signals;
mod terminal;
mod usage;

use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

/// Overrides for a training run of a few milliseconds.
pub const TINY: &[&str] =
    &["train.max_iters=3", "train.batch_size=32", "sampler.buffer_size=100", "sampler.outer_steps=2"];

/// A temporary folder to work in.
pub struct Place {
    dir: TempDir,
    cache: TempDir,
}

/// The outcome of a command.
pub struct Done {
    /// Exit code; −1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Done {
    /// The standard output of a command that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// The standard error of a command that must have failed with exit code `code`.
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }

    /// The standard output, which must be a single line of JSON.
    pub fn json(self) -> Value {
        let out = self.ok();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap()
    }
}

impl Place {
    /// A new, empty folder.
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Folder of the cache of decoded data sets.
    pub fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// Runs `jempp-cli` in the folder.
    pub fn run(&self, args: &[&str]) -> Done {
        self.run_with(&[], args)
    }

    /// Runs `jempp-cli` in the folder with environment variables.
    pub fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jempp-cli"));
        command.current_dir(self.path()).env_remove("JEMPP_SIMD").env_remove("JEMPP_DEBUG").args(args);
        command.env("JEMPP_CACHE_DIR", self.cache()).envs(variables.iter().copied());
        let o = command.output().unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        Done { code: o.status.code().unwrap_or(-1), out: text(o.stdout), err: text(o.stderr) }
    }

    /// Trains a tiny model into the run folder `name`.
    pub fn train(&self, name: &str) {
        self.run(&[&["train", "-q", "--out", name], TINY].concat()).ok();
    }

    /// Sorted names of the files and folders in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
