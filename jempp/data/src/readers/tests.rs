//! Each format, from small files that `tests/datasets.py` wrote: values, parts, names, cache.

use super::*;
use crate::config::DataConfig;
use crate::{Loaded, Origin, Reading, load_with};
use jempp_formats::npz::Npz;
use jempp_formats::resize::bilinear;
use std::fs;
use tempfile::TempDir;

fn sets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sets")
}

fn load(path: &Path, keys: &[&str], cache: Option<PathBuf>) -> Result<Loaded> {
    let config = DataConfig { dataset: path.display().to_string(), valid_size: 0, ..DataConfig::default() };
    let mut config = serde_json::to_value(config).unwrap();
    for (key, value) in keys.iter().map(|k| k.strip_prefix("data.").unwrap().split_once('=').unwrap()) {
        config[key] = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    }
    let config: DataConfig = serde_json::from_value(config).unwrap();
    load_with(&config, Reading { threads: 2, cache, ..Reading::default() })
}

fn read(name: &str, keys: &[&str]) -> Loaded {
    load(&sets().join(name), keys, None).unwrap()
}

/// Image `i` by the formula of `datasets.py`.
fn image(i: usize, [h, w, c]: [usize; 3]) -> Vec<u8> {
    let mut out = Vec::new();
    for y in 0..h {
        for x in 0..w {
            out.extend((0..c).map(|k| ((i * 31 + y * y * 7 + x * x * 5 + y * x * 3 + k * 101) % 251) as u8));
        }
    }
    out
}

fn label(i: usize, classes: usize) -> u16 {
    ((i * 21 + 8) % classes) as u16
}

/// Checks that all images equal the formula, in order, with their labels modulo `modulus`.
fn check(loaded: &Loaded, size: [usize; 3], modulus: usize, parts: [usize; 3]) {
    let (set, split) = (&loaded.set, &loaded.split);
    assert_eq!(set.size(), size);
    assert_eq!([split.train.len(), split.valid.len(), split.test.len()], parts);
    let order = [split.train.clone(), split.valid.clone(), split.test.clone()].concat();
    assert!(order.iter().copied().eq(0..set.len() as u32));
    for i in 0..set.len() {
        assert!(set.image(i as u32).unwrap() == image(i, size), "image {i}");
        assert_eq!(set.labels()[i], label(i, modulus), "label {i}");
    }
}

#[test]
fn cifar_10() {
    for (name, version) in [("cifar-10-binary.tar.gz", "binary"), ("cifar-10-python.tar.gz", "Python")] {
        let loaded = read(name, &[]);
        check(&loaded, [32, 32, 3], 10, [10, 0, 3]);
        assert_eq!((loaded.set.classes(), loaded.set.class_names()[9].as_str()), (10, "class9"));
        let start = format!("CIFAR-10, {version} version (not a published archive (MD5 ");
        assert!(loaded.kind.starts_with(&start), "{}", loaded.kind);
        assert!(loaded.summary().contains(", 10 classes, 10 training + 3 test images 32×32×3, decoded in "));
    }
}

#[test]
fn cifar_100_fine_and_coarse() {
    for (name, meta) in [("cifar-100-binary", true), ("cifar-100-python.tar.gz", false)] {
        let fine = read(name, &[]);
        check(&fine, [32, 32, 3], 100, [4, 0, 2]);
        let coarse = read(name, &["data.labels=coarse"]);
        check(&coarse, [32, 32, 3], 20, [4, 0, 2]);
        assert_eq!((fine.set.classes(), coarse.set.classes()), (100, 20));
        assert!(coarse.kind.contains("coarse labels"));
        if meta {
            assert_eq!(
                (&fine.set.class_names()[99], &coarse.set.class_names()[19]),
                (&"fine99".into(), &"coarse19".into())
            );
        }
    }
}

