//! The page around the sections: style sheet, title, order.

use super::comparison::comparison;
use super::results::RunResults;
use super::sections;
use jempp_formats::plot::{STYLE, escape};

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

/// The page about `runs`: with more than one, a comparison first, then a section for each run.
pub fn html(runs: &[RunResults]) -> String {
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
         95 % confidence intervals.</p>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}
