//! Training on folders of images.

use super::{Done, Place, TINY};
use image::{Rgb, RgbImage};
use std::fs;
use std::path::Path;

/// Overrides for a short training run on a small folder.
const SHORT: &[&str] =
    &["train.batch_size=8", "train.max_iters=2", "train.energy_l2=0.1", "train.sample_every=0"];

/// A folder `set` of three classes, each of 8 images for training and 3 for test, 12 pixels high and 8 wide.
fn place() -> Place {
    let place = Place::empty();
    for (class, red) in [("cat", 200), ("dog", 100), ("eel", 0)] {
        for (part, n) in [("train", 8), ("test", 3)] {
            let folder = place.path().join("set").join(part).join(class);
            fs::create_dir_all(&folder).unwrap();
            for i in 0..n {
                let image =
                    RgbImage::from_fn(8, 12, |x, y| Rgb([red, (9 * x + 30 * i) as u8, (9 * y) as u8]));
                image.save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    place
}

fn train(place: &Place, args: &[&str]) -> Done {
    place.run(&[&["train", "data.dataset=set"], TINY, SHORT, args].concat())
}

#[test]
fn sizes_and_classes_come_from_the_data() {
    let place = place();
    let done = train(&place, &["--dry-run"]);
    let line = "data set: image folder, 3 classes, 24 training + 9 test images 12×8×3, decoded in ";
    assert!(done.err.contains(line), "{}", done.err);
    assert!(done.ok().contains("set: 24 training, 0 validation and 9 test images"));
    let done = train(&place, &["--out", "run", "data.valid_size=4"]);
    assert!(done.err.contains("read from cache in") && !done.err.contains("warning: data"), "{}", done.err);
    done.ok();
    let i = place.run(&["inspect", "run", "--json"]).json();
    assert_eq!(i["architecture"]["image_size"].to_string(), "[12,8,3]");
    assert_eq!((i["architecture"]["classes"].as_u64(), i["dataset"].as_str()), (Some(3), Some("set")));
    assert!(place.run(&["inspect", "run"]).ok().contains("classes      cat, dog, eel"));
    assert!(place.run(&["eval", "accuracy", "-m", "run"]).ok().contains("test images (9)"));
    assert!(
        place.run(&["eval", "accuracy", "-m", "run", "--split", "valid"]).ok().contains("valid images (4)")
    );
    place.run(&["train", "-q", "--resume", "run", "train.max_iters=3"]).ok();
    // The configuration printed is complete: it can be run as it is.
    let text = train(&place, &["--print-config", "-q"]).ok();
    assert!(text.contains("image_size = [12, 8, 3]") && text.contains("classes = 3"), "{text}");
    fs::write(place.path().join("run.toml"), text).unwrap();
    place.run(&["train", "-q", "-c", "run.toml", "--dry-run"]).ok();
    assert_eq!(place.names(), ["run", "run.toml", "set"]);
}

#[test]
fn archives_are_recognised_and_damaged_ones_are_6() {
    let place = Place::empty();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jempp/data/tests/sets/cifar-100-python.tar.gz");
    let bytes = fs::read(file).unwrap();
    fs::write(place.path().join("c100.tar.gz"), &bytes).unwrap();
    let print =
        |args: &[&str]| place.run(&[&["train", "--print-config", "data.dataset=c100.tar.gz"], args].concat());
    let done = print(&["data.valid_size=0", "data.labels=coarse"]);
    let line = "data c100.tar.gz: CIFAR-100, Python version, coarse labels (not a published archive (MD5 ";
    assert!(
        done.err.contains(line)
            && done.err.contains("20 classes, 4 training + 2 test images 32×32×3, decoded"),
        "{}",
        done.err
    );
    let text = done.ok();
    assert!(text.contains("classes = 20") && text.contains("labels = \"coarse\""), "{text}");
    fs::write(place.path().join("c100.tar.gz"), &bytes[..bytes.len() / 2]).unwrap();
    let done = print(&[]);
    assert!(done.code == 6 && done.err.contains("c100.tar.gz"), "{}: {}", done.code, done.err);
}

#[test]
fn a_cache_is_replaced_with_one_warning_when_files_change() {
    let place = place();
    train(&place, &["--dry-run"]).ok();
    RgbImage::new(8, 12).save(place.path().join("set/train/cat/new.png")).unwrap();
    let done = train(&place, &["--dry-run"]);
    assert!(
        done.err.matches("warning: ").count() == 1 && done.err.contains("25 training + 9 test images"),
        "{}",
        done.err
    );
    let file = fs::read_dir(place.cache()).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "no cache").unwrap();
    let done = train(&place, &["--dry-run"]);
    assert!(done.err.matches("warning: ").count() == 1 && done.err.contains("decoded in"), "{}", done.err);
    let done = train(&place, &["--dry-run", "--threads", "1"]);
    assert!(!done.err.contains("warning: ") && done.err.contains("from cache"), "{}", done.err);
}

#[test]
fn unsuitable_settings_are_3_and_say_what_to_set() {
    let place = place();
    for (args, words) in [
        (&["model.classes=4"][..], &["`set` has 3 classes", "set model.classes=3"][..]),
        (&["model.classes=2"], &["`set` has 3 classes", "set model.classes=3"]),
        (&["model.image_size=[8, 8, 3]"], &["images of [12, 8, 3]", "set model.image_size=[12, 8, 3]"]),
        (&["train.batch_size=25"], &["`set` has 24 training images", "train.batch_size is 25"]),
        (&["data.labels_per_class=2"], &["`set` has 6 labelled training images", "train.batch_size is 8"]),
        (&["data.valid_size=24"], &["`data.valid_size` = 24: must be below 24"]),
        (&["data.dataset=sat"], &["\"sat\"", "there is set", "`digits`"]),
        (&["data.dataset=set/train/cat/0.png"], &["0.png: is a file"]),
    ] {
        let err = train(&place, args).fails(3);
        assert!(words.iter().all(|w| err.contains(w)), "{args:?}: {err}");
    }
    assert_eq!(place.names(), ["set"]);
}

#[test]
fn unsuitable_files_are_3_and_named() {
    let place = place();
    let png = fs::read(place.path().join("set/train/cat/0.png")).unwrap();
    let odd = place.path().join("odd.png");
    RgbImage::new(9, 12).save(&odd).unwrap();
    let wide = fs::read(&odd).unwrap();
    for (name, bytes, words) in [
        ("train/dog/cut.png", &png[..png.len() / 2], "cut short"),
        ("train/dog/text.jpg", b"just text", "supported are PNG, JPEG, GIF, BMP, WebP and TIFF"),
        ("test/dog/notes.txt", b"just text", "supported are PNG, JPEG, GIF, BMP, WebP and TIFF"),
        ("test/eel/wide.png", &wide, "is 12×9 (height × width), but set/train/cat/0.png is 12×8"),
    ] {
        let path = place.path().join("set").join(name);
        fs::write(&path, bytes).unwrap();
        let err = train(&place, &[]).fails(3);
        assert!(err.contains(&format!("set/{name}: ")) && err.contains(words), "{name}: {err}");
        fs::remove_file(&path).unwrap();
    }
    let fox = place.path().join("set/test/fox");
    fs::create_dir(&fox).unwrap();
    assert!(train(&place, &[]).fails(3).contains("set/test/fox: is a class without images"));
    fs::write(fox.join("0.png"), &png).unwrap();
    assert!(
        train(&place, &[]).fails(3).contains("set/test/fox: is a class without training images in set/train")
    );
    fs::remove_dir_all(&fox).unwrap();
    train(&place, &["-q", "--dry-run"]).ok();
}
