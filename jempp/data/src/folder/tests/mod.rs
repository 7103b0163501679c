//! Folders of a few generated images: values, order, split, cache, threads, and every way to get it wrong.

mod layouts;

use crate::config::DataConfig;
use crate::{Loaded, Origin, Reading, load_with, mt19937};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use jempp_formats::Result;
use jempp_formats::unpack::Unpack;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A data set to be damaged by the tests, and a folder for its cache beside it.
pub(super) struct Place {
    dir: TempDir,
}

/// Bytes that differ from image to image; smooth, so that JPEG keeps them.
pub(super) fn colour(seed: u32, w: u32, h: u32) -> RgbImage {
    let wave = |v: u32| (128.0 + 60.0 * f64::from(v).mul_add(0.25, f64::from(seed)).sin()) as u8;
    RgbImage::from_fn(w, h, |x, y| Rgb([wave(x), wave(y + 3), wave(x + y)]))
}

pub(super) fn grey(seed: u32, w: u32, h: u32) -> GrayImage {
    GrayImage::from_fn(w, h, |x, y| Luma([(seed * 31 + y * w + x) as u8]))
}

impl Place {
    pub(super) fn empty() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.path("")).unwrap();
        place
    }

    /// Classes `b` and `a`, with three and two images for training, one and one for test; 6×5 pixels.
    pub(super) fn new(image: impl Fn(u32) -> DynamicImage) -> Self {
        let place = Self::empty();
        let names =
            ["train/b/2", "train/b/1", "train/b/10", "train/a/x", "train/a/Y", "test/b/0", "test/a/0"];
        for (i, name) in names.iter().enumerate() {
            place.save(&format!("{name}.png"), &image(i as u32));
        }
        place
    }

    pub(super) fn coloured() -> Self {
        Self::new(|i| colour(i, 6, 5).into())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("set").join(name)
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(super) fn save(&self, name: &str, image: &DynamicImage) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        image.save(self.path(name)).unwrap();
    }

    pub(super) fn config(&self) -> DataConfig {
        let mut config = DataConfig { valid_size: 0, ..DataConfig::default() };
        config.dataset = self.path("").to_string_lossy().trim_end_matches('/').to_string();
        config
    }

    pub(super) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache/deeper")
    }

    fn cache_file(&self) -> PathBuf {
        fs::read_dir(self.cache()).unwrap().next().unwrap().unwrap().path()
    }

    fn load_in(&self, cache: Option<PathBuf>, threads: usize) -> Result<Loaded> {
        load_with(&self.config(), Reading { threads, cache, ..Reading::default() })
    }

    /// Loads the data set without a cache.
    fn read(&self) -> Loaded {
        self.load_in(None, 2).unwrap()
    }

    /// Loads the data set with a cache.
    pub(super) fn cached(&self) -> Loaded {
        self.load_in(Some(self.cache()), 2).unwrap()
    }

    /// The error message, with `SET` for the data set's path; empty if there is none.
    fn message(&self) -> String {
        let say = |threads| match self.load_in(None, threads) {
            Ok(_) => String::new(),
            Err(e) => {
                assert_eq!(e.exit_code(), 3, "{e}");
                e.to_string().replace(&self.config().dataset, "SET")
            }
        };
        assert_eq!(say(1), say(3));
        say(2)
    }
}

#[test]
fn images_are_in_order_and_png_is_exact() {
    let place = Place::coloured();
    let loaded = place.read();
    let set = &loaded.set;
    assert_eq!((set.size(), set.len(), set.classes()), ([5, 6, 3], 7, 2));
    assert_eq!(set.class_names(), ["a", "b"]);
    assert_eq!(set.labels(), [0, 0, 1, 1, 1, 0, 1]);
    // By the bytes of the names: Y before x, 1 before 10 before 2.
    for (i, seed) in [4, 3, 1, 2, 0, 6, 5].into_iter().enumerate() {
        assert_eq!(set.image(i as u32).unwrap(), colour(seed, 6, 5).as_raw(), "{i}");
    }
    assert_eq!(loaded.split.train, [0, 1, 2, 3, 4]);
    assert_eq!((loaded.split.valid.len(), loaded.split.test.as_slice()), (0, &[5u32, 6][..]));
    let summary = loaded.summary();
    let name = place.config().dataset;
    assert!(
        summary.starts_with(&format!(
            "data {name}: image folder, 2 classes, 5 training + 2 test images 5×6×3, decoded in "
        )),
        "{summary}"
    );
}

