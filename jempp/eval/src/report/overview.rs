//! The top of the page: what was trained, its five numbers, what the settings differ in, and the curves over each other.

use super::groups::{Group, MEASURES, best, groups};
use super::markup::{note, significant, table};
use super::results::{Outcome, RunResults};
use jempp::config::{Adversary, Config};
use jempp::run::{Ended, Report, curves};
use jempp_formats::plot::{COLOURS, escape};

/// The top of the page about one run.
pub(super) fn one(run: &RunResults) -> String {
    let mut out = format!("<h1>{}</h1>\n{}", escape(&run.name), outcome(run));
    let about: Vec<String> =
        run.config.iter().map(about).chain(run.result.iter().map(effort)).chain(kept(run)).collect();
    if !about.is_empty() {
        out += &format!("<p>{}</p>\n", escape(&about.join(" ")));
    }
    let tile = |m: &super::groups::Measure| {
        let value = (m.of)(run)?;
        Some(format!(
            "<div><dt>{}</dt><dd>{}</dd><small>{}</small></div>\n",
            m.name,
            significant(value),
            m.about
        ))
    };
    let tiles: String = MEASURES.iter().filter_map(tile).collect();
    if !tiles.is_empty() {
        out += &format!("<dl class=\"numbers\">\n{tiles}</dl>\n");
    }
    out + &run.config.as_ref().map(changes).unwrap_or_default()
}

/// What a reader must know before all numbers: that a run has not ended as it should.
fn outcome(run: &RunResults) -> String {
    let text = match &run.outcome {
        Outcome::Diverged(why) => format!("<b>Diverged</b> {}.", escape(why)),
        Outcome::Unfinished => "<b>Unfinished.</b> Training was interrupted, or goes on.".to_owned(),
        Outcome::Ended(Ended::TimeLimit) => {
            "<b>Stopped by its time limit</b>, before its last iteration.".into()
        }
        Outcome::Ended(Ended::EarlyStopped | Ended::Complete) | Outcome::Untrained => return String::new(),
    };
    format!("<p class=\"warn\">{text}</p>\n")
}

/// What the model is, in a sentence.
fn about(c: &Config) -> String {
    let t = &c.train;
    let kind = match (t.p_x_weight > 0.0 || t.p_x_y_weight > 0.0, t.adversary) {
        (true, _) => "A joint energy-based model",
        (false, Adversary::None) => "A classifier, without log p(x) in its training,",
        (false, _) => "An adversarially trained classifier",
    };
    let (m, [h, w, channels]) = (&c.model, c.model.image_size);
    format!(
        "{kind} of {} ({h}×{w}×{channels}, {} classes): WRN-{}-{}, preset {}, seed {}.",
        c.data.dataset, m.classes, m.depth, m.widen_factor, c.preset, c.seed
    )
}

/// How long it was trained, in a sentence.
fn effort(r: &Report) -> String {
    let of = match r.ended {
        Ended::EarlyStopped => format!(" of {}, ended by early stopping,", r.planned_iterations),
        Ended::TimeLimit => format!(" of {}", r.planned_iterations),
        Ended::Complete => String::new(),
    };
    let rollbacks = match r.rollbacks {
        0 => String::new(),
        1 => ", with one rollback".into(),
        n => format!(", with {n} rollbacks"),
    };
    let minutes = match r.training_seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    };
    format!("Trained for {} iterations{of} in {minutes}{rollbacks}.", r.iterations)
}

/// Which checkpoint was the best, in a sentence.
fn kept(run: &RunResults) -> Option<String> {
    let best = run.best()?;
    Some(format!(
        "The best validation accuracy, {}, was that of epoch {}, kept as ckpt/best; the numbers here are those of the last \
         iteration.",
        significant(best.accuracy),
        best.epoch
    ))
}

/// What the configuration changes in its preset.
fn changes(c: &Config) -> String {
    match c.changes() {
        Ok(all) if !all.is_empty() => {
            let items: String = all.iter().map(|c| format!("<code>{}</code> ", escape(c))).collect();
            format!("<p class=\"note\">Differs from the preset {} in: {items}</p>\n", escape(&c.preset))
        }
        _ => String::new(),
    }
}

/// The top of the page about several runs.
pub(super) fn several(runs: &[RunResults]) -> String {
    let groups = groups(runs);
    let title = match groups.len() {
        1 => format!("{} runs of one setting", runs.len()),
        n if n == runs.len() => format!("{n} runs"),
        n => format!("{} runs of {n} settings", runs.len()),
    };
    let mut out = format!("<h1>{title}</h1>\n");
    if let Some(config) = groups.first().and_then(|g| g.runs.first()?.config.as_ref())
        && groups.len() == 1
    {
        let sentence = about(config);
        // The seed is not that of all.
        let common = sentence.rsplit_once(", seed ").map_or(sentence.as_str(), |s| s.0);
        out += &format!("<p>{}.</p>\n", escape(common));
    }
    out += &diverged(runs);
    out += &numbers(&groups);
    out += &differences(&groups);
    out + &over_each_other(&groups)
}

