//! Untargeted projected gradient descent (PGD; Madry et al., ICLR 2018).
//!
//! Invariants: every iterate is within the ball and the box [−1, 1]; random starts depend only on (seed, image, restart), so
//! that the outcome for an image does not depend on the other images of the batch.

use engine::rng::Philox;
use jempp::Result;
use jempp::ball::Norm;
use jempp::metrics::argmax;
use jempp::model::{Loss, Model};
use jempp::streams;

/// A classifier under attack.
pub(super) trait Victim {
    /// Number of values of an image, H·W·C.
    fn pixels(&self) -> usize;
    /// Logits, n×classes, of n images.
    ///
    /// # Errors
    /// If the images do not fit the classifier.
    fn logits(&self, images: &[f32]) -> Result<Vec<f32>>;
    /// Logits, n×classes, and the gradient of each image's loss with respect to that image, n×H×W×C.
    ///
    /// # Errors
    /// If images or labels do not fit the classifier.
    fn loss_grad(&self, images: &[f32], labels: &[i32], loss: Loss) -> Result<(Vec<f32>, Vec<f32>)>;
}

impl Victim for Model {
    fn pixels(&self) -> usize {
        self.network().pixels()
    }
    fn logits(&self, images: &[f32]) -> Result<Vec<f32>> {
        Model::logits(self, images)
    }
    fn loss_grad(&self, images: &[f32], labels: &[i32], loss: Loss) -> Result<(Vec<f32>, Vec<f32>)> {
        Model::loss_grad(self, images, labels, loss)
    }
}

/// Settings of PGD. ε and the step size are in units of pixels in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pgd {
    /// Norm of the perturbation.
    pub norm: Norm,
    /// Radius of the ball.
    pub epsilon: f64,
    /// Steps of each restart.
    pub steps: u32,
    /// Step size.
    pub step_size: f64,
    /// Loss that is maximised.
    pub loss: Loss,
    /// Number of restarts, at least 1 and at most [`MAX_RESTARTS`].
    pub restarts: u32,
    /// Whether all starts are drawn from the ball; otherwise the first one is the image itself.
    pub random_start: bool,
    /// Whether an image is left alone as soon as it is misclassified. Otherwise its loss is maximised for all steps, which
    /// makes adversarial examples transfer better.
    pub stop_early: bool,
    /// Seed of the random starts.
    pub seed: u64,
}

/// Images to attack, with their labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelledBatch<'a> {
    /// n×H×W×C in [−1, 1].
    pub images: &'a [f32],
    /// n labels.
    pub labels: &'a [i32],
    /// n indices below 2²⁴ that select the images' random numbers.
    pub numbers: &'a [u32],
}

/// The outcome of an attack.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PgdOutcome {
    /// n: whether an iterate of the image was misclassified.
    pub misclassified: Vec<bool>,
    /// n×H×W×C: for each image the iterate with the largest loss, among misclassified ones if there are any.
    pub images: Vec<f32>,
}

/// First step of the random stream for restarts; each restart has a block of 2²⁴ images.
const RESTART: u32 = 16 << 24;
/// Largest number of restarts: the blocks that the random stream has for them.
pub(super) const MAX_RESTARTS: u32 = 200;

/// The best adversarial examples so far, and their losses.
struct BestSoFar {
    outcome: PgdOutcome,
    loss: Vec<f64>,
}

impl BestSoFar {
    /// Updates the best examples with iterates `x` of the images `active`. Returns which iterates are classified correctly.
    fn update(
        &mut self,
        active: &[usize],
        x: &[f32],
        logits: &[f32],
        t: &LabelledBatch<'_>,
        attack: &Pgd,
    ) -> Vec<bool> {
        let (px, classes) = (x.len() / active.len(), logits.len() / active.len());
        let mut correct = Vec::with_capacity(active.len());
        for (k, (i, row)) in active.iter().zip(logits.chunks_exact(classes)).enumerate() {
            let label = t.labels[*i] as usize;
            let (wrong, loss) = (argmax(row) != label, attack.loss.value(row, label));
            let better = match (wrong, self.outcome.misclassified[*i]) {
                (a, b) if a != b => a,
                _ => loss > self.loss[*i],
            };
            if better {
                self.loss[*i] = loss;
                self.outcome.misclassified[*i] |= wrong;
                self.outcome.images[i * px..(i + 1) * px].copy_from_slice(&x[k * px..(k + 1) * px]);
            }
            correct.push(!wrong);
        }
        correct
    }
}