/// Parent folders, and unpacked archives.
#[test]
fn cifar_in_folders() {
    let dir = tempfile::tempdir().unwrap();
    for (archive, folder) in [
        ("cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
        ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
    ] {
        let file = fs::File::open(sets().join(archive)).unwrap();
        tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(dir.path()).unwrap();
        let loaded = load(&dir.path().join(folder), &[], None).unwrap();
        check(&loaded, [32, 32, 3], 10, [10, 0, 3]);
    }
    let e = load(dir.path(), &[], None).unwrap_err().to_string();
    assert!(e.contains("several data sets; name one of") && e.contains("cifar-10-batches-py"), "{e}");
    fs::remove_dir_all(dir.path().join("cifar-10-batches-py")).unwrap();
    check(&load(dir.path(), &[], None).unwrap(), [32, 32, 3], 10, [10, 0, 3]);
    fs::remove_file(dir.path().join("cifar-10-batches-bin/data_batch_3.bin")).unwrap();
    let e = load(dir.path(), &[], None).unwrap_err();
    assert!(e.exit_code() == 3 && e.to_string().ends_with("without its file data_batch_3.bin"), "{e}");
}

#[test]
fn svhn() {
    check(&read("svhn", &[]), [32, 32, 3], 10, [5, 0, 3]);
    check(&read("svhn/train_32x32.mat", &[]), [32, 32, 3], 10, [5, 0, 3]);
    check(&read("svhn-big", &[]), [32, 32, 3], 10, [2, 0, 1]);
    // Images 8 and 9 are the extra ones.
    let extra = read("svhn", &["data.extra=true"]);
    assert_eq!((extra.split.train.len(), extra.split.test.len()), (7, 3));
    for (at, i) in [0, 1, 2, 3, 4, 8, 9, 5, 6, 7].into_iter().enumerate() {
        assert!(extra.set.image(at as u32).unwrap() == image(i, [32, 32, 3]));
        assert_eq!(extra.set.labels()[at], label(i, 10));
    }
}

#[test]
fn mnist() {
    let loaded = read("mnist", &[]);
    check(&loaded, [28, 28, 1], 10, [6, 0, 4]);
    assert_eq!((loaded.set.classes(), loaded.kind.as_str()), (10, "IDX files (0 of 4 files as published)"));
    check(&read("mnist/t10k-images-idx3-ubyte", &[]), [28, 28, 1], 10, [6, 0, 4]);
}

#[test]
fn numpy_archives() {
    check(&read("keras.npz", &[]), [6, 5, 1], 4, [7, 0, 4]);
    check(&read("med.npz", &[]), [6, 5, 3], 4, [5, 3, 3]);
    check(&read("pair", &[]), [6, 5, 3], 4, [7, 0, 4]);
    // Without test images a tenth is held out, always the same.
    let loaded = read("plain.npz", &[]);
    assert!(loaded.warnings[0].contains("no test images"), "{:?}", loaded.warnings);
    assert_eq!((loaded.split.train.len(), loaded.split.test.len()), (9, 2));
    let mut seen: Vec<usize> = (0..11)
        .map(|at| {
            let pixels = loaded.set.image(at).unwrap();
            let i = (0..11).find(|i| pixels == image(*i, [6, 5, 3])).unwrap();
            assert_eq!(loaded.set.labels()[at as usize], label(i, 4));
            i
        })
        .collect();
    assert_eq!(read("plain.npz", &[]).set, loaded.set);
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..11));
}

/// Images in the expected file, by their name there.
fn expected(name: &str) -> (Vec<usize>, Vec<u8>) {
    Npz::open(&sets().join("celeba-expected.npz")).unwrap().u8(name).unwrap()
}

#[test]
fn celeba() {
    // By the partition: 2, 3, 5, 7 for training, 4 for validation, 1 and 6 for test.
    let order = [1, 2, 4, 6, 3, 0, 5];
    for (keys, name) in [(&["data.attribute=Smiling"][..], "square"), (&["data.crop=compat39"], "whole")] {
        let loaded = read("celeba", keys);
        let (shape, all) = expected(name);
        assert_eq!(loaded.set.size(), shape[1..]);
        let split = &loaded.split;
        assert_eq!(
            (split.train.len(), split.valid.as_slice(), split.test.as_slice()),
            (4, &[4][..], &[5, 6][..])
        );
        let pixels = loaded.set.pixels();
        for (at, i) in order.into_iter().enumerate() {
            assert!(loaded.set.image(at as u32).unwrap() == &all[i * pixels..(i + 1) * pixels], "{name} {i}");
            let label = if name == "square" { u16::from(i % 3 == 0) } else { 0 };
            assert_eq!(loaded.set.labels()[at], label, "{i}");
        }
        assert_eq!(loaded.set.class_names()[0], if name == "square" { "not Smiling" } else { "face" });
    }
    let e = load(&sets().join("celeba"), &["data.attribute=Happy"], None).unwrap_err();
    assert!(e.to_string().contains("must be one of Male, Smiling, Young"), "{e}");
}

