//! A hundred thousand mutated files for the parsers of data sets, and bombs. Alone in this program, since memory is
//! counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use benches::mutate::{MORE, TIMES, run};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use jempp::data::Parser;
use peak_alloc::PeakAlloc;
use std::io::Write;

#[global_allocator]
static ALLOC: PeakAlloc = PeakAlloc;

/// What `parser` takes for `bytes`, as a share of what is allowed; it must refuse them.
fn refused(parser: Parser, bytes: &[u8], what: &str) {
    let before = ALLOC.current_usage();
    ALLOC.reset_peak_usage();
    let e = parser.run(bytes).unwrap_err();
    let took = ALLOC.peak_usage() - before;
    assert!(took <= TIMES * bytes.len() + MORE, "{what}: {took} bytes for {}", bytes.len());
    assert!(matches!(e.exit_code(), 3 | 6), "{what}: {e}");
}

/// A gzipped tar archive of one member.
fn gz_tar(name: &str, data: &[u8]) -> Vec<u8> {
    let gz = GzEncoder::new(Vec::new(), Compression::best());
    let mut out = tar::Builder::new(gz);
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    out.append_data(&mut header, name, data).unwrap();
    out.into_inner().unwrap().finish().unwrap()
}

/// An `.npz` whose `images` are so many zeros.
fn npz_of_zeros(n: usize) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("zeros-{}.npz", std::process::id()));
    let shape = [n / 4 / 64, 8, 8, 1];
    jempp::npz::write(&path, &[("images", jempp::npz::Array::F32(&shape, &vec![0.0; n / 4]))]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    bytes
}

#[test]
fn parsers_survive_mutated_files_and_bombs() {
    for parser in Parser::ALL {
        let tally = run(parser, 7, 0..100_000, &ALLOC).unwrap();
        // Some must get through, or the mutations are too coarse to reach the inner parts; most must not.
        let share = tally.accepted as f64 / tally.cases as f64;
        assert!(share > 0.001 && share < 0.8, "{parser:?}: {share}");
    }
    let zeros = vec![0; 64 << 20];
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    gz.write_all(b"\0\0\x08\x03\x00\x10\x00\x00\0\0\0\x08\0\0\0\x08").unwrap();
    gz.write_all(&zeros).unwrap();
    refused(Parser::Idx, &gz.finish().unwrap(), "zeros in gzip");
    refused(Parser::Idx, b"\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01", "a huge shape");
    let mut mat = b"MATLAB 5.0".to_vec();
    mat.resize(124, b' ');
    mat.extend(b"\x00\x01IM");
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&14u32.to_le_bytes()).unwrap();
    packed.write_all(&(64u32 << 20).to_le_bytes()).unwrap();
    packed.write_all(&zeros).unwrap();
    let packed = packed.finish().unwrap();
    mat.extend(15u32.to_le_bytes().into_iter().chain((packed.len() as u32).to_le_bytes()));
    mat.extend(&packed);
    refused(Parser::Mat, &mat, "zeros in zlib");
    refused(Parser::Npz, &npz_of_zeros(zeros.len()), "zeros in a NumPy archive");
    let pickle = vec![b']'; 1 << 22];
    refused(Parser::Archive, &gz_tar("data_batch_1", &pickle), "lists in gzip");
    // One instruction again and again: each kind of thing that a pickle can fill memory with.
    for unit in [
        &b"]"[..],
        b"(",
        b")",
        b"N",
        b"]\x94",
        b")\x85",
        b"N\x94",
        b"]Na",
        b"S''\n",
        b"Np9\n",
        b"cm\n\n)R",
        b"}",
        b"V\n",
    ] {
        let bytes: Vec<u8> = unit.iter().copied().cycle().take(1 << 20).collect();
        refused(Parser::Pickle, &bytes, &unit.escape_ascii().to_string());
    }
}
