//! Charts of evaluation results.

use crate::attack::{Norm, RobustnessCurve, RobustnessPoint};
use crate::calibration::{Calibration, Reliability};
use crate::ood::OodSetResult;
use jempp::model::thresholds::Abstention;
use jempp_formats::plot::{COLOURS, Chart, Mark, Series};

/// Reliability diagram: accuracy by bin of confidence as bars, and, if a temperature was fitted, accuracy over mean
/// confidence after scaling as a line.
pub fn reliability(c: &Calibration) -> Chart<'static> {
    let points = |r: &Reliability| -> Vec<(f64, f64)> {
        let filled = r.bins.iter().filter(|b| b.count > 0);
        filled.map(|b| (b.confidence, b.accuracy)).collect()
    };
    let mut bars: Vec<(f64, f64)> = c.plain.bins.iter().map(|b| (b.lo, b.accuracy)).collect();
    bars.push((1.0, 0.0));
    let mut series = vec![
        Series { mark: Mark::Bars, ..Series::line("accuracy", COLOURS[0], bars) },
        Series { mark: Mark::Dashed, ..Series::line("", "#888", vec![(0.0, 0.0), (1.0, 1.0)]) },
    ];
    if let Some(r) = &c.scaled {
        series.push(Series::line(&format!("at temperature {:.2}", r.temperature), COLOURS[1], points(r)));
    }
    let ends = Some((0.0, 1.0));
    Chart { title: "Reliability", x: "confidence", y: "accuracy", y_ends: ends, x_ends: ends, series }
}

/// Fraction of images answered, accuracy of these and false alarms of out-of-distribution detection, over α.
pub fn abstention(curve: &[Abstention]) -> Chart<'static> {
    let line = |name: &str, i: usize, f: &dyn Fn(&Abstention) -> Option<f64>| {
        Series::line(name, COLOURS[i], curve.iter().filter_map(|a| Some((a.alpha, f(a)?))).collect())
    };
    let series = vec![
        line("images answered", 0, &|a| Some(a.coverage)),
        line("accuracy of these", 1, &|a| a.accuracy_answered),
        line("false alarms", 2, &|a| Some(a.false_alarms)),
    ];
    Chart {
        title: "Abstention",
        x: "α",
        y: "fraction of images",
        y_ends: Some((0.0, 1.0)),
        x_ends: None,
        series,
    }
}

/// Histograms of log p(x) on the data and on one OOD set.
pub fn histogram(r: &OodSetResult) -> Chart<'_> {
    let h = &r.histogram;
    let bars = |v: &[f64]| -> Vec<(f64, f64)> {
        let width = (h.high - h.low) / v.len().max(1) as f64;
        let ends = v.iter().chain(&[0.0]).enumerate();
        ends.map(|(i, v)| (h.low + i as f64 * width, *v)).collect()
    };
    let series = vec![
        Series { mark: Mark::Bars, ..Series::line("data", COLOURS[0], bars(&h.inside)) },
        Series { mark: Mark::Bars, ..Series::line(&r.set, COLOURS[1], bars(&h.outside)) },
    ];
    let y = "share of the images";
    Chart {
        title: "Frequency of log p(x), unnormalised",
        x: "log p(x)",
        y,
        y_ends: None,
        x_ends: None,
        series,
    }
}

/// Accuracy over ε, one line per attack.
pub fn robustness(c: &RobustnessCurve) -> Chart<'static> {
    let line = |name: &str, i: usize, f: &dyn Fn(&RobustnessPoint) -> Option<f64>| {
        let points = c.points.iter().filter_map(|p| Some((p.epsilon, f(p)?)));
        Series::line(name, COLOURS[i], [(0.0, c.clean.value)].into_iter().chain(points).collect())
    };
    let mut series = vec![
        line("noise", 2, &|p| Some(p.noise.value)),
        line("cross-entropy", 0, &|p| Some(p.cross_entropy.value)),
        line("cross-entropy and margin", 1, &|p| Some(p.white_box.value)),
    ];
    if c.transfer_from.is_some() {
        series.insert(0, line("transfer", 3, &|p| Some(p.transfer?.value)));
    }
    let (title, x) = match c.plan.norm {
        Norm::Linf => ("Accuracy under attack, L∞", "ε, for pixels in [0, 1]"),
        Norm::L2 => ("Accuracy under attack, L2", "ε, for pixels in [0, 1]"),
    };
    Chart { title, x, y: "accuracy", y_ends: Some((0.0, 1.0)), x_ends: None, series }
}
