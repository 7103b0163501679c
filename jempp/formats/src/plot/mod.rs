//! Charts as SVG, legible on small screens and on light and dark backgrounds: lines and bars over two axes.
//!
//! Invariant: all charts share one style, so that charts on one page do not affect each other.

use std::fmt::Write;

/// Sizes in SVG user units, which are about pixels on a phone. `WIDTH` is that of a single chart.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 44.0;
/// Width of a letter or digit of a label, on average.
const LETTER: f64 = 7.0;

/// Colours that are distinguishable on light and dark backgrounds.
pub const COLOURS: [&str; 6] = ["#2c7fb8", "#e6711b", "#3a9d4e", "#9467bd", "#c53a6d", "#8a7a2b"];

/// The style sheet of all charts.
pub const STYLE: &str = "\
svg { background: #fff } polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.t { font-size: 14px; fill: #222 } .a { font-size: 12px; fill: #555 }
.g { stroke: #ddd }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c } .t { fill: #eee } .a { fill: #aaa } .g { stroke: #333 }
}";

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line with a marker at each point.
    Line,
    /// A line without markers.
    Curve,
    /// A dashed line.
    Dashed,
    /// Bars from 0, each from its x to that of the next point; the last point only ends the last bar.
    Bars,
}

/// A series of points.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend; empty: not in the legend.
    pub name: String,
    /// Its colour in CSS notation.
    pub colour: &'static str,
    /// How it is drawn.
    pub mark: Mark,
    /// The points (x, y); non-finite ones are skipped.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// The title.
    pub title: &'a str,
    /// The label of the x axis.
    pub x: &'a str,
    /// The label of the y axis, drawn upwards.
    pub y: &'a str,
    /// Values that the y axis must include, besides all points.
    pub y_ends: Option<(f64, f64)>,
    /// The range of the x axis; `None`: that of the points.
    pub x_ends: Option<(f64, f64)>,
    /// The series, drawn in this order.
    pub series: Vec<Series>,
}

/// Escapes text for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Ends of an axis and the distance of its ticks; with `round` the ends are ticks.
fn axis(values: impl Iterator<Item = f64>, round: bool) -> (f64, f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let step = nice((high - low).max(1e-9) / 4.0);
    if round { ((low / step).floor() * step, (high / step).ceil() * step, step) } else { (low, high, step) }
}

/// A standalone SVG picture of charts below one another, `width` units wide; letters have the same size at any width.
/// `label` describes the picture to screen readers.
pub fn stacked(charts: &[Chart<'_>], width: f64, label: &str) -> String {
    let height = HEIGHT * charts.len() as f64;
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" role="img" aria-label="{}">
<style>{STYLE}</style>
"#,
        escape(label)
    );
    for (i, chart) in charts.iter().enumerate() {
        let top = HEIGHT * i as f64;
        // Writing to a string cannot fail.
        let _ = write!(out, "<g transform=\"translate(0 {top})\">\n{}</g>\n", chart.inner(width));
    }
    out + "</svg>\n"
}

/// An axis in data coordinates, and where its ends lie in the picture.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// The position of a value in the picture.
    fn at(&self, v: f64) -> f64 {
        let span = if self.high > self.low { self.high - self.low } else { 1.0 };
        self.from + (v - self.low) / span * (self.to - self.from)
    }
}

impl Chart<'_> {
    /// The chart as a standalone SVG picture.
    pub fn svg(&self) -> String {
        stacked(std::slice::from_ref(self), WIDTH, self.title)
    }

    /// The chart as an SVG element for a page that includes [`STYLE`].
    pub fn inline(&self) -> String {
        format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" role="img" aria-label="{}">
{}</svg>
"#,
            escape(self.title),
            self.inner(WIDTH)
        )
    }

    fn inner(&self, width: f64) -> String {
        let all = || self.series.iter().flat_map(|s| s.points.iter());
        let ends = |e: Option<(f64, f64)>| e.into_iter().flat_map(|(a, b)| [a, b]);
        let bars = self.series.iter().any(|s| s.mark == Mark::Bars).then_some(0.0);
        let (low, high, step) = axis(all().map(|p| p.1).chain(ends(self.y_ends)).chain(bars), true);
        let y = Axis { low, high, step, from: HEIGHT - BOTTOM, to: TOP };
        let (low, high, step) = match self.x_ends {
            Some(e) => axis(ends(Some(e)), false),
            None => axis(all().map(|p| p.0), false),
        };
        let x = Axis { low, high, step, from: LEFT, to: width - RIGHT };
        let mut out = String::new();
        let _ = writeln!(out, r#"<text class="t" x="{LEFT}" y="18">{}</text>"#, escape(self.title));
        self.axes(&mut out, &x, &y);
        self.series.iter().for_each(|s| s.draw(&mut out, &x, &y));
        self.legend(&mut out);
        out
    }

    /// Grid lines, tick labels and the label of the x axis.
    fn axes(&self, out: &mut String, x: &Axis, y: &Axis) {
        for i in 0..=((y.high - y.low) / y.step).round() as usize {
            let v = y.low + i as f64 * y.step;
            let at = y.at(v);
            let _ = writeln!(
                out,
                r#"<line class="g" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/><text class="a" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                x.to,
                LEFT - 6.0,
                at + 4.0,
                number(v, y.step)
            );
        }
        let first = (x.low / x.step).ceil() as i64;
        let last = (x.high / x.step + 1e-9).floor() as i64;
        for i in first..=last {
            let v = i as f64 * x.step;
            let (at, label) = (x.at(v), number(v, x.step));
            // A centred label at the right end would be cut off.
            let fits = at + 0.5 * LETTER * label.len() as f64 <= x.to + RIGHT;
            let anchor = if fits { "middle" } else { "end" };
            let _ = writeln!(
                out,
                r#"<text class="a" x="{at:.1}" y="{:.1}" text-anchor="{anchor}">{label}</text>"#,
                HEIGHT - BOTTOM + 16.0
            );
        }
        let _ = writeln!(
            out,
            r#"<text class="a" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            x.to,
            HEIGHT - 8.0,
            escape(self.x)
        );
        let (left, middle) = (14.0, (y.from + y.to) / 2.0);
        let _ = writeln!(
            out,
            r#"<text class="a" transform="translate({left:.1} {middle:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            escape(self.y)
        );
    }

    fn legend(&self, out: &mut String) {
        let mut at = LEFT;
        for s in self.series.iter().filter(|s| !s.name.is_empty()) {
            let _ = writeln!(
                out,
                r#"<text class="a" x="{at:.1}" y="38"><tspan fill="{}">■</tspan> {}</text>"#,
                s.colour,
                escape(&s.name)
            );
            at += 28.0 + 6.3 * s.name.chars().count() as f64;
        }
    }
}

