//! Evaluation results as text.

use jempp::model::thresholds::Abstention;
use jempp_eval::Estimate;
use jempp_eval::attack::{Norm, RobustnessCurve};
use jempp_eval::calibration::{Calibration, Reliability};
use jempp_eval::fid::Fid;
use jempp_eval::ood::OodDetection;

fn with(e: Estimate) -> String {
    format!("{:.4}  [{:.4}, {:.4}]", e.value, e.low, e.high)
}

/// Calibration errors and proper scores.
pub(super) fn calibration(c: &Calibration) -> String {
    let mut out = format!("{}\n\naccuracy           {}\n", c.protocol.line(), with(c.accuracy));
    let table = |r: &Reliability| {
        format!(
            "ECE, {:<3} bins      {}\nMCE                {:.4}\nNLL                {}\nBrier score        {}\n",
            r.bins.len(),
            with(r.ece),
            r.mce,
            with(r.nll),
            with(r.brier)
        )
    };
    out += &table(&c.plain);
    match &c.scaled {
        Some(r) => {
            let fit = c.temperature.as_ref();
            out += &format!("\ntemperature        {}\n", fit.map(|f| f.line()).unwrap_or_default());
            out += &table(r);
            if let Some(why) = fit.and_then(|f| f.warning.as_ref()) {
                out += &format!("warning: {why}\n");
            }
        }
        None => out += "\nno temperature scaling: the run has no validation images (data.valid_size)\n",
    }
    out + "\nin brackets: 95 % confidence intervals\n"
}

/// Out-of-distribution detection.
pub(super) fn detection(d: &OodDetection) -> String {
    let mut out = format!("{}\n\n", d.protocol.line());
    let width = d.sets.iter().map(|a| a.set.chars().count()).max().unwrap_or_default().max(20);
    let title = "OOD set";
    out += &format!(
        "{title:<width$} n      score           AUROC                      FPR95   AUPR-in  AUPR-out\n"
    );
    for a in &d.sets {
        for (i, s) in a.scores.iter().enumerate() {
            let (set, n) = if i == 0 { (a.set.as_str(), a.n.to_string()) } else { ("", String::new()) };
            let e = &s.separation;
            out += &format!(
                "{set:<width$} {n:<6} {:<15} {}   {:.4}  {:.4}   {:.4}\n",
                s.score,
                with(e.auroc),
                e.fpr95.value,
                e.aupr_in.value,
                e.aupr_out.value
            );
        }
    }
    out + "\nin brackets: 95 % confidence intervals; high scores mean in-distribution\n"
}

/// What abstaining costs and gains, over α.
pub(super) fn abstention(curve: &[Abstention]) -> String {
    let mut out = "the same at other α, for prediction sets and OOD detection alike (eval thresholds --alpha, --ood-alpha):\n".to_owned();
    let mut line = |cells: &[String]| {
        let widths = Abstention::HEAD.iter().map(|h| h.chars().count().max(6));
        let padded: Vec<String> = cells.iter().zip(widths).map(|(c, w)| format!("{c:<w$}")).collect();
        out += &format!("{}\n", padded.join("  ").trim_end());
    };
    line(&Abstention::HEAD.map(str::to_owned));
    curve.iter().for_each(|a| line(&a.row()));
    out
}

/// FID and Inception score.
pub(super) fn fid(f: &Fid) -> String {
    let score = f.inception_score.map_or("not computed for fewer than 10 images".to_owned(), |s| {
        format!("{:.4} ± {:.4}  (standard deviation over {} splits)", s.mean, s.std, s.splits)
    });
    format!("{}\nFID                {:.4}\nInception score    {score}\n", f.lines(), f.fid)
}

/// Accuracy under attack.
pub(super) fn curve(c: &RobustnessCurve) -> String {
    let norm = if c.plan.norm == Norm::Linf { "L∞" } else { "L2" };
    let restarts = if c.plan.restarts == 1 { "restart" } else { "restarts" };
    let mut out =
        format!("{}\n\n{norm}, {} steps, {} {restarts}", c.protocol.line(), c.plan.steps, c.plan.restarts);
    out += &c.transfer_from.as_ref().map(|t| format!(", transfer attack from {t}")).unwrap_or_default();
    out += "\nε        cross-entropy  with margin                noise    transfer  all\n";
    out += &format!("0        {:.4}\n", c.clean.value);
    for p in &c.points {
        let transfer = p.transfer.map_or("-".to_owned(), |t| format!("{:.4}", t.value));
        out += &format!(
            "{:<7.4}  {:.4}         {}  {:.4}   {transfer:<8}  {:.4}\n",
            p.epsilon,
            p.cross_entropy.value,
            with(p.white_box),
            p.noise.value,
            p.worst.value
        );
    }
    if c.masking.is_empty() {
        out += "no sign of gradient masking (but this is not a proof)\n";
    }
    for m in &c.masking {
        out += &format!("gradient masking?  {m}\n");
    }
    out
}
