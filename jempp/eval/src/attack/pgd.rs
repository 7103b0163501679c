//! Projected gradient descent (Madry et al., ICLR 2018) on images whose labels are to be lost.
//!
//! Invariants: a perturbation is in the ball and the box at every iterate; what is drawn for an image depends on
//! (seed, image, restart) only, so that its outcome does not depend on the images beside it.

use engine::rng::Philox;
use jempp::Result;
use jempp::ball::Norm;
use jempp::metrics::argmax;
use jempp::model::{Loss, Model};
use jempp::streams;

/// What is attacked.
pub trait Victim {
    /// Number of classes.
    fn classes(&self) -> usize;
    /// Values of an image.
    fn pixels(&self) -> usize;
    /// Logits, n×classes.
    ///
    /// # Errors
    /// If the images do not fit.
    fn logits(&self, images: &[f32]) -> Result<Vec<f32>>;
    /// Logits, and the gradient of each image's loss by the image.
    ///
    /// # Errors
    /// If images or labels do not fit.
    fn loss_grad(&self, images: &[f32], labels: &[i32], loss: Loss) -> Result<(Vec<f32>, Vec<f32>)>;
}

impl Victim for Model {
    fn classes(&self) -> usize {
        self.network().config.classes
    }
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

/// An attack. Lengths are in pixel units, of pixels in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pgd {
    /// The ball.
    pub norm: Norm,
    /// Its radius.
    pub epsilon: f64,
    /// Steps of each restart.
    pub steps: u32,
    /// Length of a step.
    pub step_size: f64,
    /// What is raised.
    pub loss: Loss,
    /// Starts; at least one.
    pub restarts: u32,
    /// Whether they are drawn from the ball; else the first is the image.
    pub random_start: bool,
    /// Whether an image whose label is lost is left alone; else its loss is raised to the end, as attacks that are to
    /// transfer want it.
    pub stop_early: bool,
    /// Seed of the starts.
    pub seed: u64,
}

/// Images to attack, n×H×W×C in [−1, 1].
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// The images.
    pub images: &'a [f32],
    /// Their labels.
    pub labels: &'a [i32],
    /// Their numbers, which name their randomness; below 2²⁴.
    pub numbers: &'a [u32],
}

/// What became of the images.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether the label was lost.
    pub broken: Vec<bool>,
    /// The best adversary of each: one that lost the label, if any did, else the one of the largest loss.
    pub images: Vec<f32>,
}

/// First step of the random stream of restarts; each has 2²⁴ images.
const RESTART: u32 = 16 << 24;
/// Restarts that have steps of the random stream.
pub const MOST_RESTARTS: u32 = 200;

/// The best adversaries so far.
struct Best {
    outcome: Outcome,
    loss: Vec<f64>,
}

impl Best {
    /// Takes in the iterates of the active images; says which keep their label.
    fn see(
        &mut self,
        active: &[usize],
        x: &[f32],
        logits: &[f32],
        t: &Targets<'_>,
        attack: &Pgd,
    ) -> Vec<bool> {
        let (px, classes) = (x.len() / active.len(), logits.len() / active.len());
        let mut kept = Vec::with_capacity(active.len());
        for (k, (i, row)) in active.iter().zip(logits.chunks_exact(classes)).enumerate() {
            let label = t.labels[*i] as usize;
            let (lost, loss) = (argmax(row) != label, attack.loss.value(row, label));
            let better = match (lost, self.outcome.broken[*i]) {
                (a, b) if a != b => a,
                _ => loss > self.loss[*i],
            };
            if better {
                self.loss[*i] = loss;
                self.outcome.broken[*i] |= lost;
                self.outcome.images[i * px..(i + 1) * px].copy_from_slice(&x[k * px..(k + 1) * px]);
            }
            kept.push(!lost);
        }
        kept
    }
}

impl Pgd {
    /// Attacks all images; `tick` hears of each gradient taken and says whether to go on.
    ///
    /// # Errors
    /// Those of the victim and of `tick`.
    pub fn run(
        &self,
        victim: &dyn Victim,
        t: &Targets<'_>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Outcome> {
        let n = t.labels.len();
        let outcome = Outcome { broken: vec![false; n], images: t.images.to_vec() };
        let mut best = Best { outcome, loss: vec![f64::NEG_INFINITY; n] };
        for restart in 0..self.restarts {
            self.restart(victim, t, restart, &mut best, tick)?;
        }
        Ok(best.outcome)
    }

