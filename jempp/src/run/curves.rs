//! The learning curves of a run as one SVG picture: loss, accuracy and energies.
//!
//! Invariant: the curves show what `metrics.jsonl` contains; each point is the mean of all lines that fall on the same
//! horizontal position. Lines that cannot be parsed are skipped.

use jempp_formats::plot::{COLOURS, Chart, Mark, Series, stacked};
use serde_json::Value;

/// Default width in SVG units.
const WIDTH: f64 = 720.0;
/// Largest number of points of a curve.
const POINTS: usize = 240;

/// A curve of a panel: its name in the legend, its colour, and the key of its values.
type Curve = (&'static str, &'static str, &'static str);

struct Panel {
    title: &'static str,
    /// Keys of training steps.
    training: &'static [Curve],
    /// A key of evaluations on the validation set, drawn with markers.
    validation: Option<Curve>,
    /// A reference value, drawn as a dashed line.
    level: Option<f64>,
}

const PANELS: &[Panel] = &[
    Panel {
        title: "cross-entropy of the labelled batch",
        training: &[("training", COLOURS[0], "ce")],
        validation: None,
        level: None,
    },
    Panel {
        title: "accuracy",
        training: &[("labelled batch", COLOURS[0], "accuracy")],
        validation: Some(("validation", COLOURS[1], "accuracy")),
        level: None,
    },
    Panel {
        title: "mean log p(x), unnormalised",
        training: &[("data", COLOURS[2], "log_density_data"), ("chains", COLOURS[1], "log_density_chain")],
        validation: None,
        level: None,
    },
    Panel {
        title: "gap: log p of data − log p of chains",
        training: &[("gap", COLOURS[3], "gap")],
        validation: None,
        level: Some(0.0),
    },
];

/// Draws the curves from the text of a `metrics.jsonl`. `None` while there are fewer than two steps to draw.
pub fn svg(metrics: &str) -> Option<String> {
    svg_of_width(metrics, WIDTH)
}

/// Draws the curves as [`svg`] does, in a picture of this width in SVG units; letters keep their size.
pub fn svg_of_width(metrics: &str, width: f64) -> Option<String> {
    let lines: Vec<Value> = metrics.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let last = of(&lines, "step").filter_map(|l| l["step"].as_f64()).fold(0.0, f64::max);
    let charts: Vec<Chart<'_>> = PANELS.iter().filter_map(|panel| panel.chart(&lines, last)).collect();
    (!charts.is_empty() && last > 1.0).then(|| stacked(&charts, width, "Learning curves"))
}

/// The lines of one kind of event.
fn of<'a>(lines: &'a [Value], event: &'static str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |l| l["event"] == event)
}

impl Panel {
    /// The panel over the steps 0 to `last`; `None` if there is nothing to draw.
    fn chart(&self, lines: &[Value], last: f64) -> Option<Chart<'static>> {
        let mut series = Vec::new();
        for (name, colour, key) in self.training {
            let value = |l: &Value| Some((l["step"].as_f64()?, l[*key].as_f64()?));
            let points = thinned(&of(lines, "step").filter_map(value).collect::<Vec<_>>(), last);
            if points.len() > 1 {
                series.push(Series { mark: Mark::Curve, ..Series::line(name, colour, points) });
            }
        }
        if let Some((name, colour, key)) = self.validation {
            let value = |l: &Value| Some((end_of_epoch(lines, l["epoch"].as_f64()?), l[key].as_f64()?));
            let points: Vec<(f64, f64)> = of(lines, "valid").filter_map(value).collect();
            if !points.is_empty() {
                series.push(Series::line(name, colour, points));
            }
        }
        if series.is_empty() {
            return None;
        }
        series.extend(marks(lines, &series));
        if let Some(level) = self.level {
            let points = vec![(0.0, level), (last, level)];
            series.insert(0, Series { mark: Mark::Dashed, ..Series::line("", "#888", points) });
        }
        Some(Chart { title: self.title, x: "iteration", y_ends: None, x_ends: Some((0.0, last)), series })
    }
}

