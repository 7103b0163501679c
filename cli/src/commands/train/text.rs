//! What `train` prints before and after a run.

use crate::commands::bytes;
use crate::invocation;
use crate::progress::duration;
use jempp::run::{Ended, Outline, Report};

/// What a run will do, with the seconds of an iteration, whether they were measured, and the free memory if it is known.
pub(super) fn outline(o: &Outline, (seconds, measured): (f64, bool), free: Option<u64>) -> String {
    let f = o.footprint;
    let [per_epoch, total] = o.iterations;
    let [train, valid, test] = o.images;
    let rate = f.flops as f64 / seconds / 1e9;
    let how = if measured { "measured on the second iteration" } else { "estimated from a small batch" };
    format!(
        "data          {}: {train} training, {valid} validation and {test} test images\n\
         device        {}\n\
         parameters    {}\n\
         memory        {} for state, {} for activations and workspace{}\n\
         work          {:.2} GFLOP per iteration, {per_epoch} iterations per epoch, {total} in total\n\
         speed         {:.1} ms per iteration ({rate:.0} GFLOP/s), {how}\n\
         time          {} per epoch, {} in total\n",
        o.dataset,
        o.device,
        f.parameters,
        bytes(f.state_bytes),
        bytes(f.program_bytes),
        free.map(|n| format!("; fits, {} free", bytes(n))).unwrap_or_default(),
        f.flops as f64 / 1e9,
        seconds * 1e3,
        duration(seconds * per_epoch as f64),
        duration(seconds * total as f64),
    )
}

/// The result of a run, and what to do next.
pub(super) fn summary(r: &Report) -> String {
    let c = &r.test.classification;
    let mut out = format!("\ntest accuracy      {:.4}  ({} images)\n", c.accuracy, c.n);
    out += &format!("calibration error  {:.4}  (ECE, {} bins)\n", c.ece, c.ece_bins);
    for d in &r.test.detection {
        out += &format!("AUROC of log p(x)  {:.4}  against {}\n", d.auroc_log_density, d.against);
    }
    if let Some([mean, worst]) = r.gap {
        out += &format!(
            "gap                {mean:+.3}  mean log p(x), data minus chains, last {} iterations (largest {worst:.2})\n",
            r.iterations.min(200)
        );
    }
    if let Some(b) = &r.best {
        let (accuracy, epoch) = (b.accuracy, b.epoch);
        out += &format!("best validation    {accuracy:.4}  after epoch {epoch}, kept as ckpt/best\n");
    }
    if r.rollbacks > 0 {
        out += &format!("rollbacks          {}  (see metrics.jsonl)\n", r.rollbacks);
    }
    let of = match r.ended {
        Ended::Complete => String::new(),
        Ended::TimeLimit => format!(" of {}, stopped by the time limit", r.planned_iterations),
        Ended::EarlyStopped => format!(" of {}, stopped early", r.planned_iterations),
    };
    let (time, run) = (duration(r.training_seconds), r.folder.display());
    out += &format!(
        "trained            {} iterations in {time}{of}\n\nrun folder         {run}\n",
        r.iterations
    );
    if let Some(grid) = r.grids.last() {
        out += &format!("samples            {}  (one row per class)\n", grid.display());
    }
    out += &format!("learning curves    {run}/plots/learning.svg\n");
    out + "\n" + &next(r, &invocation::program())
}

/// Commands to go on with, each on a line of its own from its first word to its last.
fn next(r: &Report, program: &str) -> String {
    let run = invocation::path(&r.folder);
    let mut all = vec![
        ("draw new images", format!("sample --model {run}")),
        ("see the results", format!("report {run}")),
        ("evaluate in full", format!("eval all --model {run}")),
        ("see what it contains", format!("inspect {run}")),
    ];
    if r.ended == Ended::TimeLimit {
        all.insert(0, ("go on training", format!("train --resume {run}")));
    }
    let lines: String = all.iter().map(|(what, args)| format!("  {what:<22}{program} {args}\n")).collect();
    format!("Next:\n{lines}")
}
