//! `convert`, and published checkpoints given to other commands.

use super::Place;
use jempp_formats::npz::{Array, write};
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// A folder with published checkpoints `zip.pt` and `old.pt`, and two images in `x.npz`.
fn place() -> Place {
    let place = Place::empty();
    fs::copy(fixture("wrn10_1_official.pt"), place.path().join("zip.pt")).unwrap();
    fs::copy(fixture("wrn10_1_official_legacy.pt"), place.path().join("old.pt")).unwrap();
    let images: Vec<f32> = (0..2 * 3072).map(|i| (i * 37 % 201) as f32 / 100.0 - 1.0).collect();
    write(&place.path().join("x.npz"), &[("images", Array::F32(&[2, 32, 32, 3], &images))]).unwrap();
    place
}

#[test]
fn published_checkpoints_work_directly_and_converted() {
    let place = place();
    place.run(&["convert", "zip.pt", "model.safetensors"]).ok();
    place.run(&["convert", "model.safetensors", "back.pth"]).ok();
    place.run(&["convert", "zip.pt", "noname", "--to", "safetensors"]).ok();
    let predict = |model: &str| place.run(&["predict", "-m", model, "-i", "x.npz"]).ok();
    let want = predict("zip.pt");
    assert_eq!(want.lines().count(), 2);
    for model in ["old.pt", "model.safetensors", "back.pth", "noname"] {
        assert_eq!(predict(model), want, "{model}");
    }
    // Chains are continued from the replay buffer, as the model has no start samples for new ones.
    for model in ["zip.pt", "model.safetensors"] {
        let npz = format!("{model}.npz");
        let sample = ["sample", "-m", model, "--n", "4", "--steps", "1"];
        place.run(&[&sample[..], &["--start", "buffer", "-o", &npz]].concat()).ok();
        let err = place.run(&[&sample[..], &["--start", "informative", "-o", "y.npz"]].concat()).fails(3);
        assert!(err.contains("--start buffer"), "{err}");
    }
    assert_eq!(
        fs::read(place.path().join("zip.pt.npz")).unwrap(),
        fs::read(place.path().join("model.safetensors.npz")).unwrap()
    );
    for (model, form) in [("zip.pt", "zip"), ("old.pt", "legacy"), ("model.safetensors", "zip")] {
        let i = place.run(&["inspect", model, "--json"]).json();
        assert_eq!(i["source"], format!("PyTorch checkpoint ({form})"));
        assert_eq!((i["replay_buffer"].as_u64(), i["bn"].as_str()), (Some(8), Some("running")));
        assert_eq!(i["parameters"], 78_186);
    }
    let text = place.run(&["inspect", "zip.pt"]).ok();
    assert!(
        text.contains("Wide-ResNet 10-1, images 32×32×3, 10 classes") && text.contains("8 chains"),
        "{text}"
    );
    let err = place.run(&["eval", "accuracy", "-m", "zip.pt"]).fails(3);
    assert!(err.contains("name a data set"), "{err}");
}

#[test]
fn own_models_round_trip() {
    let place = Place::empty();
    place.train("run");
    for out in ["run.pt", "run.onnx", "run.safetensors"] {
        assert!(place.run(&["convert", "run", out]).ok().starts_with(out));
    }
    place.run(&["convert", "run.pt", "keep.onnx", "--onnx-bn", "keep"]).ok();
    let images = [0.25f32; 64];
    write(&place.path().join("x.npz"), &[("images", Array::F32(&[1, 8, 8, 1], &images))]).unwrap();
    let predict = |model: &str| place.run(&["predict", "-m", model, "-i", "x.npz"]).ok();
    assert_eq!(predict("run.pt"), predict("run"));
    assert_eq!(predict("run.safetensors"), predict("run"));
    // safetensors keeps the model's metadata, the PyTorch format cannot.
    let steps = |model: &str| place.run(&["inspect", model, "--json"]).json()["step"].as_u64();
    assert_eq!((steps("run.safetensors"), steps("run.pt")), (Some(3), None));
    let recipe = place.run(&["inspect", "run"]).ok();
    assert!(recipe.contains("preset=digits train.batch_size=32 train.max_iters=3"), "{recipe}");
    let said = place.run(&["convert", "run.pt", "new.safetensors", "--recalibrate", "digits"]);
    assert!(said.err.contains("1408 training images of digits"), "{}", said.err);
    assert_eq!(place.run(&["inspect", "new.safetensors", "--json"]).json()["bn"], "recalibrated");
    // The run's own statistics are of the same images, in batches of half the size.
    let number = |model: &str| -> f64 {
        let line: serde_json::Value = serde_json::from_str(&predict(model)).unwrap();
        line["log_density"].as_f64().unwrap()
    };
    assert!((number("new.safetensors") - number("run")).abs() < 0.1);
}

