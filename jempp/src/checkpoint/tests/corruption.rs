//! Every byte of a checkpoint is corrupted and every file truncated at every length: this is detected, and the previous
//! checkpoint is used.

use super::*;
use std::io::Write;

/// Puts `bytes` into a file that exists. It is not emptied first: some file systems then wait for the disk.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put(root, 1, 1, false, 5);
    let saved = put(root, 2, 2, false, 5);
    let mut total = 0;
    for name in [MODEL, TRAINER, STATE, MANIFEST] {
        let path = saved.join(name);
        let good = fs::read(&path).unwrap();
        total += good.len();
        let noticed = |bytes: &[u8], what: String| {
            overwrite(&path, bytes);
            let e = load(&saved).expect_err(&what);
            assert_eq!(e.exit_code(), 6, "{what}: {e}");
            assert!(e.to_string().contains(&format!("step_2/{name}: ")), "{what}: {e}");
            assert!(verify(&saved).is_err(), "{what}");
            let (found, warnings) = load_last(root).expect(&what);
            assert_eq!(tag(&found), Some(1), "{what}");
            assert_eq!(warnings.len(), 2, "{what}");
            assert!(warnings[0].contains(name) && warnings[1].contains("step_1 (step 1) instead"));
        };
        for i in 0..good.len() {
            let mut bytes = good.clone();
            // A different bit in each byte: 3 is coprime to 8.
            bytes[i] ^= 1 << (i * 3 % 8);
            noticed(&bytes, format!("{name}, byte {i} flipped"));
            noticed(&good[..i], format!("{name} cut at {i}"));
        }
        noticed(&[&good[..], b"\0"].concat(), format!("{name}, a byte added"));
        fs::remove_file(&path).unwrap();
        let e = load(&saved).unwrap_err();
        assert!(e.to_string().contains(&format!("{name}: missing")), "{e}");
        fs::create_dir(&path).unwrap();
        assert_eq!(load(&saved).unwrap_err().exit_code(), 6);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, good).unwrap();
        assert_eq!(tag(&load(&saved).unwrap()), Some(2));
    }
    assert!((1000..5000).contains(&total), "{total} bytes");
}

#[test]
fn the_previous_one_is_taken_before_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for step in [10, 40, 20, 30] {
        put(root, step, step, false, 9);
    }
    let spoil = |step: u64| fs::write(root.join(format!("step_{step}")).join(STATE), "{}").unwrap();
    let expect = |step: u64, bad: usize| {
        let (found, warnings) = load_last(root).unwrap();
        assert_eq!((found.step, warnings.len()), (step, bad + usize::from(bad > 0)), "{warnings:?}");
    };
    expect(30, 0);
    spoil(30);
    expect(20, 1);
    spoil(20);
    spoil(10);
    expect(40, 3);
    spoil(40);
    let e = load_last(root).unwrap_err();
    assert_eq!(e.exit_code(), 6);
    assert!(["step_10", "step_20", "step_30", "step_40"].iter().all(|s| e.to_string().contains(s)), "{e}");
}

#[test]
fn without_last_the_newest_is_taken_and_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), 1, 1, false, 5);
    put(dir.path(), 2, 2, false, 5);
    fs::remove_file(dir.path().join("last")).unwrap();
    let (found, warnings) = load_last(dir.path()).unwrap();
    assert_eq!(found.step, 2);
    assert!(warnings[0].contains("last: missing, or not a pointer"), "{warnings:?}");
}

#[test]
fn files_of_two_checkpoints_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (put(dir.path(), 1, 1, false, 5), put(dir.path(), 2, 2, false, 5));
    fs::copy(a.join(TRAINER), b.join(TRAINER)).unwrap();
    let e = load(&b).unwrap_err().to_string();
    assert!(e.contains("trainer.safetensors: corrupt: its checksum is"), "{e}");
}
