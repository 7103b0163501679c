//! Pieces of HTML.

use crate::attack::Norm;
use crate::estimate::Estimate;
use jempp_formats::plot::escape;

/// A number with its confidence interval.
pub(super) fn estimate(e: Estimate) -> String {
    format!("{:.4} <small>[{:.4}, {:.4}]</small>", e.value, e.low, e.high)
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
    format!("<div class=\"wide\"><table>\n<tr>{}</tr>\n{body}</table></div>\n", cells("th", head))
}

/// The header row of a table.
pub(super) fn header(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|c| (*c).to_owned()).collect()
}

/// Symbol of a norm.
pub(super) fn symbol(norm: Norm) -> &'static str {
    if norm == Norm::Linf { "L∞" } else { "L2" }
}
