//! Progress for people and for programs: a bar on a terminal, plain lines or JSON elsewhere.

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
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}");
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
            bar.set_message(format!("{}  {} left", self.what, duration(left)));
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

fn summary(p: &Progress) -> String {
    let m = &p.metrics;
    let energy = if m.gap().is_nan() { String::new() } else { format!("  gap {:+.2}", m.gap()) };
    format!(
        "epoch {}  loss {:.3}  ce {:.3}{energy}  acc {:.3}  {:.0} images/s  {} left",
        p.epoch + 1,
        m.loss,
        m.ce,
        m.accuracy,
        p.images_per_second,
        duration(p.seconds_left)
    )
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
            bar.set_message(summary(p));
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
                self.line(&format!("{done}/{total}  {}", summary(p)));
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
