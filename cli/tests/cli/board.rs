//! Event files for TensorBoard. `tests/interop/check_tensorboard.py` tests that TensorBoard reads them.

use super::{Place, TINY};
use std::fs;
use std::path::PathBuf;

/// The event files of a run, oldest first.
fn files(place: &Place, run: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path().join(run).join("tb"));
    let mut all: Vec<PathBuf> = entries.into_iter().flatten().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

/// The messages of an event file.
fn records(path: &PathBuf) -> Vec<Vec<u8>> {
    let (bytes, mut at, mut out) = (fs::read(path).unwrap(), 0, Vec::new());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        out.push(bytes[at + 12..at + 12 + length].to_vec());
        at += 16 + length;
    }
    out
}

fn named(records: &[Vec<u8>], tag: &str) -> usize {
    records.iter().filter(|r| r.windows(tag.len()).any(|w| w == tag.as_bytes())).count()
}

/// A run of four iterations, two per epoch, with a checkpoint after each epoch.
const SHORT: &[&str] = &[
    "train.batch_size=700",
    "sampler.outer_steps=1",
    "sampler.buffer_size=100",
    "train.checkpoint_every=1",
    "train.sample_every=1",
    "train.epochs=2",
];

#[test]
fn a_run_and_its_continuation_have_a_file_each() {
    let place = Place::empty();
    place.run(&[&["train", "-q", "--out", "run"], SHORT].concat()).ok();
    let first = files(&place, "run");
    assert_eq!(first.len(), 1);
    let events = records(&first[0]);
    assert!(named(&events[..1], "brain.Event:2") == 1);
    // Scalars of the first and the last iteration; images of two epochs and by class; histograms once and at the end.
    for (tag, n) in
        [("train/loss", 2), ("chains_by_class", 1), ("log_density_of/data", 2), ("test/accuracy", 1)]
    {
        assert_eq!(named(&events, tag), n, "{tag}");
    }
    assert_eq!(events.iter().filter(|e| named(&[e.to_vec()], "IHDR") == 1).count(), 3);
    fs::remove_file(place.path().join("run/result.json")).unwrap();
    place.run(&["train", "-q", "--resume", "run", "train.epochs=3"]).ok();
    let both = files(&place, "run");
    assert_eq!((both.len(), records(&both[0])), (2, events));
    let next = records(&both[1]);
    // SessionLog.START at step 5: field 2, then field 7 of two bytes.
    assert!(next[1].ends_with(&[0x10, 5, 0x3a, 2, 8, 1]), "{:?}", next[1]);
}

#[test]
fn event_files_can_be_disabled_and_failures_are_warnings() {
    let place = Place::empty();
    place.run(&[&["train", "-q", "--out", "off", "train.tensorboard=false"], TINY].concat()).ok();
    assert!(!place.path().join("off/tb").exists());
    place.run(&[&["train", "-q", "--out", "run"], SHORT].concat()).ok();
    fs::remove_file(place.path().join("run/result.json")).unwrap();
    fs::remove_dir_all(place.path().join("run/tb")).unwrap();
    fs::write(place.path().join("run/tb"), "in the way").unwrap();
    let done = place.run(&["train", "--resume", "run", "train.epochs=3"]);
    assert!(done.err.contains("nothing more is written for TensorBoard"), "{}", done.err);
    done.ok();
    assert!(place.path().join("run/result.json").exists());
}