impl Series {
    /// A series drawn as [`Mark::Line`].
    pub fn line(name: &str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), colour, mark: Mark::Line, points }
    }

    fn draw(&self, out: &mut String, x: &Axis, y: &Axis) {
        let finite: Vec<(f64, f64)> =
            self.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        if self.mark == Mark::Bars {
            for pair in finite.windows(2).filter(|p| p[0].1 != 0.0) {
                let (left, right) = (x.at(pair[0].0), x.at(pair[1].0));
                let (top, bottom) = (y.at(pair[0].1.max(0.0)), y.at(pair[0].1.min(0.0)));
                let _ = writeln!(
                    out,
                    r#"<rect x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{}" fill-opacity="0.55"/>"#,
                    (right - left).max(0.5),
                    (bottom - top).max(0.0),
                    self.colour
                );
            }
            return;
        }
        let path: Vec<String> = finite.iter().map(|p| format!("{:.1},{:.1}", x.at(p.0), y.at(p.1))).collect();
        let dash = if self.mark == Mark::Dashed { r#" stroke-dasharray="4 4""# } else { "" };
        let _ = writeln!(out, r#"<polyline points="{}" stroke="{}"{dash}/>"#, path.join(" "), self.colour);
        if self.mark == Mark::Line {
            for p in &finite {
                let _ = writeln!(
                    out,
                    r#"<circle cx="{:.1}" cy="{:.1}" r="2.5" fill="{}"/>"#,
                    x.at(p.0),
                    y.at(p.1),
                    self.colour
                );
            }
        }
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `v`.
fn nice(v: f64) -> f64 {
    let power = 10f64.powf(v.log10().floor());
    let of = |m: f64| m * power;
    [1.0, 2.0, 5.0].map(of).into_iter().find(|s| *s >= v * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// Formats a tick label with the digits that the distance of the ticks requires.
fn number(v: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    // Avoids −0.
    format!("{:.digits$}", if v.abs() < step / 1e6 { 0.0 } else { v })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_drawn_in_place() {
        let chart = Chart {
            title: "a < b",
            x: "ε",
            y: "share",
            y_ends: Some((0.0, 1.0)),
            x_ends: None,
            series: vec![
                Series::line("one", COLOURS[0], vec![(0.0, 0.9), (4.0, 0.1), (8.0, f64::NAN)]),
                Series { mark: Mark::Bars, ..Series::line("", COLOURS[1], vec![(0.0, 0.5), (8.0, 0.0)]) },
            ],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b") && svg.contains("</svg>") && svg.contains("ε"));
        assert!(svg.contains(r#"rotate(-90)" text-anchor="middle">share<"#), "{svg}");
        // From the left edge to the middle, and down.
        assert!(svg.contains(r#"<polyline points="64.0,67.6 225.0,208.4""#), "{svg}");
        assert!(svg.contains(r#"<rect x="64.0" y="138.0" width="322.0" height="88.0""#), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!chart.inline().contains("<style>"));
        // An empty chart is valid.
        let none = Chart { series: Vec::new(), y_ends: None, ..chart };
        assert!(none.svg().contains("</svg>"));
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!([0.013, 0.2, 3.0, 7.0].map(nice), [0.02, 0.2, 5.0, 10.0]);
        assert_eq!(
            (number(-0.0, 0.5), number(1.5, 0.5), number(200.0, 50.0)),
            ("0.0".into(), "1.5".into(), "200".into())
        );
    }
}
