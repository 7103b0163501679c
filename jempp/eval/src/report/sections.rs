//! The section of the page about one run.

use super::markup::{estimate, header, note, radius, significant, symbol, table};
use super::pictures::pictures;
use super::results::RunResults;
use crate::attack::RobustnessCurve;
use crate::calibration::{Calibration, Reliability};
use crate::fid::Fid;
use crate::figures;
use crate::ood::OodDetection;
use crate::samples::SampleDiagnostics;
use crate::summary::Summary;
use jempp::model::thresholds::{Abstention, ThresholdValues};
use jempp::run::curves;
use jempp::temperature::TemperatureFit;
use jempp_formats::plot::escape;

/// What is said of one run: training, results, pictures.
pub(super) fn run(run: &RunResults) -> String {
    let mut out = String::new();
    if let Some(s) = &run.summary {
        let preset = s.preset.as_deref().map(|p| format!("preset {p}, ")).unwrap_or_default();
        let step = s.step.map(|s| format!("{s} iterations, ")).unwrap_or_default();
        out += &note(&format!("{preset}{step}{} parameters; {}", s.parameters, s.protocol.line()));
    }
    let charts: String = curves::charts(&run.metrics).iter().map(|c| c.inline()).collect();
    if !charts.is_empty() {
        out += &format!("<h3>Training</h3>\n<div class=\"charts pairs\">{charts}</div>\n");
    }
    let mut events = curves::events(&run.metrics);
    // That it has diverged stands at the top.
    events.retain(|e| !e.starts_with("Diverged"));
    if !events.is_empty() {
        let items: String = events.iter().map(|e| format!("<li>{}</li>\n", escape(e))).collect();
        out += &format!("<ul class=\"events\">\n{items}</ul>\n");
    }
    out += &run.summary.as_ref().map(results).unwrap_or_default();
    if !run.figures.is_empty() {
        out += "<h3>Samples</h3>\n";
        out += &run.summary.as_ref().and_then(|s| s.samples.as_ref()).map(samples).unwrap_or_default();
        out += &pictures(&run.figures);
    }
    if run.summary.is_none() {
        out += &note(
            "More is in the report after jempp-cli eval all: confidence intervals, reliability, more sets of outliers, attacks, samples.",
        );
    }
    out
}

fn results(s: &Summary) -> String {
    let mut out = calibration(&s.calibration);
    out += &detection(&s.detection);
    for curve in &s.attacks {
        out += &robustness(curve);
    }
    out += &s.fid.as_ref().map(fid).unwrap_or_default();
    out + &s.thresholds.as_ref().map(|t| abstention(t, &s.abstention)).unwrap_or_default()
}

fn abstention(t: &ThresholdValues, curve: &[Abstention]) -> String {
    let fitted = t.fit.as_ref().map_or(significant(t.temperature), TemperatureFit::line);
    let rule = format!(
        "<h3>Abstention</h3>\n<p>Temperature {fitted}. Abstains unless exactly one class reaches the probability {} (α = {}), \
         or if the p-value of log p(x) is below {}.</p>\n{}",
        t.probability,
        t.alpha,
        t.ood_alpha,
        note(&format!(
            "Temperature fitted on {} validation images, probability threshold on {} others, p-values on both; data set {}.",
            t.fitted_on[0], t.fitted_on[1], t.dataset_crc32c
        ))
    );
    let warnings: String =
        t.warnings().iter().map(|w| format!("<p class=\"warn\">{}</p>\n", escape(w))).collect();
    if curve.is_empty() {
        return rule + &warnings;
    }
    let rows: Vec<Vec<String>> = curve.iter().map(|a| a.row().to_vec()).collect();
    let how = note(
        "Test images. Thresholds fitted at each α, the same for prediction sets and out-of-distribution detection. The error of \
         the others is that of the predicted class on images that the model abstains on; false alarms are test images that \
         out-of-distribution detection rejects.",
    );
    let chart = figures::abstention(curve).inline();
    format!(
        "{rule}{warnings}{how}{}<div class=\"charts\">{chart}</div>\n",
        table(&header(&Abstention::HEAD), &rows)
    )
}

fn fid(f: &Fid) -> String {
    let score = f
        .inception_score
        .map_or("–".to_owned(), |s| format!("{} ± {}", significant(s.mean), significant(s.std)));
    let rows = [vec![significant(f.fid), score, f.n.to_string()]];
    let head = header(&["FID", "Inception score", "samples"]);
    format!("<h3>FID and Inception score</h3>\n{}{}", note(&f.lines()), table(&head, &rows))
}

fn calibration(c: &Calibration) -> String {
    let head = header(&["", "ECE", "MCE", "NLL", "Brier score"]);
    let line = |name: String, r: &Reliability| {
        vec![name, estimate(r.ece), significant(r.mce), estimate(r.nll), estimate(r.brier)]
    };
    let mut rows = vec![line("as trained".into(), &c.plain)];
    rows.extend(c.scaled.as_ref().map(|r| line(format!("temperature {}", significant(r.temperature)), r)));
    let fit = c.temperature.as_ref();
    let how = format!(
        "{}. {} bins (lo, hi] of max p(y|x). {}",
        c.protocol.line(),
        c.plain.bins.len(),
        match c.fitted_on {
            0 => "No temperature scaling, as there are no validation images.".to_owned(),
            n => fit.map_or(format!("Temperature fitted on {n} validation images."), |f| format!(
                "Temperature {}.",
                f.line()
            )),
        }
    );
    let warning = fit.and_then(|f| f.warning.as_ref());
    let warning = warning.map(|w| format!("<p class=\"warn\">{}</p>\n", escape(w))).unwrap_or_default();
    format!(
        "<h3>Accuracy and calibration</h3>\n<p>Accuracy {}</p>\n{warning}{}{}<div class=\"charts\">{}</div>\n",
        estimate(c.accuracy),
        note(&how),
        table(&head, &rows),
        figures::reliability(c).inline()
    )
}