fn diverged(runs: &[RunResults]) -> String {
    let names: Vec<String> = runs
        .iter()
        .filter(|r| matches!(r.outcome, Outcome::Diverged(_)))
        .map(|r| format!("<b>{}</b>", escape(&r.name)))
        .collect();
    match names.len() {
        0 => String::new(),
        1 => format!("<p class=\"warn\">{} diverged.</p>\n", names[0]),
        n => format!("<p class=\"warn\">{n} runs diverged: {}.</p>\n", names.join(", ")),
    }
}

/// The five numbers of each setting; of a single one also those of each run.
fn numbers(groups: &[Group<'_>]) -> String {
    let validated = groups.iter().any(|g| g.mean(RunResults::validation).is_some());
    let seeds = groups.iter().any(|g| g.runs.len() > 1);
    let mut head = vec![String::new()];
    head.extend(seeds.then(|| "runs".to_owned()));
    head.extend(validated.then(|| "validation".to_owned()));
    head.extend(MEASURES.iter().map(|m| m.name.to_owned()));
    head.push("outcome".into());
    let mut rows = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        let cell = |of: fn(&RunResults) -> Option<f64>, higher| {
            let text = group.spread(of).unwrap_or_else(|| "–".into());
            if best(groups, of, higher) == Some(i) { format!("<b class=\"best\">{text}</b>") } else { text }
        };
        let mut row = vec![escape(&group.name)];
        row.extend(seeds.then(|| group.runs.len().to_string()));
        row.extend(validated.then(|| cell(RunResults::validation, true)));
        row.extend(MEASURES.iter().map(|m| cell(m.of, m.higher_is_better)));
        let outcome = escape(&group.outcome());
        row.push(if group.diverged() { format!("<b class=\"bad\">{outcome}</b>") } else { outcome });
        rows.push(row);
    }
    if let [group] = groups {
        rows.extend(group.runs.iter().map(|run| {
            let cell = |of: fn(&RunResults) -> Option<f64>| of(run).map_or("–".into(), significant);
            let mut row = vec![escape(&run.name)];
            row.extend(seeds.then(String::new));
            row.extend(validated.then(|| cell(RunResults::validation)));
            row.extend(MEASURES.iter().map(|m| cell(m.of)));
            row.push(run.outcome.short());
            row
        }));
    }
    let about: Vec<String> = MEASURES.iter().map(|m| format!("{}: {}", m.name, m.about)).collect();
    let mut text = format!("On the test images. {}.", about.join("; "));
    if seeds {
        text += " Means ± standard deviations (n − 1) over the runs of a setting, which differ in their seed alone.";
    }
    if groups.len() > 1 {
        text += " Marked: the best of each column.";
    }
    if validated {
        text += " Choose by the best validation accuracy, in the first column of numbers, not by that of the test images.";
    }
    table(&head, &rows) + &note(&text)
}

