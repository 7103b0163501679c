//! A hundred thousand damaged files: each is read or refused, never with a panic.

use super::hostile::rezip;
use super::*;
use engine::rng::{Philox, Stream};

/// A file with a few bytes, bits or stretches of it changed.
fn mutated(bytes: &[u8], rng: &mut Philox) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(out.len() as u32) as usize;
        match rng.below(8) {
            0 => out[at] = rng.below(256) as u8,
            1..=3 => out[at] ^= 1 << rng.below(8),
            4 => out.truncate(at.max(16)),
            5 => {
                let n = (out.len() - at).min(1 + rng.below(40) as usize);
                out.drain(at..at + n);
            }
            6 => {
                let n = (out.len() - at).min(1 + rng.below(40) as usize);
                let part = out[at..at + n].to_vec();
                let to = rng.below(out.len() as u32) as usize;
                out.splice(to..to, part);
            }
            _ => {
                let extreme = [[0xff; 8], [0x7f; 8], [0; 8], i64::MIN.to_le_bytes()][rng.below(4) as usize];
                let n = (out.len() - at).min(1 << rng.below(4));
                out[at..at + n].copy_from_slice(&extreme[..n]);
            }
        }
        if out.len() < 20 {
            break;
        }
    }
    out
}

/// Reads a damaged file; an error must be of the kind that says so.
fn survive(bytes: &[u8]) -> bool {
    match tensors(bytes, Path::new("x.pt")) {
        Ok(tensors) => {
            // No more values than bytes, whatever the file claims.
            assert!(tensors.iter().map(|t| t.data.len()).sum::<usize>() <= 20 * bytes.len());
            true
        }
        Err(e) => {
            assert_eq!(e.exit_code(), 6, "{e}");
            assert!(e.to_string().starts_with("x.pt: "), "{e}");
            false
        }
    }
}

#[test]
fn a_hundred_thousand_damaged_files_are_read_or_refused() {
    let (zip, legacy) = (data("values.pt"), data("values_legacy.pt"));
    let mut rng = Philox::new(1, Stream::Sample, 0);
    let read =
        |bytes: &[u8], rng: &mut Philox, n: usize| (0..n).filter(|_| survive(&mutated(bytes, rng))).count();
    let some = read(&zip, &mut rng, 40_000);
    assert!((100..39_000).contains(&some), "{some} of the damaged archives were read");
    // Nothing but the reader itself guards the old form.
    let some = read(&legacy, &mut rng, 50_000);
    assert!((100..49_000).contains(&some), "{some} of the damaged old files were read");
    // A damaged pickle in an archive whose checksums are right.
    for i in 0..10_000 {
        let mut rng = Philox::new(2, Stream::Sample, i);
        let pickle = std::cell::RefCell::new(&mut rng);
        survive(&rezip(&zip, &|name, content| match name {
            "data.pkl" => Some(mutated(&content, &mut pickle.borrow_mut())),
            _ => Some(content),
        }));
    }
}

#[test]
fn damaged_checkpoints_are_models_or_refused() {
    let mut rng = Philox::new(3, Stream::Sample, 0);
    let whole = official(OFFICIAL[1]);
    // The pickles, where the meaning is.
    let (head, rest) = whole.split_at(10_006);
    for i in 0..3000 {
        let bytes = [&mutated(head, &mut rng), rest].concat();
        match model(&bytes, Path::new("x.pt"), Hints::default()) {
            Ok(c) => assert!(c.tensors.iter().map(|t| t.data.len()).sum::<usize>() <= bytes.len()),
            Err(e) => assert!(e.exit_code() == 6 && e.to_string().starts_with("x.pt: "), "{i}: {e}"),
        }
    }
}
