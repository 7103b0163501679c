//! The one table of configuration keys: what each is called, what it holds and what it does.
//!
//! Messages, suggestions and the written TOML come from here; a test holds it to the structs.

use super::presets::PRESETS;
use jempp_formats::edit::distance;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A whole number, 0 or above.
    Count,
    /// A number; whole ones count.
    Number,
    /// `true` or `false`.
    Switch,
    /// Any string.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A list of whole numbers, of this length if there is one.
    Counts(Option<usize>),
}

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it does, in one line.
    pub doc: &'static str,
}

use Kind::{Choice, Count, Counts, Number, Switch, Text};

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, doc }
}

/// All keys, in the order in which they are written.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("seed", Count, "seed of all randomness"),
    key("preset", Choice(PRESETS), "where the values not given here come from"),

    key("model.depth", Count, "layers of the Wide-ResNet: 6n + 4"),
    key("model.widen_factor", Count, "factor k of its widths 16k, 32k, 64k"),
    key("model.image_size", Counts(Some(3)), "height, width, channels"),
    key("model.classes", Count, "number of classes"),
    key("model.bn_momentum", Number, "share of the NEW value in BatchNorm's running statistics (PyTorch's sense)"),
    key("model.leak", Number, "slope of the leaky ReLU below zero"),
    key("model.norm", Choice(&["batch", "instance", "layer", "act", "none"]), "normalisation before each rectifier; only batch has running statistics"),
    key("model.dropout", Number, "share dropped between a block's convolutions, in training passes and the chains' steps"),
    key("model.energy_head", Switch, "log p(x) from a linear head of its own, not the logsumexp of the logits (unconditional variant)"),

    key("train.batch_size", Count, "images for p(x), and chains, an iteration"),
    key("train.labelled_batch_size", Count, "labelled images an iteration; 0: batch_size"),
    key("train.epochs", Count, "passes over the images for p(x)"),
    key("train.max_iters", Count, "stop after so many iterations; 0: no bound"),
    key("train.optimizer", Choice(&["sgd", "adam"]), "how gradients move the weights; each as in torch.optim"),
    key("train.lr", Number, "learning rate after the warm-up"),
    key("train.momentum", Number, "momentum of SGD"),
    key("train.beta1", Number, "share of the old first moment in Adam"),
    key("train.beta2", Number, "share of the old second moment in Adam"),
    key("train.weight_decay", Number, "weight decay, on every parameter, added to its gradient"),
    key("train.warmup_iters", Count, "iterations over which the learning rate rises from 0"),
    key("train.schedule", Choice(&["steps", "cosine", "constant"]), "the learning rate after that: falling at decay_epochs, along half a cosine to lr_min, or not"),
    key("train.lr_min", Number, "where the cosine ends"),
    key("train.decay_epochs", Counts(None), "epochs (from 0) at whose start the learning rate falls"),
    key("train.decay_rate", Number, "factor by which it falls"),
    key("train.ema", Number, "share of the old value in a moving average of the weights, which is then judged and served; 0: none"),
    key("train.p_x_weight", Number, "weight of log p(x)"),
    key("train.p_y_given_x_weight", Number, "weight of the cross-entropy"),
    key("train.p_x_y_weight", Number, "weight of log p(x, y)"),
    key("train.adversary", Choice(&["none", "linf", "l2"]), "attack on the labelled images before the network learns from them (adversarial training); without log p(x)"),
    key("train.adversary_epsilon", Number, "its radius, in units of pixels in [0, 1]"),
    key("train.adversary_step", Number, "length of its steps, in the same units"),
    key("train.adversary_steps", Count, "its steps"),
    key("train.plc", Choice(&["alltrain1", "alltrain2", "eval"]), "f(x) of data: before sampling, after, or after with running statistics"),
    key("train.energy_l2", Number, "weight of mean f(data)² + mean f(chains)², per image; where log p(x) is trained"),
    key("train.collapse_gap", Number, "|f(data) - f(chains)| that counts as collapsing; 0: off"),
    key("train.collapse_iters", Count, "iterations in a row beyond it that end the run"),
    key("train.loss_limit", Number, "|loss| beyond which the run ends as diverged"),
    key("train.eval_every", Count, "epochs between evaluations"),
    key("train.checkpoint_every", Count, "epochs between checkpoints"),
    key("train.sample_every", Count, "epochs between grids of samples; 0: none"),
    key("train.log_every", Count, "iterations between lines of metrics"),
    key("train.tensorboard", Switch, "write event files for TensorBoard into the run's folder tb"),

    key("sampler.outer_steps", Count, "M: gradient evaluations a chain an iteration"),
    key("sampler.inner_steps", Count, "N: steps with each gradient"),
    key("sampler.step_size", Number, "size of one inner step"),
    key("sampler.clip", Number, "bound on each component of the gradient; 0: none"),
    key("sampler.in_box", Switch, "clip chains to [-1, 1] at each step (JEM does not)"),
    key("sampler.sgld_lr", Number, "size of one more step before the inner ones"),
    key("sampler.noise", Number, "standard deviation of the noise after the inner steps"),
    key("sampler.clip_after_noise", Switch, "clip to [-1, 1] again after the noise"),
    key("sampler.buffer_size", Count, "images in the replay buffer"),
    key("sampler.reinit_freq", Number, "share of chains that restart from `init`"),
    key("sampler.uniform_reinit_freq", Number, "share of chains that restart from uniform noise, beside those"),
    key("sampler.init", Choice(&["informative", "uniform"]), "start of chains: a normal fitted to a class, or noise"),
    key("sampler.init_prior", Choice(&["data", "uniform"]), "classes of those: as often as in the data, or equally often (published code)"),
    key("sampler.literal", Switch, "run the inner steps one by one instead of as the one step equal to them"),

    key("data.dataset", Text, "`digits`, which is built in, or a path: image folder, CIFAR, SVHN, MNIST, CelebA, .npz (docs/data.md)"),
    key("data.sigma", Number, "standard deviation of the noise on training images"),
    key("data.labels_per_class", Count, "labelled images a class; 0: all"),
    key("data.pad", Count, "reflected border, in pixels, for the random crop"),
    key("data.flip", Switch, "mirror training images at random"),
    key("data.p_x_augment", Switch, "crop, mirror and add noise to the images for p(x) too, as published; else only the labelled ones"),
    key("data.valid_size", Count, "training images held back for validation"),
    key("data.labels", Choice(&["fine", "coarse"]), "labels of CIFAR-100: 100 classes or 20 groups of them"),
    key("data.extra", Switch, "train on SVHN's extra images too"),
    key("data.crop", Choice(&["square", "compat39"]), "CelebA: the middle square as 32×32, or the whole as 39×32"),
    key("data.attribute", Text, "CelebA: the attribute that is the label, such as Smiling; empty: no labels"),

    key("eval.bn", Choice(&["recalibrated", "running"]), "BatchNorm statistics: recomputed over the training set, or running (published code)"),
    key("eval.recalibration_batches", Count, "batches used to recompute them; 0: the whole training set"),
    key("eval.ece_bins", Count, "bins of the expected calibration error"),
    key("eval.batch_size", Count, "images a forward pass"),
];