#[test]
fn jpeg_is_close() {
    let place = Place::coloured();
    for (name, seed) in [("train/a/Y", 4), ("train/b/1", 1)] {
        fs::remove_file(place.path(&format!("{name}.png"))).unwrap();
        let mut bytes = std::io::Cursor::new(Vec::new());
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 98);
        colour(seed, 6, 5).write_with_encoder(encoder).unwrap();
        place.put(&format!("{name}.JPEG"), bytes.get_ref());
    }
    let set = place.read().set;
    for (i, seed) in [(0, 4), (2, 1)] {
        let image = set.image(i).unwrap();
        let worst = image.iter().zip(colour(seed, 6, 5).as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst.is_some_and(|w| w <= 12), "{worst:?}");
        assert_ne!(image, colour(seed, 6, 5).as_raw());
    }
}

/// Small files that claim many pixels are refused before memory is allocated for them, alone and together.
#[test]
fn decompression_bombs_are_refused() {
    // One small file of 400×400 pixels, and many tiny ones that would have to hold as many.
    let place = Place::coloured();
    place.save("train/a/Y.png", &GrayImage::new(1600, 1600).into());
    for i in 0..30 {
        place.put(&format!("train/b/more{i}.png"), b"x");
    }
    let m = place.message();
    assert!(m.starts_with("SET/train/a/Y.png and 36 more images: the ") && m.contains("malicious"), "{m}");
    assert!(m.contains("data.unpack_limit=90 lets it in"), "{m}");
    let place = Place::coloured();
    place.save("train/b/3.png", &DynamicImage::from(RgbImage::new(1000, 1000)));
    assert!(place.message().contains("is 1000×1000"));
    let strict = |n| crate::folder::rgb(&place.path("train/b/3.png"), Unpack::bytes(n));
    let e = strict(1 << 19).unwrap_err();
    assert!(e.exit_code() == 3 && e.to_string().contains("unpack to 3000000"), "{e}");
    assert!(strict(1 << 22).is_ok());
}

#[test]
fn grey_stays_grey_until_there_is_colour() {
    let place = Place::new(|i| grey(i, 6, 5).into());
    let set = place.read().set;
    assert_eq!(set.size(), [5, 6, 1]);
    assert_eq!(set.image(2).unwrap(), grey(1, 6, 5).as_raw());
    // Opaque grey with alpha is grey; one image with colour turns all into RGB.
    place.save("test/a/0.png", &DynamicImage::from(grey(6, 6, 5)).to_luma_alpha8().into());
    assert_eq!(place.read().set, set);
    place.save("test/b/0.png", &RgbaImage::from_pixel(6, 5, Rgba([9, 8, 7, 255])).into());
    for threads in [1, 2, 5] {
        let set = place.load_in(None, threads).unwrap().set;
        assert_eq!((set.size(), set.image(6).unwrap()[..3].to_vec()), ([5, 6, 3], vec![9, 8, 7]));
        let three: Vec<u8> = grey(1, 6, 5).as_raw().iter().flat_map(|v| [*v; 3]).collect();
        assert_eq!(set.image(2).unwrap(), three);
    }
}

#[test]
fn threads_change_nothing_and_progress_is_reported() {
    let place = Place::coloured();
    for i in 0..150 {
        place.save(&format!("train/b/more{i}.png"), &colour(i, 6, 5).into());
    }
    let one = place.load_in(None, 1).unwrap();
    for threads in [0, 2, 3, 16] {
        let mut told = Vec::new();
        let progress = Box::new(|done, all| told.push((done, all)));
        let loaded =
            load_with(&place.config(), Reading { threads, cache: None, progress, ..Reading::default() })
                .unwrap();
        assert_eq!((&loaded.set, &loaded.split), (&one.set, &one.split));
        assert!(told.is_sorted() && told.len() > 3 && told.last() == Some(&(157, 157)), "{told:?}");
    }
}

#[test]
fn validation_is_the_published_split_of_the_training_images() {
    let place = Place::coloured();
    let mut config = place.config();
    config.valid_size = 2;
    let load = |config: &DataConfig| load_with(config, Reading { cache: None, ..Reading::default() });
    let split = load(&config).unwrap().split;
    let order: Vec<u32> = mt19937::numpy_permutation(1234, 5).into_iter().map(|i| i as u32).collect();
    assert_eq!((&split.valid[..], &split.train[..]), (&order[..2], &order[2..]));
    assert_eq!(split.test, [5, 6]);
    config.valid_size = 5;
    let e = load(&config).unwrap_err();
    assert!(e.exit_code() == 3 && e.to_string().contains("`data.valid_size` = 5: must be below 5"), "{e}");
}

