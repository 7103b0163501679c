//! Layouts of folders, kinds of pictures, what is found among them, and that a changed file is seen.

use super::{Place, colour, grey, spoilt};
use crate::config::DataConfig;
use crate::{Loaded, Origin, Reading, load_with};
use image::{DynamicImage, GenericImageView, ImageFormat, RgbImage};
use jempp_formats::Result;
use std::fs;
use std::io::Cursor;

fn load(place: &Place, change: impl FnOnce(&mut DataConfig)) -> Result<Loaded> {
    let mut config = place.config();
    change(&mut config);
    load_with(&config, Reading { cache: None, ..Reading::default() })
}

fn parts(l: &Loaded) -> [usize; 3] {
    [l.split.train.len(), l.split.valid.len(), l.split.test.len()]
}

/// Saves images of 6×5 pixels.
fn put(place: &Place, names: &[&str]) {
    names.iter().enumerate().for_each(|(i, n)| place.save(n, &colour(i as u32, 6, 5).into()));
}

#[test]
fn the_validation_part_is_read_under_each_of_its_names() {
    for name in ["val", "valid", "validation", "Val"] {
        let place = Place::coloured();
        put(&place, &[&format!("{name}/b/0.png"), &format!("{name}/b/1.png"), &format!("{name}/a/0.png")]);
        let l = load(&place, |c| c.valid_size = 1).unwrap();
        assert_eq!((parts(&l), l.warnings.len()), ([5, 3, 2], 0), "{name}");
        let labels: Vec<u16> = l.split.valid.iter().map(|i| l.set.labels()[*i as usize]).collect();
        assert_eq!(labels, [0, 1, 1]);
        assert!(l.summary().contains("5 training + 3 validation + 2 test images"), "{}", l.summary());
    }
    // Beside training images alone they are the test images, as in ImageNet and TinyImageNet.
    let place = Place::coloured();
    fs::rename(place.path("test"), place.path("val")).unwrap();
    let l = load(&place, |_| {}).unwrap();
    assert!(parts(&l) == [5, 0, 2] && l.warnings[0].contains("val are the test images"), "{:?}", l.warnings);
}

#[test]
fn folders_without_parts_or_classes() {
    // Classes alone: a tenth is held out, at random but always the same.
    let place = Place::empty();
    (0..20)
        .for_each(|i| place.save(&format!("{}/{i}.png", ["a", "b"][i % 2]), &colour(i as u32, 6, 5).into()));
    let l = load(&place, |_| {}).unwrap();
    assert_eq!(
        (parts(&l), l.has_parts, l.set.class_names()),
        ([18, 0, 2], false, &["a".to_owned(), "b".into()][..])
    );
    assert!(l.warnings[0].contains("2 of its images is held out for test"), "{:?}", l.warnings);
    assert_eq!(load(&place, |_| {}).unwrap().split, l.split);
    // Images alone, in a folder, in `images`, or as a test part: no labels.
    for (folder, want) in
        [("", [18, 0, 2]), ("images/", [18, 0, 2]), ("test/", [0, 0, 20]), ("test/images/", [0, 0, 20])]
    {
        let place = Place::empty();
        (0..20).for_each(|i| place.save(&format!("{folder}{i}.png"), &colour(i, 6, 5).into()));
        let l = load(&place, |_| {}).unwrap();
        assert_eq!((parts(&l), l.set.is_labelled()), (want, false), "{folder}");
        assert!(l.summary().contains("images without labels, no labels, "), "{}", l.summary());
        let e = l.set.labels_of(&[0], &mut [0]).unwrap_err().to_string();
        assert!(e.contains("have no labels"), "{e}");
    }
    // A test part alone has the classes that it has.
    let place = Place::coloured();
    fs::remove_dir_all(place.path("train")).unwrap();
    let l = load(&place, |c| c.valid_size = 3).unwrap();
    assert_eq!((parts(&l), l.set.classes(), l.has_parts), ([0, 0, 2], 2, true));
}

