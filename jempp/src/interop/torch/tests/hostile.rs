//! Damaged and malicious files: each is refused with an error that names the file and the place.

use super::*;
use std::io::{Cursor, Read, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Returns the new content of an entry, given its name and content, or `None` to drop it.
pub(super) type Change<'a> = &'a dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>>;

/// Rewrites the archive `bytes`, passing each entry through `change`.
pub(super) fn rezip(bytes: &[u8], change: Change<'_>) -> Vec<u8> {
    let mut from = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut to = ZipWriter::new(Cursor::new(Vec::new()));
    for i in 0..from.len() {
        let mut entry = from.by_index(i).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let Some(content) = change(name.split_once('/').unwrap().1, content) else { continue };
        to.start_file(name, SimpleFileOptions::default().compression_method(CompressionMethod::Stored))
            .unwrap();
        to.write_all(&content).unwrap();
    }
    to.finish().unwrap().into_inner()
}

/// `bytes` with the first occurrence of `from` replaced.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// The published checkpoint with a patched pickle.
fn pickle_with(from: &[u8], to: &[u8]) -> Vec<u8> {
    rezip(&official(OFFICIAL[0]), &|name, content| match name {
        "data.pkl" => Some(replaced(&content, from, to)),
        _ => Some(content),
    })
}

/// An archive of one folder.
fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut to = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        to.start_file(*name, SimpleFileOptions::default().compression_method(CompressionMethod::Stored))
            .unwrap();
        to.write_all(content).unwrap();
    }
    to.finish().unwrap().into_inner()
}

/// The message with which a file is refused, with exit code 6, after the file's name.
fn refused(bytes: &[u8]) -> String {
    let e = read(bytes, Path::new("x.pt"), Hints::default()).unwrap_err();
    assert_eq!(e.exit_code(), 6, "{e}");
    e.to_string().strip_prefix("x.pt: ").expect("the file's name").to_owned()
}

#[test]
fn pickles_that_call_functions_are_data() {
    let call = b"cos\nsystem\n(X\x04\0\0\0ls -tR.";
    let why = refused(&zipped(&[("a/data.pkl", call)]));
    assert!(why.starts_with("entry `a/data.pkl`: it holds a call of os.system, not a checkpoint"), "{why}");
    let dict = b"}(X\x01\0\0\0acos\nsystem\n)Ru.";
    let why = refused(&zipped(&[("a/data.pkl", dict)]));
    assert_eq!(why, "entry `a/data.pkl`: `a` in the state dict is a call of os.system, not a tensor");
    // A whole model, as torch.save(model) writes it.
    let whole = b"cmodel\nF\n)\x81}(X\x01\0\0\0aK\x01ub.";
    assert!(refused(&zipped(&[("a/data.pkl", whole)])).contains("save model.state_dict() instead"));
    let program = zipped(&[("a/data.pkl", b"}."), ("a/constants.pkl", b").")]);
    assert!(refused(&program).contains("TorchScript"));
}