#[test]
fn files_are_only_replaced_on_request_and_bad_options_are_3() {
    let place = place();
    let convert = |args: &[&str]| place.run(&[&["convert"], args].concat());
    fs::write(place.path().join("mine.onnx"), "mine").unwrap();
    let err = convert(&["zip.pt", "mine.onnx"]).fails(3);
    assert!(err.contains("mine.onnx exists already") && err.contains("--force"), "{err}");
    assert_eq!(fs::read(place.path().join("mine.onnx")).unwrap(), b"mine");
    convert(&["zip.pt", "mine.onnx", "--force"]).ok();
    assert!(fs::read(place.path().join("mine.onnx")).unwrap().len() > 300_000);
    let err = convert(&["zip.pt", "model.bin"]).fails(3);
    assert!(err.contains(".safetensors, .pt or .onnx") && err.contains("--to"), "{err}");
    assert!(convert(&["zip.pt", "a.onxn"]).fails(3).contains(".onnx"));
    assert!(convert(&["zip.pt", "a.pt", "--to", "onxn"]).fails(2).contains("'onnx'"));
    let err = convert(&["zpi.pt", "a.safetensors"]).fails(3);
    assert!(err.contains("there is no model") && err.contains("zip.pt"), "{err}");
    convert(&["zip.pt", "a.safetensors"]).ok();
    assert!(
        convert(&["a.safetensors", "b.pt", "--norm", "layer"]).fails(3).contains("published checkpoints")
    );
    let err = convert(&["zip.pt", "b.safetensors", "--recalibrate", "digits"]).fails(3);
    assert!(err.contains("[8, 8, 1]") && err.contains("[32, 32, 3]"), "{err}");
    let err = convert(&["zip.pt", "b.safetensors", "--mean", "no.pt", "--cov", "no.pt"]).fails(3);
    assert!(err.contains("no.pt: there is no such file"), "{err}");
    convert(&["zip.pt", "b.safetensors", "--mean", "no.pt"]).fails(2);
    assert!(!place.names().iter().any(|n| n.starts_with("b.")));
}

#[test]
fn damaged_checkpoints_are_6_everywhere_and_leave_nothing() {
    let place = place();
    for name in ["zip.pt", "old.pt"] {
        let path = place.path().join(name);
        let bytes = fs::read(&path).unwrap();
        for n in [20, 5000, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..n]).unwrap();
            for args in [
                &["predict", "-m", name, "-i", "x.npz"][..],
                &["sample", "-m", name, "--start", "buffer"],
                &["inspect", name],
                &["convert", name, "out.onnx"],
            ] {
                let err = place.run(args).fails(6);
                assert!(err.starts_with(&format!("error: {name}: ")), "{err}");
            }
        }
    }
    assert_eq!(place.names(), ["old.pt", "x.npz", "zip.pt"]);
}

#[test]
fn published_means_and_covariances_start_chains() {
    let place = Place::empty();
    place.train("run");
    place.run(&["convert", "run", "run.pt"]).ok();
    // Means and covariances of another image size do not fit; the message says why.
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jempp/tests/torch");
    let [mean, cov] = ["mean.pt", "cov.pt"].map(|n| data.join(n).display().to_string());
    let err = place.run(&["convert", "run.pt", "a.safetensors", "--mean", &mean, "--cov", &cov]).fails(3);
    assert!(err.contains("means of 2 classes and 3 values do not match a model of 10 classes"), "{err}");
}
