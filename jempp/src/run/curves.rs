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
    /// The title where values are cut.
    cut_title: &'static str,
    /// The label of the y axis.
    y: &'static str,
    /// Keys of training steps.
    training: &'static [Curve],
    /// A key of evaluations on the validation set, drawn with markers.
    validation: Option<Curve>,
    /// A reference value, drawn as a dashed line.
    level: Option<f64>,
    /// Magnitude at which values are cut, so that those of a run that diverges do not hide what came before.
    cut: f64,
}

const PANELS: &[Panel] = &[
    Panel {
        title: "cross-entropy of the labelled batch",
        cut_title: "cross-entropy of the labelled batch, cut at 10",
        y: "nats",
        training: &[("training", COLOURS[0], "ce")],
        validation: None,
        level: None,
        cut: 10.0,
    },
    Panel {
        title: "accuracy",
        cut_title: "accuracy",
        y: "share classified right",
        training: &[("labelled batch", COLOURS[0], "accuracy")],
        validation: Some(("validation", COLOURS[1], "accuracy")),
        level: None,
        cut: f64::INFINITY,
    },
    Panel {
        title: "mean log p(x), unnormalised",
        cut_title: "mean log p(x), unnormalised",
        y: "nats",
        training: &[("data", COLOURS[2], "log_density_data"), ("chains", COLOURS[1], "log_density_chain")],
        validation: None,
        level: None,
        cut: f64::INFINITY,
    },
    Panel {
        title: "gap: log p of data − log p of chains",
        cut_title: "gap: log p of data − log p of chains, cut at ±100",
        y: "nats",
        training: &[("gap", COLOURS[3], "gap")],
        validation: None,
        level: Some(0.0),
        cut: 100.0,
    },
];

/// Draws the curves from the text of a `metrics.jsonl`. `None` while there are fewer than two steps to draw.
pub fn svg(metrics: &str) -> Option<String> {
    let charts = charts(metrics);
    (!charts.is_empty()).then(|| stacked(&charts, WIDTH, "Learning curves"))
}

/// The curves of a run, a chart each. Empty while there are fewer than two steps to draw.
pub fn charts(metrics: &str) -> Vec<Chart<'static>> {
    let lines = parse(metrics);
    let last = last_step(&lines);
    if last <= 1.0 {
        return Vec::new();
    }
    PANELS.iter().filter_map(|panel| panel.chart(&lines, last)).collect()
}

