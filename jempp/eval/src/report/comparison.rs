//! Several runs side by side.

use super::markup::{estimate, note, radius, symbol, table};
use super::results::RunResults;
use crate::attack::Norm;
use crate::ood::OodSetResult;
use crate::scores::DetectionScore;
use crate::summary::Summary;
use jempp_formats::plot::{COLOURS, Chart, Series, escape};

/// A row of the table: its name, and the cell of each run that has the number.
type Row<'a> = (String, Box<dyn Fn(&Summary) -> Option<String> + 'a>);

/// The results of `eval all`: a table with a column per run, and charts with a line per run; empty if no run has any.
pub(super) fn comparison(runs: &[RunResults]) -> String {
    let runs: Vec<&RunResults> = runs.iter().filter(|r| r.summary.is_some()).collect();
    let summaries: Vec<&Summary> = runs.iter().filter_map(|r| r.summary.as_ref()).collect();
    if runs.is_empty() {
        return String::new();
    }
    let mut rows = general_rows();
    rows.extend(detection_rows(&summaries));
    rows.extend(robustness_rows(&summaries));
    let head: Vec<String> = [String::new()].into_iter().chain(runs.iter().map(|r| escape(&r.name))).collect();
    let cell = |r: &RunResults, f: &dyn Fn(&Summary) -> Option<String>| {
        r.summary.as_ref().and_then(f).unwrap_or_else(|| "–".into())
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, f)| [name.clone()].into_iter().chain(runs.iter().map(|r| cell(r, f))).collect())
        .collect();
    format!(
        "<h2>Evaluations side by side</h2>\n{}{}<div class=\"charts\">{}</div>\n",
        note(
            "Measurement conditions are in the section of each run. Numbers are comparable only for the same data and number \
             of images."
        ),
        table(&head, &rows),
        [Norm::Linf, Norm::L2].map(|n| robustness_chart(&runs, n)).concat()
    )
}

fn general_rows<'a>() -> Vec<Row<'a>> {
    vec![
        ("preset".into(), Box::new(|s| s.preset.as_deref().map(escape))),
        ("test images".into(), Box::new(|s| Some(s.protocol.n.to_string()))),
        ("data".into(), Box::new(|s| Some(escape(&s.protocol.dataset)))),
        ("accuracy".into(), Box::new(|s| Some(estimate(s.calibration.accuracy)))),
        ("ECE".into(), Box::new(|s| Some(estimate(s.calibration.plain.ece)))),
        (
            "ECE after temperature scaling".into(),
            Box::new(|s| Some(estimate(s.calibration.scaled.as_ref()?.ece))),
        ),
        ("NLL".into(), Box::new(|s| Some(estimate(s.calibration.plain.nll)))),
        (
            "NLL after temperature scaling".into(),
            Box::new(|s| Some(estimate(s.calibration.scaled.as_ref()?.nll))),
        ),
        ("Brier score".into(), Box::new(|s| Some(estimate(s.calibration.plain.brier)))),
    ]
}

/// AUROCs, a row for each set that any run was evaluated on and each of two scores.
fn detection_rows<'a>(summaries: &[&'a Summary]) -> Vec<Row<'a>> {
    let mut sets: Vec<&str> = Vec::new();
    for a in summaries.iter().flat_map(|s| &s.detection.sets) {
        if !sets.contains(&a.set.as_str()) {
            sets.push(&a.set);
        }
    }
    let mut rows: Vec<Row<'a>> = Vec::new();
    for set in sets {
        for score in [DetectionScore::LogDensity, DetectionScore::MaxProbability].map(DetectionScore::name) {
            let auroc = move |r: &OodSetResult| {
                r.scores.iter().find(|s| s.score == score).map(|s| estimate(s.separation.auroc))
            };
            let of = move |s: &Summary| s.detection.sets.iter().find(|a| a.set == set).and_then(auroc);
            rows.push((format!("AUROC of {score}, {}", escape(set)), Box::new(of)));
        }
    }
    rows
}

/// Accuracy under attack, a row for each norm and each ε at which any run was attacked.
fn robustness_rows<'a>(summaries: &[&Summary]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for norm in [Norm::Linf, Norm::L2] {
        for epsilon in epsilons(summaries, norm) {
            let of = move |s: &Summary| {
                let curve = s.attacks.iter().find(|c| c.plan.norm == norm)?;
                curve.points.iter().find(|p| p.epsilon == epsilon).map(|p| estimate(p.worst))
            };
            rows.push((format!("accuracy, {} ε = {}", symbol(norm), radius(norm, epsilon)), Box::new(of)));
        }
    }
    rows
}

/// The radii at which any run was attacked, increasing.
fn epsilons(all: &[&Summary], norm: Norm) -> Vec<f64> {
    let curves = all.iter().flat_map(|s| &s.attacks).filter(|c| c.plan.norm == norm);
    let mut e: Vec<f64> = curves.flat_map(|c| c.points.iter().map(|p| p.epsilon)).collect();
    e.sort_unstable_by(f64::total_cmp);
    e.dedup();
    e
}

/// Accuracy over ε, one line per run; empty if no run was attacked.
fn robustness_chart(runs: &[&RunResults], norm: Norm) -> String {
    let line = |(i, r): (usize, &&RunResults)| {
        let curve = r.summary.as_ref()?.attacks.iter().find(|c| c.plan.norm == norm)?;
        let points = curve.points.iter().map(|p| (p.epsilon, p.worst.value));
        let points = [(0.0, curve.clean.value)].into_iter().chain(points).collect();
        Some(Series::line(&r.name, COLOURS[i % COLOURS.len()], points))
    };
    let series: Vec<Series> = runs.iter().enumerate().filter_map(line).collect();
    if series.is_empty() {
        return String::new();
    }
    let title = format!("Accuracy under all attacks, {}", symbol(norm));
    let (x, y_ends) = ("ε, for pixels in [0, 1]", Some((0.0, 1.0)));
    Chart { title: &title, x, y: "accuracy", y_ends, x_ends: None, series }.inline()
}