#[test]
fn the_cache_is_valid_until_the_files_change() {
    let place = Place::coloured();
    let fresh = place.read();
    let first = place.cached();
    assert_eq!((first.origin, first.warnings.len()), (Origin::Files, 0));
    let second = place.cached();
    assert_eq!((second.origin, second.warnings.len()), (Origin::Cache, 0));
    for l in [&first, &second] {
        assert_eq!((&l.set, &l.split), (&fresh.set, &fresh.split));
    }
    assert!(second.summary().contains("read from cache in"));
    // Changed, added, renamed, removed: each time one warning, then the new images.
    let changes: [&dyn Fn(); 4] = [
        &|| place.save("test/a/0.png", &colour(50, 6, 5).into()),
        &|| place.save("train/a/new.png", &colour(51, 6, 5).into()),
        &|| fs::rename(place.path("train/a/new.png"), place.path("train/a/0.png")).unwrap(),
        &|| fs::remove_file(place.path("train/a/0.png")).unwrap(),
    ];
    for (i, change) in changes.iter().enumerate() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        change();
        let stale = place.cached();
        assert_eq!((stale.origin, stale.warnings.len()), (Origin::Files, 1), "{i}");
        assert!(stale.warnings[0].contains("have changed"), "{:?}", stale.warnings);
        assert_eq!(stale.set, place.read().set);
        assert_eq!(place.cached().origin, Origin::Cache);
    }
    assert_eq!(fs::read_dir(place.cache()).unwrap().count(), 1);
}

#[test]
fn damaged_caches_are_replaced() {
    let place = Place::coloured();
    let fresh = place.cached();
    let file = place.cache_file();
    let good = fs::read(&file).unwrap();
    let mut bad: Vec<Vec<u8>> = [0, 7, 19, 25, 150, good.len() - 1].map(|n| good[..n].to_vec()).to_vec();
    bad.push([&good[..], b"more"].concat());
    // Bits of magic, version, length, checksum, header, labels and images.
    for at in [0, 8, 12, 15, 17, 30, good.len() - 640, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[at] ^= 0x40;
        bad.push(flipped);
    }
    for (i, bytes) in bad.iter().enumerate() {
        fs::write(&file, bytes).unwrap();
        let loaded = place.cached();
        assert_eq!((loaded.origin, loaded.warnings.len()), (Origin::Files, 1), "{i}");
        assert!(loaded.warnings[0].contains("is unusable"), "{:?}", loaded.warnings);
        assert_eq!(loaded.set, fresh.set);
        assert_eq!(fs::read(&file).unwrap(), good, "{i}");
    }
}