impl Pgd {
    /// Attacks all images. `tick` is called before every gradient; an error of it ends the attack.
    ///
    /// # Errors
    /// Those of the victim and of `tick`.
    pub(super) fn run(
        &self,
        victim: &dyn Victim,
        t: &LabelledBatch<'_>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<PgdOutcome> {
        let n = t.labels.len();
        let outcome = PgdOutcome { misclassified: vec![false; n], images: t.images.to_vec() };
        let mut best = BestSoFar { outcome, loss: vec![f64::NEG_INFINITY; n] };
        for restart in 0..self.restarts {
            self.restart(victim, t, restart, &mut best, tick)?;
        }
        Ok(best.outcome)
    }

    fn restart(
        &self,
        victim: &dyn Victim,
        t: &LabelledBatch<'_>,
        restart: u32,
        best: &mut BestSoFar,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let px = victim.pixels();
        let image = |i: usize| &t.images[i * px..(i + 1) * px];
        let done = |i: usize| self.stop_early && best.outcome.misclassified[i];
        let mut active: Vec<usize> = (0..t.labels.len()).filter(|i| !done(*i)).collect();
        // Pixels in [−1, 1] are twice as far apart as in [0, 1].
        let (epsilon, length) = (2.0 * self.epsilon, 2.0 * self.step_size);
        let mut x: Vec<f32> = Vec::with_capacity(active.len() * px);
        for i in &active {
            if self.random_start || restart > 0 {
                let step = RESTART + (restart << 24) + t.numbers[*i];
                let mut rng = Philox::new(self.seed, streams::EVAL, step);
                x.extend(self.norm.random(image(*i), epsilon, &mut rng));
            } else {
                x.extend_from_slice(image(*i));
            }
        }
        for _ in 0..self.steps {
            if active.is_empty() {
                return Ok(());
            }
            tick()?;
            let labels: Vec<i32> = active.iter().map(|i| t.labels[*i]).collect();
            let (logits, mut g) = victim.loss_grad(&x, &labels, self.loss)?;
            let correct = best.update(&active, &x, &logits, t, self);
            if self.stop_early {
                retain(&mut active, &correct, 1);
                retain(&mut x, &correct, px);
                retain(&mut g, &correct, px);
            }
            for ((x, g), i) in x.chunks_exact_mut(px).zip(g.chunks_exact(px)).zip(&active) {
                self.norm.step(x, g, length);
                self.norm.project(x, image(*i), epsilon);
            }
        }
        if !active.is_empty() {
            tick()?;
            best.update(&active, &x, &victim.logits(&x)?, t, self);
        }
        Ok(())
    }
}

