//! The section `sampler`: the Langevin sampler and its replay buffer.

use jempp_data::config::rows::{self, Range};

const MILLION: u64 = 1_000_000;

rows::choice! {
    /// What the replay buffer is filled with and chains are reinitialised from.
    pub enum Init {
        /// Informative initialisation: a normal with the mean and covariance of a class.
        Informative = "informative",
        /// Uniform noise in [−1, 1].
        Uniform = "uniform",
    }
}

rows::choice! {
    /// The distribution of the classes of informative initialisation.
    pub enum Prior {
        /// Class frequencies of the data (the paper).
        Data = "data",
        /// All classes equally often (the published code).
        Uniform = "uniform",
    }
}

rows::section! {
    /// The Langevin sampler and its replay buffer.
    pub struct SamplerConfig, "sampler." {
        /// M: gradient evaluations per chain per iteration.
        outer_steps: usize = 10, in Range::Whole(1, MILLION), unit "steps";
        /// N: inner steps per gradient evaluation.
        inner_steps: usize = 5, in Range::Whole(1, MILLION), unit "steps";
        /// α: step size of an inner step.
        step_size: f64 = 0.2, in Range::POSITIVE, unit "pixel values in [-1, 1] per unit of gradient";
        /// ε: bound on the magnitude of each component of the gradient; 0: none.
        clip: f64 = 1.0, in Range::NON_NEGATIVE, unit "nats per pixel value in [-1, 1]";
        /// Clip chains to [-1, 1] at every step (JEM does not).
        in_box: bool = true;
        /// Step size of one more gradient step before the inner steps; 0 as published.
        sgld_lr: f64 = 0.0, in Range::NON_NEGATIVE, unit "pixel values in [-1, 1] per unit of gradient";
        /// Standard deviation of the Gaussian noise added after the inner steps; 0 as published.
        noise: f64 = 0.0, in Range::NON_NEGATIVE, unit "pixel values in [-1, 1]";
        /// Clip chains to [-1, 1] again after the noise.
        clip_after_noise: bool = false;
        /// Size of the replay buffer.
        buffer_size: usize = 10_000, in Range::Whole(1, i32::MAX as u64),
            also "at least model.classes where log p(x, y) is trained", unit "images";
        /// Probability that a chain is reinitialised from sampler.init.
        reinit_freq: f64 = 0.05, in Range::FRACTION, unit "fraction";
        /// Probability, in addition, that a chain is reinitialised from uniform noise.
        uniform_reinit_freq: f64 = 0.0, in Range::FRACTION, also "at most 1 - sampler.reinit_freq", unit "fraction";
        /// Initialisation of chains: informative, from a normal fitted to each class of the data, or uniform noise.
        init: Init = Init::Informative;
        /// Class distribution of informative initialisation: that of the data, or uniform (published code).
        init_prior: Prior = Prior::Data;
        /// Run the inner steps one by one instead of as the single equivalent step.
        literal: bool = false;
    }
}

impl SamplerConfig {
    /// Checks the relations between values of this section.
    pub(super) fn check_relations(&self) -> Result<(), String> {
        if self.reinit_freq + self.uniform_reinit_freq > 1.0 {
            let why = format!("must be at most 1 − sampler.reinit_freq, which is {}", self.reinit_freq);
            return rows::refuse("sampler.uniform_reinit_freq", self.uniform_reinit_freq, &why);
        }
        Ok(())
    }
}