    fn restart(
        &self,
        victim: &dyn Victim,
        t: &Targets<'_>,
        restart: u32,
        best: &mut Best,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let px = victim.pixels();
        let image = |i: usize| &t.images[i * px..(i + 1) * px];
        let broken = &best.outcome.broken;
        let mut active: Vec<usize> =
            (0..t.labels.len()).filter(|i| !(self.stop_early && broken[*i])).collect();
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
            let kept = best.see(&active, &x, &logits, t, self);
            if self.stop_early {
                retain(&mut active, &kept, 1);
                retain(&mut x, &kept, px);
                retain(&mut g, &kept, px);
            }
            for ((x, g), i) in x.chunks_exact_mut(px).zip(g.chunks_exact(px)).zip(&active) {
                self.norm.step(x, g, length);
                self.norm.project(x, image(*i), epsilon);
            }
        }
        if !active.is_empty() {
            tick()?;
            best.see(&active, &x, &victim.logits(&x)?, t, self);
        }
        Ok(())
    }
}

/// Keeps the rows of `width` values that are to be kept.
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
        fn classes(&self) -> usize {
            self.b.len()
        }
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
            for (row, l) in logits.chunks_exact(self.classes()).zip(labels) {
                let mut u = vec![0.0; self.classes()];
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

    /// Between two classes the loss rises with ⟨w_other − w_label, x⟩, which is largest at ε·sign or ε·direction.
    #[test]
    fn the_optimum_of_a_linear_model_is_found() {
        let (model, x) = linear(4, 20);
        for (norm, label) in [(Norm::Linf, 0), (Norm::Linf, 1), (Norm::L2, 0), (Norm::L2, 1)] {
            let d: Vec<f32> = (0..20).map(|j| (model.w[1 - label][j] - model.w[label][j]) * 1.0).collect();
            let size = d.iter().map(|d| d * d).sum::<f32>().sqrt();
            for loss in [Loss::CrossEntropy, Loss::Margin] {
                // In model units ε is twice as long, and the images lie far from the box's faces.
                let t = Targets { images: &x, labels: &[label as i32], numbers: &[7] };
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
    fn the_best_is_kept_and_neighbours_do_not_matter() {
        let (model, x) = linear(5, 12);
        let (_, y) = linear(6, 12);
        let both = [x.clone(), y.clone()].concat();
        let run = |a: &Pgd, images: &[f32], labels: &[i32], numbers: &[u32]| {
            let mut calls = 0;
            let t = Targets { images, labels, numbers };
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
                    assert_eq!(single.broken[0], o.broken[i]);
                    assert_eq!(single.images, o.images[i * 12..(i + 1) * 12]);
                    assert!(stop_early || calls == 3 * 61);
                    let lost = argmax(&model.logits(&single.images).unwrap()) != label as usize;
                    assert_eq!(lost, single.broken[0], "the image that is kept is the one that counts");
                }
            }
        }
        // Without room the label stays, and the image too.
        let (o, _) = run(
            &attack(Norm::Linf, 0.0, Loss::Margin),
            &x,
            &[argmax(&model.logits(&x).unwrap()) as i32],
            &[0],
        );
        assert_eq!((o.broken[0], o.images), (false, x));
    }

    proptest! {
        #[test]
        fn adversaries_lie_in_ball_and_box(
            seed in 0u64..1000, epsilon in 1e-3f64..1.0, size in 1e-3f64..1.0, l2 in proptest::bool::ANY,
        ) {
            let (model, x) = linear(seed, 9);
            let norm = if l2 { Norm::L2 } else { Norm::Linf };
            let a = Pgd { step_size: size, steps: 5, restarts: 2, ..attack(norm, epsilon, Loss::Margin) };
            let t = Targets { images: &x, labels: &[1], numbers: &[3] };
            let got = a.run(&model, &t, &mut || Ok(())).unwrap().images;
            prop_assert!(norm.distance(&got, &x) <= 2.0 * epsilon);
            prop_assert!(got.iter().all(|v| (-1.0..=1.0).contains(v)));
        }
    }
}