/// Keeps those rows, of `width` values each, for which `keep` is true.
fn retain<T: Copy>(values: &mut Vec<T>, keep: &[bool], width: usize) {
    let mut to = 0;
    for (from, _) in keep.iter().enumerate().filter(|(_, k)| **k) {
        values.copy_within(from * width..(from + 1) * width, to * width);
        to += 1;
    }
    values.truncate(to * width);
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::rng::Stream;
    use proptest::prelude::*;

    /// logits = W x + b.
    struct Linear {
        w: Vec<Vec<f32>>,
        b: Vec<f32>,
    }

    impl Victim for Linear {
        fn pixels(&self) -> usize {
            self.w[0].len()
        }
        fn logits(&self, images: &[f32]) -> Result<Vec<f32>> {
            let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
            let rows = images.chunks_exact(self.pixels());
            Ok(rows.flat_map(|x| self.w.iter().zip(&self.b).map(move |(w, b)| dot(w, x) + b)).collect())
        }
        fn loss_grad(&self, images: &[f32], labels: &[i32], loss: Loss) -> Result<(Vec<f32>, Vec<f32>)> {
            let logits = self.logits(images)?;
            let mut g = Vec::new();
            for (row, l) in logits.chunks_exact(self.b.len()).zip(labels) {
                let mut u = vec![0.0; self.b.len()];
                loss.gradient(row, *l as usize, &mut u);
                g.extend(
                    (0..self.pixels()).map(|j| u.iter().zip(&self.w).map(|(u, w)| u * w[j]).sum::<f32>()),
                );
            }
            Ok((logits, g))
        }
    }

    fn linear(seed: u64, px: usize) -> (Linear, Vec<f32>) {
        let mut rng = Philox::new(seed, Stream::TEST, 9);
        let mut row = || (0..px).map(|_| rng.normal()).collect::<Vec<f32>>();
        let model = Linear { w: vec![row(), row()], b: vec![0.1, -0.2] };
        let x = row().iter().map(|v| (0.3 * v).clamp(-0.6, 0.6)).collect();
        (model, x)
    }

    fn attack(norm: Norm, epsilon: f64, loss: Loss) -> Pgd {
        let (steps, step_size) = (60, epsilon / 6.0);
        let (restarts, random_start, stop_early, seed) = (1, true, false, 3);
        Pgd { norm, epsilon, steps, step_size, loss, restarts, random_start, stop_early, seed }
    }

    /// Between two classes the loss rises with ⟨w_other − w_label, x⟩, which is maximal at ε·sign (L∞) or ε·direction (L2).
    #[test]
    fn pgd_finds_the_optimum_of_a_linear_model() {
        let (model, x) = linear(4, 20);
        for (norm, label) in [(Norm::Linf, 0), (Norm::Linf, 1), (Norm::L2, 0), (Norm::L2, 1)] {
            let d: Vec<f32> = (0..20).map(|j| (model.w[1 - label][j] - model.w[label][j]) * 1.0).collect();
            let size = d.iter().map(|d| d * d).sum::<f32>().sqrt();
            for loss in [Loss::CrossEntropy, Loss::Margin] {
                // In units of pixels in [−1, 1] ε is twice as large, and the images are far from the faces of the box.
                let t = LabelledBatch { images: &x, labels: &[label as i32], numbers: &[7] };
                let got = attack(norm, 0.1, loss).run(&model, &t, &mut || Ok(())).unwrap().images;
                for j in 0..20 {
                    let step = if norm == Norm::Linf { 0.2 * d[j].signum() } else { 0.2 * d[j] / size };
                    assert!(
                        (got[j] - x[j] - step).abs() < 1e-4,
                        "{norm:?} {loss:?} {j}: {} {step}",
                        got[j] - x[j]
                    );
                }
            }
        }
    }

    #[test]
    fn the_best_is_kept_whatever_else_is_in_the_batch() {
        let (model, x) = linear(5, 12);
        let (_, y) = linear(6, 12);
        let both = [x.clone(), y.clone()].concat();
        let run = |a: &Pgd, images: &[f32], labels: &[i32], numbers: &[u32]| {
            let mut calls = 0;
            let t = LabelledBatch { images, labels, numbers };
            let o = a
                .run(&model, &t, &mut || {
                    calls += 1;
                    Ok(())
                })
                .unwrap();
            (o, calls)
        };
        for norm in [Norm::Linf, Norm::L2] {
            for stop_early in [true, false] {
                let a = Pgd { stop_early, restarts: 3, ..attack(norm, 0.4, Loss::CrossEntropy) };
                let (o, _) = run(&a, &both, &[0, 1], &[11, 12]);
                for (i, (alone, label)) in [(&x, 0), (&y, 1)].into_iter().enumerate() {
                    let (single, calls) = run(&a, alone, &[label], &[11 + i as u32]);
                    assert_eq!(single.misclassified[0], o.misclassified[i]);
                    assert_eq!(single.images, o.images[i * 12..(i + 1) * 12]);
                    assert!(stop_early || calls == 3 * 61);
                    let wrong = argmax(&model.logits(&single.images).unwrap()) != label as usize;
                    assert_eq!(
                        wrong, single.misclassified[0],
                        "the image returned must be the misclassified one"
                    );
                }
            }
        }
        // With ε = 0 neither the image nor its class changes.
        let (o, _) = run(
            &attack(Norm::Linf, 0.0, Loss::Margin),
            &x,
            &[argmax(&model.logits(&x).unwrap()) as i32],
            &[0],
        );
        assert_eq!((o.misclassified[0], o.images), (false, x));
    }

    proptest! {
        #[test]
        fn iterates_lie_in_ball_and_box(
            seed in 0u64..1000, epsilon in 1e-3f64..1.0, size in 1e-3f64..1.0, l2 in proptest::bool::ANY,
        ) {
            let (model, x) = linear(seed, 9);
            let norm = if l2 { Norm::L2 } else { Norm::Linf };
            let a = Pgd { step_size: size, steps: 5, restarts: 2, ..attack(norm, epsilon, Loss::Margin) };
            let t = LabelledBatch { images: &x, labels: &[1], numbers: &[3] };
            let got = a.run(&model, &t, &mut || Ok(())).unwrap().images;
            prop_assert!(norm.distance(&got, &x) <= 2.0 * epsilon);
            prop_assert!(got.iter().all(|v| (-1.0..=1.0).contains(v)));
        }
    }
}
