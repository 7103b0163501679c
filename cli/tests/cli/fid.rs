//! FID and Inception score, with random weights.

use super::Place;
use serde_json::{Map, Value};

/// Writes weights of FID's network, with the names and shapes that the fixture of its parity test holds.
fn weights(place: &Place) {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/inception.safetensors");
    let bytes = std::fs::read(fixture).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let shapes: Map<String, Value> =
        serde_json::from_str(header["__metadata__"]["fid"].as_str().unwrap()).unwrap();
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32 - 0.5
    };
    let tensors = shapes.iter().map(|(name, shape)| {
        let shape: Vec<usize> =
            shape.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        let fan = shape.iter().skip(1).product::<usize>() as f32;
        let at = if name.ends_with("running_var") || name.ends_with("bn.weight") { 1.0 } else { 0.0 };
        let values =
            (0..shape.iter().product()).map(|_| at + noise() * (24.0 / fan.max(24.0)).sqrt()).collect();
        jempp_formats::container::Tensor::f32(name.as_str(), shape, values)
    });
    let container = jempp_formats::container::Container::new(tensors.collect::<Vec<_>>());
    container.write(&place.path().join("w.safetensors")).unwrap();
}

#[test]
fn samples_of_a_model_and_of_a_file_give_the_same_numbers() {
    let place = Place::empty();
    place.train("run");
    weights(&place);
    let settings = ["--resize", "torch", "--inception", "w.safetensors", "--reference-n", "3"];
    let all =
        ["eval", "all", "--model", "run", "--attack-n", "0", "--no-gradient", "-n", "20", "--fid-n", "4"];
    let text = place.run(&[&all[..], &settings].concat()).ok();
    assert!(text.contains("not computed for fewer than 10 images") && text.contains("bilinear"), "{text}");
    let page = std::fs::read_to_string(place.path().join("run/report.html")).unwrap();
    assert!(page.contains("FID and Inception score"));
    // Finished portions are not computed again.
    let part = place.path().join("run/eval/parts/inception-samples-0000.safetensors");
    let made = || std::fs::metadata(&part).unwrap().modified().unwrap();
    let before = made();
    let eval = ["eval", "fid", "--model", "run", "--json"];
    let kept = place.run(&[&eval[..], &["-n", "4", "--out", "run/eval"], &settings].concat()).json();
    assert_eq!(made(), before);
    assert!(kept["fid"].as_f64().unwrap() > 0.0, "{kept}");
    assert_eq!((&kept["n"], &kept["reference"]["n"]), (&4.into(), &3.into()));
    assert_eq!((&kept["variant"], &kept["resize"]), (&"fid".into(), &"torch".into()));
    assert_eq!((&kept["inception_score"], &kept["reference"]["split"]), (&Value::Null, &"train".into()));
    assert_eq!(kept["warnings"].as_array().unwrap().len(), 2, "{kept}");
    let summary = std::fs::read_to_string(place.path().join("run/eval/summary.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&summary).unwrap()["fid"], kept);
    // The same chains from a file, against the statistics kept.
    place.run(&["sample", "-q", "--model", "run", "-n", "4", "-o", "s.npz"]).ok();
    let file = ["--samples", "s.npz", "--reference", "run/eval/reference.npz"];
    let again = place.run(&[&eval[..], &settings[..4], &file].concat()).json();
    for key in ["fid", "samples_crc32c"] {
        assert_eq!(again[key], kept[key], "{key}");
    }
    assert_eq!(again["reference"]["n"], 3);
}

#[test]
fn files_that_are_not_inception_weights_are_refused() {
    let place = Place::empty();
    place.train("run");
    let eval = |args: &[&str]| place.run(&[&["eval", "fid", "--model", "run"], args].concat());
    let e = eval(&["--inception", "nowhere.pth"]).fails(3);
    assert!(e.contains("nowhere.pth: there is no such file"), "{e}");
    let e = eval(&["--inception", "run/ckpt/last/model.safetensors"]).fails(6);
    assert!(e.contains("no tensor `fc.weight`"), "{e}");
    let e = eval(&["--inception", "x", "-n", "1"]).fails(3);
    assert!(e.contains("no covariance"), "{e}");
    assert!(eval(&[]).fails(2).contains("--inception"));
    assert!(eval(&["--inception", "x", "--samples", "a.npz", "-n", "3"]).fails(2).contains("cannot be used"));
}
