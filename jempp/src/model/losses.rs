//! Losses of labelled images and their gradients with respect to the images, for adversarial attacks.

use super::pool::{Program, Want};
use super::{Model, Scores};
use crate::error::{Error, Result};
use crate::metrics::logsumexp;
use crate::network::BnMode;
use core::ops::Range;
use engine::ops::elementwise::Mul;
use engine::ops::reduce::SumAll;
use engine::ops::softmax_cross_entropy::SoftmaxCrossEntropy;
use engine::{HostTensor, Spec, Tape, grad};
use serde::{Deserialize, Serialize};

/// Added to the denominator of the DLR loss, so that it is not zero.
const TINY: f64 = 1e-12;

/// A loss that an attack maximises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// −log p(label).
    CrossEntropy,
    /// The difference-of-logits-ratio (DLR) loss of Croce & Hein (ICML 2020), −(z_y − max_{k≠y} z_k) / (z_π1 − z_π3),
    /// with π the order of decreasing logits. Its gradient does not vanish where that of the cross-entropy does, at
    /// confident predictions. With two classes there is no third logit, and it is the margin −(z_y − z_k).
    Margin,
}

impl Loss {
    /// Value at the logits of one image.
    pub fn value(self, logits: &[f32], label: usize) -> f64 {
        match self {
            Self::CrossEntropy => logsumexp(logits) - f64::from(logits[label]),
            Self::Margin => {
                let m = Margin::of(logits, label);
                -m.numerator / m.denominator
            }
        }
    }

    /// Gradient with respect to the logits of one image, written to `out`.
    pub fn gradient(self, logits: &[f32], label: usize, out: &mut [f32]) {
        match self {
            Self::CrossEntropy => {
                let lse = logsumexp(logits);
                out.iter_mut().zip(logits).for_each(|(o, z)| *o = (f64::from(*z) - lse).exp() as f32);
                out[label] -= 1.0;
            }
            Self::Margin => {
                let m = Margin::of(logits, label);
                out.fill(0.0);
                let (near, far) = (1.0 / m.denominator, m.numerator / m.denominator.powi(2));
                out[label] -= near as f32;
                out[m.rival] += near as f32;
                if let Some([first, third]) = m.span {
                    out[first] += far as f32;
                    out[third] -= far as f32;
                }
            }
        }
    }
}

/// The parts of the DLR loss.
struct Margin {
    numerator: f64,
    denominator: f64,
    /// The class other than the label that has the largest logit.
    rival: usize,
    /// The classes of the largest and the third largest logit.
    span: Option<[usize; 2]>,
}

impl Margin {
    fn of(logits: &[f32], label: usize) -> Self {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let rival = order.iter().copied().find(|k| *k != label).unwrap_or(label);
        let z = |k: usize| f64::from(logits[k]);
        let span = order.get(2).map(|third| [order[0], *third]);
        let denominator = span.map_or(1.0, |[first, third]| z(first) - z(third) + TINY);
        Self { numerator: z(label) - z(rival), denominator, rival, span }
    }
}

impl Model {
    /// Logits and log densities of images N×H×W×C in [−1, 1], and the gradient ∂log p(x)/∂x (N×H×W×C), from one pass.
    ///
    /// # Errors
    /// Those of [`Model::scores`].
    pub fn scores_and_grad(&self, images: &[f32]) -> Result<(Scores, Vec<f32>)> {
        let n = self.check(images)?;
        let px = self.network.pixels();
        let (mut out, mut gradient) = (Scores::default(), Vec::with_capacity(images.len()));
        self.chunks(n, Want::GradDensity, &mut |p, range| {
            p.plan.run_shared(
                &self.state,
                &[(p.x, HostTensor::F32(&images[range.start * px..range.end * px]))],
            )?;
            gradient.extend(p.plan.fetch::<f32>(p.outputs[0])?);
            out.logits.extend(p.plan.fetch::<f32>(p.outputs[1])?);
            out.log_density.extend(p.plan.fetch::<f32>(p.outputs[2])?);
            Ok(())
        })?;
        Ok((out, gradient))
    }

