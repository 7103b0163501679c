//! `eval`, and the report.

use super::{Done, Place, TINY};
use serde_json::Value;

/// A tiny model with validation images.
fn trained(name: &str) -> Place {
    let place = Place::empty();
    place.run(&[&["train", "-q", "--out", name, "data.valid_size=100"], TINY].concat()).ok();
    place
}

/// Radii as people write them, in any order; and `-n` limits other data sets, too.
#[test]
fn fractions_are_numbers_and_n_limits_all_sets() {
    let place = trained("run");
    let attack = |epsilon: &str| {
        let args = ["eval", "attack", "-m", "run", "-n", "5", "--norm", "linf", "--steps", "1", "--json"];
        place.run(&[&args[..], &["--epsilon", epsilon, "--step-size", "1/255"]].concat())
    };
    let plan = |done: Done| done.json()[0]["plan"].clone();
    let (a, b) = (plan(attack("8/255,0.01")), plan(attack("0.01,0.03137254901960784")));
    assert_eq!((&a["epsilons"], &a["step_size"]), (&b["epsilons"], &(1.0 / 255.0).into()));
    assert!(attack("8/0").fails(2).contains("8/255"));
    let o = place.run(&[
        "eval",
        "ood",
        "-m",
        "run",
        "-n",
        "33",
        "--ood-data",
        "digits",
        "--no-gradient",
        "--json",
    ]);
    assert_eq!(o.json()["against"][0]["n"], 33);
    // In a configuration as well, on the command line and in a file.
    let shown = |args: &[&str]| place.run(&[&["train", "--print-config"], args].concat()).ok();
    let line = "adversary_epsilon = 0.03137254901960784";
    assert!(shown(&["train.adversary_epsilon=8/255"]).contains(line));
    std::fs::write(place.path().join("c.toml"), "[train]\nadversary_epsilon = \"8/255\"\n").unwrap();
    assert!(shown(&["-c", "c.toml"]).contains(line));
    let e = place.run(&["train", "--print-config", "train.adversary_epsilon=8/x"]).fails(3);
    assert!(e.contains("expects a number"), "{e}");
}

const ATTACK: &[&str] = &["--norm", "linf", "--epsilon", "0.02,0.3", "--steps", "3"];

#[test]
fn numbers_are_complete_repeatable_and_in_range() {
    let place = trained("run");
    let eval = |args: &[&str]| place.run(&[&["eval"], args, &["--model", "run", "--json"]].concat());
    let c = eval(&["calibration"]).json();
    assert_eq!((&c["protocol"]["n"], &c["protocol"]["split"]), (&360.into(), &"test".into()));
    assert_eq!((&c["fitted_on"], c["plain"]["bins"].as_array().unwrap().len()), (&100.into(), 20));
    let plain = place.run(&["eval", "accuracy", "--model", "run", "--json"]).json();
    assert_eq!(c["accuracy"]["value"], plain["classification"]["accuracy"]);
    assert_eq!(c["plain"]["ece"]["value"], plain["classification"]["ece"]);
    assert!(c["scaled"]["nll"]["value"].as_f64() <= c["plain"]["nll"]["value"].as_f64());
    let valid = eval(&["calibration", "--split", "valid", "-n", "60", "--bins", "5"]).json();
    assert_eq!((&valid["scaled"], &valid["protocol"]["n"]), (&Value::Null, &60.into()));
    let o = eval(&["ood", "-n", "150", "--ood-data", "digits"]).json();
    let sets: Vec<&str> =
        o["against"].as_array().unwrap().iter().map(|a| a["set"].as_str().unwrap()).collect();
    assert_eq!(sets[..3], ["digits", "shuffled pixels", "interpolated"]);
    assert_eq!(sets.len(), 7);
    assert_eq!(o, eval(&["ood", "-n", "150", "--ood-data", "digits", "--threads", "1"]).json());
    assert_eq!(o["against"][1]["scores"].as_array().unwrap().len(), 3);
    // The outlier sets that `eval accuracy` and the end of a training run evaluate are two of those of `eval ood`.
    let o = eval(&["ood", "--no-gradient"]).json();
    for small in plain["detection"].as_array().unwrap() {
        let mut sets = o["against"].as_array().unwrap().iter();
        let scores = &sets.find(|a| a["set"] == small["against"]).unwrap()["scores"];
        assert_eq!(scores[0]["separation"]["auroc"]["value"], small["auroc_log_density"]);
        assert_eq!(scores[1]["separation"]["auroc"]["value"], small["auroc_max_probability"]);
    }
    let a = eval(&[&["attack", "-n", "70"], ATTACK].concat()).json();
    let of = |i: usize, key: &str| a[0]["points"][i][key]["value"].as_f64().unwrap();
    assert!(of(1, "white_box") <= of(0, "white_box") && of(0, "white_box") <= of(0, "cross_entropy"));
    assert_eq!(a[0]["points"][0]["transfer"], Value::Null);
    // With noise, as the published scripts add it, the numbers and the protocol differ.
    let noisy = eval(&["calibration", "--noise", "0.3"]).json();
    assert_ne!(noisy["plain"]["nll"], c["plain"]["nll"]);
    assert_eq!(noisy["protocol"]["noise"], 0.3);
}