#[test]
fn resizing_equals_pil() {
    let (shape, want) = expected("full");
    assert_eq!(shape, [1, 39, 32, 3]);
    assert!(bilinear(&image(0, [218, 178, 3]), [218, 178], 3, [39, 32]) == want);
    let (shape, want) = expected("up");
    assert_eq!(shape, [1, 31, 40, 3]);
    assert!(bilinear(&image(0, [20, 17, 3]), [20, 17], 3, [31, 40]) == want);
}

#[test]
fn the_cache_distinguishes_reading_options() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set.tar.gz");
    fs::copy(sets().join("cifar-100-python.tar.gz"), &path).unwrap();
    let cache = || Some(dir.path().join("cache"));
    let ways = [&[][..], &["data.labels=coarse"]];
    let fresh = ways.map(|keys| load(&path, keys, cache()).unwrap());
    let kept = ways.map(|keys| load(&path, keys, cache()).unwrap());
    for (a, b) in fresh.iter().zip(&kept) {
        assert_eq!((a.origin, b.origin), (Origin::Files, Origin::Cache));
        assert_eq!((&a.set, &a.split, &a.kind), (&b.set, &b.split, &b.kind));
    }
    assert_ne!(kept[0].set.labels(), kept[1].set.labels());
    fs::copy(sets().join("cifar-10-python.tar.gz"), &path).unwrap();
    let other = load(&path, &[], cache()).unwrap();
    assert!(
        other.origin == Origin::Files && other.warnings[0].contains("have changed"),
        "{:?}",
        other.warnings
    );
}

/// The error message for a damaged file or folder.
fn refused(name: &str, spoil: impl FnOnce(&TempDir) -> PathBuf) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = spoil(&dir);
    let e = load(&path, &[], None).err().unwrap_or_else(|| panic!("{name} was read"));
    assert!(matches!(e.exit_code(), 3 | 6), "{name}: {e}");
    assert!(e.to_string().starts_with(&*dir.path().to_string_lossy()), "{name}: {e}");
    e.to_string()
}

/// A tar archive of one member.
fn tar_of(name: &str, data: &[u8], kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut out = tar::Builder::new(Vec::new());
    out.append(&header, data).unwrap();
    out.into_inner().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut out, data).unwrap();
    out.finish().unwrap()
}

#[test]
fn hostile_archives_are_refused_by_name() {
    let archive = |bytes: Vec<u8>| {
        refused("an archive", |dir| {
            let path = dir.path().join("x.tar.gz");
            fs::write(&path, bytes).unwrap();
            path
        })
    };
    let file = tar::EntryType::Regular;
    let m = archive(gzip(&tar_of("../../etc/data_batch_1", b"N.", file)));
    assert!(m.contains("member `../../etc/data_batch_1`: the path leads out"), "{m}");
    assert!(archive(gzip(&tar_of("/data_batch_1", b"N.", file))).contains("leads out"));
    let m = archive(gzip(&tar_of("data_batch_1", b"", tar::EntryType::Symlink)));
    assert!(m.contains("member `data_batch_1`: is neither a file nor a folder"), "{m}");
    let m = archive(gzip(&tar_of("a/data_batch_1", b"cos\nsystem\n(S'boo'\ntR.", file)));
    assert!(m.contains("member `a/data_batch_1`: the pickle is a call of os.system"), "{m}");
    let m = archive(gzip(&tar_of("a/data_batch_1", b"(dp0\nh\x07.", file)));
    assert!(m.contains("pickle, byte 5: memo entry 7"), "{m}");
    let m = archive(gzip(&tar_of("data_batch_1.bin", &[0; 3074], file)));
    assert!(m.contains("3074 bytes are not whole records of 3073"), "{m}");
    let m = archive(gzip(&tar_of("data_batch_1.bin", &[11; 3073], file)));
    assert!(m.contains("label 11 of image 0 is not one of the 10"), "{m}");
    // 100 MB of zeros in 100 kB.
    let m = archive(gzip(&tar_of("data_batch_1.bin", &vec![0; 3073 << 15], file)));
    assert!(m.contains("claims 100696064 bytes, more than the 6") && m.contains("data.unpack_limit"), "{m}");
    assert!(
        archive(gzip(&vec![0; 1 << 27])).contains("unpacks to more than 16 times its length plus 64 MiB")
    );
    let whole = fs::read(sets().join("cifar-10-binary.tar.gz")).unwrap();
    for n in [1, 5, 100, whole.len() / 2, whole.len() - 9] {
        archive(whole[..n].to_vec());
    }
}

