//! Progress for people and for programs: a bar on a terminal, plain lines or JSON elsewhere.

mod layout;

use crate::args::{Global, LogFormat};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jempp::run::{Folder, Observer, Outline, Progress};
use std::io::IsTerminal;
use std::time::Instant;

/// Seconds between plain lines.
const PLAIN_EVERY: f64 = 5.0;

/// A progress bar, if standard error is a terminal.
fn bar(global: &Global) -> Option<ProgressBar> {
    let plain = global.log_format == LogFormat::Json || global.quiet || !std::io::stderr().is_terminal();
    (!plain).then(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    })
}

/// Writes a line to standard error, unless `-q` is given.
pub(crate) fn note(global: &Global, text: &str) {
    match (global.quiet, global.log_format) {
        (true, _) => {}
        (false, LogFormat::Json) => eprintln!("{}", serde_json::json!({ "message": text })),
        (false, LogFormat::Text) => eprintln!("{text}"),
    }
}

/// Shows the progress of a known number of steps on standard error.
pub(crate) struct StepProgress {
    what: String,
    quiet: bool,
    json: bool,
    bar: Option<ProgressBar>,
    start: Instant,
    last: Instant,
}

impl StepProgress {
    /// For steps of the work called `what`.
    pub(crate) fn new(global: &Global, what: impl Into<String>) -> Self {
        let (json, now) = (global.log_format == LogFormat::Json, Instant::now());
        Self { what: what.into(), quiet: global.quiet, json, bar: bar(global), start: now, last: now }
    }

    /// Reports that `done` of `total` steps are done.
    pub(crate) fn step(&mut self, done: u32, total: u32) {
        let left = self.start.elapsed().as_secs_f64() / f64::from(done.max(1)) * f64::from(total - done);
        if let Some(bar) = &self.bar {
            bar.set_length(u64::from(total));
            bar.set_position(u64::from(done));
            let parts = [left_text(left), self.what.clone(), format!("{done}/{total}")];
            bar.set_message(layout::line([u64::from(done), u64::from(total)], &parts, layout::width()));
            if done == total {
                bar.finish_and_clear();
            }
        } else if !self.quiet && self.last.elapsed().as_secs_f64() >= PLAIN_EVERY {
            self.last = Instant::now();
            if self.json {
                eprintln!("{}", serde_json::json!({ "step": done, "of": total, "seconds_left": left }));
            } else {
                eprintln!("{}  {done}/{total}  {} left", self.what, duration(left));
            }
        }
    }
}

/// Shows the progress of work in several stages, each with its own number of steps.
pub(crate) struct StageProgress<'a> {
    global: &'a Global,
    stage: Option<StepProgress>,
}

impl<'a> StageProgress<'a> {
    /// Before the first stage.
    pub(crate) fn new(global: &'a Global) -> Self {
        Self { global, stage: None }
    }

    /// Reports that `done` of `total` steps of the stage `what` are done. Always true: work is never cancelled here.
    pub(crate) fn report(&mut self, what: &str, done: usize, total: usize) -> bool {
        let same = self.stage.take().filter(|s| s.what == what);
        let mut steps = same.unwrap_or_else(|| StepProgress::new(self.global, what));
        steps.step(done as u32, total as u32);
        self.stage = Some(steps);
        true
    }
}

/// Shows the progress of a training run on standard error and in its `log.txt`.
pub(crate) struct TrainProgress<'a> {
    folder: &'a Folder,
    quiet: bool,
    json: bool,
    bar: Option<ProgressBar>,
    last: Instant,
    first: bool,
}

impl<'a> TrainProgress<'a> {
    /// In the form that the global options ask for.
    pub(crate) fn new(global: &Global, folder: &'a Folder) -> Self {
        let json = global.log_format == LogFormat::Json;
        Self { folder, quiet: global.quiet, json, bar: bar(global), last: Instant::now(), first: true }
    }

    fn line(&self, text: &str) {
        // The log is a convenience: a full disk shows at the next checkpoint.
        let _ = self.folder.log(text);
        if self.quiet {
            return;
        }
        match (&self.bar, self.json) {
            (Some(bar), _) => bar.suspend(|| eprintln!("{text}")),
            (None, true) => eprintln!("{}", serde_json::json!({ "message": text })),
            (None, false) => eprintln!("{text}"),
        }
    }
}

/// The time left, as every progress line says it.
fn left_text(seconds: f64) -> String {
    format!("{} left", duration(seconds))
}

/// What is said of an iteration, what people look for first in front.
fn parts(p: &Progress) -> Vec<String> {
    let m = &p.metrics;
    let mut parts = vec![left_text(p.seconds_left), format!("acc {:.3}", m.accuracy)];
    if !m.gap().is_nan() {
        parts.push(format!("gap {:+.2}", m.gap()));
    }
    parts.extend([
        format!("epoch {}", p.epoch + 1),
        format!("ce {:.3}", m.ce),
        format!("loss {:.3}", m.loss),
        format!("{:.0} images/s", p.images_per_second),
        format!("{}/{}", p.iterations[0], p.iterations[1]),
    ]);
    parts
}

impl Observer for TrainProgress<'_> {
    fn start(&mut self, o: &Outline) {
        self.line(&format!("run folder {}", self.folder.path().display()));
        self.line(&format!(
            "{} on {}: {} parameters, {} training images, {} iterations, {:.2} GFLOP per iteration",
            o.dataset,
            o.device,
            o.footprint.parameters,
            o.images[0],
            o.iterations[1],
            o.footprint.flops as f64 / 1e9
        ));
        if let Some(bar) = &self.bar {
            bar.set_length(o.iterations[1]);
        }
    }

    fn iteration(&mut self, p: &Progress) {
        let [done, total] = p.iterations;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(layout::line(p.iterations, &parts(p), layout::width()));
            if done == total {
                bar.finish_and_clear();
            }
            return;
        }
        if self.first || done == total || self.last.elapsed().as_secs_f64() >= PLAIN_EVERY {
            self.first = false;
            self.last = Instant::now();
            if self.json {
                let m = p.metrics;
                let line = serde_json::json!({
                    "step": done, "of": total, "epoch": p.epoch, "loss": m.loss, "ce": m.ce, "gap": m.gap(),
                    "accuracy": m.accuracy, "lr": m.lr, "images_per_second": p.images_per_second,
                    "seconds_left": p.seconds_left,
                });
                if !self.quiet {
                    eprintln!("{line}");
                }
            } else {
                let parts = parts(p);
                // The position stands in front here, as there is no bar.
                let shown = parts.split_last().map_or(&parts[..], |(_, shown)| shown);
                self.line(&format!("{done}/{total}  {}", shown.join("  ")));
            }
        }
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn warn(&mut self, text: &str) {
        self.line(&format!("warning: {text}"));
    }
}

/// Seconds for people.
pub(crate) fn duration(s: f64) -> String {
    let t = s.max(0.0).round() as u64;
    match t {
        0..60 => format!("{s:.1} s"),
        60..3600 => format!("{} min {:02} s", t / 60, t % 60),
        _ => format!("{} h {:02} min", t / 3600, t % 3600 / 60),
    }
}