#[test]
fn an_unwritable_cache_is_a_warning() {
    let place = Place::coloured();
    fs::write(place.dir.path().join("cache"), "a file where a folder should be").unwrap();
    let loaded = place.cached();
    assert_eq!((loaded.origin, loaded.warnings.len()), (Origin::Files, 1), "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("JEMPP_CACHE_DIR"));
    assert_eq!(loaded.set, place.read().set);
}

/// The error message for a damaged data set, with `SET` for its path.
pub(super) fn spoilt(spoil: impl Fn(&Place)) -> String {
    let place = Place::coloured();
    spoil(&place);
    place.message()
}

#[test]
fn misplaced_folders_are_named() {
    let missing = |name: &'static str| move |p: &Place| fs::remove_dir_all(p.path(name)).unwrap();
    // A part alone is a data set.
    assert!(spoilt(missing("train")).is_empty() && spoilt(missing("test")).is_empty());
    let m = spoilt(missing("train/a"));
    assert!(m.starts_with("SET/train: has 1 class folders"), "{m}");
    let m = spoilt(|p| p.save("train/c/0.png", &colour(0, 6, 5).into()));
    // A class without test images still counts.
    assert!(m.is_empty(), "{m}");
    let m = spoilt(|p| p.save("test/c/0.png", &colour(0, 6, 5).into()));
    assert!(m.starts_with("SET/test/c: is a class without training images in SET/train"), "{m}");
    let m = spoilt(|p| fs::create_dir(p.path("train/empty")).unwrap());
    assert!(m.starts_with("SET/train/empty: is a class without images"), "{m}");
    let m = spoilt(|p| fs::rename(p.path("test/a/0.png"), p.path("test/a/.hidden.png")).unwrap());
    assert!(m.starts_with("SET/test/a: is a class without images"), "{m}");
    let m = spoilt(|p| fs::create_dir(p.path("train/a/inner")).unwrap());
    assert!(m.starts_with("SET/train/a/inner: is a folder inside a class"), "{m}");
    let m = spoilt(|p| p.put("train/stray.jpg", b"x"));
    assert!(m.starts_with("SET/train/stray.jpg: is not in a class folder"), "{m}");
    let m = spoilt(|p| ["a", "b"].iter().for_each(|c| fs::remove_dir_all(p.path("test").join(c)).unwrap()));
    assert!(m.starts_with("SET/test: has no class folders"), "{m}");
    let m = spoilt(|p| p.save("Val/a/0.png", &colour(0, 6, 5).into()));
    assert!(m.is_empty(), "{m}");
    let m = spoilt(|p| {
        ["val", "valid"].iter().for_each(|v| p.save(&format!("{v}/a/0.png"), &colour(0, 6, 5).into()))
    });
    assert!(m.starts_with("SET/valid: is the same part of the data set as SET/val"), "{m}");
}

#[test]
fn similar_names_are_suggested_for_a_missing_path() {
    let place = Place::coloured();
    let mut config = place.config();
    let name = config.dataset.clone();
    config.dataset.push('s');
    let say = |config: &DataConfig| {
        let e = load_with(config, Reading { cache: None, ..Reading::default() }).unwrap_err();
        assert_eq!(e.exit_code(), 3);
        e.to_string()
    };
    let m = say(&config);
    assert!(m.contains(&format!("\"{name}s\"")) && m.ends_with("there is set"), "{m}");
    config.dataset = format!("{name}/train/a/x.png");
    assert!(say(&config).contains("x.png: is a file, a Png image; a data set is"));
    config.dataset = "cifar-ten".into();
    assert!(say(&config).contains("built-in data set is `digits`"));
}

#[test]
fn unsuitable_files_are_named() {
    let bytes = |format| {
        let mut out = std::io::Cursor::new(Vec::new());
        colour(3, 6, 5).write_to(&mut out, format).unwrap();
        out.into_inner()
    };
    let file = |name: &'static str, bytes: &[u8]| spoilt(|p| p.put(name, bytes));
    let m = file("train/b/3.heic", b"RIFF");
    assert!(m.starts_with("SET/train/b/3.heic: ") && m.contains("supported are PNG, JPEG"), "{m}");
    let m = file("train/b/3.jpg", b"no image at all");
    assert!(m.starts_with("SET/train/b/3.jpg: is not an image in a supported format; supported"), "{m}");
    assert!(file("train/b/3.jpg", b"").contains("3.jpg: is empty"));
    let m = file("test/b/3.png", b"GIF89a\x06\0\x05\0");
    assert!(m.contains("test/b/3.png: cannot be read as Gif") && m.ends_with("convert it to PNG"), "{m}");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n";
    assert!(file("test/b/3.png", pointer).contains("is a pointer of Git LFS, not the file itself"));
    assert!(file("test/b/3.jpg", b"<html><body>").contains("is a web page (HTML)"));
    let m = spoilt(|p| p.save("train/b/3.png", &colour(3, 5, 6).into()));
    assert!(
        m.starts_with("SET/train/b/3.png: is 6×5 (height × width), but SET/train/a/Y.png is 5×6")
            && m.contains("data.resize=[H, W]"),
        "{m}"
    );
    let m = spoilt(|p| p.save("train/a/0.png", &DynamicImage::from(grey(0, 4097, 1))));
    assert!(m.contains("train/a/0.png: is 1×4097") && m.contains("the maximum is 4096×4096"), "{m}");
    let m = spoilt(|p| p.save("train/b/3.png", &RgbaImage::from_pixel(6, 5, Rgba([1, 2, 3, 4])).into()));
    assert!(m.contains("train/b/3.png: has transparent pixels"), "{m}");
    // Whole files of either format under either name are fine.
    assert!(file("train/b/3.jpg", &bytes(ImageFormat::Png)).is_empty());
    assert!(file("train/b/3.png", &bytes(ImageFormat::Jpeg)).is_empty());
}

/// Every truncated image is an error, never an image filled up with grey.
#[test]
fn truncated_images_are_refused() {
    let place = Place::coloured();
    for (name, format) in [("train/b/3.png", ImageFormat::Png), ("train/b/3.jpg", ImageFormat::Jpeg)] {
        let mut out = std::io::Cursor::new(Vec::new());
        colour(3, 6, 5).write_to(&mut out, format).unwrap();
        let whole = out.into_inner();
        let steps = (0..whole.len()).step_by(7).chain(whole.len() - 9..whole.len());
        for n in steps {
            place.put(name, &whole[..n]);
            let m = place.message();
            assert!(m.starts_with(&format!("SET/{name}: ")), "{n} of {}: {m}", whole.len());
        }
        // Bytes after the end are ignored.
        place.put(name, &[&whole[..], b"tail"].concat());
        assert!(place.message().is_empty());
        fs::remove_file(place.path(name)).unwrap();
    }
}
