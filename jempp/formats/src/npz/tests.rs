//! Whole archives: written arrays are read back, and damaged files are refused.

use super::*;
use crate::pixels::value;
use std::io::Write;

/// A stored (uncompressed) zip of one member, built by hand; `claimed` is the size that its headers state.
fn zip(name: &str, body: &[u8], claimed: Option<u32>) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(body);
    let size = claimed.unwrap_or(body.len() as u32).to_le_bytes();
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    common.extend(crc.sum().to_le_bytes());
    common.extend(size);
    common.extend(size);
    common.extend((name.len() as u16).to_le_bytes());
    common.extend([0, 0]);
    let mut out = Vec::new();
    out.extend(b"PK\x03\x04");
    out.extend(&common);
    out.extend(name.bytes());
    out.extend(body);
    let start = out.len() as u32;
    out.extend(b"PK\x01\x02\x14\x00");
    out.extend(&common);
    out.extend([0; 14]);
    out.extend(name.bytes());
    let length = out.len() as u32 - start;
    out.extend(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    out.extend(length.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.bytes());
    out.extend(data);
    out
}

fn read_bytes(bytes: &[u8]) -> Result<Images> {
    let mut file = tempfile::Builder::new().suffix("in.npz").tempfile().unwrap();
    file.write_all(bytes).unwrap();
    read_images(file.path(), None)
}

fn images(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Result<Images> {
    read_bytes(&zip("images.npy", &npy(descr, fortran, shape, data), None))
}

fn refusal(r: Result<Images>) -> (u8, String) {
    let e = r.unwrap_err();
    (e.exit_code(), e.to_string())
}

#[test]
fn round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    let values: Vec<f32> = (0..2 * 3 * 4).map(|i| i as f32 / 24.0 - 0.5).collect();
    let arrays = [
        ("images", Array::F32(&[2, 3, 4, 1], &values)),
        ("labels", Array::I64(&[2], &[-1, i64::MAX])),
        ("logits", Array::F32(&[2, 1], &[f32::NAN, f32::INFINITY])),
        ("empty", Array::I64(&[0, 3], &[])),
    ];
    write(&path, &arrays).unwrap();
    let got = read_images(&path, None).unwrap();
    assert_eq!(got, Images { values, size: [3, 4, 1], warning: None });
    assert_eq!(got.count(), 2);
    let mut npz = Npz::open(&path).unwrap();
    assert_eq!(npz.names(), ["empty", "images", "labels", "logits"]);
    let (shape, logits) = npz.f32("logits").unwrap();
    assert!(shape == [2, 1] && logits[0].is_nan() && logits[1] == f32::INFINITY);
    assert_eq!(npz.i64("empty").unwrap(), (vec![0, 3], vec![]));
    assert!(npz.i64("logits").unwrap_err().to_string().contains("its type is <f4, but must be integers"));
    let text = npz.f32("scores").unwrap_err().to_string();
    assert!(
        text.ends_with("a.npz: no member `scores`; it contains `empty`, `images`, `labels`, `logits`"),
        "{text}"
    );
    assert!(write(&path, &[("a", Array::I64(&[2], &[1]))]).is_err());
    assert!(write(&path, &[("a", Array::I64(&[0], &[])), ("a", Array::I64(&[0], &[]))]).is_err());
}

#[test]
fn types_and_orders() {
    let bytes = images("|u1", false, "(1, 1, 2, 2)", &[0, 255, 128, 1]).unwrap();
    assert_eq!(bytes.values, [0u8, 255, 128, 1].map(value));
    let be: Vec<u8> = [0.25f32, -1.0].iter().flat_map(|v| v.to_be_bytes()).collect();
    assert_eq!(images(">f4", false, "(1, 1, 2, 1)", &be).unwrap().values, [0.25, -1.0]);
    let double: Vec<u8> = [0.25f64, -1.0005].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(images("<f8", false, "(2, 1, 1, 1)", &double).unwrap().values, [0.25, -1.0005]);
    // In Fortran order the image index varies fastest.
    let f = images("|u1", true, "(2, 1, 3, 1)", &[1, 2, 3, 4, 5, 6]).unwrap();
    assert_eq!(f.values, [1u8, 3, 5, 2, 4, 6].map(value));
}