#[test]
fn tiny_imagenet() {
    let place = Place::empty();
    for (i, class) in ["n01", "n02"].iter().enumerate() {
        for k in 0..3 {
            place.save(&format!("train/{class}/images/{class}_{k}.png"), &colour(i as u32, 6, 5).into());
        }
        place.put(&format!("train/{class}/{class}_boxes.txt"), b"0 0 9 9");
    }
    // As in the archive, the boxes lie beside the folder of images.
    fs::remove_file(place.path("train/n01/n01_boxes.txt")).unwrap();
    fs::remove_file(place.path("train/n02/n02_boxes.txt")).unwrap();
    put(&place, &["val/images/val_0.png", "val/images/val_1.png", "test/images/test_0.png"]);
    place.put("val/val_annotations.txt", b"val_0.png\tn02\t0\t0\t9\t9\nval_1.png\tn01\t0\t0\t9\t9\n");
    place.put("wnids.txt", b"n01\nn02\n");
    let l = load(&place, |_| {}).unwrap();
    assert_eq!((parts(&l), l.set.labels()), ([6, 0, 2], &[0, 0, 0, 1, 1, 1, 1, 0][..]));
    let said = l.warnings.join("\n");
    assert!(said.contains("the 1 images in") && said.contains("have no labels and are left out"), "{said}");
    assert!(said.contains("val are the test images"), "{said}");
}

#[test]
fn labels_in_a_table() {
    for (folder, csv) in [("train/", "trainLabels.csv"), ("", "labels.csv"), ("images/", "train.csv")] {
        let place = Place::empty();
        (0..10).for_each(|i| place.save(&format!("{folder}{i}.png"), &colour(i, 6, 5).into()));
        let rows: String = (0..10).map(|i| format!("{i},{}\n", ["frog", "cat"][i % 2])).collect();
        place.put(csv, format!("id,label\n{rows}").as_bytes());
        let l = load(&place, |_| {}).unwrap();
        assert_eq!(
            (parts(&l), l.set.class_names()),
            ([9, 0, 1], &["cat".to_owned(), "frog".into()][..]),
            "{csv}"
        );
        assert!(l.set.labels().iter().enumerate().all(|(i, l)| usize::from(*l) == 1 - i % 2));
        assert!(l.kind.contains(csv));
        // The same, named; and one that lacks an image.
        fs::rename(place.path(csv), place.path("other.txt")).unwrap();
        assert_eq!(load(&place, |c| c.labels_csv = "other.txt".into()).unwrap().set.labels(), l.set.labels());
        assert!(!load(&place, |_| {}).unwrap().set.is_labelled());
        place.put(csv, b"id,label\n0,frog\n1,cat\n");
        let e = load(&place, |_| {}).unwrap_err().to_string();
        assert!(e.contains("has no row for 2.png, nor for 7 other images"), "{e}");
    }
    // Numbers are sorted by value and become the names.
    let place = Place::empty();
    (0..4).for_each(|i| place.save(&format!("{i}.png"), &colour(i, 6, 5).into()));
    place.put("labels.csv", b"file,class\n0.png,10\n1.png,9\n2.png,10\n3.png,9\n");
    assert_eq!(load(&place, |_| {}).unwrap().set.class_names(), ["9", "10"]);
}

#[test]
fn what_is_left_behind_is_no_image_and_no_class() {
    let place = Place::coloured();
    let want = load(&place, |_| {}).unwrap();
    for name in [
        ".DS_Store",
        "train/.DS_Store",
        "train/a/._x.png",
        "train/b/Thumbs.db",
        "train/.ipynb_checkpoints/0.png",
        "test/a/desktop.ini",
        "__MACOSX/train/a/._x.png",
        "train/__MACOSX/a/._x.png",
        "train/a/@eaDir/x.png@SynoEAStream",
        "train/@eaDir/a@SynoEAStream",
        "train/a/__MACOSX/x.png",
        "@Recycle.tmp/x.png",
    ] {
        if !name.starts_with("@Recycle") {
            place.put(name, b"left behind");
        }
    }
    let l = load(&place, |_| {}).unwrap();
    assert_eq!((l.set, l.split, l.warnings), (want.set, want.split, want.warnings));
}

