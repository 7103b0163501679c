//! Mutated files for every parser of untrusted files: no panic, memory bounded by the input, errors of the right kind.
//!
//! Valid files (`seeds.rs`) are changed at random: bits, bytes, integers such as lengths, cuts, repeats, splices.
//! Whatever would end every attempt early (checksums, compression, the lengths of headers) is repaired in half of the
//! cases. A case is identified by parser, seed and number, so that it can be reproduced.

pub mod probe;
mod seeds;

use crate::{Error, Result};
use engine::rng::{Philox, Stream};
use flate2::read::GzDecoder;
use flate2::{Compression, Crc, write::GzEncoder};
use peak_alloc::PeakAlloc;
use probe::Parser;
use std::io::{Cursor, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

pub use seeds::seeds;

/// Bytes of memory that a parser may take per byte of input, on top of [`MORE`].
const TIMES: usize = 64;
/// Bytes of memory that a parser may take for any input, however small.
const MORE: usize = 1 << 20;

/// Totals over many mutated files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Files parsed.
    pub cases: u64,
    /// Files accepted as valid.
    pub accepted: u64,
    /// Largest fraction of the allowed memory that one file took.
    pub worst: f64,
}

/// Bytes of memory that a parser may take for a file of `length` bytes. A WebP file may declare 65,536 groups of prefix codes,
/// for which its decoder reserves some 200 bytes each, whatever the size of image and file; a TIFF file, tags of 1 MiB.
#[must_use]
pub fn allowed(parser: Parser, length: usize) -> usize {
    let constant = match parser {
        Parser::WebP => 16 * MORE,
        Parser::Tiff => 8 * MORE,
        _ => MORE,
    };
    TIMES * length + constant
}

/// Runs the cases `from..to` of a parser; `alloc` is the program's allocator.
///
/// # Errors
/// [`Error::Data`] naming the first case that panicked, took too much memory, or failed with another exit code
/// than 3 or 6 or without the file's name.
pub fn run(parser: Parser, seed: u64, cases: core::ops::Range<u32>, alloc: &PeakAlloc) -> Result<Tally> {
    let seeds = seeds(parser)?;
    let device = engine::Device::cpu(1);
    // Memory that is allocated once for all files counts for none of them.
    let _ = parser.run(&device, &seeds[0]);
    let mut tally = Tally::default();
    for case in cases {
        let bytes = mutant(&seeds, seed, case);
        let before = alloc.current_usage();
        alloc.reset_peak_usage();
        let name = || format!("{parser:?}, seed {seed}, case {case}");
        let outcome = catch_unwind(AssertUnwindSafe(|| parser.run(&device, &bytes)));
        let outcome = outcome.map_err(|_| Error::Data(format!("{}: the parser panicked", name())))?;
        let took = alloc.peak_usage().saturating_sub(before);
        let allowed = allowed(parser, bytes.len());
        if took > allowed {
            let why = format!("{}: {took} bytes of memory for {} of input", name(), bytes.len());
            return Err(Error::Data(why));
        }
        if let Err(e) = &outcome
            // An invalid value of a configuration may come from any source: the message names the key, not the file.
            && !(matches!(e.exit_code(), 3 | 6) && (e.to_string().contains(Parser::FILE) || parser == Parser::Toml))
        {
            let why = format!("{}: exit code {}, or the file not named: {e}", name(), e.exit_code());
            return Err(Error::Data(why));
        }
        tally.cases += 1;
        tally.accepted += u64::from(outcome.is_ok());
        tally.worst = tally.worst.max(took as f64 / allowed as f64);
    }
    Ok(tally)
}

/// Case `case`: a valid file, mutated.
pub fn mutant(seeds: &[Vec<u8>], seed: u64, case: u32) -> Vec<u8> {
    let mut rng = Philox::new(seed, Stream::TEST, case);
    let pick = |rng: &mut Philox| &seeds[rng.below(seeds.len() as u32) as usize];
    let mut bytes = pick(&mut rng).clone();
    let mend = rng.below(2) == 0;
    let mut changed = |bytes: &mut Vec<u8>| {
        for _ in 0..1 + rng.below(4) {
            let other = pick(&mut rng);
            change(&mut rng, bytes, other);
        }
        rng.below(2) == 0
    };
    if mend && let Some(mut plain) = gunzip(&bytes) {
        if changed(&mut plain) {
            mend_tar(&mut plain);
        }
        return gzip(&plain);
    }
    if mend && bytes.starts_with(b"PK") {
        return zip_anew(&bytes, case, &mut changed).unwrap_or(bytes);
    }
    if mend && bytes.get(8) == Some(&b'{') {
        let header = bytes.split_off(8);
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default()) as usize;
        let (mut text, values) = (header[..n].to_vec(), &header[n..]);
        changed(&mut text);
        return [&(text.len() as u64).to_le_bytes()[..], &text, values].concat();
    }
    changed(&mut bytes);
    if mend && bytes.starts_with(b"\x89PNG") {
        mend_png(&mut bytes);
    }
    if mend && bytes.get(257..262) == Some(b"ustar") {
        mend_tar(&mut bytes);
    }
    bytes
}

/// Applies one random change.
fn change(rng: &mut Philox, bytes: &mut Vec<u8>, other: &[u8]) {
    const NUMBERS: [u32; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x0010_0000];
    let n = bytes.len() as u32;
    if n == 0 {
        return bytes.push(0);
    }
    // Two thirds of the positions are near the front or the end, where the lengths are.
    let near = (n >> rng.below(12)).max(n.min(16));
    let at = match rng.below(3) {
        0 => rng.below(near),
        1 => n - 1 - rng.below(near),
        _ => rng.below(n),
    } as usize;
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

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = out.write_all(data);
    out.finish().unwrap_or_default()
}

fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let packed = bytes.starts_with(&[0x1f, 0x8b]);
    (packed && GzDecoder::new(bytes).read_to_end(&mut plain).is_ok()).then_some(plain)
}

/// A zip archive with one of its entries changed: in half of the cases the pickle, if there is one.
fn zip_anew(bytes: &[u8], case: u32, change: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<Vec<u8>> {
    let mut from = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut to = ZipWriter::new(Cursor::new(Vec::new()));
    let pickle = from.file_names().position(|n| n.is_ok_and(|n| n.ends_with(".pkl")));
    let chosen = pickle.filter(|_| case.is_multiple_of(2)).unwrap_or(case as usize / 2 % from.len());
    for i in 0..from.len() {
        let mut entry = from.by_index(i).ok()?;
        let (name, method) = (entry.name().ok()?.into_owned(), entry.compression());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok()?;
        if i == chosen {
            change(&mut content);
        }
        to.start_file(name, SimpleFileOptions::default().compression_method(method)).ok()?;
        to.write_all(&content).ok()?;
    }
    Some(to.finish().ok()?.into_inner())
}

/// Repairs the checksums of a PNG's chunks, as far as they can be found.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = length.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
        let Some(chunk) = bytes.get(at + 4..at + 8 + length) else { return };
        let mut crc = Crc::new();
        crc.update(chunk);
        let Some(place) = bytes.get_mut(at + 8 + length..at + 12 + length) else { return };
        place.copy_from_slice(&crc.sum().to_be_bytes());
        at += 12 + length;
    }
}

/// Repairs the checksums of a tar archive's headers, as far as they can be found.
fn mend_tar(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        if header[257..262] != *b"ustar" {
            return;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok().and_then(|s| usize::from_str_radix(s, 8).ok());
        let Some(size) = size.filter(|s| *s > 0 && *s < bytes.len()) else { return };
        at += 512 + size.div_ceil(512) * 512;
    }
}