/// What people have beside `images`: labels of any kind, arrays of other programs and single arrays, grey images, halves.
#[test]
fn arrays_of_other_programs_are_read() {
    let strings: Vec<u8> = "catdog".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let put = |file: &mut tempfile::NamedTempFile, bytes: &[u8]| std::fs::write(file.path(), bytes).unwrap();
    for name in ["images", "arr_0", "x_test", "train_images", "samples"] {
        put(&mut file, &zip(&format!("{name}.npy"), &npy("|u1", false, "(2, 1, 2)", &[1, 2, 3, 4]), None));
        let got = read_images(file.path(), None).unwrap();
        assert_eq!((got.size, got.values), ([1, 2, 1], [1u8, 2, 3, 4].map(value).to_vec()), "{name}");
    }
    put(&mut file, &npy("<f2", false, "(1, 1, 2, 1)", &[0, 0x38, 0, 0xbc]));
    assert_eq!(read_images(file.path(), None).unwrap().values, [0.5, -1.0]);
    let mut single = Npz::open(file.path()).unwrap();
    assert_eq!(
        (single.names(), single.has("arr_0"), single.has("images")),
        (vec!["arr_0".into()], true, false)
    );
    assert_eq!(single.f64("arr_0").unwrap(), (vec![1, 1, 2, 1], vec![0.5, -1.0]));
    put(&mut file, &npy("<U3", false, "(2,)", &strings));
    let mut texts = Npz::open(file.path()).unwrap();
    assert_eq!(texts.describe("arr_0").unwrap().element, Element::Text);
    assert_eq!(texts.texts("arr_0").unwrap(), (vec![2], vec!["cat".into(), "dog".into()]));
    assert!(texts.i64("arr_0").unwrap_err().to_string().contains("its type is <U3, but must be integers"));
    put(&mut file, &npy("|S2", false, "(2, 1)", b"a\0bc"));
    assert_eq!(Npz::open(file.path()).unwrap().texts("arr_0").unwrap().1, ["a", "bc"]);
    put(&mut file, &npy("|b1", false, "(3,)", &[0, 1, 1]));
    assert_eq!(Npz::open(file.path()).unwrap().i64("arr_0").unwrap().1, [0, 1, 1]);
}

/// Floats from 0 to 1 where −1 to 1 is meant are warned of; a range that is said is taken.
#[test]
fn ranges_of_floats() {
    let f = |v: &[f32]| {
        npy("<f4", false, "(1, 1, 3, 1)", &v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let read = |v: &[f32], range| {
        std::fs::write(file.path(), f(v)).unwrap();
        read_images(file.path(), range)
    };
    let signed = read(&[-1.0, 0.0, 1.0], None).unwrap();
    assert_eq!((signed.values, signed.warning), (vec![-1.0, 0.0, 1.0], None));
    let unit = read(&[0.0, 0.5, 1.0], None).unwrap();
    assert!(unit.values == [0.0, 0.5, 1.0] && unit.warning.unwrap().contains("--range 0,1"));
    let said = read(&[0.0, 0.5, 1.0], Some(Float::Unit)).unwrap();
    assert_eq!((said.values, said.warning), (vec![-1.0, 0.0, 1.0], None));
    assert_eq!(read(&[0.0, 127.5, 255.0], Some(Float::Byte)).unwrap().values, [-1.0, 0.0, 1.0]);
    assert!(read(&[0.0, 0.5, 1.0], Some(Float::Signed)).unwrap().warning.is_none());
    assert!(read(&[0.0, -0.5, 1.0], Some(Float::Unit)).unwrap_err().to_string().contains("lie in [0, 1]"));
}

#[test]
fn every_integer_type_is_read() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let cases: [(&str, &[u8], i64); 9] = [
        ("|i1", &[0xfe], -2),
        ("|u1", &[0xfe], 254),
        ("<i2", &[0xfe, 0xff], -2),
        (">u2", &[1, 2], 258),
        ("<i4", &[0xfe, 0xff, 0xff, 0xff], -2),
        ("<u4", &[0xfe, 0xff, 0xff, 0xff], 4_294_967_294),
        (">i4", &[0, 0, 1, 0], 256),
        ("<i8", &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -2),
        ("<u8", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], i64::MAX),
    ];
    for (descr, data, want) in cases {
        file.as_file_mut().set_len(0).unwrap();
        std::fs::write(file.path(), zip("l.npy", &npy(descr, false, "(1,)", data), None)).unwrap();
        assert_eq!(Npz::open(file.path()).unwrap().i64("l").unwrap().1, [want], "{descr}");
    }
    std::fs::write(file.path(), zip("l.npy", &npy("<u8", false, "(1,)", &[0xff; 8]), None)).unwrap();
    assert!(Npz::open(file.path()).unwrap().i64("l").unwrap_err().to_string().contains("above 2^63 - 1"));
}

