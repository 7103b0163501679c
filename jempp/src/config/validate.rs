//! The ranges of the configuration's values and the relations between them.

use super::{Adversary, Config, EvalBn};
use crate::error::{Error, Result};
use std::fmt::Display;
use std::ops::{Bound, RangeBounds};

const MILLION: usize = 1_000_000;

/// See [`Config::validate`].
pub(super) fn validate(c: &Config) -> Result<()> {
    within("seed", c.seed, 0..=i64::MAX as u64)?;
    model(c)?;
    train(c)?;
    sampler(c)?;
    data(c)?;
    within("eval.ece_bins", c.eval.ece_bins, 1..=10_000)?;
    within("eval.batch_size", c.eval.batch_size, 1..=MILLION)
}

fn model(c: &Config) -> Result<()> {
    let m = &c.model;
    if m.depth < 10 || m.depth > 1000 || m.depth % 6 != 4 {
        return refuse("model.depth", m.depth, "must be 6n + 4 with n ≥ 1, at most 1000: 10, 16, 22, 28, …");
    }
    within("model.widen_factor", m.widen_factor, 1..=64)?;
    let [h, w, channels] = m.image_size;
    // Two layers halve the image, so less than 4 pixels leaves nothing to average.
    if h.min(w) < 4 || h.max(w) > 4096 || channels == 0 || channels > 64 {
        let shown = format!("[{h}, {w}, {channels}]");
        return refuse(
            "model.image_size",
            shown,
            "must be [height, width, channels] within 4–4096, 4–4096, 1–64",
        );
    }
    within("model.classes", m.classes, 2..=65_536)?;
    real("model.bn_momentum", m.bn_momentum, 0.0..=1.0)?;
    real("model.leak", m.leak, 0.0..1.0)?;
    real("model.dropout", m.dropout, 0.0..1.0)?;
    if m.energy_head && c.train.p_x_weight == 0.0 && c.train.p_x_y_weight == 0.0 {
        return refuse(
            "model.energy_head",
            true,
            "must be false while train.p_x_weight and train.p_x_y_weight are 0: nothing would train the head",
        );
    }
    Ok(())
}

fn train(c: &Config) -> Result<()> {
    let t = &c.train;
    within("train.batch_size", t.batch_size, 1..=MILLION)?;
    within("train.labelled_batch_size", t.labelled_batch_size, 0..=MILLION)?;
    within("train.epochs", t.epochs, 1..=MILLION)?;
    // Iterations are counted in 32 bits by the random streams.
    within("train.max_iters", t.max_iters, 0..=u32::MAX as usize)?;
    real("train.lr", t.lr, ABOVE_ZERO)?;
    real("train.momentum", t.momentum, 0.0..1.0)?;
    real("train.beta1", t.beta1, 0.0..1.0)?;
    real("train.beta2", t.beta2, 0.0..1.0)?;
    real("train.weight_decay", t.weight_decay, 0.0..)?;
    within("train.warmup_iters", t.warmup_iters, 0..=u32::MAX as usize)?;
    real("train.lr_min", t.lr_min, 0.0..=t.lr)?;
    if !t.decay_epochs.is_sorted_by(|a, b| a < b) {
        let shown = format!("{:?}", t.decay_epochs);
        return refuse("train.decay_epochs", shown, "must rise from each epoch to the next");
    }
    real("train.decay_rate", t.decay_rate, (Bound::Excluded(0.0), Bound::Included(1.0)))?;
    real("train.ema", t.ema, 0.0..1.0)?;
    if t.ema > 0.0 && c.eval.bn == EvalBn::Running {
        let why = "must be 0 while eval.bn is \"running\": running statistics are those of the last weights, not of their \
                   average";
        return refuse("train.ema", t.ema, why);
    }
    let weights = [t.p_x_weight, t.p_y_given_x_weight, t.p_x_y_weight];
    let names = ["train.p_x_weight", "train.p_y_given_x_weight", "train.p_x_y_weight"];
    for (name, w) in names.into_iter().zip(weights) {
        real(name, w, 0.0..)?;
    }
    if weights.iter().all(|w| *w == 0.0) {
        return refuse(
            "train.p_x_weight",
            0,
            "must be above 0 when the other two weights are 0: nothing is trained",
        );
    }
    adversary(c)?;
    real("train.energy_l2", t.energy_l2, 0.0..)?;
    real("train.collapse_gap", t.collapse_gap, 0.0..)?;
    within("train.collapse_iters", t.collapse_iters, 1..=u32::MAX as usize)?;
    real("train.loss_limit", t.loss_limit, ABOVE_ZERO)?;
    within("train.eval_every", t.eval_every, 1..=MILLION)?;
    within("train.checkpoint_every", t.checkpoint_every, 1..=MILLION)?;
    within("train.sample_every", t.sample_every, 0..=MILLION)?;
    within("train.log_every", t.log_every, 1..=MILLION)
}

