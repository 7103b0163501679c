//! Safetensors files: agreement with the `safetensors` crate, and hostile files.

use super::*;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::fs;

/// Tensors of every type.
fn content(tag: u64) -> (Container, Container) {
    let weights = (0..54).map(|i| (i as f32).sin() * tag as f32).collect();
    let mut model = Container::new([
        Tensor::f32("conv1.weight", [2, 3, 3, 3], weights),
        Tensor::i64("bn1.num_batches_tracked", [], vec![tag as i64]),
    ]);
    model.meta.insert("arch".into(), "wrn".into());
    let more = Container::new([
        Tensor::u8("buffer", [2, 3, 4, 4], (0..96).map(|i| (i * tag) as u8).collect()),
        Tensor::i32("order", [4], vec![3, 1, tag as i32, 0]),
    ]);
    (model, more)
}

/// A file with this header and this number of bytes of values.
fn file(header: &str, values: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.bytes());
    out.extend((0..values).map(|i| i as u8));
    out
}

fn read(bytes: &[u8]) -> Result<Container> {
    Container::from_bytes(bytes, Path::new("x.safetensors"))
}

/// Why a file is refused.
fn refused(bytes: &[u8]) -> String {
    let e = read(bytes).unwrap_err();
    assert_eq!(e.exit_code(), 6, "{e}");
    e.to_string().strip_prefix("x.safetensors: ").expect("the file's name").to_string()
}

