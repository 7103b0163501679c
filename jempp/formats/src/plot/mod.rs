//! Small charts as SVG, legible where a phone shows them: lines, bars and areas over two axes.
//!
//! Invariant: a chart is whole by itself and, put into a page with others, does not change them: all share one style.

use std::fmt::Write;

/// Sizes in the picture's units, which are pixels on a phone.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 44.0;

/// Colours that can be told apart, on light and on dark.
pub const COLOURS: [&str; 6] = ["#2c7fb8", "#e6711b", "#3a9d4e", "#9467bd", "#c53a6d", "#8a7a2b"];

/// The style of all charts.
pub const STYLE: &str = "\
svg { background: #fff } polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.t { font-size: 14px; fill: #222 } .a { font-size: 12px; fill: #555 }
.g { stroke: #ddd } .l { stroke: #888; stroke-dasharray: 4 4 }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c } .t { fill: #eee } .a { fill: #aaa } .g { stroke: #333 }
}";

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Points joined by lines.
    Line,
    /// A dashed line.
    Dashed,
    /// Bars from 0, each from its x to the next one's; the last point only ends them.
    Bars,
}

/// Values to be drawn.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name; without one it is not in the legend.
    pub name: String,
    /// Its colour.
    pub colour: &'static str,
    /// How it is drawn.
    pub mark: Mark,
    /// x and y.
    pub points: Vec<(f64, f64)>,
}

/// A chart. Axes reach over all values, and over the ends given.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What runs along x.
    pub x: &'a str,
    /// Ends of the y axis that it reaches to in any case.
    pub y_ends: Option<(f64, f64)>,
    /// Ends of the x axis; else those of the values.
    pub x_ends: Option<(f64, f64)>,
    /// What is drawn, the first below.
    pub series: Vec<Series>,
}

/// Text for a page or a picture.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An axis: ends and the step between its marks.
fn axis(values: impl Iterator<Item = f64>, round: bool) -> (f64, f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let step = nice((high - low).max(1e-9) / 4.0);
    if round { ((low / step).floor() * step, (high / step).ceil() * step, step) } else { (low, high, step) }
}

impl Chart<'_> {
    /// The picture, with its style.
    pub fn svg(&self) -> String {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" role="img" aria-label="{}">
<style>{STYLE}</style>
{}</svg>
"#,
            escape(self.title),
            self.inner()
        )
    }

    /// The picture for a page that has the style already.
    pub fn inline(&self) -> String {
        format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" role="img" aria-label="{}">
{}</svg>
"#,
            escape(self.title),
            self.inner()
        )
    }

    fn inner(&self) -> String {
        let all = || self.series.iter().flat_map(|s| s.points.iter());
        let ends = |e: Option<(f64, f64)>| e.into_iter().flat_map(|(a, b)| [a, b]);
        let bars = self.series.iter().any(|s| s.mark == Mark::Bars).then_some(0.0);
        let (y0, y1, y_step) = axis(all().map(|p| p.1).chain(ends(self.y_ends)).chain(bars), true);
        let (x0, x1, x_step) = match self.x_ends {
            Some(e) => axis(ends(Some(e)), false),
            None => axis(all().map(|p| p.0), false),
        };
        let span = |a: f64, b: f64| if b > a { b - a } else { 1.0 };
        let x = |v: f64| LEFT + (v - x0) / span(x0, x1) * (WIDTH - LEFT - RIGHT);
        let y = |v: f64| HEIGHT - BOTTOM - (v - y0) / span(y0, y1) * (HEIGHT - TOP - BOTTOM);
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(out, r#"<text class="t" x="{LEFT}" y="18">{}</text>"#, escape(self.title));
        for i in 0..=((y1 - y0) / y_step).round() as usize {
            let v = y0 + i as f64 * y_step;
            let at = y(v);
            let _ = writeln!(
                out,
                r#"<line class="g" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/><text class="a" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                number(v, y_step)
            );
        }
        let first = (x0 / x_step).ceil() as i64;
        let last = (x1 / x_step + 1e-9).floor() as i64;
        for i in first..=last {
            let v = i as f64 * x_step;
            let _ = writeln!(
                out,
                r#"<text class="a" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                x(v),
                HEIGHT - BOTTOM + 16.0,
                number(v, x_step)
            );
        }
        let _ = writeln!(
            out,
            r#"<text class="a" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            WIDTH - RIGHT,
            HEIGHT - 8.0,
            escape(self.x)
        );
        self.series.iter().for_each(|s| s.draw(&mut out, &x, &y));
        self.legend(&mut out);
        out
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
    /// A named line.
    pub fn line(name: &str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), colour, mark: Mark::Line, points }
    }

    fn draw(&self, out: &mut String, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) {
        let finite: Vec<(f64, f64)> =
            self.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        if self.mark == Mark::Bars {
            for pair in finite.windows(2).filter(|p| p[0].1 != 0.0) {
                let (left, right) = (x(pair[0].0), x(pair[1].0));
                let (top, bottom) = (y(pair[0].1.max(0.0)), y(pair[0].1.min(0.0)));
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
        let path: Vec<String> = finite.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let dash = if self.mark == Mark::Dashed { r#" stroke-dasharray="4 4""# } else { "" };
        let _ = writeln!(out, r#"<polyline points="{}" stroke="{}"{dash}/>"#, path.join(" "), self.colour);
        if self.mark == Mark::Line {
            for p in &finite {
                let _ = writeln!(
                    out,
                    r#"<circle cx="{:.1}" cy="{:.1}" r="2.5" fill="{}"/>"#,
                    x(p.0),
                    y(p.1),
                    self.colour
                );
            }
        }
    }
}

/// The next larger of 1, 2 or 5 times a power of ten.
pub fn nice(v: f64) -> f64 {
    let power = 10f64.powf(v.log10().floor());
    let of = |m: f64| m * power;
    [1.0, 2.0, 5.0].map(of).into_iter().find(|s| *s >= v * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// With as many digits as the step has.
pub fn number(v: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    // No −0.
    format!("{:.digits$}", if v.abs() < step / 1e6 { 0.0 } else { v })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_lies_within() {
        let chart = Chart {
            title: "a < b",
            x: "ε",
            y_ends: Some((0.0, 1.0)),
            x_ends: None,
            series: vec![
                Series::line("one", COLOURS[0], vec![(0.0, 0.9), (4.0, 0.1), (8.0, f64::NAN)]),
                Series { mark: Mark::Bars, ..Series::line("", COLOURS[1], vec![(0.0, 0.5), (8.0, 0.0)]) },
            ],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b") && svg.contains("</svg>") && svg.contains("ε"));
        // From the left edge to the middle, and down.
        assert!(svg.contains(r#"<polyline points="50.0,67.6 218.0,208.4""#), "{svg}");
        assert!(svg.contains(r#"<rect x="50.0" y="138.0" width="336.0" height="88.0""#), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!chart.inline().contains("<style>"));
        // Nothing to draw is no reason to fail.
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