fn adversary(c: &Config) -> Result<()> {
    let t = &c.train;
    real("train.adversary_epsilon", t.adversary_epsilon, 0.0..=1000.0)?;
    real("train.adversary_step", t.adversary_step, ABOVE_ZERO)?;
    within("train.adversary_steps", t.adversary_steps, 1..=10_000)?;
    if t.adversary != Adversary::None && (t.p_x_weight > 0.0 || t.p_x_y_weight > 0.0) {
        let shown = format!("{:?}", t.adversary).to_lowercase();
        let why = "must be \"none\" while train.p_x_weight or train.p_x_y_weight is above 0: chains and attacks are not \
                   trained together";
        return refuse("train.adversary", shown, why);
    }
    Ok(())
}

fn sampler(c: &Config) -> Result<()> {
    let s = &c.sampler;
    within("sampler.outer_steps", s.outer_steps, 1..=MILLION)?;
    within("sampler.inner_steps", s.inner_steps, 1..=MILLION)?;
    real("sampler.step_size", s.step_size, ABOVE_ZERO)?;
    real("sampler.clip", s.clip, 0.0..)?;
    real("sampler.sgld_lr", s.sgld_lr, 0.0..)?;
    real("sampler.noise", s.noise, 0.0..)?;
    // Chains of a class live in that class's part of the buffer.
    let least = if c.train.p_x_y_weight > 0.0 { c.model.classes } else { 1 };
    within("sampler.buffer_size", s.buffer_size, least..=i32::MAX as usize)?;
    real("sampler.reinit_freq", s.reinit_freq, 0.0..=1.0)?;
    real("sampler.uniform_reinit_freq", s.uniform_reinit_freq, 0.0..=1.0)?;
    if s.reinit_freq + s.uniform_reinit_freq > 1.0 {
        let note = format!("must be at most 1 − sampler.reinit_freq, which is {}", s.reinit_freq);
        return refuse("sampler.uniform_reinit_freq", s.uniform_reinit_freq, &note);
    }
    Ok(())
}

fn data(c: &Config) -> Result<()> {
    let d = &c.data;
    if d.dataset.trim().is_empty() {
        return refuse("data.dataset", "\"\"", "must be the name of a data set or a path");
    }
    real("data.sigma", d.sigma, 0.0..)?;
    // A reflection needs more pixels than it adds on a side.
    let side = c.model.image_size[0].min(c.model.image_size[1]);
    within("data.pad", d.pad, 0..side)?;
    within("data.labels_per_class", d.labels_per_class, 0..=i32::MAX as usize)?;
    within("data.valid_size", d.valid_size, 0..=i32::MAX as usize)
}

/// The numbers above 0.
const ABOVE_ZERO: (Bound<f64>, Bound<f64>) = (Bound::Excluded(0.0), Bound::Unbounded);

/// `value` must be finite and in `range`.
fn real(key: &str, value: f64, range: impl RangeBounds<f64>) -> Result<()> {
    if value.is_finite() && range.contains(&value) {
        return Ok(());
    }
    refuse(key, value, &format!("must be a finite number {}", words(&range)))
}

/// `value` must be in `range`.
fn within<T: PartialOrd + Display>(key: &str, value: T, range: impl RangeBounds<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let words = words(&range);
    refuse(key, value, &format!("must be {words}"))
}

/// A range in words.
fn words<T: Display>(range: &impl RangeBounds<T>) -> String {
    let low = match range.start_bound() {
        Bound::Included(a) => format!("at least {a}"),
        Bound::Excluded(a) => format!("above {a}"),
        Bound::Unbounded => String::new(),
    };
    let high = match range.end_bound() {
        Bound::Included(b) => format!("at most {b}"),
        Bound::Excluded(b) => format!("below {b}"),
        Bound::Unbounded => String::new(),
    };
    let and = if low.is_empty() || high.is_empty() { "" } else { " and " };
    format!("{low}{and}{high}")
}

fn refuse<T: Display>(key: &str, value: T, why: &str) -> Result<()> {
    Err(Error::Config(format!("`{key}` = {value}: {why}")))
}
