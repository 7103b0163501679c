//! Settings of an attack.

use super::pgd::{MAX_RESTARTS, Pgd};
use jempp::ball::Norm;
use jempp::model::{Loss, Model};
use jempp::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of PGD at several radii. ε and step sizes are in units of pixels in [0, 1].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackPlan {
    /// Norm of the perturbation.
    pub norm: Norm,
    /// Radii of the ball, increasing.
    pub epsilons: Vec<f64>,
    /// Steps of each restart.
    pub steps: u32,
    /// Step size; `None` for that of foolbox 3, see [`AttackPlan::step_of`].
    pub step_size: Option<f64>,
    /// Random restarts.
    pub restarts: u32,
    /// Whether images that survive the attack on the cross-entropy are also attacked on the margin loss.
    pub margin: bool,
}

/// A plan, and a surrogate model whose adversarial examples are tried too, with its name.
#[derive(Clone, Copy, Debug)]
pub struct Attack<'a> {
    /// The plan.
    pub plan: &'a AttackPlan,
    /// The surrogate model of the transfer attack.
    pub surrogate: Option<(&'a Model, &'a str)>,
}

impl AttackPlan {
    /// The defaults of foolbox 3 (L∞: 40 steps; L2: 50 steps; one random start) at common radii.
    pub fn usual(norm: Norm) -> Self {
        let (epsilons, steps) = match norm {
            Norm::Linf => ([2.0, 4.0, 8.0, 16.0, 32.0].map(|e| e / 255.0).to_vec(), 40),
            Norm::L2 => (vec![0.25, 0.5, 1.0, 2.0], 50),
        };
        Self { norm, epsilons, steps, step_size: None, restarts: 1, margin: true }
    }

    /// The step size at ε: [`AttackPlan::step_size`], or 0.01/0.3·ε (L∞) and 0.025·ε (L2).
    pub fn step_of(&self, epsilon: f64) -> f64 {
        let fraction = if self.norm == Norm::Linf { 0.01 / 0.3 } else { 0.025 };
        self.step_size.unwrap_or(fraction * epsilon)
    }

    /// Checks that all settings are in range.
    ///
    /// # Errors
    /// [`Error::Config`] if one is not.
    pub fn check(&self) -> Result<()> {
        let good = |v: f64| v.is_finite() && v > 0.0;
        let fail = |why: String| Err(Error::Config(why));
        if self.epsilons.is_empty() || !self.epsilons.iter().all(|e| good(*e)) {
            return fail(format!(
                "ε of {:?}: radii must be above 0, in units of pixels in [0, 1]",
                self.epsilons
            ));
        }
        if !self.epsilons.is_sorted_by(|a, b| a < b) {
            return fail(format!("ε of {:?}: radii must increase", self.epsilons));
        }
        if self.steps == 0 {
            return fail("0 PGD steps: there must be at least 1".into());
        }
        if let Some(size) = self.step_size.filter(|s| !good(*s)) {
            return fail(format!("PGD step size {size}: must be above 0"));
        }
        if !(1..=MAX_RESTARTS).contains(&self.restarts) {
            return fail(format!("{} restarts: must be 1 to {MAX_RESTARTS}", self.restarts));
        }
        Ok(())
    }

    /// PGD at one ε.
    pub(super) fn pgd(&self, epsilon: f64, loss: Loss, stop_early: bool, seed: u64) -> Pgd {
        Pgd {
            norm: self.norm,
            epsilon,
            steps: self.steps,
            step_size: self.step_of(epsilon),
            loss,
            restarts: self.restarts,
            random_start: true,
            stop_early,
            seed,
        }
    }
}