/// The sections, in the order in which they are written, and what each is about.
pub const SECTIONS: &[(&str, &str)] = &[
    ("model", "The network"),
    ("train", "The training loop"),
    ("sampler", "The Langevin sampler and its replay buffer"),
    ("data", "The data and its augmentation"),
    ("eval", "How models are judged"),
];

/// The key called `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

/// The key most likely meant by `name`, if any is near: by spelling, or by its last part in another section.
pub fn suggest(name: &str) -> Option<&'static str> {
    let leaf = |s: &str| s.rsplit('.').next().map(str::to_string).unwrap_or_default();
    let given = leaf(name);
    let cost = |k: &Key| {
        let whole = distance(name, k.name);
        // A right last part in a wrong section costs a little, so that the section's own keys come first.
        let by_leaf = distance(&given, &leaf(k.name)) + usize::from(name.contains('.'));
        whole.min(by_leaf)
    };
    let best = KEYS.iter().min_by_key(|k| cost(k))?;
    (cost(best) <= 1.max(given.chars().count() / 3)).then_some(best.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        for (given, meant) in [
            ("train.lrr", Some("train.lr")),
            ("lr", Some("train.lr")),
            ("trian.lr", Some("train.lr")),
            ("model.lr", Some("train.lr")),
            ("buffer_siz", Some("sampler.buffer_size")),
            ("data.batch_size", Some("train.batch_size")),
            ("eval.batchsize", Some("eval.batch_size")),
            ("sed", Some("seed")),
            ("train.zzzzzzzz", None),
            ("", None),
        ] {
            assert_eq!(suggest(given), meant, "{given}");
        }
    }

    #[test]
    fn table_and_structs_agree() {
        let config = super::super::Config::preset("jempp").unwrap();
        let table = toml::Table::try_from(&config).unwrap();
        let mut names = Vec::new();
        for (k, v) in &table {
            match v {
                toml::Value::Table(t) => names.extend(t.keys().map(|l| format!("{k}.{l}"))),
                _ => names.push(k.clone()),
            }
        }
        let mut listed: Vec<String> = KEYS.iter().map(|k| k.name.to_string()).collect();
        names.sort();
        listed.sort();
        assert_eq!(names, listed);
        for k in KEYS {
            assert!(!k.doc.is_empty() && !k.doc.contains('\n'));
            if let Some((section, _)) = k.name.split_once('.') {
                assert!(SECTIONS.iter().any(|(s, _)| *s == section), "{}", k.name);
            }
        }
    }
}
