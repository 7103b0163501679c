//! Files, folders and habits as people have them: what `predict` takes, classes by name, runs from elsewhere, presets on few
//! images.

use super::{Place, TINY};
use image::{GrayImage, Luma};
use jempp_formats::npz::{Array, write};
use std::fs;

/// An image folder `name` of grey 8×8 images: the class says which rows are bright.
fn folder(place: &Place, name: &str, classes: &[&str], [train, test]: [u32; 2]) {
    for (part, n) in [("train", train), ("test", test)] {
        for (k, class) in classes.iter().enumerate() {
            let at = place.path().join(name).join(part).join(class);
            fs::create_dir_all(&at).unwrap();
            let rows = class.bytes().next().map_or(0, |b| u32::from(b - b'a'));
            for i in 0..n {
                let image = GrayImage::from_fn(8, 8, |x, y| {
                    let bright = (2 * rows..2 * rows + 2).contains(&y);
                    Luma([if bright { 210 } else { ((x * 31 + y * 17 + i * 7 + k as u32) % 48) as u8 }])
                });
                image.save(at.join(format!("{i:03}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn predict_takes_folders_patterns_arrays_and_other_sizes() {
    let place = Place::empty();
    place.train("run");
    for (name, side) in
        [("in/a.png", 8), ("in/deep/b.png", 8), ("big/c.bmp", 20), ("big/d.webp", 20), ("big/e.tiff", 8)]
    {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_fn(side, side, |x, y| Luma([(x * 9 + y) as u8])).save(path).unwrap();
    }
    let predict = |args: &[&str]| place.run(&[&["predict", "-m", "run", "-i"], args].concat());
    let lines = |args: &[&str]| predict(args).ok().lines().count();
    assert_eq!((lines(&["in"]), lines(&["in/*.png"]), lines(&["in/*/?.png", "in/a.png"])), (2, 1, 2));
    let err = predict(&["big"]).fails(3);
    assert!(err.contains("--resize crop"), "{err}");
    assert_eq!((lines(&["big", "--resize", "crop"]), lines(&["big", "--resize", "squash"])), (3, 3));
    assert!(predict(&["none/*.png"]).fails(3).contains("there are no images there"));
    // Labels of any kind beside the images are no matter; floats from 0 to 1 are.
    let at = |name: &str| place.path().join(name);
    write(
        &at("x.npz"),
        &[("images", Array::F32(&[2, 8, 8], &[0.5; 128])), ("labels", Array::F32(&[2, 10], &[0.1; 20]))],
    )
    .unwrap();
    let warned = predict(&["x.npz"]);
    assert!(warned.err.contains("--range 0,1") && warned.out.lines().count() == 2, "{}", warned.err);
    let said = predict(&["x.npz", "--range", "0,1"]);
    assert!(said.err.is_empty() && said.out != warned.out, "{}", said.err);
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 8, 8, 1), }\n";
    let npy = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), &[9; 192]]
        .concat();
    fs::write(at("x.npy"), npy).unwrap();
    let line = predict(&["x.npy"]).ok();
    assert!(
        line.lines().nth(2).unwrap().contains("\"file\":\"x.npy\"") && line.contains("\"image\":2"),
        "{line}"
    );
    // A table.
    predict(&["in", "x.npy", "-o", "out.csv"]).ok();
    let table = fs::read_to_string(at("out.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!((rows.len(), rows[0][..5].join(",")), (6, "index,file,image,label,class".to_owned()));
    assert!(rows.iter().all(|r| r.len() == rows[0].len()) && rows[0].len() == 7 + 20, "{table}");
    assert_eq!((rows[1][1], rows[5][2]), ("in/a.png", "2"));
}

#[test]
fn classes_are_matched_by_name() {
    let place = Place::empty();
    folder(&place, "all", &["ant", "bee", "cat"], [24, 8]);
    folder(&place, "less", &["bee", "cat"], [1, 8]);
    folder(&place, "more", &["bee", "dog"], [1, 8]);
    let keys = [
        "preset=softmax",
        "data.dataset=all",
        "model.depth=10",
        "model.widen_factor=1",
        "train.batch_size=8",
        "train.warmup_iters=1",
        "train.epochs=12",
        "data.pad=0",
        "data.flip=false",
        "data.sigma=0",
        "train.decay_epochs=[]",
    ];
    place.run(&[&["train", "-q", "--out", "run"][..], &keys].concat()).ok();
    let accuracy = |data: &str| {
        let v = place.run(&["eval", "accuracy", "-m", "run", "--data", data, "--json"]).json();
        v["classification"]["accuracy"].as_f64().unwrap()
    };
    assert!(accuracy("all") > 0.9, "{}", accuracy("all"));
    assert!(accuracy("less") > 0.9, "{}", accuracy("less"));
    for command in ["accuracy", "calibration", "attack"] {
        let err = place.run(&["eval", command, "-m", "run", "--data", "more"]).fails(3);
        assert!(
            err.contains("the class dog, which the model does not know; its classes are ant, bee, cat"),
            "{err}"
        );
    }
}

#[test]
fn runs_are_gone_on_with_from_elsewhere() {
    let place = Place::empty();
    folder(&place, "home/photos", &["ant", "bee"], [8, 4]);
    fs::create_dir(place.path().join("other")).unwrap();
    let at = |folder: &str, args: &[&str]| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_jempp-cli"));
        command.current_dir(place.path().join(folder)).env("JEMPP_CACHE_DIR", place.cache()).args(args);
        let o = command.output().unwrap();
        (o.status.code(), String::from_utf8(o.stderr).unwrap())
    };
    let keys = ["data.dataset=photos", "train.batch_size=8", "train.epochs=9", "data.valid_size=0"];
    let train = at("home", &[&["train", "-q", "--out", "run"][..], &keys, &TINY[..1], &TINY[2..]].concat());
    assert_eq!(train.0, Some(0), "{}", train.1);
    for args in [
        &["eval", "accuracy", "-m", "../home/run"][..],
        &["train", "-q", "--resume", "../home/run", "train.max_iters=4"],
    ] {
        let (code, err) = at("other", args);
        assert_eq!(code, Some(0), "{args:?}: {err}");
    }
    fs::rename(place.path().join("home/photos"), place.path().join("home/moved")).unwrap();
    let (code, err) = at("other", &["eval", "accuracy", "-m", "../home/run"]);
    assert!(code == Some(3) && err.contains("it is neither in") && err.contains("nor in"), "{err}");
}

/// A preset made for tens of thousands of images on twenty: the validation part adapts, and what does not fit is said.
#[test]
fn presets_adapt_to_few_images() {
    let place = Place::empty();
    folder(&place, "photos", &["ant", "bee"], [20, 2]);
    for preset in ["softmax", "jempp"] {
        let preset_key = format!("preset={preset}");
        let keys = [
            "data.dataset=photos",
            "model.depth=10",
            "model.widen_factor=1",
            "train.batch_size=8",
            "sampler.outer_steps=2",
            "sampler.buffer_size=20",
            "train.epochs=2",
            &preset_key,
        ];
        let done = place.run(&[&["train", "--out", preset][..], &keys].concat());
        assert!(done.err.contains("data.valid_size is 4, a tenth of the 40 training images"), "{}", done.err);
        assert!(done.err.contains("train.warmup_iters is 1000, but there are 8 iterations"), "{}", done.err);
        assert!(
            done.err.contains("train.decay_epochs is [50, 100, 125], but there are 2 epochs"),
            "{}",
            done.err
        );
        done.ok();
        let config = fs::read_to_string(place.path().join(preset).join("config.toml")).unwrap();
        assert!(config.contains("valid_size = 4"), "{config}");
    }
    let err = place.run(&["train", "data.dataset=photos", "preset=jempp", "data.valid_size=5000"]).fails(3);
    assert!(err.contains("`data.valid_size` = 5000: must be below 40"), "{err}");
}

/// Arguments that are not UTF-8 are an error or a name, never a panic.
#[cfg(unix)]
#[test]
fn arguments_that_are_no_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::empty();
    let odd = std::ffi::OsStr::from_bytes(b"run-\xff");
    let keys = ["train.max_iters=2", "train.batch_size=32", "sampler.buffer_size=100"];
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_jempp-cli"));
    command.current_dir(place.path()).args(["train", "-q", "--out"]).arg(odd).args(keys);
    let o = command.output().unwrap();
    assert_eq!(o.status.code(), Some(0), "{}", String::from_utf8_lossy(&o.stderr));
    assert!(place.path().join(odd).join("env.json").exists());
}
