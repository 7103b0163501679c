//! The page around the sections: style, comparison, order.

use super::{Run, sections};
use crate::all::Summary;
use crate::{Estimate, ood::Against};
use jempp::ball::Norm;
use jempp_formats::plot::{COLOURS, Chart, STYLE, Series, escape};

const CSS: &str = "\
:root { color-scheme: light dark; --ink: #222; --soft: #666; --line: #ddd; --paper: #fff; --box: #f6f6f3 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a5a5a5; --line: #363a40; --paper: #16181c; --box: #1f2228 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 1180px; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.5rem } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) } h3 { margin: 1.6rem 0 .3rem }
.note { color: var(--soft); font-size: .85rem; margin: .2rem 0 .6rem; overflow-wrap: anywhere }
.warn { border-left: 4px solid #e6711b; padding: .3rem .8rem; background: var(--box) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { font-weight: 600 }
small { color: var(--soft) }
@media (max-width: 600px) { td small { display: block } td:first-child { white-space: normal } }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)) }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); align-items: start }
.curves { max-width: 560px } .charts svg { max-width: 460px }
figure { margin: 0 } figcaption { color: var(--soft); font-size: .85rem }
svg, img { width: 100%; height: auto; display: block } img { image-rendering: pixelated; max-width: 664px }";

/// The whole page.
pub(super) fn html(runs: &[Run]) -> String {
    let names: Vec<&str> = runs.iter().map(|r| r.name.as_str()).collect();
    let title = escape(&names.join(", "));
    let mut body = String::new();
    if runs.len() > 1 {
        body += &format!("<h1>{title}</h1>\n{}", comparison(runs));
    }
    for run in runs {
        body += &sections::run(run);
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{CSS}\n{STYLE}\n</style>\n</head>\n<body>\n{body}<p class=\"note\">Made by jempp-cli {}. In brackets: \
         95 % intervals.</p>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A number with its interval.
pub(super) fn with(e: Estimate) -> String {
    format!("{:.4} <small>[{:.4}, {:.4}]</small>", e.value, e.low, e.high)
}

/// A table of a head and rows; cells are HTML.
pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let cells =
        |tag: &str, row: &[String]| row.iter().map(|c| format!("<{tag}>{c}</{tag}>")).collect::<String>();
    let body: String = rows.iter().map(|r| format!("<tr>{}</tr>\n", cells("td", r))).collect();
    format!("<div class=\"wide\"><table>\n<tr>{}</tr>\n{body}</table></div>\n", cells("th", head))
}

type Row<'a> = (String, Box<dyn Fn(&Summary) -> Option<String> + 'a>);

/// Runs side by side.
fn comparison(runs: &[Run]) -> String {
    let mut rows: Vec<Row<'_>> = vec![
        ("preset".into(), Box::new(|s| s.preset.as_deref().map(escape))),
        ("test images".into(), Box::new(|s| Some(s.protocol.n.to_string()))),
        ("data".into(), Box::new(|s| Some(escape(&s.protocol.dataset)))),
        ("accuracy".into(), Box::new(|s| Some(with(s.calibration.accuracy)))),
        ("ECE".into(), Box::new(|s| Some(with(s.calibration.plain.ece)))),
        ("ECE, scaled".into(), Box::new(|s| Some(with(s.calibration.scaled.as_ref()?.ece)))),
        ("NLL".into(), Box::new(|s| Some(with(s.calibration.plain.nll)))),
        ("Brier score".into(), Box::new(|s| Some(with(s.calibration.plain.brier)))),
    ];
    let summaries: Vec<&Summary> = runs.iter().filter_map(|r| r.summary.as_ref()).collect();
    let mut sets: Vec<&str> = Vec::new();
    for a in summaries.iter().flat_map(|s| &s.detection.against) {
        if !sets.contains(&a.set.as_str()) {
            sets.push(&a.set);
        }
    }
    for set in sets {
        for score in ["log p(x)", "max p(y|x)"] {
            let auroc = move |a: &Against| {
                a.scores.iter().find(|s| s.score == score).map(|s| with(s.separation.auroc))
            };
            let of = move |s: &Summary| s.detection.against.iter().find(|a| a.set == set).and_then(auroc);
            rows.push((format!("AUROC of {score}, {}", escape(set)), Box::new(of)));
        }
    }
    for norm in [Norm::Linf, Norm::L2] {
        for epsilon in epsilons(&summaries, norm) {
            let name = if norm == Norm::Linf { "L∞" } else { "L2" };
            let of = move |s: &Summary| {
                let curve = s.attacks.iter().find(|c| c.plan.norm == norm)?;
                curve.points.iter().find(|p| p.epsilon == epsilon).map(|p| with(p.worst))
            };
            rows.push((format!("accuracy, {name} ε = {epsilon:.4}"), Box::new(of)));
        }
    }
    let head: Vec<String> = [String::new()].into_iter().chain(runs.iter().map(|r| escape(&r.name))).collect();
    let cell = |r: &Run, f: &dyn Fn(&Summary) -> Option<String>| {
        r.summary.as_ref().and_then(f).unwrap_or_else(|| "–".into())
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, f)| [name.clone()].into_iter().chain(runs.iter().map(|r| cell(r, f))).collect())
        .collect();
    let note =
        "Each column as its own section says; compare numbers only where data and numbers of images agree.";
    format!(
        "<h2>Side by side</h2>\n<p class=\"note\">{note}</p>\n{}<div class=\"charts\">{}</div>\n",
        table(&head, &rows),
        [Norm::Linf, Norm::L2].map(|n| together(runs, n)).concat()
    )
}

/// The radii at which any run was attacked, rising.
fn epsilons(all: &[&Summary], norm: Norm) -> Vec<f64> {
    let curves = all.iter().flat_map(|s| &s.attacks).filter(|c| c.plan.norm == norm);
    let mut e: Vec<f64> = curves.flat_map(|c| c.points.iter().map(|p| p.epsilon)).collect();
    e.sort_unstable_by(f64::total_cmp);
    e.dedup();
    e
}

/// The curves of robustness of all runs in one chart.
fn together(runs: &[Run], norm: Norm) -> String {
    let one = |(i, r): (usize, &Run)| {
        let curve = r.summary.as_ref()?.attacks.iter().find(|c| c.plan.norm == norm)?;
        let points = curve.points.iter().map(|p| (p.epsilon, p.worst.value));
        let points = [(0.0, curve.clean.value)].into_iter().chain(points).collect();
        Some(Series::line(&r.name, COLOURS[i % COLOURS.len()], points))
    };
    let series: Vec<Series> = runs.iter().enumerate().filter_map(one).collect();
    if series.is_empty() {
        return String::new();
    }
    let title = if norm == Norm::Linf {
        "Accuracy under all attacks, L∞"
    } else {
        "Accuracy under all attacks, L2"
    };
    let (x, y_ends) = ("ε of pixels in [0, 1]", Some((0.0, 1.0)));
    Chart { title, x, y_ends, x_ends: None, series }.inline()
}
