//! Unit and range of each key, as the written configuration gives them.
//!
//! Invariant: what is said about a number's range is what [`super::Config::validate`] holds it to; a test tries the ends.

/// The range of a key in words (empty where the kind says it), and its unit.
#[rustfmt::skip]
const LIMITS: &[(&str, &str, &str)] = &[
    ("seed", "0 to 9223372036854775807", ""),
    ("preset", "", ""),
    ("model.depth", "10 to 1000", "layers"),
    ("model.widen_factor", "1 to 64", "factor"),
    ("model.image_size", "4 to 4096, 4 to 4096, 1 to 64", "pixels, pixels, channels"),
    ("model.classes", "2 to 65536", "classes"),
    ("model.bn_momentum", "0 to 1", "share"),
    ("model.leak", "0 to below 1", "slope"),
    ("model.norm", "", ""),
    ("model.dropout", "0 to below 1", "share"),
    ("model.energy_head", "", ""),
    ("train.batch_size", "1 to 1000000", "images"),
    ("train.labelled_batch_size", "0 to 1000000", "images"),
    ("train.epochs", "1 to 1000000", "epochs"),
    ("train.max_iters", "0 to 4294967295", "iterations"),
    ("train.optimizer", "", ""),
    ("train.lr", "above 0", "step a unit of gradient"),
    ("train.momentum", "0 to below 1", "share"),
    ("train.beta1", "0 to below 1", "share"),
    ("train.beta2", "0 to below 1", "share"),
    ("train.weight_decay", "0 or more", "gradient a unit of weight"),
    ("train.warmup_iters", "0 to 4294967295", "iterations"),
    ("train.schedule", "", ""),
    ("train.lr_min", "0 to train.lr", "as train.lr"),
    ("train.decay_epochs", "rising", "epochs"),
    ("train.decay_rate", "above 0, to 1", "factor"),
    ("train.ema", "0 to below 1", "share"),
    ("train.p_x_weight", "0 or more", "factor"),
    ("train.p_y_given_x_weight", "0 or more", "factor"),
    ("train.p_x_y_weight", "0 or more", "factor"),
    ("train.adversary", "", ""),
    ("train.adversary_epsilon", "0 to 1000", "pixels in [0, 1]"),
    ("train.adversary_step", "above 0", "pixels in [0, 1]"),
    ("train.adversary_steps", "1 to 10000", "steps"),
    ("train.plc", "", ""),
    ("train.energy_l2", "0 or more", "loss a nat²"),
    ("train.collapse_gap", "0 or more", "nats"),
    ("train.collapse_iters", "1 to 4294967295", "iterations"),
    ("train.loss_limit", "above 0", "nats"),
    ("train.eval_every", "1 to 1000000", "epochs"),
    ("train.checkpoint_every", "1 to 1000000", "epochs"),
    ("train.sample_every", "0 to 1000000", "epochs"),
    ("train.log_every", "1 to 1000000", "iterations"),
    ("train.tensorboard", "", ""),
    ("sampler.outer_steps", "1 to 1000000", "steps"),
    ("sampler.inner_steps", "1 to 1000000", "steps"),
    ("sampler.step_size", "above 0", "pixel values a unit of gradient"),
    ("sampler.clip", "0 or more", "nats a pixel value"),
    ("sampler.in_box", "", ""),
    ("sampler.sgld_lr", "0 or more", "pixel values a unit of gradient"),
    ("sampler.noise", "0 or more", "pixel values, of which black to white is 2"),
    ("sampler.clip_after_noise", "", ""),
    ("sampler.buffer_size", "1 (model.classes with p(x, y)) to 2147483647", "images"),
    ("sampler.reinit_freq", "0 to 1", "share"),
    ("sampler.uniform_reinit_freq", "0 to 1 - sampler.reinit_freq", "share"),
    ("sampler.init", "", ""),
    ("sampler.init_prior", "", ""),
    ("sampler.literal", "", ""),
    ("data.dataset", "", "name or path"),
    ("data.sigma", "0 or more", "pixel values, of which black to white is 2"),
    ("data.labels_per_class", "0 to 2147483647", "images"),
    ("data.pad", "0 to below the shorter side", "pixels"),
    ("data.flip", "", ""),
    ("data.p_x_augment", "", ""),
    ("data.valid_size", "0 to 2147483647", "images"),
    ("data.labels", "", ""),
    ("data.extra", "", ""),
    ("data.crop", "", ""),
    ("data.attribute", "", "name"),
    ("eval.bn", "", ""),
    ("eval.recalibration_batches", "0 or more", "batches of train.batch_size"),
    ("eval.ece_bins", "1 to 10000", "bins"),
    ("eval.batch_size", "1 to 1000000", "images"),
];

/// Range and unit of the key `name`; both may be empty.
pub(super) fn of(name: &str) -> Option<(&'static str, &'static str)> {
    LIMITS.iter().find(|(n, ..)| *n == name).map(|(_, range, unit)| (*range, *unit))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::keys::{KEYS, Kind};
    use super::*;

    fn accepts(name: &str, value: f64) -> bool {
        // What other keys must be for this one to be free.
        let others = ["train.lr_min=0", "sampler.uniform_reinit_freq=0"].map(String::from);
        let overrides = [&others[..], &[format!("{name}={value}")]].concat();
        Config::from_sources("digits", None, &overrides).is_ok()
    }

    #[test]
    fn every_key_has_a_range_and_a_unit_where_it_can() {
        let names: Vec<&str> = KEYS.iter().map(|k| k.name).collect();
        assert_eq!(LIMITS.iter().map(|(n, ..)| *n).collect::<Vec<_>>(), names);
        for k in KEYS {
            let (range, unit) = of(k.name).unwrap();
            let number = matches!(k.kind, Kind::Count | Kind::Number | Kind::Counts(_));
            assert_eq!(!range.is_empty(), number, "{}", k.name);
            assert!(!number || !unit.is_empty() || k.name == "seed", "{}", k.name);
        }
    }

    #[test]
    fn the_ends_of_ranges_are_those_that_hold() {
        for k in
            KEYS.iter().filter(|k| matches!(k.kind, Kind::Count | Kind::Number) && k.name != "model.depth")
        {
            let (range, _) = of(k.name).unwrap();
            let step = if k.kind == Kind::Count { 1.0 } else { 1e-9 };
            match range.split(' ').next().and_then(|w| w.parse::<f64>().ok()) {
                Some(low) => assert!(accepts(k.name, low) && !accepts(k.name, low - step), "{}", k.name),
                None => {
                    assert!(range.starts_with("above 0"), "{}: {range}", k.name);
                    assert!(!accepts(k.name, 0.0) && accepts(k.name, 1e-9), "{}", k.name);
                }
            }
            let Some(high) =
                range.rsplit(' ').next().and_then(|w| w.parse::<f64>().ok()).filter(|h| *h > 0.0)
            else {
                continue;
            };
            // Too large for a float to tell from the next.
            if k.name == "seed" {
                continue;
            }
            assert_eq!(accepts(k.name, high), !range.contains("below"), "{} = {high}", k.name);
            assert!(!accepts(k.name, high + step), "{} = {}", k.name, high + step);
        }
    }
}
