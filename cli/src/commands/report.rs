//! `jempp-cli report`.

use super::{check_ending, check_output, json, print};
use crate::args::{Global, Report};
use jempp::{Error, Result};
use jempp_eval::report::{html, read};
use jempp_formats::files::write_atomic;

/// Writes the page.
pub(crate) fn run(global: &Global, a: &Report) -> Result<()> {
    let output = match (&a.output, a.runs.as_slice()) {
        _ if a.json => None,
        (Some(output), _) => {
            check_ending(output, &["html", "htm"])?;
            check_output(output)?;
            Some(output.clone())
        }
        (None, [run]) => Some(run.join("report.html")),
        (None, _) => {
            return Err(Error::Config("several runs need an output file: -o FILE.html".into()));
        }
    };
    let runs = a.runs.iter().map(|r| read(r)).collect::<Result<Vec<_>>>()?;
    let Some(output) = output else { return print(&format!("{}\n", json(&runs)?)) };
    let page = html(&runs);
    write_atomic(&output, |w| w.write_all(page.as_bytes()))?;
    if global.quiet { Ok(()) } else { print(&format!("{}\n", output.display())) }
}
