//! The learning curves of a run as an SVG image: cross-entropy, accuracy, log p(x) and its gap.
//!
//! Invariant: the curves show `metrics.jsonl`; each point is the mean of the lines that fall on the same position of the x
//! axis, and lines that cannot be parsed are skipped.

use jempp_formats::plot::{nice, number};
use serde_json::Value;
use std::fmt::Write;

/// Sizes in SVG user units.
const WIDTH: f64 = 720.0;
const PANEL: f64 = 170.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const GAP: f64 = 46.0;
/// Points of a curve along the x axis, at most.
const POINTS: usize = 240;

/// A curve of a panel: its name, its colour, and the key of its values.
type Series = (&'static str, &'static str, &'static str);

struct Panel {
    title: &'static str,
    lines: &'static [Series],
    /// Results of evaluations, drawn with markers.
    evaluated: Option<Series>,
    /// A dashed horizontal line.
    level: Option<f64>,
}

const PANELS: &[Panel] = &[
    Panel {
        title: "cross-entropy of the labelled batch",
        lines: &[("training", "#1f77b4", "ce")],
        evaluated: None,
        level: None,
    },
    Panel {
        title: "accuracy",
        lines: &[("labelled batch", "#9ecae1", "accuracy")],
        evaluated: Some(("validation", "#d62728", "accuracy")),
        level: None,
    },
    Panel {
        title: "mean log p(x), unnormalised",
        lines: &[("data", "#2ca02c", "log_density_data"), ("chains", "#ff7f0e", "log_density_chain")],
        evaluated: None,
        level: None,
    },
    Panel {
        title: "gap: log p of data − log p of chains",
        lines: &[("gap", "#9467bd", "gap")],
        evaluated: None,
        level: Some(0.0),
    },
];

/// The curves of the text of a `metrics.jsonl`; `None` if there are fewer than two steps to draw.
pub fn svg(metrics: &str) -> Option<String> {
    svg_of_width(metrics, WIDTH)
}

/// The curves of the text of a `metrics.jsonl`, as [`svg`] draws them, in an image of `width` user units.
pub fn svg_of_width(metrics: &str, width: f64) -> Option<String> {
    let lines: Vec<Value> = metrics.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let of = |event: &'static str| lines.iter().filter(move |l| l["event"] == event);
    let last = of("step").filter_map(|l| l["step"].as_f64()).fold(0.0, f64::max);
    let epoch_of = |l: &Value| Some((l["epoch"].as_f64()?, l["step"].as_f64()?));
    // An evaluation names its epoch, which ends where the steps of the next one begin.
    let ends = |epoch: f64| {
        of("step").filter_map(epoch_of).filter(|(e, _)| *e < epoch).map(|(_, s)| s).fold(0.0, f64::max)
    };
    let mut out = String::new();
    let mut drawn = 0;
    for panel in PANELS {
        let mut curves = Vec::new();
        for (name, colour, key) in panel.lines {
            let points: Vec<(f64, f64)> =
                of("step").filter_map(|l| Some((l["step"].as_f64()?, l[*key].as_f64()?))).collect();
            curves.push((*name, *colour, downsampled(&points, last), false));
        }
        if let Some((name, colour, key)) = panel.evaluated {
            let points =
                of("valid").filter_map(|l| Some((ends(l["epoch"].as_f64()?), l[key].as_f64()?))).collect();
            curves.push((name, colour, points, true));
        }
        curves.retain(|c: &(_, _, Vec<_>, _)| c.2.len() > 1 || (c.3 && !c.2.is_empty()));
        if !curves.is_empty() {
            draw(&mut out, panel, &curves, (last, width), 30.0 + drawn as f64 * (PANEL + GAP));
            drawn += 1;
        }
    }
    (drawn > 0 && last > 1.0).then(|| document(&out, drawn, (last, width)))
}

/// The mean of the points at each position of the x axis.
fn downsampled(points: &[(f64, f64)], last: f64) -> Vec<(f64, f64)> {
    let mut bins: Vec<(f64, f64, f64)> = vec![(0.0, 0.0, 0.0); POINTS];
    for (x, y) in points {
        let at = ((x / last.max(1.0)) * (POINTS - 1) as f64).round() as usize;
        if let Some(p) = bins.get_mut(at) {
            *p = (p.0 + x, p.1 + y, p.2 + 1.0);
        }
    }
    bins.iter().filter(|p| p.2 > 0.0).map(|p| (p.0 / p.2, p.1 / p.2)).collect()
}

type Curve<'a> = (&'a str, &'a str, Vec<(f64, f64)>, bool);

fn draw(out: &mut String, panel: &Panel, curves: &[Curve<'_>], (last, width): (f64, f64), top: f64) {
    let values = curves.iter().flat_map(|c| c.2.iter().map(|p| p.1)).chain(panel.level);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let step = nice((high - low).max(1e-9) / 4.0);
    let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
    let x = |v: f64| LEFT + v / last * (width - LEFT - RIGHT);
    let y = |v: f64| top + PANEL - (v - low) / (high - low) * PANEL;
    // Writing to a string cannot fail.
    let _ = writeln!(out, r#"<text class="t" x="{LEFT}" y="{:.1}">{}</text>"#, top - 10.0, panel.title);
    for i in 0..=((high - low) / step).round() as usize {
        let v = low + i as f64 * step;
        let _ = writeln!(
            out,
            r#"<line class="g" x1="{LEFT}" x2="{:.1}" y1="{:.1}" y2="{:.1}"/><text class="a" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            width - RIGHT,
            y(v),
            y(v),
            LEFT - 8.0,
            y(v) + 4.0,
            number(v, step)
        );
    }
    if let Some(level) = panel.level {
        let at = y(level);
        let _ = writeln!(
            out,
            r#"<line class="l" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/>"#,
            width - RIGHT
        );
    }
    let mut label = width - RIGHT;
    for (name, colour, points, marked) in curves.iter().rev() {
        let path: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let _ = writeln!(out, r#"<polyline points="{}" stroke="{colour}"/>"#, path.join(" "));
        for p in points.iter().filter(|_| *marked) {
            let _ = writeln!(out, r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#, x(p.0), y(p.1));
        }
        let at = top - 10.0;
        let _ = writeln!(
            out,
            r#"<text class="a" x="{label:.1}" y="{at:.1}" text-anchor="end"><tspan fill="{colour}">■</tspan> {name}</text>"#
        );
        label -= 30.0 + 6.5 * name.chars().count() as f64;
    }
}

/// The document with its x axis, readable on light and on dark pages.
fn document(panels: &str, drawn: usize, (last, width): (f64, f64)) -> String {
    let height = 30.0 + drawn as f64 * (PANEL + GAP) + 6.0;
    let mut axis = String::new();
    let step = nice(last / 6.0);
    let mut v = 0.0;
    while v <= last {
        let at = LEFT + v / last * (width - LEFT - RIGHT);
        let _ = writeln!(
            axis,
            r#"<text class="a" x="{at:.1}" y="{:.1}" text-anchor="middle">{v}</text>"#,
            height - GAP + 12.0
        );
        v += step;
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" role="img" aria-label="Learning curves">
<style>
svg {{ background: #fff }} polyline {{ fill: none; stroke-width: 1.6; stroke-linejoin: round }}
.t {{ font-size: 14px; fill: #222 }} .a {{ font-size: 12px; fill: #555 }}
.g {{ stroke: #ddd }} .l {{ stroke: #888; stroke-dasharray: 4 4 }}
@media (prefers-color-scheme: dark) {{
  svg {{ background: #16181c }} .t {{ fill: #eee }} .a {{ fill: #aaa }} .g {{ stroke: #333 }}
}}
</style>
{panels}{axis}<text class="a" x="{:.1}" y="{:.1}" text-anchor="end">iteration</text>
</svg>
"#,
        width - RIGHT,
        height - 10.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> String {
        let step = |i: usize| {
            format!(
                r#"{{"event":"step","step":{},"epoch":{},"ce":{},"accuracy":0.5,"log_density_data":null,"gap":{}}}"#,
                i * 10,
                i / 5,
                2.0 - i as f64 / 20.0,
                i as f64 - 4.0
            )
        };
        let mut lines: Vec<String> = (1..=10).map(step).collect();
        lines.insert(4, r#"{"event":"valid","epoch":1,"accuracy":0.75}"#.into());
        lines.push("{torn".into());
        lines.join("\n")
    }

    #[test]
    fn panels_with_data_are_drawn() {
        let s = svg(&metrics()).unwrap();
        for part in ["cross-entropy", "validation", "gap: log p", "</svg>", "prefers-color-scheme"] {
            assert!(s.contains(part), "{part}");
        }
        assert!(!s.contains("mean log p(x)"), "nothing to draw");
        // Ten points of the cross-entropy from 1.95 down to 1.5: y grows, from the left to the right edge.
        let line = s.lines().find(|l| l.starts_with("<polyline")).unwrap();
        let points: Vec<Vec<f64>> = line
            .split('"')
            .nth(1)
            .unwrap()
            .split(' ')
            .map(|p| p.split(',').map(|v| v.parse().unwrap()).collect())
            .collect();
        assert_eq!(points.len(), 10);
        assert!(points.windows(2).all(|w| w[1][0] > w[0][0] && w[1][1] > w[0][1]));
        assert!((points[9][0] - 700.0).abs() < 0.1 && (points[0][0] - 124.0).abs() < 0.1);
        assert_eq!(svg(""), None);
        assert_eq!(svg(metrics().lines().next().unwrap()), None);
    }
}
