//! All attacks on a portion of the images at one ε.

use super::pgd::{LabelledBatch, MAX_RESTARTS};
use super::plan::Attack;
use engine::rng::Philox;
use jempp::Result;
use jempp::metrics::argmax;
use jempp::model::{Loss, Model};
use jempp::streams;
use jempp_data::{Dataset, plain_batch};
use serde::{Deserialize, Serialize};

/// Random perturbations tried per image.
const NOISE_DRAWS: u32 = 20;
/// First step of the random stream for these perturbations: the blocks after those of the restarts of PGD.
const NOISE: u32 = (16 + MAX_RESTARTS) << 24;

/// Which images of a portion are misclassified, attack by attack. Images that are misclassified without attack are so
/// everywhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Misclassified {
    /// Under PGD on the cross-entropy.
    #[serde(rename = "entropy")]
    pub(super) cross_entropy: Vec<bool>,
    /// Under PGD on the cross-entropy or the margin loss.
    #[serde(rename = "white")]
    pub(super) white_box: Vec<bool>,
    /// Under random noise from the ball.
    pub(super) noise: Vec<bool>,
    /// Under adversarial examples of the surrogate model; empty without one.
    pub(super) transfer: Vec<bool>,
}

/// A portion of the images at one ε.
pub(super) struct PortionAttack<'a> {
    pub(super) model: &'a Model,
    pub(super) attack: &'a Attack<'a>,
    pub(super) set: &'a Dataset,
    /// Index of the portion's first image among all attacked images.
    pub(super) first: usize,
    pub(super) epsilon: f64,
    pub(super) seed: u64,
}

impl PortionAttack<'_> {
    /// Attacks the images `indices` of the data set. `before` is the outcome at the next smaller ε, if there was one; `clean`
    /// says which images are misclassified without attack.
    pub(super) fn run(
        &self,
        indices: &[u32],
        before: Misclassified,
        clean: &[bool],
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Misclassified> {
        let (x, labels) = load(self.set, indices)?;
        // What is misclassified at a smaller ε, or without attack, is misclassified here.
        let start = |b: Vec<bool>| if b.is_empty() { clean.to_vec() } else { b };
        let surrogate = self.attack.surrogate;
        let mut m = Misclassified {
            cross_entropy: start(before.cross_entropy),
            white_box: start(before.white_box),
            noise: start(before.noise),
            transfer: if surrogate.is_some() { start(before.transfer) } else { Vec::new() },
        };
        self.white_box(&x, &labels, Loss::CrossEntropy, &mut m.cross_entropy, tick)?;
        m.white_box.iter_mut().zip(&m.cross_entropy).for_each(|(w, e)| *w |= *e);
        if self.attack.plan.margin {
            self.white_box(&x, &labels, Loss::Margin, &mut m.white_box, tick)?;
        }
        self.noise(&x, &labels, &mut m.noise, tick)?;
        if let Some((surrogate, _)) = surrogate {
            let numbers: Vec<u32> = (0..indices.len()).map(|i| (self.first + i) as u32).collect();
            let pgd = self.attack.plan.pgd(self.epsilon, Loss::CrossEntropy, false, self.seed);
            let batch = LabelledBatch { images: &x, labels: &labels, numbers: &numbers };
            let adversarial = pgd.run(surrogate, &batch, tick)?.images;
            for (m, wrong) in m.transfer.iter_mut().zip(misclassified(self.model, &adversarial, &labels)?) {
                *m |= wrong;
            }
        }
        Ok(m)
    }

    /// PGD on the images that are still classified correctly.
    fn white_box(
        &self,
        x: &[f32],
        labels: &[i32],
        loss: Loss,
        misclassified: &mut [bool],
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let left = self.survivors(x, labels, misclassified);
        let pgd = self.attack.plan.pgd(self.epsilon, loss, true, self.seed);
        let batch = LabelledBatch { images: &left.images, labels: &left.labels, numbers: &left.numbers };
        let outcome = pgd.run(self.model, &batch, tick)?;
        left.rows.iter().zip(outcome.misclassified).for_each(|(i, m)| misclassified[*i] |= m);
        Ok(())
    }

    /// Random noise on the images that are still classified correctly.
    fn noise(
        &self,
        x: &[f32],
        labels: &[i32],
        broken: &mut [bool],
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let norm = self.attack.plan.norm;
        for draw in 0..NOISE_DRAWS {
            let left = self.survivors(x, labels, broken);
            if left.rows.is_empty() {
                break;
            }
            tick()?;
            let px = x.len() / labels.len();
            let perturbed = |(i, image): (&u32, &[f32])| {
                let mut rng = Philox::new(self.seed, streams::EVAL, NOISE + (draw << 24) + i);
                // Pixels in [−1, 1] are twice as far apart as in [0, 1].
                norm.random(image, 2.0 * self.epsilon, &mut rng)
            };
            let perturbed: Vec<f32> =
                left.numbers.iter().zip(left.images.chunks_exact(px)).flat_map(perturbed).collect();
            let wrong = misclassified(self.model, &perturbed, &left.labels)?;
            left.rows.iter().zip(wrong).for_each(|(i, w)| broken[*i] |= w);
        }
        Ok(())
    }

    fn survivors(&self, x: &[f32], labels: &[i32], misclassified: &[bool]) -> Survivors {
        let px = x.len() / labels.len().max(1);
        let rows: Vec<usize> = (0..labels.len()).filter(|i| !misclassified[*i]).collect();
        Survivors {
            images: rows.iter().flat_map(|i| x[i * px..(i + 1) * px].iter().copied()).collect(),
            labels: rows.iter().map(|i| labels[*i]).collect(),
            numbers: rows.iter().map(|i| (self.first + i) as u32).collect(),
            rows,
        }
    }
}

/// The images of a portion that are still classified correctly.
struct Survivors {
    /// Their rows in the portion.
    rows: Vec<usize>,
    images: Vec<f32>,
    labels: Vec<i32>,
    /// Their indices among all attacked images.
    numbers: Vec<u32>,
}

/// The images `indices` of a data set, N×H×W×C in [−1, 1], and their labels.
pub(super) fn load(set: &Dataset, indices: &[u32]) -> Result<(Vec<f32>, Vec<i32>)> {
    let mut x = vec![0.0; indices.len() * set.pixels()];
    plain_batch(set, indices, &mut x)?;
    let mut labels = vec![0; indices.len()];
    set.labels_of(indices, &mut labels)?;
    Ok((x, labels.into_iter().map(i32::from).collect()))
}

/// Whether each image is misclassified.
pub(super) fn misclassified(model: &Model, x: &[f32], labels: &[i32]) -> Result<Vec<bool>> {
    let logits = model.logits(x)?;
    let rows = logits.chunks_exact(model.network().config.classes).zip(labels);
    Ok(rows.map(|(row, l)| argmax(row) != *l as usize).collect())
}