/// The curves of several runs over each other: cross-entropy, accuracy (on the validation images, if any run has some) and
/// gap. Each run is a colour and the text of its `metrics.jsonl`.
pub fn overlay(runs: &[(&'static str, &str)]) -> Vec<Chart<'static>> {
    let runs: Vec<(&'static str, Vec<Value>)> = runs.iter().map(|(c, text)| (*c, parse(text))).collect();
    let last = runs.iter().map(|r| last_step(&r.1)).fold(0.0, f64::max);
    let validated = runs.iter().any(|r| of(&r.1, "valid").next().is_some());
    let panels = PANELS.iter().filter(|p| p.training.len() == 1 && last > 1.0);
    let one = |panel: &Panel| {
        let from_validation = panel.validation.filter(|_| validated);
        let series: Vec<Series> = runs
            .iter()
            .filter_map(|(colour, lines)| match from_validation {
                Some((_, _, key)) => {
                    let points = validation(lines, key);
                    (!points.is_empty()).then(|| Series::line("", colour, points))
                }
                None => {
                    let points = panel.points(lines, panel.training[0].2, last);
                    let mark = Mark::Curve;
                    (points.len() > 1).then(|| Series { mark, ..Series::line("", colour, points) })
                }
            })
            .collect();
        let title = if from_validation.is_some() { "accuracy on the validation images" } else { panel.title };
        (!series.is_empty()).then(|| panel.framed(title, series, last))
    };
    panels.filter_map(one).collect()
}

fn parse(metrics: &str) -> Vec<Value> {
    metrics.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

fn last_step(lines: &[Value]) -> f64 {
    of(lines, "step").filter_map(|l| l["step"].as_f64()).fold(0.0, f64::max)
}

/// The lines of one kind of event.
fn of<'a>(lines: &'a [Value], event: &'static str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |l| l["event"] == event)
}

/// The values of evaluations on the validation images, each at the iteration after which it was made.
fn validation(lines: &[Value], key: &str) -> Vec<(f64, f64)> {
    let at = |l: &Value| l["step"].as_f64().or_else(|| Some(end_of_epoch(lines, l["epoch"].as_f64()?)));
    of(lines, "valid").filter_map(|l| Some((at(l)?, l[key].as_f64()?))).collect()
}

impl Panel {
    /// The panel over the steps 0 to `last`; `None` if there is nothing to draw.
    fn chart(&self, lines: &[Value], last: f64) -> Option<Chart<'static>> {
        let mut series = Vec::new();
        for (name, colour, key) in self.training {
            let points = self.points(lines, key, last);
            if points.len() > 1 {
                series.push(Series { mark: Mark::Curve, ..Series::line(name, colour, points) });
            }
        }
        if let Some((name, colour, key)) = self.validation {
            let points = validation(lines, key);
            if !points.is_empty() {
                series.push(Series::line(name, colour, points));
            }
        }
        if series.is_empty() {
            return None;
        }
        series.extend(marks(lines, &series));
        Some(self.framed(self.title, series, last))
    }

    /// The values of the key in training steps, thinned.
    fn points(&self, lines: &[Value], key: &str, last: f64) -> Vec<(f64, f64)> {
        let value = |l: &Value| Some((l["step"].as_f64()?, l[key].as_f64()?));
        thinned(&of(lines, "step").filter_map(value).collect::<Vec<_>>(), last)
    }

    /// The chart of these series, with values beyond the cut cut off.
    fn framed(&self, title: &'static str, mut series: Vec<Series>, last: f64) -> Chart<'static> {
        let mut beyond = false;
        for point in series.iter_mut().flat_map(|s| &mut s.points) {
            beyond |= point.1.abs() > self.cut;
            point.1 = point.1.clamp(-self.cut, self.cut);
        }
        if let Some(level) = self.level {
            let points = vec![(0.0, level), (last, level)];
            series.insert(0, Series { mark: Mark::Dashed, ..Series::line("", "#888", points) });
        }
        let title = if beyond { self.cut_title } else { title };
        Chart { title, x: "iteration", y: self.y, y_ends: None, x_ends: Some((0.0, last)), series }
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

/// What happened in a run besides training, from the text of a `metrics.jsonl`: stages, warnings, rollbacks and how it diverged,
/// one line each.
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
            "diverged" => format!("Diverged after iteration {}: {}.", number("step")?, text("reason")?),
            "warning" => format!("Warning: {}.", text("text")?),
            _ => return None,
        })
    };
    metrics.lines().filter_map(line).collect()
}

/// The step at which an epoch ends, for evaluations of versions that did not state theirs.
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
    fn evaluations_stand_at_their_own_iteration() {
        let own = r#"{"event":"valid","step":37,"epoch":1,"accuracy":0.7}"#;
        let lines = parse(&format!("{}\n{own}", metrics()));
        // The first line is that of an older version: its epoch ended with the last step of epoch 0.
        assert_eq!(validation(&lines, "accuracy"), [(40.0, 0.75), (37.0, 0.7)]);
    }

    #[test]
    fn a_gap_that_runs_away_does_not_hide_the_rest() {
        let away = r#"{"event":"step","step":110,"epoch":2,"ce":1,"gap":-1e9}"#;
        let both = [metrics(), format!("{}\n{away}", metrics())].map(|m| charts(&m));
        let [calm, cut] = both.each_ref().map(|c| c.last().unwrap());
        assert!(!calm.title.contains("cut") && cut.title.contains("cut at ±100"), "{}", cut.title);
        let lowest = cut.series.iter().flat_map(|s| &s.points).map(|p| p.1).fold(0.0, f64::min);
        assert_eq!(lowest, -100.0);
    }

    #[test]
    fn runs_are_drawn_over_each_other() {
        let (a, b) = (metrics(), metrics().replace("0.75", "0.25"));
        let charts = overlay(&[("red", &a), ("blue", &b)]);
        let titles: Vec<&str> = charts.iter().map(|c| c.title).collect();
        assert_eq!(titles.len(), 3, "{titles:?}");
        assert_eq!(titles[1], "accuracy on the validation images");
        let colours: Vec<&str> = charts[1].series.iter().map(|s| s.colour).collect();
        assert_eq!(colours, ["red", "blue"]);
        assert_eq!(charts[1].series[1].points, [(40.0, 0.25)]);
        // Without evaluations it is the accuracy of the labelled batch.
        let plain = metrics().replace("\"valid\"", "\"other\"");
        assert_eq!(overlay(&[("red", &plain)])[1].title, "accuracy");
        assert!(overlay(&[("red", "")]).is_empty());
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
        assert!((points[9][0] - 706.0).abs() < 0.1 && (points[0][0] - 128.2).abs() < 0.1);
        assert_eq!(svg(""), None);
        assert_eq!(svg(metrics().lines().next().unwrap()), None);
    }
}
