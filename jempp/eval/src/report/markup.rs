//! Pieces of HTML, and numbers as the page writes them.

use crate::attack::Norm;
use crate::estimate::Estimate;
use jempp_formats::plot::escape;

/// A number with three significant digits.
pub(super) fn significant(v: f64) -> String {
    digits(v, 3)
}

/// A number with `n` significant digits; those before the point are never cut.
fn digits(v: f64, n: i32) -> String {
    if !v.is_finite() || v == 0.0 {
        return v.to_string();
    }
    let decimals = |v: f64| (n - 1 - v.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{v:.*}", decimals(v));
    // Rounding may have made it a digit longer, as 0.9996 to 1.000.
    let rounded = text.parse().unwrap_or(v);
    let text = if rounded == 0.0 { text } else { format!("{v:.*}", decimals(rounded)) };
    if text.starts_with('-') && text.trim_matches(['-', '0', '.']).is_empty() {
        return text.trim_start_matches('-').to_owned();
    }
    text
}

/// A number with its confidence interval.
pub(super) fn estimate(e: Estimate) -> String {
    let [value, low, high] = [e.value, e.low, e.high].map(significant);
    format!("{value} <small>[{low}, {high}]</small>")
}

/// Mean and, of several values, standard deviation (divided by n − 1).
pub(super) fn mean_and_deviation(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    match values.len() {
        0 => None,
        1 => Some((mean, None)),
        _ => Some((mean, Some((squares / (n - 1.0)).sqrt()))),
    }
}

/// Mean ± standard deviation of several values, or the only one.
pub(super) fn spread(values: &[f64]) -> Option<String> {
    mean_and_deviation(values).map(|(mean, deviation)| match deviation {
        Some(d) => format!("{} ± {}", significant(mean), digits(d, 2)),
        None => significant(mean),
    })
}

/// A radius ε as people write it: in the L∞ norm as a fraction of 255, if it is one.
pub(super) fn radius(norm: Norm, epsilon: f64) -> String {
    let levels = 255.0 * epsilon;
    let whole = (levels - levels.round()).abs() < 1e-6 && levels.round() >= 1.0;
    if norm == Norm::Linf && whole && levels < 255.0 {
        format!("{levels:.0}/255")
    } else {
        significant(epsilon)
    }
}

/// A paragraph in small print; `text` is escaped.
pub(super) fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escape(text))
}

/// A table with a header row. Cells are HTML.
pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let cells =
        |tag: &str, row: &[String]| row.iter().map(|c| format!("<{tag}>{c}</{tag}>")).collect::<String>();
    let body: String = rows.iter().map(|r| format!("<tr>{}</tr>\n", cells("td", r))).collect();
    format!(
        "<div class=\"wide\" tabindex=\"0\"><table>\n<tr>{}</tr>\n{body}</table></div>\n",
        cells("th", head)
    )
}

/// The header row of a table.
pub(super) fn header(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|c| (*c).to_owned()).collect()
}

/// Symbol of a norm.
pub(super) fn symbol(norm: Norm) -> &'static str {
    if norm == Norm::Linf { "L∞" } else { "L2" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits() {
        for (v, text) in [
            (0.986_111, "0.986"),
            (0.012_149, "0.0121"),
            (0.000_123_45, "0.000123"),
            (12.345, "12.3"),
            (1234.5, "1234"),
            (0.9997, "1.00"),
            (99.96, "100"),
            (-0.1694, "-0.169"),
            (0.0, "0"),
            (1.0, "1.00"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(significant(v), text);
        }
        assert_eq!(
            estimate(Estimate { value: 0.5, low: 0.412_34, high: 0.6 }),
            "0.500 <small>[0.412, 0.600]</small>"
        );
    }

    #[test]
    fn several_values_have_a_mean_and_a_deviation() {
        // numpy.std([0.98, 0.99, 0.985], ddof=1) is 0.005.
        assert_eq!(spread(&[0.98, 0.99, 0.985]).unwrap(), "0.985 ± 0.0050");
        assert_eq!(spread(&[0.5]).unwrap(), "0.500");
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn radii_are_written_as_usual() {
        assert_eq!(radius(Norm::Linf, 8.0 / 255.0), "8/255");
        assert_eq!(radius(Norm::Linf, 0.1), "0.100");
        assert_eq!(radius(Norm::L2, 1.0), "1.00");
        assert_eq!(radius(Norm::L2, 8.0 / 255.0), "0.0314");
    }
}
