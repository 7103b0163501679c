//! The run folder is what `docs/run-folder.md` says.

use super::{Place, TINY};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Rows of the tables of a section, each cell's words in backquotes.
fn tables(section: &str) -> Vec<Vec<BTreeSet<String>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/run-folder.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(section).unwrap_or_else(|| panic!("no section {section}"));
    let part = rest.split("\n## ").next().unwrap();
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let rows = part.lines().filter(|l| l.starts_with("| `"));
    rows.map(|l| l.trim_matches('|').split(" | ").map(words).collect()).collect()
}

fn keys(object: &Map<String, Value>) -> BTreeSet<String> {
    object.keys().filter(|k| *k != "event").cloned().collect()
}

#[test]
fn what_a_run_writes_is_what_is_documented() {
    let place = Place::empty();
    let more = ["data.valid_size=200", "train.epochs=2", "train.batch_size=300", "train.max_iters=0"];
    place.run(&[&["train", "-q", "--out", "run"], TINY, &more].concat()).ok();
    let text = |name: &str| std::fs::read_to_string(place.path().join("run").join(name)).unwrap();
    let events: BTreeMap<String, BTreeSet<String>> = tables("## `metrics.jsonl`")
        .into_iter()
        .map(|row| (row[0].first().unwrap().clone(), row[1].clone()))
        .collect();
    assert_eq!(events.len(), 7, "{events:?}");
    let mut seen = BTreeSet::new();
    for line in text("metrics.jsonl").lines() {
        let line: Map<String, Value> = serde_json::from_str(line).unwrap();
        let event = line["event"].as_str().unwrap();
        assert_eq!(events.get(event), Some(&keys(&line)), "{event}");
        seen.insert(event.to_owned());
    }
    assert_eq!(seen, ["step", "valid", "checkpoint"].map(str::to_owned).into());
    let result: Map<String, Value> = serde_json::from_str(&text("result.json")).unwrap();
    let fields: BTreeSet<String> =
        tables("## `result.json`").into_iter().flat_map(|row| row[0].clone()).collect();
    assert_eq!(fields, keys(&result));
    place.run(&["report", "run"]).ok();
    let files: BTreeSet<String> =
        tables("# The run folder").into_iter().flat_map(|row| row[0].clone()).collect();
    for entry in std::fs::read_dir(place.path().join("run")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(files.contains(&name) || name.starts_with('.'), "{name} is not documented");
    }
}

/// A run that diverges writes what is documented for that, too.
#[test]
fn events_of_a_divergence_are_documented() {
    let place = Place::empty();
    place
        .run(
            &[&["train", "-q", "--out", "run", "train.loss_limit=1e-9", "train.max_rollbacks=1"], TINY]
                .concat(),
        )
        .fails(5);
    let metrics = std::fs::read_to_string(place.path().join("run/metrics.jsonl")).unwrap();
    let lines: Vec<Map<String, Value>> = metrics.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for event in ["rollback", "diverged"] {
        let line = lines.iter().find(|l| l["event"] == event).unwrap_or_else(|| panic!("{event}: {metrics}"));
        let row = tables("## `metrics.jsonl`").into_iter().find(|r| r[0].contains(event)).unwrap();
        assert_eq!(row[1], keys(line), "{event}");
    }
    let page = place.run(&["report", "run", "-q"]);
    page.ok();
    let page = std::fs::read_to_string(place.path().join("run/report.html")).unwrap();
    assert!(
        page.contains("<b>Diverged</b> after iteration 1"),
        "{}",
        &page[..page.find("Training").unwrap_or(900)]
    );
}