/// Bytes of an image file.
fn bytes(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// EXIF data that say an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], &[0; 6]].concat()
}

/// A JPEG with an APP1 segment after its start.
fn turned_jpeg(image: &RgbImage, orientation: u8) -> Vec<u8> {
    let plain = bytes(&image.clone().into(), ImageFormat::Jpeg);
    let data = [&b"Exif\0\0"[..], &exif(orientation)].concat();
    [&plain[..2], &[0xff, 0xe1], &(data.len() as u16 + 2).to_be_bytes(), &data, &plain[2..]].concat()
}

#[test]
fn photographs_are_turned_as_exif_says() {
    for orientation in 1..=8 {
        let place = Place::empty();
        let mut upright = DynamicImage::from(colour(3, 16, 24));
        let stored = if orientation >= 5 { colour(3, 24, 16) } else { colour(3, 16, 24) };
        let mut want = DynamicImage::from(stored.clone());
        want.apply_orientation(image::metadata::Orientation::from_exif(orientation).unwrap());
        upright = want.clone().resize_exact(upright.width(), upright.height(), image::imageops::Nearest);
        for (i, name) in ["train/a/0", "train/b/0", "test/a/0"].iter().enumerate() {
            match i {
                0 => place.put(&format!("{name}.jpg"), &turned_jpeg(&stored, orientation)),
                _ => place.save(&format!("{name}.png"), &upright),
            }
        }
        let l = load(&place, |_| {}).unwrap();
        assert_eq!(l.set.size(), [24, 16, 3], "{orientation}");
        let off = l.set.image(0).unwrap().iter().zip(want.as_bytes()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off.is_some_and(|d| d <= 40), "{orientation}: {off:?}");
        assert_eq!(want.dimensions(), (16, 24));
    }
}

#[test]
fn sixteen_bits_are_rounded_and_grey_stays_grey() {
    let wide = |i| DynamicImage::from(grey(i, 6, 5)).to_luma16();
    let place = Place::new(|i| wide(i).into());
    let narrow = Place::new(|i| grey(i, 6, 5).into());
    let (a, b) = (load(&place, |_| {}).unwrap().set, load(&narrow, |_| {}).unwrap().set);
    assert_eq!((a.size(), a.images()), (b.size(), b.images()));
    place.save("test/b/0.png", &DynamicImage::from(colour(1, 6, 5)).to_rgb16().into());
    assert_eq!(load(&place, |_| {}).unwrap().set.size(), [5, 6, 3]);
}

#[test]
fn images_of_any_size_are_scaled_if_asked_for() {
    let place = Place::coloured();
    place.save("train/b/3.png", &colour(9, 40, 20).into());
    place.save("train/b/4.png", &colour(9, 20, 40).into());
    assert!(load(&place, |_| {}).unwrap_err().to_string().contains("data.resize=[H, W]"));
    let scaled = |mode: &str, filter: &str| {
        let mut config = serde_json::to_value(place.config()).unwrap();
        config["resize"] = [8, 9].as_slice().into();
        (config["resize_mode"], config["resize_filter"]) = (mode.into(), filter.into());
        let config: DataConfig = serde_json::from_value(config).unwrap();
        load_with(&config, Reading { cache: Some(place.cache()), ..Reading::default() }).unwrap().set
    };
    let all: Vec<_> = [("crop", "bilinear"), ("squash", "bilinear"), ("crop", "lanczos"), ("crop", "box")]
        .map(|(m, f)| scaled(m, f))
        .into();
    for (i, set) in all.iter().enumerate() {
        assert_eq!((set.size(), set.len()), ([8, 9, 3], 9));
        assert!(all[..i].iter().all(|other| other.images() != set.images()), "{i}");
    }
    assert_eq!(scaled("crop", "bilinear"), all[0]);
}

