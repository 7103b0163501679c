//! Missing, damaged and unsuitable files, existing output files, divergence, a full disk.

use super::{Place, TINY};
use jempp_formats::npz::{Array, write};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_missing_model_is_3_everywhere() {
    let place = Place::empty();
    for args in [
        &["sample", "--model", "runs/none"][..],
        &["predict", "--model", "runs/none", "--input", "x.npz"],
        &["eval", "accuracy", "--model", "runs/none"],
        &["inspect", "runs/none"],
    ] {
        assert!(place.run(args).fails(3).contains("runs/none: there is no model"), "{args:?}");
    }
    place.train("run");
    assert!(place.run(&["inspect", "rum"]).fails(3).contains("there is run"));
}

#[test]
fn a_corrupt_model_is_6() {
    let place = Place::empty();
    place.train("run");
    let path = place.path().join("run/ckpt/step_3/model.safetensors");
    let good = fs::read(&path).unwrap();
    fs::write(place.path().join("cut.safetensors"), &good[..good.len() / 2]).unwrap();
    fs::write(place.path().join("text.safetensors"), "no model at all").unwrap();
    let mut bad = good;
    let half = bad.len() / 2;
    bad[half] ^= 1;
    fs::write(&path, &bad).unwrap();
    let missing = |input: &str| format!("{}/{input}", place.path().display());
    for model in ["run", "cut.safetensors", "text.safetensors"] {
        for args in [
            &["sample", "--model", model][..],
            &["predict", "--model", model, "--input", &missing("x.png")],
            &["eval", "accuracy", "--model", model],
            &["inspect", model],
        ] {
            place.run(args).fails(6);
        }
    }
    assert!(place.run(&["inspect", "run"]).fails(6).contains("corrupt"));
    assert!(!place.names().iter().any(|n| n.ends_with(".png")));
}

#[test]
fn unsuitable_images_are_3_and_named() {
    let place = Place::empty();
    place.train("run");
    let file = |name: &str, shape: &[usize], x: &[f32]| {
        write(&place.path().join(name), &[("images", Array::F32(shape, x))]).unwrap();
    };
    file("size.npz", &[1, 4, 8, 1], &[0.0; 32]);
    let mut x = [0.0; 3 * 64];
    x[64 + 9] = f32::NAN;
    file("nan.npz", &[3, 8, 8, 1], &x);
    write(&place.path().join("other.npz"), &[("pictures", Array::F32(&[1], &[0.0]))]).unwrap();
    image::RgbImage::from_pixel(8, 8, image::Rgb([1, 2, 3])).save(place.path().join("c.png")).unwrap();
    image::GrayImage::new(9, 8).save(place.path().join("wide.png")).unwrap();
    for (input, words) in [
        ("size.npz", &["[4, 8, 1]", "[8, 8, 1]"][..]),
        ("nan.npz", &["NaN", "[1, 1, 1, 0]"]),
        ("other.npz", &["`images`", "`pictures`"]),
        ("none.npz", &["none.npz: there is no such file"]),
        ("none.png", &["none.png: there is no such file"]),
        ("c.png", &["coloured"]),
        ("wide.png", &["8×9", "8×8"]),
    ] {
        let err = place.run(&["predict", "-m", "run", "--input", input, "--output", "y.npz"]).fails(3);
        assert!(words.iter().all(|w| err.contains(w)), "{input}: {err}");
    }
    fs::write(place.path().join("bad.npz"), "no archive").unwrap();
    place.run(&["predict", "-m", "run", "--input", "bad.npz"]).fails(6);
    assert!(!place.path().join("y.npz").exists());
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::empty();
    place.train("run");
    fs::write(place.path().join("here.npz"), "mine").unwrap();
    fs::write(place.path().join("here.png"), "mine").unwrap();
    for args in [
        &["train", "--out", "run"][..],
        &["sample", "--model", "run", "--output", "here.npz"],
        &["sample", "--model", "run", "--grid", "here.png"],
        &["sample", "--model", "run", "--images", "run"],
        &["predict", "--model", "run", "--input", "here.npz", "--output", "here.npz"],
    ] {
        assert!(place.run(args).fails(3).contains("exists already"), "{args:?}");
    }
    assert_eq!(fs::read(place.path().join("here.npz")).unwrap(), b"mine");
    place.run(&["sample", "--model", "run", "--grid", "no/such/folder/a.png"]).fails(7);
    // What is written and what the name promises must agree.
    for args in [
        &["sample", "-m", "run", "--grid", "a.jpg"][..],
        &["sample", "-m", "run", "-o", "a.png"],
        &["sample", "-m", "run", "--gif", "a"],
        &["predict", "-m", "run", "-i", "x.png", "-o", "a.png"],
        &["predict", "-m", "run", "-i", "x.png", "-o", "a.npz", "--format", "jsonl"],
        &["eval", "thresholds", "-m", "run", "-o", "a.npz"],
        &["report", "run", "-o", "a.png"],
    ] {
        let e = place.run(args).fails(3);
        assert!(e.contains("name a file that ends in") || e.contains("does not fit"), "{args:?}: {e}");
    }
}

