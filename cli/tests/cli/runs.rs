//! From training to samples, predictions and evaluations.

use super::{Place, TINY};
use jempp_formats::npz::{Array, Npz};

#[test]
fn runs_are_numbered_and_keep_what_they_promise() {
    let place = Place::empty();
    let args = [&["train", "-q"], TINY].concat();
    let out = place.run(&args).ok();
    assert!(out.contains("runs/train-001") && out.contains("chains_by_class.png"), "{out}");
    let report = place.run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(report["folder"], "runs/train-002");
    let grids = report["grids"].as_array().unwrap();
    assert_eq!(grids.last().unwrap(), "runs/train-002/samples/chains_by_class.png");
    let run = place.path().join("runs/train-002");
    for name in ["config.toml", "env.json", "metrics.jsonl", "log.txt", "result.json", "ckpt/last"] {
        assert!(run.join(name).exists(), "{name}");
    }
    // Ten classes with ten chains each, whatever the model predicts for them.
    let grid = image::open(run.join("samples/chains_by_class.png")).unwrap();
    assert_eq!((grid.width(), grid.height()), (422, 422));
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(metrics.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
    // The configuration file in the run folder reproduces the run.
    let again = place.run(&["train", "-q", "-c", "runs/train-002/config.toml"]).ok();
    assert!(again.contains("runs/train-003"), "{again}");
    let result = |n: &str| {
        let text = std::fs::read_to_string(place.path().join(n).join("result.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["test"].clone()
    };
    assert_eq!(result("runs/train-002"), result("runs/train-003"));
    assert_eq!(place.names(), ["runs"]);
}

#[test]
fn a_warm_start_takes_the_network_of_the_model() {
    let place = Place::empty();
    place.train("run");
    let start = ["preset=softmax", "data.dataset=digits", "train.from=run"];
    let shown = place.run(&[&["train", "--print-config"], &start[..]].concat()).ok();
    for line in ["depth = 10", "widen_factor = 1", "image_size = [8, 8, 1]", "from = \"run\""] {
        assert!(shown.lines().any(|l| l == line), "{line}: {shown}");
    }
    let out = place.run(&[&["train", "--out", "warm"], &start[..], TINY].concat());
    assert!(out.code == 0 && place.path().join("warm/result.json").exists(), "{}", out.err);
    let deep = [&["train", "-q", "--out", "deep", "model.depth=16"], &start[..], TINY].concat();
    let err = place.run(&deep).fails(3);
    assert!(err.contains("train.from = \"run\"") && err.contains("none in the model"), "{err}");
    assert!(!place.path().join("deep").exists());
}

#[test]
fn inspect_reads_runs_checkpoints_and_files() {
    let place = Place::empty();
    place.train("run");
    std::fs::copy(place.path().join("run/ckpt/step_3/model.safetensors"), place.path().join("m.safetensors"))
        .unwrap();
    for (path, files) in [("run", 4), ("run/ckpt/last", 4), ("run/ckpt/step_3", 4), ("m.safetensors", 1)] {
        let i = place.run(&["inspect", path, "--json"]).json();
        assert_eq!(
            (&i["step"], &i["parameters"], &i["dataset"]),
            (&3.into(), &77898.into(), &"digits".into())
        );
        assert_eq!((&i["bank"]["draws"], &i["bn"]), (&400.into(), &"recalibrated".into()));
        assert_eq!(i["files"].as_array().unwrap().len(), files, "{path}");
        assert!(i["metrics"]["classification"]["accuracy"].is_number() && i["tensors"].is_null());
        let text = place.run(&["inspect", path, "-v"]).ok();
        assert!(text.contains("f.conv1.weight") && text.contains("[16, 1, 3, 3]"), "{text}");
    }
}

/// Predictions of one image alone and of nine together, some of them from image files.
#[test]
fn predictions_do_not_depend_on_the_batch() {
    let place = Place::empty();
    place.train("run");
    let values: Vec<u8> = (0..9 * 64).map(|i| (i * 37 % 251) as u8).collect();
    let floats: Vec<f32> = values.iter().map(|u| jempp_formats::pixels::value(*u)).collect();
    let write = |name: &str, n: usize, x: &[f32]| {
        jempp_formats::npz::write(&place.path().join(name), &[("images", Array::F32(&[n, 8, 8, 1], x))])
            .unwrap();
    };
    write("nine.npz", 9, &floats);
    let predict = |input: &[&str], output: &str| {
        let args = [&["predict", "-m", "run", "--input-grad", "-o", output, "-i"], input].concat();
        place.run(&args).ok();
        let mut npz = Npz::open(&place.path().join(output)).unwrap();
        ["logits", "probs", "log_density", "input_grad"].map(|name| npz.f32(name).unwrap())
    };
    let nine = predict(&["nine.npz"], "nine.out.npz");
    assert_eq!(nine.clone().map(|a| a.0), [vec![9, 10], vec![9, 10], vec![9], vec![9, 8, 8, 1]]);
    for i in [0, 4, 8] {
        let (one, png) = (format!("{i}.npz"), format!("{i}.png"));
        write(&one, 1, &floats[i * 64..(i + 1) * 64]);
        let pixels = values[i * 64..(i + 1) * 64].to_vec();
        image::GrayImage::from_raw(8, 8, pixels).unwrap().save(place.path().join(&png)).unwrap();
        for (input, output) in [(one, format!("{i}a.npz")), (png, format!("{i}b.npz"))] {
            for ((shape, a), (_, b)) in predict(&[&input], &output).iter().zip(&nine) {
                let n = a.len();
                assert_eq!(a[..], b[i * n..(i + 1) * n], "{shape:?} of image {i}");
            }
        }
    }
    let lines = place.run(&["predict", "-m", "run", "--input", "0.png", "8.png", "4.npz"]).ok();
    let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[1]["file"], &lines[1]["index"]), (&"8.png".into(), &1.into()));
    assert_eq!(lines[1]["log_density"].as_f64().unwrap() as f32, nine[2].1[8]);
    // One label for all images or one for each; any other number is an error.
    let labelled = |labels: &[&str]| {
        place.run(&[&["predict", "-m", "run", "-i", "nine.npz", "--input-grad", "--label"], labels].concat())
    };
    let same = labelled(&["3"]).ok();
    assert_eq!(labelled(&["3"; 9]).ok(), same);
    labelled(&["3"; 4]).fails(3);
    labelled(&["10"]).fails(3);
    place.run(&["predict", "-m", "run", "-i", "nine.npz", "-o", "x.jsonl", "--format", "jsonl"]).ok();
    assert_eq!(std::fs::read_to_string(place.path().join("x.jsonl")).unwrap().lines().count(), 9);
}

#[test]
fn samples_are_repeatable_and_can_be_evaluated() {
    let place = Place::empty();
    place.train("run");
    let model = ["sample", "-q", "--model", "run", "--n", "30", "--steps", "2"];
    let sample = |more: &[&str]| place.run(&[&model[..], more].concat());
    // Without a file name, the first free number is taken.
    assert_eq!(sample(&[]).ok(), "samples-001.png\n");
    assert_eq!(sample(&["--by-class"]).ok(), "samples-002.png\n");
    let size = |name: &str| {
        let image = image::open(place.path().join(name)).unwrap();
        (image.width(), image.height())
    };
    assert_eq!((size("samples-001.png"), size("samples-002.png")), ((422, 128), (128, 422)));
    for (i, start) in ["informative", "buffer", "data", "noise"].into_iter().enumerate() {
        let names = [format!("{i}a.npz"), format!("{i}b.npz"), format!("{i}c.npz")];
        sample(&["--start", start, "--output", &names[0]]).ok();
        sample(&["--start", start, "--output", &names[1], "--threads", "1"]).ok();
        sample(&["--start", start, "--output", &names[2], "--seed", "9", "--class", "4"]).ok();
        let read = |name: &str| Npz::open(&place.path().join(name)).unwrap().f32("images").unwrap();
        let [a, b, c] = names.each_ref().map(|n| read(n));
        assert_eq!((a.0.as_slice(), &a), (&[30, 8, 8, 1][..], &b));
        assert_ne!(a, c);
        let labels = Npz::open(&place.path().join(&names[2])).unwrap().i64("labels").unwrap().1;
        assert!(labels.iter().all(|l| *l == 4));
        place.run(&["predict", "--model", "run", "--input", &names[0]]).ok();
    }
    // One frame of the start, and one after each step or each second step.
    for (name, every, frames) in [("a.gif", &[][..], 3), ("b.gif", &["--gif-every", "2"], 2)] {
        let args = [&["--gif", name, "--by-class", "--start", "noise"], every].concat();
        assert_eq!(sample(&args).ok(), format!("{name}\n"));
        let file = std::io::BufReader::new(std::fs::File::open(place.path().join(name)).unwrap());
        let decoder = image::codecs::gif::GifDecoder::new(file).unwrap();
        assert_eq!(image::AnimationDecoder::into_frames(decoder).count(), frames);
        assert_eq!(size(name), (128, 422));
    }
    assert!(sample(&["--gif", "a.gif"]).fails(3).contains("a.gif"));
    assert!(sample(&["--gif", "c.gif", "--gif-every", "0"]).fails(3).contains("--gif-every"));
    assert!(sample(&["--class", "10"]).fails(3).contains("0 to 9"));
    assert!(sample(&["--class", "cat"]).fails(3).contains("0 to 9"));
    assert!(sample(&["--step-size", "0"]).fails(3).contains("step_size"));
    let evaluated = place.run(&["eval", "accuracy", "--model", "run", "--json"]).json();
    let text = std::fs::read_to_string(place.path().join("run/result.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["classification", "detection"] {
        assert_eq!(evaluated[key], report["test"][key]);
    }
    let out = place.run(&["eval", "accuracy", "--model", "run", "--split", "train"]).ok();
    assert!(out.contains("1437") && out.contains("Brier"), "{out}");
    assert!(
        place.run(&["eval", "accuracy", "--model", "run", "--split", "valid"]).fails(3).contains("no valid")
    );
}

#[test]
fn samples_are_single_files_and_steps_are_finer() {
    let place = Place::empty();
    place.train("run");
    let model = ["sample", "-q", "--model", "run", "--n", "30", "--steps", "2"];
    let sample = |more: &[&str]| place.run(&[&model[..], more].concat());
    // One file per image, which are images that `predict` reads.
    assert_eq!(sample(&["--images", "drawn", "--class", "4"]).ok(), "drawn  (30 images)\n");
    let image = image::open(place.path().join("drawn/00029-4.png")).unwrap();
    assert_eq!((image.width(), image.height(), image.color().channel_count()), (8, 8, 1));
    place.run(&["predict", "--model", "run", "--input", "drawn/00000-4.png"]).ok();
    assert!(sample(&["--images", "drawn"]).fails(3).contains("exists already"));
    // More steps than in a round of training, which has two, are finer steps; but not from noise, or if a size is given.
    let said = |more: &[&str]| {
        let args = [&["sample", "-m", "run", "-n", "4", "--steps", "20", "-o", "t.npz"], more].concat();
        let done = place.run(&args);
        std::fs::remove_file(place.path().join("t.npz")).unwrap();
        done.err
    };
    assert!(said(&[]).contains("20 steps of size 0.020"), "{}", said(&[]));
    assert!(said(&["--start", "noise"]).contains("of size 0.200"));
    assert!(said(&["--step-size", "1/10"]).contains("of size 0.100"));
    assert_ne!(said(&[]), said(&["--bn", "running"]));
}