    /// Logits, n×classes, and the gradient of each image's loss with respect to the image, n×H×W×C.
    ///
    /// # Errors
    /// Those of [`Model::scores`]; [`Error::Data`] when there is not one label per image, or a label is out of range.
    pub fn loss_grad(&self, images: &[f32], labels: &[i32], loss: Loss) -> Result<(Vec<f32>, Vec<f32>)> {
        let n = self.check(images)?;
        let classes = self.network.config.classes;
        let known = |l: &i32| usize::try_from(*l).is_ok_and(|l| l < classes);
        if labels.len() != n || !labels.iter().all(known) {
            return Err(Error::Data(format!("needs {n} labels below {classes}")));
        }
        if loss == Loss::CrossEntropy {
            return self.logits_and_grad(images, Want::GradLoss, &|range| HostTensor::I32(&labels[range]));
        }
        // The gradient of the DLR loss needs the logits sorted, which the host does between two passes.
        let logits = self.logits(images)?;
        let mut upstream = vec![0.0; logits.len()];
        let rows = logits.chunks_exact(classes).zip(upstream.chunks_exact_mut(classes));
        for ((row, out), label) in rows.zip(labels) {
            loss.gradient(row, *label as usize, out);
        }
        self.logits_vjp(images, &upstream)
    }

    /// Logits, n×classes, and the vector-Jacobian product of the logits with `upstream`, n×classes: the gradient of
    /// Σ upstream·logits with respect to the images, n×H×W×C.
    ///
    /// # Errors
    /// Those of [`Model::scores`]; [`Error::Data`] when `upstream` has another length or a value that is not finite.
    pub fn logits_vjp(&self, images: &[f32], upstream: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let n = self.check(images)?;
        let classes = self.network.config.classes;
        if upstream.len() != n * classes {
            let got = upstream.len();
            return Err(Error::Data(format!("upstream has {got} values, not {n} × {classes}")));
        }
        if let Some(i) = upstream.iter().position(|v| !v.is_finite()) {
            return Err(Error::Data(format!("upstream holds {} at value {i}", upstream[i])));
        }
        self.logits_and_grad(images, Want::GradCotangent, &|range| {
            HostTensor::F32(&upstream[range.start * classes..range.end * classes])
        })
    }

