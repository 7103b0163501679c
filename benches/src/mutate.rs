//! Mutated files for every parser of data sets: no panic, and memory bounded by the input.
//!
//! Good files are changed at random: bits, bytes, numbers that lengths are made of, cuts, repeats, splices. Checksums
//! that would end every attempt early (tar's headers, gzip's contents) are made right again in half of the cases. A case
//! is named by parser, seed and number, so that it can be had again.

use crate::{Error, Result};
use engine::rng::{Philox, Stream};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jempp::data::Parser;
use peak_alloc::PeakAlloc;
use std::fs;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Bytes of memory that a parser may take for each byte of input, and in any case.
pub const TIMES: usize = 64;
/// See [`TIMES`].
pub const MORE: usize = 1 << 20;

/// What many mutated files did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Files parsed.
    pub cases: u64,
    /// Files in which nothing wrong was found.
    pub accepted: u64,
    /// Largest share of the memory allowed that one took.
    pub worst: f64,
}

/// Good files for a parser, from the folder `jempp/tests/data`.
///
/// # Errors
/// If they cannot be read.
pub fn seeds(parser: Parser) -> Result<Vec<Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jempp/tests/data");
    let read = |name: &str| {
        let path = root.join(name);
        fs::read(&path).map_err(|e| Error::Data(format!("{}: {e}", path.display())))
    };
    let all = |names: &[&str]| names.iter().map(|n| read(n)).collect::<Result<Vec<_>>>();
    match parser {
        Parser::Pickle => {
            let numpy =
                ["numpy1-0", "numpy1-2", "numpy1-4", "numpy2-3", "numpy2-5", "python2-0", "python2-2"];
            let names: Vec<String> = numpy.iter().map(|n| format!("pickle/{n}.pkl")).collect();
            let mut files = all(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
            files.extend(all(&["pickle/values-0.pkl", "pickle/values-4.pkl", "pickle/cifar-2.pkl"])?);
            Ok(files)
        }
        Parser::Archive => {
            let [train, test] =
                ["train.bin", "test.bin"].map(|n| read(&format!("sets/cifar-100-binary/{n}")));
            let (train, test) = (train?, test?);
            let names = read("sets/cifar-100-binary/fine_label_names.txt")?;
            let files = [
                ("x/train.bin", &train[..3074]),
                ("x/test.bin", &test[..3074]),
                ("x/fine_label_names.txt", &names),
            ];
            let plain = tar_of(&files)?;
            Ok(vec![plain.clone(), gzip(&plain), plain, read("sets/cifar-100-python.tar.gz")?])
        }
        Parser::Idx => all(&["sets/mnist/t10k-images-idx3-ubyte", "sets/mnist/train-images-idx3-ubyte.gz"]),
        Parser::Mat => all(&["svhn-big/test", "svhn-big/train", "svhn/extra"]
            .map(|n| format!("sets/{n}_32x32.mat"))
            .each_ref()
            .map(String::as_str)),
        Parser::Npz => all(&["sets/plain.npz", "sets/keras.npz", "sets/med.npz"]),
    }
}

fn tar_of(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let fail = |e: std::io::Error| Error::Data(e.to_string());
    let mut out = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        out.append_data(&mut header, name, *data).map_err(fail)?;
    }
    out.into_inner().map_err(fail)
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = out.write_all(data);
    out.finish().unwrap_or_default()
}

/// Runs the cases `from..to` of a parser; `alloc` is the program's allocator.
///
/// # Errors
/// [`Error::Data`] naming the first case that panicked or took too much memory.
pub fn run(parser: Parser, seed: u64, cases: core::ops::Range<u32>, alloc: &PeakAlloc) -> Result<Tally> {
    let seeds = seeds(parser)?;
    let mut tally = Tally::default();
    for case in cases {
        let bytes = mutant(&seeds, seed, case);
        let before = alloc.current_usage();
        alloc.reset_peak_usage();
        let name = || format!("{parser:?}, seed {seed}, case {case}");
        let outcome = catch_unwind(AssertUnwindSafe(|| parser.run(&bytes)));
        let outcome = outcome.map_err(|_| Error::Data(format!("{}: the parser panicked", name())))?;
        let took = alloc.peak_usage().saturating_sub(before);
        let allowed = TIMES * bytes.len() + MORE;
        if took > allowed {
            let why = format!("{}: {took} bytes of memory for {} of input", name(), bytes.len());
            return Err(Error::Data(why));
        }
        if let Err(e) = &outcome
            && !matches!(e.exit_code(), 3 | 6)
        {
            return Err(Error::Data(format!("{}: exit code {} for: {e}", name(), e.exit_code())));
        }
        tally.cases += 1;
        tally.accepted += u64::from(outcome.is_ok());
        tally.worst = tally.worst.max(took as f64 / allowed as f64);
    }
    Ok(tally)
}

/// Case `case`: a good file, changed.
pub fn mutant(seeds: &[Vec<u8>], seed: u64, case: u32) -> Vec<u8> {
    let mut rng = Philox::new(seed, Stream::Test, case);
    let pick = |rng: &mut Philox| &seeds[rng.below(seeds.len() as u32) as usize];
    let mut bytes = pick(&mut rng).clone();
    let inside = bytes.starts_with(&[0x1f, 0x8b]) && rng.below(2) == 0;
    if inside {
        let mut plain = Vec::new();
        if GzDecoder::new(&bytes[..]).read_to_end(&mut plain).is_ok() {
            bytes = plain;
        }
    }
    for _ in 0..1 + rng.below(4) {
        let other = pick(&mut rng).clone();
        change(&mut rng, &mut bytes, &other);
    }
    if bytes.get(257..262) == Some(b"ustar") && rng.below(2) == 0 {
        mend_tar(&mut bytes);
    }
    if inside { gzip(&bytes) } else { bytes }
}

/// One change.
fn change(rng: &mut Philox, bytes: &mut Vec<u8>, other: &[u8]) {
    const NUMBERS: [u32; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x0010_0000];
    let n = bytes.len() as u32;
    if n == 0 {
        return bytes.push(0);
    }
    // Half of the places near the front, where the lengths are.
    let near = if rng.below(2) == 0 { n.min(256) } else { n };
    let at = rng.below(near) as usize;
    let run = (1 + rng.below(64) as usize).min(bytes.len() - at);
    match rng.below(10) {
        0 | 1 => bytes[at] ^= 1 << rng.below(8),
        2 | 3 => bytes[at] = rng.below(256) as u8,
        4 | 5 => {
            let number = NUMBERS[rng.below(8) as usize];
            let number = if rng.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
            for (b, v) in bytes[at..].iter_mut().zip(number) {
                *b = v;
            }
        }
        6 => bytes.truncate(at),
        7 => drop(bytes.drain(at..at + run)),
        8 => {
            let piece = bytes[at..at + run].repeat(1 + rng.below(8) as usize);
            bytes.splice(at..at, piece);
        }
        _ => {
            let from = rng.below(other.len().max(1) as u32) as usize;
            let piece: Vec<u8> = other.iter().skip(from).take(run).copied().collect();
            bytes.splice(at..at + run, piece);
        }
    }
}

/// Makes the checksums of a tar archive's headers right, as far as they can be found.
fn mend_tar(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok().and_then(|s| usize::from_str_radix(s, 8).ok());
        let Some(size) = size.filter(|s| *s > 0 && *s < bytes.len()) else { return };
        at += 512 + size.div_ceil(512) * 512;
    }
}