#[test]
fn hostile_arrays_are_refused_by_name() {
    let with = |set: &'static str, name: &'static str, change: &dyn Fn(&mut Vec<u8>)| {
        refused(name, |dir| {
            for entry in fs::read_dir(sets().join(set)).unwrap() {
                let from = entry.unwrap().path();
                fs::copy(&from, dir.path().join(from.file_name().unwrap())).unwrap();
            }
            let mut bytes = fs::read(dir.path().join(name)).unwrap();
            change(&mut bytes);
            fs::write(dir.path().join(name), bytes).unwrap();
            dir.path().to_path_buf()
        })
    };
    let idx = |change: &dyn Fn(&mut Vec<u8>)| with("mnist", "t10k-images-idx3-ubyte", change);
    assert!(idx(&|b| b.truncate(500)).contains("cut short at byte 500: shape [4, 28, 28]"));
    assert!(idx(&|b| b[4..8].fill(255)).contains("claims shape [4294967295, 28, 28]"));
    assert!(idx(&|b| b[2] = 13).contains("holds type 0xd"));
    assert!(idx(&|b| b[0] = 1).contains("not an IDX file"));
    assert!(idx(&|b| b.push(0)).contains("bytes follow"));
    assert!(idx(&|b| b.clear()).contains("cut short"));
    let labels = |change: &dyn Fn(&mut Vec<u8>)| with("mnist", "t10k-labels-idx1-ubyte", change);
    let fewer = labels(&|b| {
        b[7] = 3;
        b.truncate(11);
    });
    assert!(fewer.contains("4 images of [28, 28, 1], but 3 labels"), "{fewer}");
    let mat = |change: &dyn Fn(&mut Vec<u8>)| with("svhn", "test_32x32.mat", change);
    assert!(mat(&|b| b[..10].copy_from_slice(b"MATLAB 7.3")).contains("save it with -v7"));
    assert!(mat(&|b| b[126] = b'X').contains("not a MATLAB level 5 file"));
    let m = mat(&|b| b.truncate(4000));
    assert!(m.contains("claims") && m.contains("are left"), "{m}");
    let packed = with("svhn", "train_32x32.mat", &|b| b[400] ^= 255);
    assert!(packed.contains("in the element at byte 128"), "{packed}");
    // A label that is not a number.
    let nan = mat(&|b| {
        let at = b.len() - 8;
        b[at..].copy_from_slice(&f64::NAN.to_le_bytes());
    });
    assert!(nan.contains("label None of image 2"), "{nan}");
}

#[test]
fn other_files_are_reported() {
    let m = refused("a text", |dir| {
        let path = dir.path().join("notes.txt");
        fs::write(&path, "nothing").unwrap();
        path
    });
    assert!(m.contains("notes.txt: is a file"), "{m}");
    assert!(
        refused("an empty folder", |dir| dir.path().to_path_buf())
            .contains("has no folder `train` and no images")
    );
    let m = refused("a half", |dir| {
        fs::copy(sets().join("svhn/train_32x32.mat"), dir.path().join("train_32x32.mat")).unwrap();
        dir.path().to_path_buf()
    });
    assert!(m.contains("without its file") && m.contains("test_32x32.mat"), "{m}");
}
