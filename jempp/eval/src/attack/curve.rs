//! Accuracy under attack as a function of ε.

use super::plan::AttackPlan;
use super::portion::Misclassified;
use crate::estimate::Estimate;
use crate::protocol::Protocol;
use serde::{Deserialize, Serialize};

/// Accuracy under several attacks at one ε.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RobustnessPoint {
    /// Radius of the ball, in units of pixels in [0, 1].
    pub epsilon: f64,
    /// Under PGD on the cross-entropy.
    pub cross_entropy: Estimate,
    /// Under white-box attack: PGD on the cross-entropy and, if planned, on the margin loss.
    pub white_box: Estimate,
    /// Under the worst of 20 draws of random noise from the ball.
    pub noise: Estimate,
    /// Under adversarial examples of the surrogate model.
    pub transfer: Option<Estimate>,
    /// Under all of these attacks.
    pub worst: Estimate,
    /// Number of images that noise or transfer attacks break and the white-box attack does not.
    pub missed: usize,
}

/// Accuracy under attack as a function of ε, with an audit for gradient masking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RobustnessCurve {
    /// The images.
    pub protocol: Protocol,
    /// Settings of the attack.
    pub plan: AttackPlan,
    /// Accuracy without attack.
    pub clean: Estimate,
    /// One entry per ε.
    pub points: Vec<RobustnessPoint>,
    /// Name of the surrogate model of the transfer attack.
    pub transfer_from: Option<String>,
    /// Signs of gradient masking, which makes a model look more robust than it is. Their absence proves nothing.
    pub masking: Vec<String>,
}

impl RobustnessPoint {
    /// The accuracies at `epsilon`, from the outcomes on all portions of the images.
    pub(super) fn new(epsilon: f64, portions: &[Misclassified]) -> Self {
        let n: usize = portions.iter().map(|m| m.white_box.len()).sum();
        let count = |f: &dyn Fn(&Misclassified, usize) -> bool| {
            let of = |m: &Misclassified| (0..m.white_box.len()).filter(|i| f(m, *i)).count();
            portions.iter().map(of).sum::<usize>()
        };
        let accuracy = |f: &dyn Fn(&Misclassified, usize) -> bool| Estimate::proportion(n - count(f), n);
        let without_gradient =
            |m: &Misclassified, i: usize| m.noise[i] || m.transfer.get(i).is_some_and(|t| *t);
        let transferred = portions.iter().any(|m| !m.transfer.is_empty());
        Self {
            epsilon,
            cross_entropy: accuracy(&|m, i| m.cross_entropy[i]),
            white_box: accuracy(&|m, i| m.white_box[i]),
            noise: accuracy(&|m, i| m.noise[i]),
            transfer: transferred.then(|| accuracy(&|m, i| m.transfer[i])),
            worst: accuracy(&|m, i| m.white_box[i] || without_gradient(m, i)),
            missed: count(&|m, i| !m.white_box[i] && without_gradient(m, i)),
        }
    }
}
