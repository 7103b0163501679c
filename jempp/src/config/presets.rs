//! The presets: how each differs from the keys' defaults.

use super::{Adversary, Config, Init, NormKind, Optimizer, Plc, Schedule};
use crate::error::{Error, Result};
use jempp_formats::edit::nearest;

/// The changes that a preset makes to the defaults.
type Change = fn(&mut Config);

/// Each preset's name and its changes.
const ALL: [(&str, Change); 6] = [
    ("jempp", jempp),
    ("digits", digits),
    ("jem", jem),
    ("softmax", softmax),
    ("pgd", pgd),
    ("modern", modern),
];

/// Names of the presets.
pub const PRESETS: &[&str] = &{
    let mut names = [""; ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = ALL[i].0;
        i += 1;
    }
    names
};

/// The configuration that preset `name` gives.
pub(super) fn preset(name: &str) -> Result<Config> {
    let Some((name, change)) = ALL.iter().find(|(n, _)| *n == name) else {
        let known = PRESETS.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", ");
        let meant = nearest(name, PRESETS.iter().copied()).map(|p| format!("did you mean `{p}`? "));
        let meant = meant.unwrap_or_default();
        return Err(Error::Config(format!("unknown preset `{name}`; {meant}there are {known}")));
    };
    let mut config = Config { preset: (*name).to_string(), ..Config::default() };
    change(&mut config);
    Ok(config)
}

/// The defaults: the settings of the published code (CIFAR-10, WRN-28-10), without its bugs.
fn jempp(_: &mut Config) {}

/// A small network on the built-in 8×8 digits. The published setting diverges there; the noise on data and
/// chains, the energy term and the uniform restarts are what keeps it stable. Images are not cropped: a shift by one
/// of eight pixels with a mirrored border turns them into other characters, and costs accuracy, calibration and the
/// looks of the samples (measured: `docs/measurements/digits.md`). With 1,437 training images, 55 epochs are 1,210
/// iterations.
fn digits(c: &mut Config) {
    c.model.depth = 10;
    c.model.widen_factor = 1;
    c.model.image_size = [8, 8, 1];
    c.model.bn_momentum = 0.1;
    c.train.epochs = 55;
    c.train.warmup_iters = 50;
    // At 50, 75 and 90 % of the epochs.
    c.train.decay_epochs = vec![27, 41, 49];
    c.train.energy_l2 = 0.1;
    c.train.sample_every = 5;
    c.sampler.noise = 0.01;
    c.sampler.clip_after_noise = true;
    c.sampler.buffer_size = 1000;
    c.sampler.uniform_reinit_freq = 0.05;
    c.data.sigma = 0.1;
    c.data.pad = 0;
    c.data.flip = false;
    c.data.valid_size = 0;
}

/// What later work changed (M-EBM; SADA-JEM, Yang et al., 2022), without its sharpness-aware minimisation, which costs a
/// second pass (`train.sam_rho = 2`): images for p(x) as they are, twice as many labelled ones, and half the chain steps;
/// with an average of the weights and a cosine schedule, which need no tuning to the length of the run.
fn modern(c: &mut Config) {
    c.train.labelled_batch_size = 128;
    c.train.epochs = 200;
    c.train.weight_decay = 5e-4;
    c.train.schedule = Schedule::Cosine;
    c.train.ema = 0.999;
    c.sampler.outer_steps = 5;
    c.data.p_x_augment = false;
    c.data.p_x_sigma = 0.0;
}

/// JEM (Grathwohl et al., ICLR 2020), which JEM++ builds on: the command that the published code's README gives for
/// CIFAR-10, and the defaults of its `train_wrn_ebm.py` (wgrathwohl/JEM) for the rest. Chains start from uniform
/// noise and move by x ← x + ∂f/∂x + 0.01·ξ, without bounds on gradient or chain.
fn jem(c: &mut Config) {
    // The published network has no normalisation (`norm=None`).
    c.model.norm = NormKind::None;
    c.train.epochs = 200;
    c.train.optimizer = Optimizer::Adam;
    c.train.lr = 1e-4;
    c.train.weight_decay = 0.0;
    c.train.decay_epochs = vec![160, 180];
    c.train.decay_rate = 0.3;
    // Its chains are drawn before f of data and chains.
    c.train.plc = Plc::Alltrain2;
    c.sampler.outer_steps = 20;
    c.sampler.inner_steps = 1;
    c.sampler.step_size = 1.0;
    c.sampler.clip = 0.0;
    c.sampler.in_box = false;
    c.sampler.noise = 0.01;
    c.sampler.init = Init::Uniform;
}

/// The plain classifier of the same size and training as JEM++, as a baseline: the cross-entropy alone, no chains.
fn softmax(c: &mut Config) {
    c.train.p_x_weight = 0.0;
}

/// `softmax` with adversarial training (Madry et al., ICLR 2018, their setting for CIFAR-10: L∞, ε = 8/255, seven steps
/// of 2/255).
fn pgd(c: &mut Config) {
    softmax(c);
    c.train.adversary = Adversary::Linf;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_named_after_themselves() {
        for name in PRESETS {
            let c = preset(name).unwrap();
            assert_eq!(&c.preset, name);
            c.validate().unwrap();
        }
        assert_eq!(preset("jempp").unwrap(), Config::default());
        assert!(preset("softmx").unwrap_err().to_string().contains("did you mean `softmax`?"));
        assert!(preset("nope").unwrap_err().to_string().contains("`jempp`, `digits`"));
    }
}
