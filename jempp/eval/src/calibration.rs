//! Calibration: ECE, MCE, proper scoring rules (NLL, Brier score), and temperature scaling.

use crate::estimate::{Estimate, REPLICATES};
use crate::protocol::Protocol;
use engine::rng::Philox;
use jempp::Result;
use jempp::metrics::{Bin, LabelledLogits, ece, logsumexp, scaled, softmax};
use jempp::streams;
use jempp::temperature::TemperatureFit;
use jempp_data::eval_stream;
use serde::{Deserialize, Serialize};

/// Calibration at one temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Temperature: what the logits were divided by.
    pub temperature: f64,
    /// Expected calibration error, Σ |B|/n · |accuracy − confidence|.
    pub ece: Estimate,
    /// Maximum calibration error: the largest |accuracy − confidence| of a non-empty bin.
    pub mce: f64,
    /// Negative log-likelihood: mean −log p(label), in nats.
    pub nll: Estimate,
    /// Brier score: mean Σ_k (p_k − [y = k])², in [0, 2].
    pub brier: Estimate,
    /// Confidence bins (lo, hi] of equal width.
    pub bins: Vec<Bin>,
}

/// Accuracy and calibration of a classifier on one set of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Measurement conditions.
    pub protocol: Protocol,
    /// Fraction classified correctly.
    pub accuracy: Estimate,
    /// Without temperature scaling.
    pub plain: Reliability,
    /// With a temperature fitted on validation images, if there were any.
    pub scaled: Option<Reliability>,
    /// The fit of the temperature, with the NLL of held-out validation images before and after scaling.
    #[serde(default)]
    pub temperature: Option<TemperatureFit>,
    /// Number of images that the temperature was fitted on.
    pub fitted_on: usize,
}

/// Maximum calibration error: the largest |accuracy − confidence| of a non-empty bin; 0 if all are empty.
pub fn mce(bins: &[Bin]) -> f64 {
    bins.iter().filter(|b| b.count > 0).map(|b| (b.accuracy - b.confidence).abs()).fold(0.0, f64::max)
}

/// Calibration of logits, n×`classes`, divided by a temperature, over `bins` bins, with bootstrap intervals over the images.
///
/// # Errors
/// Those of [`LabelledLogits::new`], or if `bins` is 0.
fn reliability(
    logits: &[f32],
    classes: usize,
    labels: &[u16],
    (temperature, bins, seed): (f64, usize, u64),
) -> Result<Reliability> {
    let logits = if temperature == 1.0 { logits.to_vec() } else { scaled(logits, temperature) };
    let p = LabelledLogits::new(&logits, classes, labels)?;
    let table = p.reliability(bins)?;
    let terms = Terms::new(&logits, classes, labels, &table);
    let [ece_of, nll_of, brier_of] = terms.bootstrap(bins, seed);
    Ok(Reliability {
        temperature,
        ece: ece_of(ece(&table)),
        mce: mce(&table),
        nll: nll_of(p.nll()),
        brier: brier_of(p.brier()),
        bins: table,
    })
}

/// What each image contributes to the sums, so that a bootstrap replicate need not compute softmaxes.
struct Terms {
    /// Its bin of confidence.
    bin: Vec<usize>,
    /// Its confidence, minus 1 if it is classified correctly.
    overconfidence: Vec<f64>,
    nll: Vec<f64>,
    brier: Vec<f64>,
}

impl Terms {
    fn new(logits: &[f32], classes: usize, labels: &[u16], table: &[Bin]) -> Self {
        let mut terms =
            Self { bin: Vec::new(), overconfidence: Vec::new(), nll: Vec::new(), brier: Vec::new() };
        let mut p = vec![0.0; classes];
        for (row, y) in logits.chunks_exact(classes).zip(labels.iter().map(|y| usize::from(*y))) {
            softmax(row, &mut p);
            let best = jempp::metrics::argmax(row);
            let confidence = p[best].min(1.0);
            terms.bin.push(table.partition_point(|b| b.hi < confidence).min(table.len() - 1));
            terms.overconfidence.push(confidence - f64::from(u8::from(best == y)));
            terms.nll.push(logsumexp(row) - f64::from(row[y]));
            p[y] -= 1.0;
            terms.brier.push(p.iter().map(|p| p * p).sum());
        }
        terms
    }

