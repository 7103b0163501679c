//! `train --seeds` and `sweep`: several runs with one table at the end.

use super::{Place, TINY};
use serde_json::Value;

fn outcome(v: &Value) -> &Value {
    &v["outcome"]["ended"]
}

#[test]
fn seeds_are_runs_with_a_table_of_means() {
    let place = Place::empty();
    let out = place.run(&[&["train", "-q", "--seeds", "3..5"], TINY].concat()).ok();
    for seed in ["seed=3", "seed=4", "seed=5"] {
        let config = place.path().join("runs/seeds-001").join(seed).join("config.toml");
        assert!(std::fs::read_to_string(config).unwrap().contains(&seed.replace('=', " = ")), "{seed}");
    }
    assert!(out.contains("all seeds") && out.contains(" ± ") && out.contains("3 complete"), "{out}");
    let page = std::fs::read_to_string(place.path().join("runs/seeds-001/report.html")).unwrap();
    for part in ["3 runs of one setting", " ± ", "over each other", "seed=4"] {
        assert!(page.contains(part), "{part}");
    }
    // A run with that seed alone is the same.
    place.run(&[&["train", "-q", "--seed", "4", "--out", "alone"], TINY].concat()).ok();
    let result = |folder: &str| -> Value {
        let text = std::fs::read_to_string(place.path().join(folder).join("result.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["test"].clone()
    };
    assert_eq!(result("alone"), result("runs/seeds-001/seed=4"));
    assert!(place.run(&["train", "--seeds", "4"]).fails(2).contains("--seed 4"));
    assert!(place.run(&["train", "--seeds", "0..2", "--seed", "1"]).fails(2).contains("cannot be used"));
}

#[test]
fn a_sweep_is_resumed_where_it_stopped_and_says_what_diverged() {
    let place = Place::empty();
    // The second setting diverges at once: its loss is beyond the limit.
    let sweep = ["sweep", "-q", "--out", "s", "train.loss_limit=1e8,1e-9", "train.on_divergence=stop"];
    let out = place.run(&[&sweep[..], &["--seeds", "0..1"], TINY].concat()).ok();
    let lines: Vec<&str> = out.lines().collect();
    for (setting, outcome) in [("loss_limit=1e8", "2 complete"), ("loss_limit=1e-9", "2 diverged")] {
        let row = lines.iter().find(|l| l.starts_with(setting)).unwrap_or_else(|| panic!("{out}"));
        assert!(row.ends_with(outcome), "{out}");
    }
    let file = |run: &str| place.path().join("s").join(run).join("result.json");
    let (first, second) = (file("loss_limit=1e8,seed=0"), file("loss_limit=1e8,seed=1"));
    let when = |p: &std::path::Path| std::fs::metadata(p).unwrap().modified().unwrap();
    let before = when(&first);
    // One run was interrupted at its very end, one before its first checkpoint, one has not begun.
    std::fs::remove_file(&second).unwrap();
    let folder = |run: &str| place.path().join("s").join(run);
    std::fs::write(folder("loss_limit=1e-9,seed=0").join("metrics.jsonl"), "").unwrap();
    std::fs::remove_dir_all(folder("loss_limit=1e-9,seed=1")).unwrap();
    let again = place.run(&["train", "--resume", "s", "--json"]);
    assert!(again.err.contains("run 1 of 4: loss_limit=1e8,seed=0: has ended"), "{}", again.err);
    let all = again.json();
    assert!(
        when(&first) == before && second.exists(),
        "a run that has ended is not repeated, the others are"
    );
    let outcomes: Vec<&Value> = all.as_array().unwrap().iter().map(outcome).collect();
    assert_eq!(outcomes[..2], ["complete", "complete"]);
    assert!(all[3]["outcome"]["diverged"].as_str().unwrap().contains("beyond"), "{}", all[3]["outcome"]);
    assert!(place.run(&["sweep", "-q", "--resume", "s"]).ok().contains("2 diverged"));
    let page = std::fs::read_to_string(place.path().join("s/report.html")).unwrap();
    assert!(page.contains("2 runs diverged") && page.contains("What the settings differ in"));
}

#[test]
fn an_interrupted_series_names_the_command_that_goes_on() {
    let place = Place::empty();
    let args = [&["train", "--seeds", "0..1", "--out", "two", "--max-time", "0.001s"], TINY].concat();
    place.run(&args).ok();
    // Both have reached their time limit: they have more to do.
    let done = |seed: &str| -> Value {
        let text = std::fs::read_to_string(place.path().join("two").join(seed).join("result.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(done("seed=0")["ended"], "time_limit");
    place.run(&["train", "-q", "--resume", "two"]).ok();
    assert_eq!((&done("seed=0")["ended"], &done("seed=1")["iterations"]), (&"complete".into(), &3.into()));
}

#[test]
fn what_cannot_be_swept_is_refused_before_anything_is_written() {
    let place = Place::empty();
    for (args, part) in [
        (&["sweep", "train.lr=0.1"][..], "several values"),
        (&["sweep", "train.lr=0.1,x"], "lr=x"),
        (&["sweep", "train.lrr=0.1,0.2"], "did you mean `train.lr`"),
        (&["sweep", "--resume", "none"], "series.json"),
    ] {
        assert!(place.run(args).fails(3).contains(part), "{args:?}");
    }
    place.run(&["sweep"]).fails(2);
    assert!(place.names().is_empty());
    std::fs::create_dir(place.path().join("there")).unwrap();
    place.run(&["sweep", "train.lr=0.1,0.2", "--out", "there"]).fails(3);
}
