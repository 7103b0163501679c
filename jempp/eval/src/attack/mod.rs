//! Adversarial robustness: accuracy under PGD attack as a function of ε, with an audit for gradient masking.
//!
//! Invariants: an image that any attack breaks at some ε counts as broken at all larger ε, so that curves do not rise; an
//! image that is misclassified without attack counts as broken everywhere; finished portions are kept in the cache.

mod audit;
mod curve;
mod pgd;
mod plan;
mod portion;

use crate::cache::Cache;
use crate::estimate::Estimate;
use crate::progress::{ProgressFn, report_progress};
use crate::protocol::Protocol;
pub use curve::{RobustnessCurve, RobustnessPoint};
pub use jempp::ball::Norm;
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_data::Dataset;
pub use plan::{Attack, AttackPlan};
use portion::{Misclassified, PortionAttack, load, misclassified};

/// Images that are attacked together and kept in one file of the cache.
const PORTION: usize = 64;

/// Attacks the images `indices` of a data set at each ε of the plan, and audits the results for gradient masking.
///
/// # Errors
/// Those of [`AttackPlan::check`] and of the models; [`Error::Data`] if the surrogate model takes images of another size or
/// has other classes; [`Error::Cancelled`].
pub(crate) fn robustness_curve(
    model: &Model,
    (set, indices): (&Dataset, &[u32]),
    attack: &Attack<'_>,
    protocol: Protocol,
    cache: &Cache,
    progress: &mut ProgressFn<'_>,
) -> Result<RobustnessCurve> {
    let (plan, name) = (attack.plan, attack.plan.norm.name());
    plan.check()?;
    check_surrogate(model, attack)?;
    let stamp = format!("{plan:?} {:?}", attack.surrogate.map(|s| s.0.crc32c()).transpose()?);
    let cache = cache.with(&stamp);
    let stage = format!("attack {name}");
    let mut portions = vec![Misclassified::default(); indices.len().div_ceil(PORTION)];
    let total = plan.epsilons.len() * portions.len();
    let (mut points, mut done) = (Vec::new(), 0);
    let clean = cache.part(&format!("attack-{name}-clean"), || clean_errors(model, set, indices))?;
    for (e, epsilon) in plan.epsilons.iter().copied().enumerate() {
        for (k, part) in indices.chunks(PORTION).enumerate() {
            let first = k * PORTION;
            let one = PortionAttack { model, attack, set, first, epsilon, seed: protocol.seed };
            let (before, clean) = (portions[k].clone(), &clean[first..first + part.len()]);
            portions[k] = cache.part(&format!("attack-{name}-{e:02}-{k:04}"), || {
                one.run(part, before, clean, &mut || report_progress(progress, &stage, done, total))
            })?;
            done += 1;
            report_progress(progress, &stage, done, total)?;
        }
        points.push(RobustnessPoint::new(epsilon, &portions));
    }
    let n = indices.len();
    let clean = Estimate::proportion(clean.iter().filter(|wrong| !**wrong).count(), n);
    let masking = audit::signs_of_masking(plan.norm, n, &points, &clean);
    let (plan, transfer_from) = (plan.clone(), attack.surrogate.map(|s| s.1.to_owned()));
    Ok(RobustnessCurve { protocol, plan, clean, points, transfer_from, masking })
}

fn check_surrogate(model: &Model, attack: &Attack<'_>) -> Result<()> {
    let Some((surrogate, name)) = attack.surrogate else { return Ok(()) };
    let (own, its) = (&model.network().config, &surrogate.network().config);
    if own.image_size != its.image_size || own.classes != its.classes {
        return Err(Error::Data(format!(
            "{name}: takes images of {:?} in {} classes, the attacked model those of {:?} in {}",
            its.image_size, its.classes, own.image_size, own.classes
        )));
    }
    Ok(())
}

/// Which images are misclassified without attack.
fn clean_errors(model: &Model, set: &Dataset, indices: &[u32]) -> Result<Vec<bool>> {
    let mut out = Vec::with_capacity(indices.len());
    for part in indices.chunks(PORTION) {
        let (x, labels) = load(set, part)?;
        out.extend(misclassified(model, &x, &labels)?);
    }
    Ok(out)
}