fn detection(d: &OodDetection) -> String {
    let head = header(&["OOD set", "n", "score", "AUROC", "FPR95", "AUPR-in", "AUPR-out"]);
    let mut rows = Vec::new();
    for r in &d.sets {
        for (i, s) in r.scores.iter().enumerate() {
            let set = r.crc32c.as_ref().map_or(r.set.clone(), |crc| format!("{} ({crc})", r.set));
            let (set, n) = if i == 0 { (escape(&set), r.n.to_string()) } else { Default::default() };
            let e = &s.separation;
            let numbers = [e.auroc, e.fpr95, e.aupr_in, e.aupr_out].map(estimate);
            rows.push([set, n, escape(&s.score)].into_iter().chain(numbers).collect());
        }
    }
    let how = format!(
        "{}. High scores mean in-distribution; bootstrap intervals over both sets. FPR95 and AUPR depend on which set is \
         positive, AUPR also on the sizes of the sets: in = the data, out = the OOD set.",
        d.protocol.line()
    );
    let charts: String = d.sets.iter().map(|r| figures::histogram(r).inline()).collect();
    format!(
        "<h3>Out-of-distribution detection</h3>\n{}{}<div class=\"charts\">{charts}</div>\n",
        note(&how),
        table(&head, &rows)
    )
}

fn robustness(c: &RobustnessCurve) -> String {
    // Without a model to transfer from there is no such attack, and no column.
    let transfers = c.transfer_from.is_some();
    let row =
        |first: String, transfer: Option<String>, [cross_entropy, white_box, noise, worst]: [String; 4]| {
            let transfer = transfers.then(|| transfer.unwrap_or_else(|| "–".into()));
            [first, cross_entropy, white_box, noise]
                .into_iter()
                .chain(transfer)
                .chain([worst])
                .collect::<Vec<_>>()
        };
    let names = ["PGD, cross-entropy", "PGD, cross-entropy and margin", "noise", "all"].map(str::to_owned);
    let head = row("ε".into(), Some("transfer".into()), names);
    let clean = estimate(c.clean);
    let mut rows = vec![row("0".into(), Some(clean.clone()), [(); 4].map(|()| clean.clone()))];
    for p in &c.points {
        let numbers = [p.cross_entropy, p.white_box, p.noise, p.worst].map(estimate);
        rows.push(row(radius(c.plan.norm, p.epsilon), p.transfer.map(estimate), numbers));
    }
    let step = c.plan.step_size.map_or("proportional to ε".to_owned(), |s| s.to_string());
    let from = c.transfer_from.as_ref().map(|t| format!(" Transfer attack from {t}.")).unwrap_or_default();
    let how = format!(
        "Accuracy under attack. {}. {} steps of size {step}, {} random starts; ε for pixels in [0, 1]. An image that is broken \
         at some ε counts as broken at all larger ones. Noise: the worst of 20 draws.{from}",
        c.protocol.line(),
        c.plan.steps,
        c.plan.restarts
    );
    let sign = |m: &String| format!("<p class=\"warn\">Gradient masking? {}</p>\n", escape(m));
    let signs = match c.masking.as_slice() {
        [] => "<p>No sign of gradient masking, which does not prove its absence.</p>\n".to_owned(),
        signs => signs.iter().map(sign).collect(),
    };
    format!(
        "<h3>Robustness, {}</h3>\n{}{}{signs}<div class=\"charts\">{}</div>\n",
        symbol(c.plan.norm),
        note(&how),
        table(&head, &rows),
        figures::robustness(c).inline()
    )
}

fn samples(s: &SampleDiagnostics) -> String {
    let mut rows = Vec::new();
    let mut add = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    if let Some([density, confidence]) = s.fresh {
        let values = format!("{}, {}", significant(density), significant(confidence));
        add("fresh chains: mean log p(x), mean max p(y|x)", values);
    }
    if let Some(b) = &s.buffer {
        add("replay buffer: chains", b.n.to_string());
        add("saturation: values within 0.001 of −1 or 1", format!("{:.1} %", 100.0 * b.saturation));
        add("displacement in one more round, RMS", significant(b.displacement));
        add("mean log p(x), before and after it", b.log_density.map(significant).join(", "));
        if let Some(a) = &b.ages {
            let age = format!("{:.0}, {}, {}", a.mean, a.median, a.oldest);
            add("age in iterations: mean, median, maximum", age);
            add("rounds run, mean; never picked", format!("{:.1}; {:.1} %", a.rounds, 100.0 * a.untouched));
        }
    }
    if let Some(n) = &s.nearest {
        add(
            "distance to the nearest training image: median, minimum",
            [n.median, n.least].map(significant).join(", "),
        );
        add("the same for test images", [n.median_test, n.least_test].map(significant).join(", "));
    }
    let how = format!(
        "Seed {}, {} steps per fresh chain. Distances are root mean square differences of values in [−1, 1]. Samples that are \
         much nearer to training images than test images are would be memorised.",
        s.seed, s.steps
    );
    note(&how) + &table(&header(&["", ""]), &rows)
}
