//! What the page says of one run.

use super::Run;
use super::page::{table, with};
use crate::all::Summary;
use crate::attack::{Curve, Norm};
use crate::calibration::Calibration;
use crate::fid::Fid;
use crate::ood::Detection;
use crate::picture;
use crate::samples::Samples;
use jempp::run::curves;
use jempp_formats::plot::escape;

/// Width of the learning curves, in the picture's units.
const CURVES: f64 = 440.0;

fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escape(text))
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|c| (*c).to_owned()).collect()
}

/// All of it.
pub(super) fn run(run: &Run) -> String {
    let mut out = format!("<h2>{}</h2>\n", escape(&run.name));
    match &run.summary {
        Some(s) => {
            let preset = s.preset.as_deref().map(|p| format!("preset {p}, ")).unwrap_or_default();
            let step = s.step.map(|s| format!("{s} iterations, ")).unwrap_or_default();
            out += &note(&format!("{preset}{step}{} parameters; {}", s.parameters, s.protocol.line()));
        }
        None => {
            out +=
                "<p class=\"warn\">Not judged yet: <code>jempp-cli eval all --model RUN</code> does it.</p>\n"
        }
    }
    if let Some(svg) = curves::svg_of_width(&run.metrics, CURVES) {
        out += &format!("<h3>Training</h3>\n<div class=\"curves\">{svg}</div>\n");
    }
    if let Some(s) = &run.summary {
        out += &judged(s);
    }
    if !run.pictures.is_empty() {
        out += "<h3>Samples</h3>\n";
        out += &run.summary.as_ref().and_then(|s| s.samples.as_ref()).map(samples).unwrap_or_default();
        let one = |(uri, caption): &(String, String)| {
            let text = escape(caption);
            format!("<figure><img src=\"{uri}\" alt=\"{text}\"><figcaption>{text}</figcaption></figure>\n")
        };
        out += &format!(
            "<div class=\"pictures\">\n{}</div>\n",
            run.pictures.iter().map(one).collect::<String>()
        );
    }
    out
}

fn judged(s: &Summary) -> String {
    let mut out = calibration(&s.calibration);
    out += &detection(&s.detection);
    for curve in &s.attacks {
        out += &robustness(curve);
    }
    out += &s.fid.as_ref().map(inception).unwrap_or_default();
    if let Some(t) = &s.thresholds {
        out += &format!(
            "<h3>Deciding</h3>\n<p>Temperature {:.4}. Abstains where no class alone reaches probability {:.4} (α = {}) or \
             the p-value of log p(x) is below {}.</p>\n{}",
            t.temperature,
            t.probability,
            t.alpha,
            t.ood_alpha,
            note(&format!(
                "Temperature fitted on {} validation images, the probability on {} others, p-values from both; data set {}.",
                t.fitted_on[0], t.fitted_on[1], t.dataset_crc32c
            ))
        );
    }
    out
}

fn inception(f: &Fid) -> String {
    let score = f.inception_score.map_or("none".to_owned(), |s| format!("{:.3} ± {:.3}", s.mean, s.std));
    let rows = [vec![format!("{:.3}", f.fid), score, f.n.to_string()]];
    let head = row(&["FID", "Inception score", "samples"]);
    format!("<h3>FID and Inception score</h3>\n{}{}", note(&f.lines()), table(&head, &rows))
}

fn calibration(c: &Calibration) -> String {
    let head = row(&["", "ECE", "MCE", "NLL", "Brier score"]);
    let line = |name: String, r: &crate::calibration::Reliability| {
        vec![name, with(r.ece), format!("{:.4}", r.mce), with(r.nll), with(r.brier)]
    };
    let mut rows = vec![line("as trained".into(), &c.plain)];
    rows.extend(c.scaled.as_ref().map(|r| line(format!("temperature {:.4}", r.temperature), r)));
    let how = format!(
        "{}. {} bins (lo, hi] of max p(y|x). {}",
        c.protocol.line(),
        c.plain.bins.len(),
        match c.fitted_on {
            0 => "No validation images, so no temperature.".to_owned(),
            n => format!("Temperature fitted on {n} validation images."),
        }
    );
    format!(
        "<h3>Accuracy and calibration</h3>\n<p>Accuracy {}</p>\n{}{}<div class=\"charts\">{}</div>\n",
        with(c.accuracy),
        note(&how),
        table(&head, &rows),
        picture::reliability(c).inline()
    )
}