#[test]
fn files_are_those_of_the_crate() {
    let f: Vec<u8> = [1.5f32, f32::NAN, -0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let i: Vec<u8> = [-7i64].iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = |d, s: &[usize], b| TensorView::new(d, s.to_vec(), b).unwrap();
    let theirs = [
        ("b.weight", view(Dtype::F32, &[3, 1], &f)),
        ("a\"é", view(Dtype::F32, &[1, 3], &f)),
        ("zero", view(Dtype::F32, &[0, 9], &[])),
        ("steps", view(Dtype::I64, &[], &i)),
        ("labels", view(Dtype::I32, &[2], &i)),
        ("bytes", view(Dtype::U8, &[8], &i)),
    ];
    let meta = HashMap::from([("arch".to_string(), "wrn \u{1} \"10\"".to_string())]);
    let theirs = serialize(theirs, Some(meta)).unwrap();
    let container = read(&theirs).unwrap();
    assert_eq!(container.to_bytes().unwrap(), theirs);
    assert!(container.f32("a\"é", &[1, 3]).unwrap()[1].is_nan());
    assert_eq!(container.i32("labels", &[2]).unwrap(), [-7, -1]);
    assert_eq!(container.text("arch").unwrap(), "wrn \u{1} \"10\"");

    assert_eq!(
        Container::default().to_bytes().unwrap(),
        serialize::<&str, TensorView<'_>, _>([], None).unwrap()
    );
}

#[test]
fn the_order_of_tensors_and_words_does_not_show() {
    let mut a = Container::new(content(3).1.tensors);
    let mut b = Container::new(a.tensors.iter().rev().cloned().collect::<Vec<_>>());
    for i in 0..20 {
        a.meta.insert(format!("k{i}"), i.to_string());
        b.meta.insert(format!("k{}", 19 - i), (19 - i).to_string());
    }
    assert_eq!(a.to_bytes().unwrap(), b.to_bytes().unwrap());
    assert_eq!(read(&a.to_bytes().unwrap()).unwrap(), b);
}

#[test]
fn values_longer_than_a_chunk_come_back() {
    let n = 50_001;
    let c = Container::new([
        Tensor::f32("f", [n], (0..n).map(|i| i as f32 * 0.3).collect()),
        Tensor::i64("i", [n], (0..n as i64).map(|i| i << 33).collect()),
        Tensor::u8("u", [3, n], (0..3 * n).map(|i| i as u8).collect()),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    c.write(&path).unwrap();
    assert_eq!(Container::read(&path).unwrap(), c);
    assert!(SafeTensors::deserialize(&fs::read(&path).unwrap()).is_ok());
    assert_eq!(Container::read(dir.path()).unwrap_err().exit_code(), 6);
    assert_eq!(Container::read(&dir.path().join("b")).unwrap_err().exit_code(), 7);
}

#[test]
fn the_published_fixtures_are_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/wrn10_1_m1.safetensors");
    let c = Container::read(&path).unwrap();
    assert!(c.tensors.len() > 10 && c.check_finite().is_ok());
    assert_eq!(Container::from_bytes(&c.to_bytes().unwrap(), &path).unwrap(), c);
}

#[test]
fn hostile_headers_are_refused_with_the_reason() {
    let t = |name: &str, dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let head = |parts: &[String]| format!("{{{}}}", parts.join(","));
    let one = |dtype: &str, shape: &str, from, to| head(&[t("a", dtype, shape, from, to)]);
    for (header, values, why) in [
        ("[]".to_string(), 0, "does not start with `{`"),
        ("{".to_string(), 0, "its header cannot be parsed"),
        (r#"{"a":1}"#.to_string(), 0, "its header cannot be parsed"),
        (r#"{"__metadata__":{"a":1}}"#.to_string(), 0, "its header cannot be parsed"),
        (r#"{"__metadata__":{"a":"1","a":"2"}}"#.to_string(), 0, "metadata `a` occurs twice"),
        ("{}x".to_string(), 0, "its header cannot be parsed"),
        ("{}".to_string(), 4, "its tensors have 0 bytes, but there are 4"),
        (one("F32", "[2]", 0, 8), 7, "tensor `a` ends at byte 8 of 7"),
        (one("F32", "[2]", 0, 8), 9, "its tensors have 8 bytes, but there are 9"),
        (one("F32", "[3]", 0, 8), 8, "tensor `a` of 8 bytes cannot be F32 [3]"),
        (one("F32", "[2]", 4, 12), 12, "bytes 0 to 4 of the values, before `a`, belong to no tensor"),
        (one("F32", "[2]", 8, 0), 8, "bytes 0 to 8 of the values, before `a`, belong to no tensor"),
        (one("U8", "[18446744073709551615,2]", 0, 8), 8, "tensor `a` of 8 bytes cannot be U8"),
        (one("U8", "[18446744073709551615]", 0, u64::MAX), 8, "ends at byte 18446744073709551615 of 8"),
        (one("U8", "[99999999999999999999]", 0, 8), 8, "its header cannot be parsed"),
        (one("U8", "[-1]", 0, 8), 8, "its header cannot be parsed"),
        (
            one("U16", "[4]", 0, 8),
            8,
            "tensor `a` is of type U16; supported are floats of 16 to 64 bits, int32, int64 and uint8",
        ),
        (one("F99", "[4]", 0, 8), 8, "its header cannot be parsed: unknown variant `F99`"),
        (head(&[t("a", "U8", "[4]", 0, 4), t("a", "U8", "[4]", 4, 8)]), 8, "`a` occurs twice"),
        (head(&[t("a", "U8", "[0]", 0, 0), t("a", "U8", "[8]", 0, 8)]), 8, "`a` occurs twice"),
        (
            head(&[t("a", "U8", "[4]", 0, 4), t("b", "U8", "[5]", 3, 8)]),
            8,
            "tensors `a` and `b` overlap at byte 3",
        ),
        (
            head(&[t("a", "U8", "[8]", 0, 8), t("b", "U8", "[8]", 0, 8)]),
            8,
            "tensors `a` and `b` overlap at byte 0",
        ),
        (
            head(&[t("a", "U8", "[3]", 0, 3), t("b", "U8", "[4]", 4, 8)]),
            8,
            "bytes 3 to 4 of the values, before `b`",
        ),
        (head(&[t("\\u001b[31m", "U8", "[9]", 0, 8)]), 8, "tensor `\\u{1b}[31m` of 8 bytes cannot be"),
    ] {
        let said = refused(&file(&header, values));
        assert!(said.contains(why), "{header}: {said}");
    }
}

#[test]
fn headers_of_a_wrong_length_are_refused() {
    assert!(refused(&[]).contains("only 0 bytes"));
    assert!(refused(&[1; 7]).contains("only 7 bytes"));
    for size in [9, 1 << 32, u64::MAX, u64::MAX - 7] {
        let said = refused(&[&u64::to_le_bytes(size)[..], b"{}      "].concat());
        assert!(said.contains(&format!("its header of {size} bytes is longer than the 8")), "{said}");
    }
    let deep = format!("{}{}", r#"{"a":"#, "[".repeat(100_000));
    assert!(refused(&file(&deep, 0)).len() < 300);
    let long = format!(r#"{{"a":{{"dtype":"{}","shape":[],"data_offsets":[0,0]}}}}"#, "F".repeat(1 << 20));
    assert!(refused(&file(&long, 0)).len() < 300);
}

/// The replacement of one byte of a valid file: small changes reach further into the reader than random bytes.
fn mutated(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    const LIKELY: &[u8] = b"0123456789-[]{},:\" \\eE.";
    for (at, to) in changes {
        let at = at % bytes.len();
        match to % 4 {
            0 => bytes[at] = *to,
            1 => bytes[at] = LIKELY[*to as usize % LIKELY.len()],
            2 => bytes.insert(at, LIKELY[*to as usize % LIKELY.len()]),
            _ => drop(bytes.remove(at)),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn no_single_changed_byte_of_a_header_panics() {
    let good = content(3).0.to_bytes().unwrap();
    for i in 0..good.len().min(260) {
        for to in 0..=255 {
            let mut bytes = good.clone();
            bytes[i] = to;
            agrees_with_the_crate(&bytes);
        }
    }
}

/// Files that this reader accepts, the crate accepts too.
fn agrees_with_the_crate(bytes: &[u8]) {
    if let Ok(c) = read(bytes) {
        assert_eq!(SafeTensors::deserialize(bytes).unwrap().len(), c.tensors.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agrees_with_the_crate(&bytes);
        agrees_with_the_crate(&[&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat());
    }

    #[test]
    fn no_mutation_panics(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6), fix: bool) {
        let mut bytes = mutated(content(3).1.to_bytes().unwrap(), &changes);
        if fix && bytes.len() > 136 {
            // Keeps the header's length right, so that the rest of the header is parsed.
            let values = 96 + 16;
            let size = (bytes.len() - values - 8) as u64;
            bytes[..8].copy_from_slice(&size.to_le_bytes());
        }
        agrees_with_the_crate(&bytes);
    }

    #[test]
    fn what_is_written_is_read(
        tensors in prop::collection::btree_map("[a-z.\"\\\\é]{1,6}", (0usize..5, 0usize..5, 0u8..4), 0..6),
        meta in prop::collection::btree_map(".{0,5}", ".{0,8}", 0..5),
    ) {
        let mut c = Container::new(tensors.into_iter().map(|(name, (a, b, kind))| {
            let n = a * b;
            let data = match kind {
                0 => TensorData::F32((0..n).map(|i| i as f32 - 2.5).collect()),
                1 => TensorData::I32((0..n as i32).map(|i| i - 9).collect()),
                2 => TensorData::U8(vec![200; n]),
                _ => TensorData::I64(vec![i64::MIN; n]),
            };
            Tensor::new(name, [a, b], data)
        }).collect::<Vec<_>>());
        c.meta = meta;
        let bytes = c.to_bytes().unwrap();
        let back = read(&bytes).unwrap();
        prop_assert_eq!(&back, &c);
        prop_assert_eq!(back.to_bytes().unwrap(), bytes.clone());
        prop_assert!(SafeTensors::deserialize(&bytes).is_ok());
    }
}

fn sample() -> Container {
    Container::new([
        Tensor::f32("conv1.weight", [2, 1, 1, 2], vec![1.0, -2.0, 3.5, 0.0]),
        Tensor::i64("steps", [], vec![7]),
        Tensor::u8("bytes", [3], vec![0, 1, 255]),
        Tensor::i32("labels", [2], vec![-1, 9]),
    ])
    .with_source(Path::new("run/model.safetensors"))
}

#[test]
fn lookups_name_file_tensor_expected_and_found() {
    let c = sample();
    assert_eq!(c.f32("conv1.weight", &[2, 1, 1, 2]).unwrap(), [1.0, -2.0, 3.5, 0.0]);
    assert_eq!(c.i64("steps", &[]).unwrap(), [7]);
    assert_eq!(c.u8("bytes", &[3]).unwrap(), [0, 1, 255]);
    assert_eq!(c.i32("labels", &[2]).unwrap(), [-1, 9]);
    let said = |r: Result<&[f32]>| {
        let e = r.unwrap_err();
        assert_eq!(e.exit_code(), 6);
        e.to_string()
    };
    assert_eq!(
        said(c.f32("conv1.weight", &[2, 2])),
        "run/model.safetensors: tensor `conv1.weight`: expected float32 [2, 2], found float32 [2, 1, 1, 2]"
    );
    assert_eq!(
        said(c.f32("labels", &[2])),
        "run/model.safetensors: tensor `labels`: expected float32 [2], found int32 [2]"
    );
    assert_eq!(
        said(c.f32("conv1.wieght", &[4])),
        "run/model.safetensors: there is no tensor `conv1.wieght`; did you mean `conv1.weight`?"
    );
    assert!(said(c.f32("zzz", &[])).ends_with("there is no tensor `zzz` among its 4"));
    assert!(c.text("arch").unwrap_err().to_string().ends_with("its metadata does not say `arch`"));
}

#[test]
fn equality_is_of_contents() {
    let (a, mut b) = (sample(), Container::new(sample().tensors.into_iter().rev().collect::<Vec<_>>()));
    assert_eq!(a, b);
    b.meta.insert("k".into(), "v".into());
    assert_ne!(a, b);
}

#[test]
fn non_finite_weights_are_found() {
    let mut c = sample();
    assert!(c.check_finite().is_ok());
    c.tensors[0].data = TensorData::F32(vec![1.0, 2.0, f32::NAN, f32::INFINITY]);
    let e = c.check_finite().unwrap_err().to_string();
    assert_eq!(e, "run/model.safetensors: tensor `conv1.weight`: value 2 of 4 is NaN");
    assert_eq!(c.check_finite_tensor("conv1.weight").unwrap_err().to_string(), e);
    assert!(c.check_finite_tensor("absent").is_ok());
}