/// The keys that the settings differ in, with the values of each.
fn differences(groups: &[Group<'_>]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for key in groups.iter().flat_map(Group::keys) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if keys.is_empty() || groups.len() < 2 {
        return String::new();
    }
    let head: Vec<String> =
        [String::new()].into_iter().chain(groups.iter().map(|g| escape(&g.name))).collect();
    let row = |key: &&str| {
        let values = groups.iter().map(|g| escape(g.value(key).unwrap_or("–")));
        [format!("<code>{key}</code>")].into_iter().chain(values).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    format!("<h2>What the settings differ in</h2>\n{}", table(&head, &rows))
}

/// The curves of all runs in the same charts, in one colour per setting or, with one setting, per run.
fn over_each_other(groups: &[Group<'_>]) -> String {
    let mut names: Vec<(String, &'static str)> = Vec::new();
    let mut curves: Vec<(&'static str, &str)> = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        for (k, run) in group.runs.iter().enumerate() {
            let (index, name) = if groups.len() == 1 { (k, &run.name) } else { (i, &group.name) };
            let colour = COLOURS[index % COLOURS.len()];
            curves.push((colour, &run.metrics));
            if groups.len() == 1 || k == 0 {
                names.push((name.clone(), colour));
            }
        }
    }
    let charts: String = curves::overlay(&curves).iter().map(|c| c.inline()).collect();
    if charts.is_empty() {
        return String::new();
    }
    let entry = |(name, colour): &(String, &str)| {
        format!("<li><span style=\"color:{colour}\">■</span> {}</li>\n", escape(name))
    };
    let legend: String = names.iter().map(entry).collect();
    format!(
        "<h2>Training, over each other</h2>\n<ul class=\"legend\">\n{legend}</ul>\n<div class=\"charts\">{charts}</div>\n"
    )
}

/// The five numbers of each setting as plain text, for a terminal.
pub fn text_table(runs: &[RunResults]) -> String {
    let groups = groups(runs);
    let validated = groups.iter().any(|g| g.mean(RunResults::validation).is_some());
    let mut rows = vec![vec!["setting".to_owned(), "runs".to_owned()]];
    rows[0].extend(validated.then(|| "validation".to_owned()));
    rows[0].extend(MEASURES.iter().map(|m| m.name.to_owned()));
    rows[0].push("outcome".into());
    for (i, group) in groups.iter().enumerate() {
        let cell = |of: fn(&RunResults) -> Option<f64>, higher| {
            let mark = if best(&groups, of, higher) == Some(i) { " *" } else { "" };
            group.spread(of).map_or("–".to_owned(), |t| t + mark)
        };
        let mut row = vec![group.name.clone(), group.runs.len().to_string()];
        row.extend(validated.then(|| cell(RunResults::validation, true)));
        row.extend(MEASURES.iter().map(|m| cell(m.of, m.higher_is_better)));
        row.push(group.outcome());
        rows.push(row);
    }
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut out: String = rows.iter().map(line).collect();
    if groups.len() > 1 {
        out += "* best of its column\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::read;
    use std::path::Path;

    /// A run with this learning rate, seed and accuracy; without an accuracy it has diverged.
    fn run(root: &Path, (lr, seed): (f64, u64), accuracy: Option<f64>) -> RunResults {
        let folder = root.join(format!("lr{lr}-{seed}"));
        std::fs::create_dir(&folder).unwrap();
        let overrides = [format!("train.lr={lr}"), format!("seed={seed}")];
        let config = Config::from_sources("digits", None, &overrides).unwrap();
        std::fs::write(folder.join("config.toml"), config.to_toml().unwrap()).unwrap();
        let line = r#"{"event":"diverged","step":7,"reason":"the loss is NaN"}"#;
        let metrics = if accuracy.is_some() { "" } else { line };
        std::fs::write(folder.join("metrics.jsonl"), metrics).unwrap();
        if let Some(accuracy) = accuracy {
            let text = format!(
                r#"{{"folder":"f","iterations":9,"training_seconds":1.5,"bn":null,"gap":[0.1,0.25],"grids":[],"checkpoint":"c",
                "test":{{"classification":{{"n":4,"accuracy":{accuracy},"ece":0.1,"ece_bins":20,"nll":0.5,"brier":0.2}},
                "detection":[{{"against":"shuffled pixels","auroc_log_density":0.9,"auroc_max_probability":0.8}}]}}}}"#
            );
            std::fs::write(folder.join("result.json"), text).unwrap();
        }
        read(&folder).unwrap()
    }

    #[test]
    fn settings_have_means_over_their_seeds_and_the_best_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let runs = [
            run(dir.path(), (0.1, 0), Some(0.75)),
            run(dir.path(), (0.2, 0), Some(0.5)),
            run(dir.path(), (0.1, 1), Some(0.25)),
            run(dir.path(), (0.2, 1), Some(0.75)),
            run(dir.path(), (0.4, 0), None),
        ];
        let page = several(&runs);
        // (0.75 + 0.25)/2 ± 0.354 and (0.5 + 0.75)/2 ± 0.177; numpy.std with ddof=1.
        for part in [
            "5 runs of 3 settings",
            "<td>0.500 ± 0.35</td>",
            "<b class=\"best\">0.625 ± 0.18</b>",
            "<td>lr=0.1</td>",
            "<b>lr0.4-0</b> diverged",
            "<b class=\"bad\">diverged</b>",
            "<td><code>train.lr</code></td><td>0.1</td><td>0.2</td><td>0.4</td>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        // What is equal is not marked, and a key that does not differ is not listed.
        assert!(page.matches("class=\"best\"").count() == 1 && !page.contains("train.epochs"), "{page}");
        let text = text_table(&runs);
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[1].starts_with("lr=0.1") && rows[1].ends_with("2 complete"), "{text}");
        assert!(rows[2].contains("0.625 ± 0.18 *") && rows[3].contains("diverged"), "{text}");
    }

    #[test]
    fn a_run_is_summed_up_first() {
        let dir = tempfile::tempdir().unwrap();
        let page = one(&run(dir.path(), (0.05, 3), Some(0.75)));
        for part in [
            "A joint energy-based model of digits (8×8×1, 10 classes): WRN-10-1, preset digits, seed 3.",
            "Trained for 9 iterations in 2 s.",
            "<dt>accuracy</dt><dd>0.750</dd>",
            "<dt>gap</dt><dd>0.250</dd>",
            "<code>train.lr=0.05</code>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("class=\"warn\""));
        let page = one(&run(dir.path(), (9.0, 3), None));
        assert!(page.contains("<b>Diverged</b> after iteration 7: the loss is NaN."), "{page}");
    }
}