#[test]
fn thresholds_are_stored_and_predictions_follow_them() {
    let place = trained("run");
    std::fs::copy(place.path().join("run/ckpt/last/model.safetensors"), place.path().join("m.safetensors"))
        .unwrap();
    let image = |p: &Place| {
        image::GrayImage::from_pixel(8, 8, image::Luma([200])).save(p.path().join("x.png")).unwrap();
    };
    image(&place);
    let line = |m: &str| place.run(&["predict", "-m", m, "-i", "x.png"]).json();
    let before = line("run");
    assert!(before["abstain"].is_boolean() && before["ood_p_value"].as_f64().unwrap() > 0.0);
    let fitted = {
        let args = ["eval", "thresholds", "--model", "run", "--alpha", "0.2", "--ood-alpha", "0.2", "--json"];
        place.run(&args).json()
    };
    let (effect, curve) = (&fitted["abstention"], fitted["curve"].as_array().unwrap());
    assert_eq!((&fitted["evaluated_on"], &effect["n"]), (&"test".into(), &360.into()));
    assert_eq!(curve.iter().find(|a| a["alpha"] == 0.2), Some(effect), "the same α, the same effect");
    assert_eq!(fitted["fit"]["n"], 50);
    let said = place.run(&["eval", "thresholds", "--model", "run"]);
    // Three iterations teach nothing: the model abstains on nearly everything, and says so.
    assert!(said.err.contains("warning: the model abstains on"), "{}", said.err);
    let said = said.ok();
    for part in ["NLL", "images answered", "false alarms", "answers ", "0.3 "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!((&fitted["alpha"], &fitted["fitted_on"]), (&0.2.into(), &serde_json::json!([50, 50])));
    let i = place.run(&["inspect", "run", "--json"]).json();
    assert_eq!((&i["parameters"], &i["step"]), (&77898.into(), &3.into()));
    place.run(&["train", "-q", "--resume", "run", "train.max_iters=5"]).ok();
    assert!(line("run")["abstain"].is_boolean(), "fitted anew at the end");
    place.run(&["eval", "thresholds", "--model", "m.safetensors", "--output", "d.safetensors"]).ok();
    assert!(line("d.safetensors")["calibrated"].is_number());
    let npz = place.run(&["predict", "-m", "d.safetensors", "-i", "x.png", "-o", "x.npz"]);
    npz.ok();
    let mut npz = jempp_formats::npz::Npz::open(&place.path().join("x.npz")).unwrap();
    assert_eq!(npz.f32("ood_p_value").unwrap().0, [1]);
    // Without validation images there are no thresholds.
    place.train("none");
    assert_eq!(place.run(&["predict", "-m", "none", "-i", "x.png"]).json()["abstain"], Value::Null);
    let e = place.run(&["eval", "thresholds", "--model", "none"]).fails(3);
    assert!(e.contains("data.valid_size"), "{e}");
}

#[test]
fn eval_all_writes_one_page_and_keeps_finished_parts() {
    let place = trained("run");
    let all = |more: &[&str]| -> Done {
        place.run(&[&["eval", "all", "--model", "run", "-n", "90", "--attack-n", "10"], more].concat())
    };
    let text = all(&[]).ok();
    assert!(text.contains("FPR95") && text.contains("run/report.html"), "{text}");
    let page = std::fs::read_to_string(place.path().join("run/report.html")).unwrap();
    for part in [
        "Reliability",
        "shuffled pixels",
        "Accuracy under attack, L∞",
        "image/gif;base64",
        "Abstains",
        "images answered",
        "abstains on",
        "90 test",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Radii as people write them, classes beside the grids, and no column for an attack that there was not.
    assert!(page.contains("<td>8/255</td>") && page.contains("<li>0</li>") && page.contains("<li>9</li>"));
    assert!(!page.contains("transfer</th>"));
    // The page fetches nothing: the only address is SVG's namespace.
    let addresses = page.matches("http").count();
    assert!(!page.contains("<script") && addresses == page.matches("http://www.w3.org/2000/svg").count());
    // Finished parts are reused: tampering with one changes the summary.
    let summary = || all(&["--json"]).json();
    let (first, parts) = (summary(), place.path().join("run/eval/parts"));
    let name = parts.join("attack-l2-03-0000.json");
    let kept = std::fs::read_to_string(&name).unwrap();
    let white = |text: &str| serde_json::from_str::<Value>(text).unwrap()["value"]["white"].clone();
    let mut other: Value = serde_json::from_str(&kept).unwrap();
    let flipped: Vec<bool> = white(&kept).as_array().unwrap().iter().map(|b| !b.as_bool().unwrap()).collect();
    other["value"]["white"] = flipped.into();
    std::fs::write(&name, other.to_string()).unwrap();
    assert_ne!(summary()["attacks"][1]["points"][3], first["attacks"][1]["points"][3]);
    std::fs::write(&name, "{torn").unwrap();
    std::fs::remove_file(parts.join("scores-test-0000.json")).unwrap();
    std::fs::remove_file(place.path().join("run/eval/fresh.png")).unwrap();
    assert_eq!(summary(), first);
    assert!(place.path().join("run/eval/fresh.png").is_file());
    // Two runs side by side: one that was evaluated, one that was not.
    place.train("other");
    let e = place.run(&["report", "run", "other"]).fails(3);
    assert!(e.contains("-o FILE.html"), "{e}");
    place.run(&["report", "run", "other", "-o", "both.html"]).ok();
    let both = std::fs::read_to_string(place.path().join("both.html")).unwrap();
    assert!(both.contains("Evaluations side by side") && both.contains("after jempp-cli eval all"));
    let numbers = place.run(&["report", "run", "other", "--json"]).json();
    assert_eq!((&numbers[0]["summary"], &numbers[1]["summary"]), (&first, &Value::Null));
}

#[test]
fn adversarial_examples_are_transferred_from_another_model() {
    let place = trained("run");
    let keys = ["preset=digits", "train.p_x_weight=0", "train.adversary=linf", "train.adversary_steps=2"];
    place.run(&[&["train", "-q", "--out", "pgd"], &keys[..], TINY].concat()).ok();
    let a = [&["eval", "attack", "--model", "run", "-n", "10", "--transfer-from", "pgd", "--json"], ATTACK]
        .concat();
    let a = place.run(&a).json();
    assert_eq!(a[0]["transfer_from"], "pgd");
    assert!(a[0]["points"][0]["transfer"]["value"].is_number());
}

#[test]
fn invalid_options_are_refused() {
    let place = trained("run");
    let fails = |args: &[&str]| place.run(&[&["eval"], args, &["--model", "run"]].concat()).fails(3);
    for (args, part) in [
        (&["attack", "--epsilon", "0.1"][..], "--norm"),
        (&["attack", "--norm", "l2", "--epsilon=-1"], "above 0"),
        (&["attack", "--norm", "linf", "--steps", "0"], "at least 1"),
        (&["attack", "--norm", "linf", "--step-size", "0"], "must be above 0"),
        (&["attack", "--restarts", "0"], "restarts"),
        (&["attack", "--transfer-from", "nowhere"], "there is no model"),
        (&["calibration", "--noise=-1"], "noise of -1"),
        (&["calibration", "--noise", "NaN"], "noise of NaN"),
        (&["calibration", "--bins", "0"], "--bins 0"),
        (&["calibration", "-n", "0"], "0 images"),
        (&["ood", "--ood-data", "nowhere"], "nowhere"),
        (&["thresholds", "--alpha", "0"], "between 0 and 1"),
        (&["thresholds", "--alpha", "0.001"], "2000 are needed"),
    ] {
        let e = fails(args);
        assert!(e.contains(part), "{args:?}: {e}");
    }
    assert!(place.run(&["report", "nowhere"]).fails(3).contains("no run folder"));
    std::fs::copy(place.path().join("run/ckpt/last/model.safetensors"), place.path().join("m.safetensors"))
        .unwrap();
    assert!(place.run(&["eval", "all", "--model", "m.safetensors"]).fails(3).contains("--out DIR"));
    assert!(place.run(&["eval", "all", "--model", "nowhere"]).fails(3).contains("there is no model"));
}