#[test]
fn archives_that_lie_are_refused() {
    assert!(refused(b"PK\x03\x04 and no more").contains("not a whole zip archive"));
    assert!(refused(b"neither").contains("not a torch.save file"));
    let why = refused(&zipped(&[("a/data.pkl", b"}."), ("../../etc/passwd", b"x")]));
    assert!(why.starts_with("entry `../../etc/passwd`: its path leads out"), "{why}");
    assert!(refused(&zipped(&[("/data.pkl", b"}.")])).contains("leads out"));
    assert!(refused(&zipped(&[("data.pkl", b"}.")])).contains("is not in a folder"));
    assert!(refused(&zipped(&[("a/data.pkl", b"}."), ("b/data/0", b"")])).contains("folders `a` and `b`"));
    assert!(refused(&zipped(&[("a/version", b"3")])).contains("there is no entry `a/data.pkl`"));
    assert!(
        refused(&zipped(&[("a/data.pkl", b"}."), ("a/byteorder", b"big")])).contains("not little-endian")
    );
    // A bomb: compressed a thousandfold.
    let mut bomb = ZipWriter::new(Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    bomb.start_file("a/data.pkl", deflated).unwrap();
    bomb.write_all(&vec![b'('; 1 << 20]).unwrap();
    let why = refused(&bomb.finish().unwrap().into_inner());
    assert!(why.starts_with("entry `a/data.pkl`: it is compressed"), "{why}");
    // Two entries, one content: the second entry's place in the directory becomes the first's.
    let mut twice = zipped(&[("a/data/0", b"0123456789"), ("a/data/1", b"0123456789")]);
    let directory = twice.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    twice[directory + 42..directory + 46].fill(0);
    let why = refused(&twice);
    assert!(why.contains("overlap from byte") || why.contains("entry 1"), "{why}");
    let sound = official(OFFICIAL[0]);
    let mut flipped = sound.clone();
    let at = sound.windows(14).position(|w| w == b"f.conv1.weight").unwrap();
    flipped[at] ^= 1;
    let why = refused(&flipped);
    assert!(why.starts_with("entry `wrn10_1_official/data.pkl`: corrupt: its checksum is"), "{why}");
}

#[test]
fn tensors_that_lie_are_refused() {
    let strides = b"K\x1bK\x09K\x03K\x01";
    for (to, why) in [
        (b"K\x00K\x00K\x00K\x00", "values of a tensor [16, 3, 3, 3] with strides [0, 0, 0, 0] overlap"),
        (b"K\x1bK\x09K\x02K\x01", "with strides [27, 9, 2, 1] overlap"),
        (b"K\x1cK\x09K\x03K\x01", "strides [28, 9, 3, 1] exceeds its 432 values"),
    ] {
        let found = refused(&pickle_with(strides, to));
        assert!(found.starts_with("tensor `f.conv1.weight`: entry `wrn10_1_official/data/0`"), "{found}");
        assert!(found.contains(why), "{found}");
    }
    for (from, to, why) in [
        // The first bias exceeds its storage; uses another tensor's storage; uses a storage that does not exist.
        (
            &b"K\x10tq\x13QK\x00K\x10"[..],
            &b"K\x10tq\x13QK\x01K\x10"[..],
            "offset 1 and strides [1] exceeds its 16 values",
        ),
        (
            b"X\x01\x00\x00\x002q\x1b",
            b"X\x01\x00\x00\x001q\x1b",
            "tensors `f.conv1.bias` and `f.layer1.0.bn1.weight` overlap in storage \"1\"",
        ),
        (b"K\x10tq\x13Q", b"K\x11tq\x13Q", "a storage of 17 values cannot have 64 bytes"),
        (b"X\x01\x00\x00\x002q\x1b", b"X\x01\0\0\0x", "its storage \"x\" is not in the file"),
        (b"class_output.bias", b"class_output.bais", "there is no tensor `class_output.bias`"),
        (
            b"energy_output.bias",
            b"energy_output.b\xc3\xa4s",
            "tensor `energy_output.bäs` [1] does not belong to the network",
        ),
        (b"class_output.weight", b"class_outptu.weight", "not a Wide-ResNet of JEM++"),
        // An alias whose values differ from those of its tensor.
        (
            b"f.layer_one.biasq\x19h\x18",
            b"f.layer_one.biasq\x19h\x0f",
            "`f.layer_one.bias` differs from `f.conv1.bias`",
        ),
        (
            b"ctorch\nFloatStorage\n",
            b"ctorch\nQInt8Storages\n",
            "type torch.QInt8Storages, which is not supported",
        ),
        (b"ctorch\nFloatStorage\n", b"cnumpy\nFloatStorage\n", "a storage of an unsupported type"),
    ] {
        let found = refused(&pickle_with(from, to));
        assert!(found.contains(why), "{found}\n{why}");
    }
    let lost = rezip(&official(OFFICIAL[0]), &|name, content| (name != "data/0").then_some(content));
    assert!(refused(&lost).contains("tensor `f.conv1.weight`: its storage \"0\" is not in the file"));
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let nan = rezip(&official(OFFICIAL[0]), &|name, mut content| {
        if name == "data/0" {
            content[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        Some(content)
    });
    let container = read(&nan, Path::new("x.pt"), Hints::default()).unwrap();
    let e = Model::from_container(&Device::cpu(1), &container).unwrap_err();
    assert_eq!(
        (e.exit_code(), e.to_string().as_str()),
        (6, "x.pt: tensor `f.conv1.weight`: value 100 of 432 is NaN")
    );
}

#[test]
fn old_files_that_are_cut_short_say_where() {
    let whole = official(OFFICIAL[1]);
    for n in [15, 40, 140, 5000, 9000, 10_010, 12_000, whole.len() - 1] {
        let why = refused(&whole[..n]);
        assert!(why.contains("byte "), "{n}: {why}");
    }
    assert!(refused(&[&whole[..], b"x"].concat()).contains("1 unexpected bytes follow"));
    // The first storage, of 30 or so values, claims 2⁶⁰.
    let at = 10_006 + 7;
    let mut long = whole.clone();
    long[at] = 0x10;
    assert!(refused(&long).contains("byte 10006: storage"));
    assert!(
        refused(&replaced(&whole, b"little_endian\x71\x02\x88", b"little_endian\x71\x02\x89"))
            .contains("little-endian")
    );
}

#[test]
fn what_shapes_cannot_tell_is_asked_for() {
    let bytes = rezip(&official(OFFICIAL[0]), &|_, content| Some(content));
    let mut c = read(&bytes, Path::new("x.pt"), Hints::default()).unwrap();
    // The same network with layer norm, without a replay buffer.
    c.tensors
        .retain(|t| !t.name.contains("running") && !t.name.contains("tracked") && t.name != "replay_buffer");
    let old = c.meta["architecture"].clone();
    c.meta.insert("architecture".into(), old.replace("\"batch\"", "\"layer\""));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer.pt");
    write(&path, &c, None).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(refused(&bytes).contains("convert it with --norm instance or --norm layer"));
    let hints = Hints { norm: Some(crate::config::NormKind::Layer), image_size: Some([28, 20]) };
    let back = read(&bytes, Path::new("x.pt"), hints).unwrap();
    let config = crate::model::architecture(&back).unwrap();
    assert_eq!((config.norm, config.image_size), (crate::config::NormKind::Layer, [28, 20, 3]));
    assert!(!back.meta.contains_key("image_size"));
    assert!(Model::from_container(&Device::cpu(1), &back).is_ok());
}

#[test]
fn a_size_that_nothing_tells_is_said_to_be_assumed() {
    let dir = tempfile::tempdir().unwrap();
    let assumed = |name: &str, bytes: &[u8], hints| {
        let c = read(bytes, Path::new("x.pt"), hints).unwrap();
        let file = dir.path().join(name);
        c.write(&file).unwrap();
        crate::inspect::inspect(&file).unwrap().image_size_assumed
    };
    let whole = official(OFFICIAL[0]);
    assert!(!assumed("a", &whole, Hints::default()));
    let mut c = read(&whole, Path::new("x.pt"), Hints::default()).unwrap();
    c.tensors.retain(|t| t.name != "replay_buffer");
    let path = dir.path().join("bare.pt");
    write(&path, &c, None).unwrap();
    let bare = fs::read(&path).unwrap();
    assert!(assumed("b", &bare, Hints::default()));
    assert!(!assumed("c", &bare, Hints { image_size: Some([32, 32]), ..Hints::default() }));
    assert!(crate::inspect::inspect(&path).unwrap().image_size_assumed);
}