fn detection(d: &Detection) -> String {
    let head = row(&["against", "n", "score", "AUROC", "FPR95", "AUPR-in", "AUPR-out"]);
    let mut rows = Vec::new();
    for a in &d.against {
        for (i, s) in a.scores.iter().enumerate() {
            let set = a.crc32c.as_ref().map_or(a.set.clone(), |crc| format!("{} ({crc})", a.set));
            let (set, n) = if i == 0 { (escape(&set), a.n.to_string()) } else { Default::default() };
            let e = &s.separation;
            let numbers = [e.auroc, e.fpr95, e.aupr_in, e.aupr_out].map(with);
            rows.push([set, n, escape(&s.score)].into_iter().chain(numbers).collect());
        }
    }
    let how = format!(
        "{}. High scores mean data; intervals by bootstrap over both sets. FPR95 and AUPR depend on which side is positive \
         and on the sizes: in = data, out = the other set.",
        d.protocol.line()
    );
    let charts: String = d.against.iter().map(|a| picture::histogram(a).inline()).collect();
    format!(
        "<h3>Detection of what is no data</h3>\n{}{}<div class=\"charts\">{charts}</div>\n",
        note(&how),
        table(&head, &rows)
    )
}

fn robustness(c: &Curve) -> String {
    let ball = if c.plan.norm == Norm::Linf { "L∞" } else { "L2" };
    let head = row(&["ε", "PGD, cross-entropy", "and margin", "noise", "transfer", "all"]);
    let mut rows = vec![["0".to_owned()].into_iter().chain(std::iter::repeat_n(with(c.clean), 5)).collect()];
    for p in &c.points {
        let transfer = p.transfer.map_or("–".into(), with);
        let e = format!("{:.4}", p.epsilon);
        rows.push(vec![e, with(p.cross_entropy), with(p.white_box), with(p.noise), transfer, with(p.worst)]);
    }
    let step = c.plan.step_size.map_or("in proportion to ε".to_owned(), |s| format!("of {s}"));
    let from = c.transfer_from.as_ref().map(|t| format!(" Transfer from {t}.")).unwrap_or_default();
    let how = format!(
        "{}. {} steps {step}, {} random start(s); ε of pixels in [0, 1]; each image counts as broken from the smallest ε on \
         that broke it; noise is the worst of 20 draws.{from}",
        c.protocol.line(),
        c.plan.steps,
        c.plan.restarts
    );
    let signs = match c.masking.as_slice() {
        [] => "<p>No sign of gradient masking, which is no proof.</p>\n".to_owned(),
        some => {
            some.iter().map(|m| format!("<p class=\"warn\">Gradient masking? {}</p>\n", escape(m))).collect()
        }
    };
    format!(
        "<h3>Robustness, {ball}</h3>\n{}{}{signs}<div class=\"charts\">{}</div>\n",
        note(&how),
        table(&head, &rows),
        picture::robustness(c).inline()
    )
}

fn samples(s: &Samples) -> String {
    let mut rows = Vec::new();
    let mut add = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    if let Some([density, confidence]) = s.fresh {
        add("fresh chains: mean log p(x), mean max p(y|x)", format!("{density:.2}, {confidence:.3}"));
    }
    if let Some(b) = &s.buffer {
        add("replay buffer: chains", b.n.to_string());
        add("values at a face of the box", format!("{:.1} %", 100.0 * b.saturation));
        add("moved in one more round, RMS", format!("{:.4}", b.displacement));
        add("mean log p(x) before and after it", format!("{:.2}, {:.2}", b.log_density[0], b.log_density[1]));
        if let Some(a) = &b.ages {
            add(
                "age in iterations: mean, median, oldest",
                format!("{:.0}, {}, {}", a.mean, a.median, a.oldest),
            );
            add("rounds gone: mean; never picked", format!("{:.1}; {:.1} %", a.rounds, 100.0 * a.untouched));
        }
    }
    if let Some(n) = &s.nearest {
        add("nearest training image, RMS: median, least", format!("{:.4}, {:.4}", n.median, n.least));
        add("the same of test images", format!("{:.4}, {:.4}", n.median_test, n.least_test));
    }
    let how = format!(
        "Seed {}, {} outer steps a fresh chain. Distances are root mean squares over values in [−1, 1]; samples much nearer \
         to training images than test images are would be memorised.",
        s.seed, s.steps
    );
    note(&how) + &table(&row(&["", ""]), &rows)
}