    /// Logits and gradients of a program of [`Model::record_loss`], whose second input is `given` for a range of images.
    fn logits_and_grad<'a>(
        &self,
        images: &'a [f32],
        want: Want,
        given: &dyn Fn(Range<usize>) -> HostTensor<'a>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let px = self.network.pixels();
        let n = images.len() / px;
        let (mut logits, mut gradient) =
            (Vec::with_capacity(n * self.network.config.classes), Vec::with_capacity(images.len()));
        self.chunks(n, want, &mut |p, range| {
            let mut inputs = vec![(p.x, HostTensor::F32(&images[range.start * px..range.end * px]))];
            inputs.extend(p.labels.map(|v| (v, given(range))));
            p.plan.run_shared(&self.state, &inputs)?;
            gradient.extend(p.plan.fetch::<f32>(p.outputs[0])?);
            logits.extend(p.plan.fetch::<f32>(p.outputs[1])?);
            Ok(())
        })?;
        Ok((logits, gradient))
    }

    /// Records the gradient of the cross-entropy, or the vector-Jacobian product with given u, the gradient of ⟨u,
    /// logits⟩.
    pub(super) fn record_loss(&self, n: usize, want: Want) -> Result<Program> {
        let mut tape = Tape::new();
        let x = tape.input("images", self.network.images(n));
        let f = self.network.forward(&mut tape, x, &BnMode::Running)?;
        let logits = f.heads.logits;
        let (given, terms) = if want == Want::GradLoss {
            let labels = tape.input("labels", Spec::i32(&[n]));
            (labels, tape.one(SoftmaxCrossEntropy, &[logits, labels])?)
        } else {
            let u = tape.input("upstream", tape.spec(logits)?);
            (u, tape.one(Mul, &[logits, u])?)
        };
        let total = tape.one(SumAll { factor: 1.0 }, &[terms])?;
        let outputs = vec![grad(&mut tape, total, &[x])?[0], logits];
        Ok(Program { plan: tape.plan(&self.device, &outputs)?, x, labels: Some(given), outputs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::network::Network;
    use engine::{Device, State};

    #[test]
    fn gradients_by_the_logits_are_those_of_the_values() {
        let logits = [0.3f32, -1.2, 2.0, 0.9, 0.1];
        for loss in [Loss::CrossEntropy, Loss::Margin] {
            for (logits, label) in [(&logits[..], 2), (&logits, 0), (&logits[..3], 1), (&logits[..2], 0)] {
                let mut g = vec![0.0; logits.len()];
                loss.gradient(logits, label, &mut g);
                for k in 0..logits.len() {
                    let at = |d: f32| {
                        let mut z = logits.to_vec();
                        z[k] += d;
                        loss.value(&z, label)
                    };
                    let want = (at(0.01) - at(-0.01)) / 0.02;
                    assert!((f64::from(g[k]) - want).abs() < 2e-3, "{loss:?} {label} {k}: {} {want}", g[k]);
                }
            }
        }
        // The DLR loss is invariant to shifting and scaling of all logits.
        let margin = |f: &dyn Fn(f32) -> f32| {
            let z: Vec<f32> = logits.iter().map(|z| f(*z)).collect();
            Loss::Margin.value(&z, 2)
        };
        let plain = margin(&|z| z);
        assert!((plain + (2.0 - 0.9) / (2.0 - 0.3)).abs() < 1e-6);
        assert!((plain - margin(&|z| 5.0 * z + 3.0)).abs() < 1e-5);
    }

    #[test]
    fn gradients_by_the_images_are_those_of_the_values() {
        let config = Config::preset("digits").unwrap().model;
        let device = Device::cpu(2);
        let mut state = State::on(&device);
        let net = Network::new(&mut state, &config).unwrap();
        net.initialise(&mut state, 3).unwrap();
        let model = Model::new(&device, &config, |name, spec| {
            let slot = net.tensors().find(|(n, _)| n == name).unwrap().1;
            Ok(if name.ends_with("running_var") { vec![1.0; spec.len()] } else { state.fetch(slot).unwrap() })
        })
        .unwrap();
        let x: Vec<f32> = (0..9 * 64).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect();
        let labels: Vec<i32> = (0..9).collect();
        let of = |label: &dyn Fn(usize) -> usize| {
            let labels: Vec<i32> = (0..9).map(|i| label(i) as i32).collect();
            model.input_grad(&x, Some(&labels)).unwrap()
        };
        let density = model.input_grad(&x, None).unwrap();
        let z = model.logits(&x).unwrap();
        let row = |i: usize| &z[i * 10..(i + 1) * 10];
        let own = of(&|i| i);
        let place = |i: usize, rank: usize| {
            let mut order: Vec<usize> = (0..10).collect();
            order.sort_by(|a, b| row(i)[*b].total_cmp(&row(i)[*a]));
            order[rank]
        };
        let rival = |i: usize| if place(i, 0) == i { place(i, 1) } else { place(i, 0) };
        let [other, first, third] = [of(&rival), of(&|i| place(i, 0)), of(&|i| place(i, 2))];
        // −log p(y|x) = log p(x) − f(x)[y] + const; the DLR loss by the quotient rule.
        let want = |loss, j: usize| {
            let i = j / 64;
            let (num, den) = (row(i)[i] - row(i)[rival(i)], row(i)[place(i, 0)] - row(i)[place(i, 2)]);
            match loss {
                Loss::CrossEntropy => density[j] - own[j],
                Loss::Margin => (other[j] - own[j]) / den + num / den.powi(2) * (first[j] - third[j]),
            }
        };
        for loss in [Loss::CrossEntropy, Loss::Margin] {
            let (logits, g) = model.loss_grad(&x, &labels, loss).unwrap();
            assert_eq!(logits, z);
            let size = g.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (j, g) in g.iter().enumerate() {
                assert!((g - want(loss, j)).abs() < 1e-4 * size, "{loss:?} {j}: {g} {}", want(loss, j));
            }
        }
        let (scores, g) = model.scores_and_grad(&x).unwrap();
        assert_eq!(scores, model.scores(&x).unwrap());
        assert_eq!(g, model.input_grad(&x, None).unwrap());
        for labels in [&labels[..8], &[10; 9], &[-1; 9]] {
            assert!(model.loss_grad(&x, labels, Loss::Margin).is_err());
        }
    }
}
