//! Shared by the tests of the C interface: the library laid out as installed, compilers, a model on disk.
#![allow(dead_code)]

use jempp::{Config, Device, Trainer};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// This crate's folder.
pub(crate) fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The path of a program, or `None` after saying that the test is skipped without it. `CC` and `CXX` select other
/// compilers.
pub(crate) fn tool(name: &str) -> Option<String> {
    let variable = match name {
        "cc" => "CC",
        "c++" => "CXX",
        _ => "",
    };
    let name = std::env::var(variable).unwrap_or_else(|_| name.to_owned());
    let quiet = |c: &mut Command| c.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if quiet(Command::new(&name).arg("--version")) {
        return Some(name);
    }
    eprintln!("skipped: there is no `{name}` on this machine");
    None
}

/// Runs a command that must succeed, and returns its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}: {}\n{stdout}{stderr}", out.status);
    stdout.into_owned()
}

/// The languages that can include the header.
#[derive(Clone, Copy)]
pub(crate) enum Language {
    C,
    Cpp,
}

impl Language {
    /// The compiler, with all warnings as errors.
    pub(crate) fn strict(self) -> Option<Command> {
        let (name, standard) = match self {
            Self::C => ("cc", "-std=c99"),
            Self::Cpp => ("c++", "-std=c++11"),
        };
        let mut command = Command::new(tool(name)?);
        command.args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g", "-I"]);
        command.arg(here().join("include"));
        Some(command)
    }
}

/// A folder with the library's files under the names of an installation.
pub(crate) struct Installed(tempfile::TempDir);

/// Lays out the library like an installation.
pub(crate) fn installed() -> Installed {
    let dir = tempfile::tempdir().unwrap();
    // The test runs in target/PROFILE/deps, where cargo has built the library.
    let built = std::env::current_exe().unwrap().parent().unwrap().join("libjempp_capi.so");
    assert!(built.is_file(), "{} is not there", built.display());
    std::os::unix::fs::symlink(&built, dir.path().join("libjempp.so.1")).unwrap();
    std::os::unix::fs::symlink("libjempp.so.1", dir.path().join("libjempp.so")).unwrap();
    Installed(dir)
}

impl Installed {
    /// The shared library.
    pub(crate) fn library(&self) -> PathBuf {
        self.0.path().join("libjempp.so.1")
    }

    /// Compiles and links a program against it.
    pub(crate) fn program(&self, source: &Path) -> Option<PathBuf> {
        let cpp = source.extension() == Some(OsStr::new("cpp"));
        let mut compiler = if cpp { Language::Cpp } else { Language::C }.strict()?;
        let out = self.0.path().join(source.file_stem().unwrap());
        run(compiler
            .arg(source)
            .arg("-L")
            .arg(self.0.path())
            .args(["-ljempp", "-lm", "-lpthread"])
            .arg(format!("-Wl,-rpath,{}", self.0.path().display()))
            .arg("-o")
            .arg(&out));
        Some(out)
    }
}

/// A folder with `digits.csv` and `model/`, a small model of the digits after two training steps.
pub(crate) fn digits() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (set, split) = jempp_data::digits::load().unwrap();
    let small =
        ["sampler.buffer_size=200", "sampler.outer_steps=2", "train.warmup_iters=0"].map(String::from);
    let config = Config::from_sources("digits", None, &small).unwrap();
    let n = config.train.batch_size;
    let (mut images, mut labels) = (vec![0.0; n * 64], vec![0; n]);
    jempp_data::plain_batch(&set, &split.train[..n], &mut images).unwrap();
    let mut narrow = vec![0; n];
    set.labels_of(&split.train[..n], &mut narrow).unwrap();
    labels.iter_mut().zip(&narrow).for_each(|(to, l)| *to = i32::from(*l));
    let csv: String = (0..set.len() as u32)
        .map(|i| {
            let pixels =
                set.image(i).unwrap().iter().map(|u| format!("{},", (u32::from(*u) * 16 + 127) / 255));
            format!("{}{}\n", pixels.collect::<String>(), set.labels()[i as usize])
        })
        .collect();
    fs::write(dir.path().join("digits.csv"), csv).unwrap();
    let mut trainer = Trainer::with_data(&config, &Device::cpu(0), set, split).unwrap();
    let batch = jempp::Batch { x_data: &images, x_labelled: &images, labels: &labels, chain_start: None };
    (0..2).for_each(|_| assert!(trainer.step(&batch).unwrap().loss.is_finite()));
    trainer.save(&dir.path().join("model")).unwrap();
    dir
}

/// A digit as a PGM file.
pub(crate) fn picture(dir: &Path) -> PathBuf {
    let (set, _) = jempp_data::digits::load().unwrap();
    let mut bytes = b"P5\n8 8\n255\n".to_vec();
    bytes.extend(set.image(0).unwrap());
    let path = dir.join("digit.pgm");
    fs::write(&path, bytes).unwrap();
    path
}