    /// Intervals of the ECE, the NLL and the Brier score. Resampling biases the ECE, a sum of absolute values, upwards, so
    /// the replicates are corrected for bias; for the two means, which have none, this changes next to nothing.
    fn bootstrap(&self, bins: usize, seed: u64) -> [impl FnOnce(f64) -> Estimate + use<>; 3] {
        let n = self.bin.len();
        let mut draws: [Vec<f64>; 3] = Default::default();
        let mut gaps = vec![0.0; bins];
        for r in 0..REPLICATES {
            let mut rng = Philox::new(seed, streams::EVAL, eval_stream::BOOTSTRAP + r as u32);
            gaps.fill(0.0);
            let (mut nll, mut brier) = (0.0, 0.0);
            for _ in 0..n {
                let i = rng.below(n as u32) as usize;
                gaps[self.bin[i]] += self.overconfidence[i];
                nll += self.nll[i];
                brier += self.brier[i];
            }
            let gap: f64 = gaps.iter().map(|g| g.abs()).sum();
            for (all, v) in draws.iter_mut().zip([gap, nll, brier]) {
                all.push(v / n as f64);
            }
        }
        draws.map(Estimate::bias_corrected)
    }
}

/// Accuracy and calibration from the logits and labels of images; `fit` holds the logits and labels of the validation images
/// that the temperature is fitted on.
///
/// # Errors
/// Those of [`LabelledLogits::new`], or if `bins` is 0.
pub(crate) fn calibration(
    protocol: Protocol,
    (logits, labels): (&[f32], &[u16]),
    fit: Option<(&[f32], &[u16])>,
    (classes, bins): (usize, usize),
) -> Result<Calibration> {
    let hits = LabelledLogits::new(logits, classes, labels)?.correct().iter().filter(|c| **c).count();
    let at = |t| reliability(logits, classes, labels, (t, bins, protocol.seed));
    let temperature = fit.map(|(logits, labels)| TemperatureFit::new(logits, classes, labels)).transpose()?;
    Ok(Calibration {
        accuracy: Estimate::proportion(hits, labels.len()),
        plain: at(1.0)?,
        scaled: temperature.as_ref().map(|t| at(t.temperature)).transpose()?,
        temperature,
        fitted_on: fit.map_or(0, |f| f.1.len()),
        protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::rng::Stream;

    /// Labels drawn from softmax(z), with logits 3·z.
    fn overconfident(n: usize) -> (Vec<f32>, Vec<u16>) {
        let mut rng = Philox::new(8, Stream::TEST, 1);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let z: Vec<f32> = (0..4).map(|_| 2.0 * rng.normal()).collect();
            let mut p = [0.0; 4];
            softmax(&z, &mut p);
            let u = f64::from(rng.uniform());
            let below = |k: usize| p[..=k].iter().sum::<f64>() < u;
            labels.push((0..3).take_while(|k| below(*k)).count() as u16);
            logits.extend(z.iter().map(|z| 3.0 * z));
        }
        (logits, labels)
    }

    #[test]
    fn temperature_scaling_corrects_overconfidence() {
        let (logits, labels) = overconfident(8000);
        let t = TemperatureFit::new(&logits, 4, &labels).unwrap().temperature;
        assert!((t - 3.0).abs() < 0.25, "{t}");
        let at = |t| reliability(&logits, 4, &labels, (t, 20, 1)).unwrap();
        let (before, after) = (at(1.0), at(t));
        assert!(before.ece.value > 0.1 && after.ece.value < 0.03);
        assert!(after.mce < before.mce && after.brier.value < before.brier.value);
        for e in [before.ece, before.nll, before.brier] {
            assert!(e.low < e.value && e.value < e.high, "{e:?}");
        }
        // The ECE of a calibrated model is nearly all sampling noise: the interval must contain it, not lie above it.
        assert!(after.ece.low < after.ece.value && after.ece.value < after.ece.high, "{:?}", after.ece);
        // The interval of the NLL, a mean, must match the standard error.
        let p = LabelledLogits::new(&logits, 4, &labels).unwrap();
        let terms = Terms::new(&logits, 4, &labels, &before.bins);
        let sd = (terms.nll.iter().map(|l| (l - p.nll()).powi(2)).sum::<f64>() / 8e3).sqrt();
        let got = (before.nll.high - before.nll.low) / 3.92;
        assert!((got / (sd / 8e3f64.sqrt()) - 1.0).abs() < 0.1);
    }

    #[test]
    fn bootstrap_bins_are_those_of_the_table() {
        let (logits, labels) = overconfident(500);
        let r = reliability(&logits, 4, &labels, (1.0, 20, 1)).unwrap();
        let terms = Terms::new(&logits, 4, &labels, &r.bins);
        for (i, b) in r.bins.iter().enumerate() {
            assert_eq!(terms.bin.iter().filter(|at| **at == i).count(), b.count);
        }
        let mut gaps = [0.0; 20];
        terms.bin.iter().zip(&terms.overconfidence).for_each(|(b, o)| gaps[*b] += o);
        let sum = gaps.iter().map(|g: &f64| g.abs()).sum::<f64>() / 500.0;
        assert!((sum - r.ece.value).abs() < 1e-12);
        let worst = r.bins.iter().map(|b| if b.count == 0 { 0.0 } else { (b.accuracy - b.confidence).abs() });
        assert_eq!(worst.fold(0.0, f64::max), r.mce);
    }
}
