//! A hundred thousand mutated files for every parser of untrusted files, and decompression bombs. Alone in this
//! program, because memory is counted for the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use benches::mutate::probe::Parser;
use benches::mutate::{allowed, run};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use peak_alloc::PeakAlloc;
use std::io::Write;

#[global_allocator]
static ALLOC: PeakAlloc = PeakAlloc;

/// The result of parsing `bytes`, which must not take more memory than is allowed.
fn bounded(parser: Parser, bytes: &[u8], what: &str) -> jempp::Result<()> {
    let before = ALLOC.current_usage();
    ALLOC.reset_peak_usage();
    let outcome = parser.run(&engine::Device::cpu(1), bytes);
    let took = ALLOC.peak_usage() - before;
    assert!(took <= allowed(parser, bytes.len()), "{what}: {took} bytes for {}", bytes.len());
    outcome
}

/// The message with which `parser` rejects `bytes`, as it must, within the allowed memory.
fn refused(parser: Parser, bytes: &[u8], what: &str) -> String {
    let e = bounded(parser, bytes, what).unwrap_err();
    assert!(matches!(e.exit_code(), 3 | 6), "{what}: {e}");
    e.to_string()
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

/// An `.npz` archive whose `images` are this many zeros.
fn npz_of_zeros(n: usize) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("zeros-{}.npz", std::process::id()));
    let shape = [n / 4 / 64, 8, 8, 1];
    jempp_formats::npz::write(
        &path,
        &[("images", jempp_formats::npz::Array::F32(&shape, &vec![0.0; n / 4]))],
    )
    .unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    bytes
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

/// A PNG of side × side black pixels, with `beside` as a colour profile unless it is empty.
fn black_png(side: u32, channels: u32, beside: &[u8]) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        png.extend((data.len() as u32).to_be_bytes());
        let content = [kind, data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&content);
        png.extend(content);
        png.extend(crc.sum().to_be_bytes());
    };
    let [side_bytes, color] = [side.to_be_bytes(), [8, if channels == 3 { 2 } else { 0 }, 0, 0]];
    chunk(b"IHDR", &[&side_bytes[..], &side_bytes, &color, &[0]].concat());
    if !beside.is_empty() {
        chunk(b"iCCP", &[b"x\0\0", beside].concat());
    }
    chunk(b"IDAT", &zlib(&vec![0; (side * (side * channels + 1)) as usize]));
    chunk(b"IEND", &[]);
    png
}

/// A JPEG whose header claims another size, and other sampling factors of the first component.
fn claiming(jpeg: &[u8], side: u16, samples: Option<u8>) -> Vec<u8> {
    let mut out = jpeg.to_vec();
    let at = jpeg.windows(2).position(|w| w[0] == 0xff && matches!(w[1], 0xc0 | 0xc2)).unwrap();
    out[at + 5..at + 7].copy_from_slice(&side.to_be_bytes());
    out[at + 7..at + 9].copy_from_slice(&side.to_be_bytes());
    out[at + 11] = samples.unwrap_or(jpeg[at + 11]);
    out
}

fn images_that_unpack_to_much_are_refused_or_bounded() {
    let why = refused(Parser::Png, &black_png(4096, 3, &[]), "a black PNG");
    assert!(why.contains("as malicious files do; if it is genuine"), "{why}");
    assert!(bounded(Parser::Png, &black_png(418, 3, &[]), "418×418 of one colour").is_ok());
    refused(Parser::Png, &black_png(500, 3, &[]), "500×500 of one colour");
    let _ = bounded(Parser::Png, &black_png(360, 1, &zlib(&vec![0; 64 << 20])), "a colour profile of zeros");
    for side in [64, 256, 320, 400, 512, 700, 1000, 4096, u16::MAX] {
        for (i, jpeg) in benches::mutate::seeds(Parser::Jpeg).unwrap().iter().enumerate() {
            for samples in [None, Some(0x11), Some(0x44), Some(0x14), Some(0x41)] {
                let what = format!("JPEG {i} of {side}×{side}, {samples:x?}");
                let outcome = bounded(Parser::Jpeg, &claiming(jpeg, side, samples), &what);
                assert!(outcome.is_err() || side < 700, "{what}");
            }
        }
    }
}

#[test]
fn parsers_survive_mutated_files_and_bombs() {
    images_that_unpack_to_much_are_refused_or_bounded();
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
    // One instruction over and over: each kind of object that a pickle can fill memory with.
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