/// The number of validation images that a preset says is at most a tenth; one that the user says is that.
#[test]
fn a_default_of_validation_images_adapts() {
    let place = Place::empty();
    (0..44)
        .for_each(|i| place.save(&format!("{}/{i}.png", ["a", "b"][i % 2]), &colour(i as u32, 6, 5).into()));
    let mut config = place.config();
    config.valid_size = 5000;
    let read = |config: &DataConfig, default_valid_size| {
        load_with(config, Reading { cache: None, default_valid_size, ..Reading::default() })
    };
    let l = read(&config, true).unwrap();
    assert_eq!((parts(&l), l.valid_size), ([36, 3, 5], 3));
    assert!(
        l.warnings.iter().any(|w| w.starts_with("data.valid_size is 3, a tenth of the 39")),
        "{:?}",
        l.warnings
    );
    assert!(read(&config, false).unwrap_err().to_string().contains("`data.valid_size` = 5000"));
    config.valid_size = 2;
    assert_eq!(read(&config, true).unwrap().valid_size, 2);
}

/// A file put in another's place with the same length and time of modification.
#[cfg(unix)]
#[test]
fn a_corrected_file_of_the_same_size_and_time_is_seen() {
    let place = Place::new(|_| colour(0, 6, 5).into());
    let name = "train/a/x.png";
    let [first, second] = [1, 2].map(|i| {
        let mut png = bytes(&grey(i, 6, 5).into(), ImageFormat::Png);
        png.resize(200, 0);
        png
    });
    place.put(name, &first);
    let before = place.cached();
    assert_eq!(place.cached().origin, Origin::Cache);
    let time = fs::metadata(place.path(name)).unwrap().modified().unwrap();
    place.put("../new.png", &second);
    let file = fs::File::options().write(true).open(place.path("../new.png")).unwrap();
    file.set_modified(time).unwrap();
    fs::rename(place.path("../new.png"), place.path(name)).unwrap();
    let about = fs::metadata(place.path(name)).unwrap();
    assert_eq!((about.len(), about.modified().unwrap()), (200, time));
    let after = place.cached();
    assert_eq!(after.origin, Origin::Files);
    assert_ne!(after.set.images(), before.set.images());
    // Written in place, with the time set back.
    place.put(name, &first);
    fs::File::options().write(true).open(place.path(name)).unwrap().set_modified(time).unwrap();
    assert_eq!(place.cached().set.images(), before.set.images());
}

/// A relative path is found where the training was started, and else where the program runs.
#[test]
fn relative_paths_are_looked_for_where_they_were() {
    let place = Place::coloured();
    let mut config = place.config();
    let whole = config.dataset.clone();
    let (parent, name) = whole.rsplit_once('/').unwrap();
    (config.base, config.dataset) = (parent.to_owned(), name.to_owned());
    let read = |config: &DataConfig| load_with(config, Reading { cache: None, ..Reading::default() });
    let l = read(&config).unwrap();
    assert_eq!((l.set.name(), &l.base), (name, &config.base));
    config.base = place.path("no such place").display().to_string();
    let e = read(&config).unwrap_err().to_string();
    assert!(e.contains("it is neither in") && e.contains("no such place") && e.contains("nor in"), "{e}");
    config.dataset = "~/no such folder".into();
    config.base = String::new();
    assert!(!read(&config).unwrap_err().to_string().contains('~'));
}

/// The first file in order is named, though a later one fails sooner.
#[test]
fn of_several_errors_the_first_is_reported() {
    let m = spoilt(|p| {
        for i in 0..400 {
            p.put(&format!("train/b/n{i:03}.png"), if i > 200 { b"bad" } else { b"" });
        }
    });
    assert!(m.starts_with("SET/train/b/n000.png: is empty"), "{m}");
}