#[test]
fn chains_of_training_need_a_checkpoint() {
    let place = Place::empty();
    place.train("run");
    fs::copy(place.path().join("run/ckpt/step_3/model.safetensors"), place.path().join("m.safetensors"))
        .unwrap();
    let err = place.run(&["sample", "--model", "m.safetensors", "--start", "buffer"]).fails(3);
    assert!(err.contains("trainer.safetensors") && err.contains("folder"), "{err}");
    let plain = [&["train", "-q", "--out", "plain", "train.p_x_weight=0"], TINY].concat();
    place.run(&plain).ok();
    let err = place.run(&["sample", "--model", "plain", "--start", "buffer"]).fails(3);
    assert!(err.contains("no replay buffer"), "{err}");
    assert_eq!(place.names(), ["m.safetensors", "plain", "run"]);
}

#[test]
fn divergence_is_5_with_advice_and_the_last_checkpoint() {
    let place = Place::empty();
    let err = place.run(&[&["train", "-q", "--out", "a", "train.loss_limit=1e-9"], TINY].concat()).fails(5);
    assert!(
        err.contains("beyond 1.0e-9; this after 8 rollbacks")
            && err.contains("What helps")
            && err.contains("No checkpoint"),
        "{err}"
    );
    // Two iterations per epoch: the first epoch ends with a checkpoint, the second diverges.
    let wild = ["train.batch_size=700", "sampler.outer_steps=1", "sampler.buffer_size=100", "train.lr=1e4"];
    let limits =
        ["train.loss_limit=1e3", "train.checkpoint_every=1", "train.epochs=4", "train.sample_every=0"];
    let stop = ["train", "-q", "train.on_divergence=stop", "--out", "b"];
    let err = place.run(&[&stop[..], &wild, &limits].concat()).fails(5);
    assert!(err.contains("The last good checkpoint is b/ckpt/step_2"), "{err}");
    // With rollbacks nothing of what diverged stays.
    let back = ["train", "train.max_rollbacks=2", "--out", "c"];
    let err = place.run(&[&back[..], &wild, &limits].concat()).fails(5);
    assert!(
        err.contains("warning: ") && err.contains("rollback 2 to iteration 0, learning rate × 0.25"),
        "{err}"
    );
    assert!(err.contains("No checkpoint") && !place.path().join("c/ckpt/step_2").exists(), "{err}");
    assert!(place.run(&["inspect", "b"]).ok().contains("not evaluated yet"));
}

/// A file system of a few kilobytes, unmounted when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let args = ["-t", "tmpfs", "-o", "size=256k", "jempp-test"];
        let done = Command::new("mount").args(args).arg(at).output();
        done.is_ok_and(|o| o.status.success()).then_some(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).output();
    }
}

#[test]
fn a_full_disk_is_7() {
    let place = Place::empty();
    let at = place.path().join("small");
    let Some(_small) = Small::mount(&at) else {
        println!("skipped: a small file system can be mounted by root only");
        return;
    };
    let err = place.run(&[&["train", "-q", "--out", "small/run"], TINY].concat()).fails(7);
    assert!(err.contains("small/run"), "{err}");
}
