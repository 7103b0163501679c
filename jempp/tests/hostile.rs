//! Files that claim more than they hold: read or refused, within 64 times their size and a MiB of memory.
//!
//! Invariant: this is a program of its own with one test, so that its memory is what the reader takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use jempp::engine::Device;
use jempp::model::Model;
use jempp::model::source::ModelSource;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const FACTOR: u64 = 64;
const SPARE: u64 = 1 << 20;

/// The most memory that this process has held, in bytes, since [`forget`]; none where the system does not say.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Makes what is held now the most.
fn forget() -> Option<()> {
    fs::write("/proc/self/clear_refs", "5").ok()
}

fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut to = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        to.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        to.write_all(content).unwrap();
    }
    to.finish().unwrap().into_inner()
}

fn stored(pickle: &[u8]) -> Vec<u8> {
    archive(&[("a/data.pkl", pickle)], CompressionMethod::Stored)
}

fn safetensors(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

/// A tensor of `numel` values by `shape` and `strides`, as the value of `name`.
fn tensor(name: &str, shape: &[i32], strides: &[i32], numel: i32) -> Vec<u8> {
    let int = |i: &i32| [&b"J"[..], &i.to_le_bytes()].concat();
    let tuple = |v: &[i32]| [&b"("[..], &v.iter().flat_map(int).collect::<Vec<_>>(), b"t"].concat();
    let text = |s: &str| [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
    let storage = [
        &b"("[..],
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        &int(&numel),
        b"tQ",
    ];
    let rest = [int(&0), tuple(shape), tuple(strides), b"\x89NtR".to_vec()].concat();
    [text(name), b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(), storage.concat(), rest].concat()
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let architecture = |depth: usize, width: usize| {
        format!(
            r#"{{\"depth\":{depth},\"widen_factor\":{width},\"image_size\":[32,32,3],\"classes\":10,\"bn_momentum\":0.1,\"leak\":0.2}}"#
        )
    };
    let claims = |depth, width| {
        let a = architecture(depth, width);
        safetensors(&format!(r#"{{"__metadata__":{{"format":"jempp-model-1","architecture":"{a}"}}}}"#))
    };
    let huge = |shape: &[i32], strides: &[i32]| {
        let dict = [
            b"}(".to_vec(),
            tensor("f.conv1.weight", shape, strides, 4),
            tensor("f.layer1.0.conv1.weight", &[16, 16, 3, 3], &[0, 0, 0, 0], 4),
            tensor("class_output.weight", &[10, 4096], &[0, 0], 4),
            b"u.".to_vec(),
        ]
        .concat();
        archive(&[("a/data.pkl", &dict), ("a/data/0", &[0; 16])], CompressionMethod::Stored)
    };
    let names: Vec<String> = (0..20_000).map(|i| format!("a/{i}")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
    // Each of 30 lists holds the one before twice: a tree of 2³⁰ leaves.
    let mut laughs = b"(lq\x00".to_vec();
    (0..30).for_each(|_| laughs.extend(b"0(h\x00h\x00lq\x00"));
    laughs.push(b'.');
    let legacy = {
        let mut f = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
        f.extend(b"}X\x0d\0\0\0little_endian\x88s.");
        f.extend([b"}".to_vec(), tensor("a", &[i32::MAX], &[1], i32::MAX), b"s.".to_vec()].concat());
        f.extend(b"](X\x01\0\0\x000e.");
        f.extend(i64::from(i32::MAX).to_le_bytes());
        f
    };
    vec![
        ("a network of gigabytes claimed by safetensors", claims(28, 64)),
        ("layers without end claimed by safetensors", claims(1000, 64)),
        ("an architecture that cannot be", claims(usize::MAX, usize::MAX)),
        ("a header of 2⁶⁰ bytes", [&(1u64 << 60).to_le_bytes()[..], b"{}"].concat()),
        ("a tensor of 2³⁰ values by stride 0", huge(&[1 << 15, 1 << 15, 1, 1], &[0, 0, 0, 0])),
        ("a tensor of 2⁹³ values", huge(&[i32::MAX, i32::MAX, i32::MAX, 1], &[1, 1, 1, 1])),
        ("a head of a wide network by stride 0", huge(&[2, 2, 1, 1], &[2, 1, 1, 1])),
        ("an archive of 20,000 empty entries", archive(&entries, CompressionMethod::Stored)),
        ("a zip bomb", archive(&[("a/data.pkl", &vec![b'('; 1 << 24])], CompressionMethod::Deflated)),
        ("a pickle that unfolds to 2³⁰ leaves", stored(&laughs)),
        ("a pickle of marks", stored(&vec![b'('; 1 << 20])),
        ("a pickle of empty dicts", stored(&vec![b'}'; 1 << 20])),
        (
            "a pickle that nests lists",
            stored(&[vec![b']'; 1 << 18], vec![b'a'; (1 << 18) - 1], vec![b'.']].concat()),
        ),
        ("an old file of a storage of 8 GiB", legacy),
    ]
}

#[test]
fn memory_is_bounded_by_the_file() {
    if forget().is_none() || peak().is_none() {
        println!("skipped: this system does not say how much memory was held");
        return;
    }
    let device = Device::cpu(1);
    for (what, bytes) in cases() {
        forget();
        let before = peak().unwrap();
        let length = bytes.len();
        let e = ModelSource::from_bytes(bytes, Path::new("x"))
            .and_then(ModelSource::into_container)
            .and_then(|c| Model::from_container(&device, &c))
            .unwrap_err();
        let took = peak().unwrap() - before;
        let bound = FACTOR * length as u64 + SPARE;
        println!("{what}: {length} bytes, {took} taken, {bound} allowed: {e}");
        assert!(took <= bound, "{what}: {took} bytes taken for a file of {length}");
        assert_eq!(e.exit_code(), 6, "{what}: {e}");
        assert!(e.to_string().starts_with("x: "), "{what}: {e}");
    }
}