#[test]
fn bad_values_are_named() {
    let f = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (code, text) = refusal(images("<f4", false, "(2, 1, 2, 1)", &f(&[0.0, 1.0005, 0.0, f32::NAN])));
    assert!(
        code == 3 && text.contains("in.npz: member `images`: the value at [1, 0, 1, 0] is NaN"),
        "{text}"
    );
    let (_, text) = refusal(images("<f4", false, "(1, 1, 2, 2)", &f(&[0.0, 0.0, 255.0, 0.0])));
    assert!(text.contains("the value at [0, 0, 1, 0] is 255; floats must lie in [-1, 1]"), "{text}");
    assert!(refusal(images("<f4", false, "(4, 1)", &f(&[0.0; 4]))).1.contains("must be N×H×W×C"));
    assert!(refusal(images("<f4", false, "(0, 1, 1, 1)", &[])).1.contains("contains no image"));
    assert!(
        refusal(images("<i4", false, "(1, 1, 1, 1)", &[0; 4]))
            .1
            .contains("must be float16, float32, float64 or uint8")
    );
}

#[test]
fn sizes_that_lie_are_refused() {
    for (shape, part) in [
        ("(1000000000000, 1, 1, 1)", "takes 4000000000000 bytes, but there are 4"),
        ("(4294967296, 4294967296, 1, 1)", "too large"),
        ("(2, 1, 1, 1)", "takes 8 bytes, but there are 4"),
        ("(0, 1, 1, 1)", "takes 0 bytes, but there are 4"),
    ] {
        let (code, text) = refusal(images("<f4", false, shape, &[0; 4]));
        assert!(code == 6 && text.contains(part), "{text}");
    }
    // The archive itself claims 4 GB.
    let body = npy("|u1", false, "(4000000000, 1, 1, 1)", &[0; 4]);
    let claim = (body.len() - 4) as u32 + 4_000_000_000;
    let (code, text) = refusal(read_bytes(&zip("images.npy", &body, Some(claim))));
    assert!(code == 3 && text.contains("data.unpack_limit=3815"), "{text}");
    assert_eq!(refusal(read_bytes(b"no archive")).0, 6);
    assert!(refusal(read_bytes(b"<html>")).1.contains("but a web page (HTML)"));
    assert_eq!(refusal(read_images(Path::new("/no/such.npz"), None)).0, 3);
    assert!(refusal(read_bytes(&zip("a.txt", b"x", None))).1.contains("it contains nothing"));
}

#[test]
fn damage_anywhere_is_an_error_or_harmless_never_a_panic() {
    let good = zip("images.npy", &npy("|u1", false, "(2, 2, 2, 1)", &[9; 8]), None);
    let dir = tempfile::tempdir().unwrap();
    let packed = dir.path().join("a.npz");
    write(&packed, &[("images", Array::F32(&[2, 4, 4, 1], &[0.5; 32]))]).unwrap();
    for bytes in [good, std::fs::read(packed).unwrap()] {
        let whole = read_bytes(&bytes).unwrap();
        for i in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut b = bytes.clone();
                b[i] ^= flip;
                // Harmless damage, such as to a date, does not change what is read.
                if let Ok(got) = read_bytes(&b) {
                    assert_eq!(got.values, whole.values, "byte {i}");
                }
            }
            assert!(read_bytes(&bytes[..i]).is_err(), "cut at {i}");
        }
    }
}