/// Vertical lines, as high as the other series, where a stage begins and where a rollback has led to.
fn marks(lines: &[Value], others: &[Series]) -> Vec<Series> {
    let heights = others.iter().flat_map(|s| &s.points).map(|p| p.1).filter(|v| v.is_finite());
    let (low, high) = heights.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let mut out = Vec::new();
    for (event, key, colour) in [("stage", "after", "#888"), ("rollback", "to", COLOURS[4])] {
        for (i, x) in of(lines, event).filter_map(|l| l[key].as_f64()).enumerate() {
            let name = if i == 0 { event } else { "" };
            let points = vec![(x, low), (x, high)];
            out.push(Series { mark: Mark::Dashed, ..Series::line(name, colour, points) });
        }
    }
    out
}

/// What happened in a run besides training, from the text of a `metrics.jsonl`: stages, rollbacks and how it diverged, one line
/// each.
pub fn events(metrics: &str) -> Vec<String> {
    let line = |text: &str| {
        let l: Value = serde_json::from_str(text).ok()?;
        let (number, text) = (|key: &str| l[key].as_u64(), |key: &str| l[key].as_str());
        Some(match text("event")? {
            "stage" => format!("Stage {} begins after iteration {}.", number("stage")?, number("after")?),
            "rollback" => format!(
                "Rollback {} from iteration {} to {}, learning rate × {}, step size × {}: {}.",
                number("rollback")?,
                number("from")?,
                number("to")?,
                l["lr_factor"],
                l["step_factor"],
                text("reason")?
            ),
            "diverged" => format!("Diverged: {}.", text("reason")?),
            _ => return None,
        })
    };
    metrics.lines().filter_map(line).collect()
}

/// The step at which an epoch ends: evaluations state their epoch, not their step.
fn end_of_epoch(lines: &[Value], epoch: f64) -> f64 {
    let step = |l: &Value| Some((l["epoch"].as_f64()?, l["step"].as_f64()?));
    of(lines, "step").filter_map(step).filter(|(e, _)| *e < epoch).map(|(_, s)| s).fold(0.0, f64::max)
}

/// The means of the points in each of [`POINTS`] equal intervals of the x axis.
fn thinned(points: &[(f64, f64)], last: f64) -> Vec<(f64, f64)> {
    let mut sums: Vec<(f64, f64, f64)> = vec![(0.0, 0.0, 0.0); POINTS];
    for (x, y) in points {
        let at = ((x / last.max(1.0)) * (POINTS - 1) as f64).round() as usize;
        if let Some(sum) = sums.get_mut(at) {
            *sum = (sum.0 + x, sum.1 + y, sum.2 + 1.0);
        }
    }
    sums.iter().filter(|s| s.2 > 0.0).map(|s| (s.0 / s.2, s.1 / s.2)).collect()
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
    fn events_are_marked_and_told() {
        let plain = metrics();
        let more = r#"{"event":"stage","stage":2,"after":40,"epoch":4}
{"event":"rollback","rollback":1,"from":90,"to":60,"reason":"the loss is NaN","lr_factor":0.5,"step_factor":1.0}"#;
        let (before, after) = (svg(&plain).unwrap(), svg(&format!("{plain}\n{more}")).unwrap());
        let dashed = |s: &str| s.matches("stroke-dasharray").count();
        // Three panels have values: cross-entropy, accuracy, gap.
        assert_eq!(dashed(&after), dashed(&before) + 2 * 3);
        assert!(after.contains("> rollback<") && after.contains("> stage<") && !before.contains("rollback"));
        assert!(events(&plain).is_empty());
        let told = events(&format!("{plain}\n{more}"));
        assert_eq!(told[0], "Stage 2 begins after iteration 40.");
        assert!(told[1].starts_with("Rollback 1 from iteration 90 to 60, learning rate × 0.5"), "{told:?}");
    }

    #[test]
    fn panels_without_values_are_omitted() {
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
        assert!((points[9][0] - 706.0).abs() < 0.1 && (points[0][0] - 115.6).abs() < 0.1);
        assert_eq!(svg(""), None);
        assert_eq!(svg(metrics().lines().next().unwrap()), None);
    }
}
