//! The page around the sections: style sheet, title, order.

use super::comparison::comparison;
use super::results::RunResults;
use super::{overview, sections};
use jempp_formats::plot::{STYLE, escape};

const CSS: &str = "\
:root { color-scheme: light dark; --ink: #222; --soft: #666; --line: #ddd; --paper: #fff; --box: #f6f6f3; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a5a5a5; --line: #363a40; --paper: #16181c; --box: #1f2228; --bad: #ff8a80 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 1180px; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.5rem; margin: .4rem 0; overflow-wrap: anywhere } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
h2, h3 { overflow-wrap: anywhere } h3 { margin: 1.6rem 0 .3rem }
.note { color: var(--soft); font-size: .85rem; margin: .2rem 0 .6rem; overflow-wrap: anywhere }
.warn { border-left: 4px solid #e6711b; padding: .3rem .8rem; background: var(--box) }
.numbers { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); margin: 1rem 0 }
.numbers div { background: var(--box); padding: .5rem .8rem; border-radius: .4rem }
.numbers dt { font-size: .85rem } .numbers dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums }
.numbers small { display: block; line-height: 1.3 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper) } th { font-weight: 600 }
small { color: var(--soft) } code { font-size: .85em }
.best { color: #2e8b57 } .bad { color: var(--bad) }
@media (max-width: 600px) { td small { display: block } td:first-child { white-space: normal; min-width: 7rem } }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)) }
.pairs { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); max-width: 960px }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; margin: .4rem 0; font-size: .9rem }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); align-items: start }
.grid { display: flex; max-width: 664px }
.grid ol { display: grid; grid-auto-rows: 1fr; list-style: none; margin: 0; padding: 0 .5rem 0 0; font-size: .75rem }
.grid li { display: flex; align-items: center; justify-content: flex-end; max-width: 7rem; overflow: hidden; line-height: 1.1 }
.grid img { flex: 1; min-width: 0; width: 0; align-self: start }
.charts svg { max-width: 460px }
details { border-top: 1px solid var(--line); padding: .4rem 0 } summary { cursor: pointer; overflow-wrap: anywhere }
figure { margin: 0 } figcaption { color: var(--soft); font-size: .85rem }
svg, img { width: 100%; height: auto; display: block } img { image-rendering: pixelated; max-width: 664px }";

/// The page about `runs`: the summary first, then, with more than one, the evaluations side by side, then a section for each
/// run.
pub fn html(runs: &[RunResults]) -> String {
    let names: Vec<&str> = runs.iter().map(|r| r.name.as_str()).collect();
    let title = escape(&names.join(", "));
    let body = match runs {
        [run] => overview::one(run) + &sections::run(run),
        _ => {
            let each: String = runs.iter().map(folded).collect();
            overview::several(runs) + &comparison(runs) + "<h2>Each run</h2>\n" + &each
        }
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{CSS}\n{STYLE}\n</style>\n</head>\n<body>\n{body}<p class=\"note\">Made by jempp-cli {}. In brackets: \
         95 % confidence intervals.</p>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A run among several, folded up.
fn folded(run: &RunResults) -> String {
    let inner = overview::one(run).replacen("<h1>", "<h2>", 1).replacen("</h1>", "</h2>", 1);
    format!(
        "<details>\n<summary>{}: {}</summary>\n{inner}{}</details>\n",
        escape(&run.name),
        run.outcome.short(),
        sections::run(run)
    )
}
