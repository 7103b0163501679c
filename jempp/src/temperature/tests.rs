use super::*;
use crate::metrics::{scaled, softmax};
use engine::rng::{Philox, Stream};

/// How images are drawn.
#[derive(Clone, Copy, Debug)]
struct Labelling {
    classes: usize,
    /// Size of the logits.
    scale: f32,
    /// Whether one logit stands out, as in a classifier that has learnt.
    sure: bool,
    /// Labels follow softmax(z / this).
    temperature: f64,
    /// Fraction of labels drawn at random.
    noise: f32,
}

impl Labelling {
    fn draw(self, rng: &mut Philox, n: usize) -> (Vec<f32>, Vec<u16>) {
        let (mut logits, mut labels, mut p) = (Vec::new(), Vec::new(), vec![0.0; self.classes]);
        for _ in 0..n {
            let spread = if self.sure { 0.25 } else { 1.0 };
            let mut z: Vec<f32> = (0..self.classes).map(|_| spread * self.scale * rng.normal()).collect();
            if self.sure {
                let top = rng.below(self.classes as u32) as usize;
                z[top] += self.scale * (1.0 + 0.35 * rng.normal());
            }
            softmax(&scaled(&z, self.temperature), &mut p);
            let u = f64::from(rng.uniform());
            let drawn = (0..self.classes - 1).take_while(|k| p[..=*k].iter().sum::<f64>() < u).count();
            let random = rng.below(self.classes as u32) as usize;
            labels.push(if rng.uniform() < self.noise { random } else { drawn } as u16);
            logits.extend(z);
        }
        (logits, labels)
    }
}

fn nll(logits: &[f32], classes: usize, labels: &[u16]) -> f64 {
    LabelledLogits::new(logits, classes, labels).unwrap().nll()
}

/// The NLL of fresh images after scaling, relative to that before, minus 1; and the temperature.
fn rise(drawn_by: Labelling, rng: &mut Philox, n: usize, fresh: usize) -> (f64, f64) {
    let (logits, labels) = drawn_by.draw(rng, n);
    let fit = TemperatureFit::new(&logits, drawn_by.classes, &labels).unwrap();
    assert!((fit.temperature == 1.0) == fit.warning.is_some(), "{fit:?}");
    assert!(fit.nll[1] <= fit.nll[0], "{fit:?}");
    let (logits, labels) = drawn_by.draw(rng, fresh);
    let before = nll(&logits, drawn_by.classes, &labels);
    let after = nll(&scaled(&logits, fit.temperature), drawn_by.classes, &labels);
    (after / before - 1.0, fit.temperature)
}

/// 200 sets of 20 to 3,000 images, calibrated or not, with and without wrong labels.
#[test]
fn held_out_nll_never_rises_by_more_than_one_per_cent() {
    let mut fitted = 0;
    for set in 0..200 {
        let mut rng = Philox::new(set, Stream::TEST, 31);
        let unit = |rng: &mut Philox| f64::from(rng.uniform());
        let sure = set % 2 == 0;
        let drawn_by = Labelling {
            classes: [2, 3, 10][set as usize / 2 % 3],
            scale: if sure { 4.0 + 10.0 * unit(&mut rng) } else { 0.5 + 4.0 * unit(&mut rng) } as f32,
            sure,
            temperature: if set % 3 == 0 { 1.0 } else { (2.4 * unit(&mut rng) - 1.2).exp() },
            noise: [0.0, 0.01, 0.03][rng.below(3) as usize],
        };
        let n = (20.0 * 150f64.powf(unit(&mut rng))) as usize;
        let (rise, t) = rise(drawn_by, &mut rng, n, 3000);
        assert!(
            rise <= 0.01,
            "set {set}: {drawn_by:?}, {n} images, T = {t}: the NLL rises by {:.2} %",
            100.0 * rise
        );
        fitted += usize::from(t != 1.0);
    }
    assert!(fitted > 80, "a temperature was fitted to {fitted} sets only");
}

#[test]
fn a_perfectly_separated_set_proves_no_certainty() {
    for n in [2, 20, 40, 200, 10_000] {
        // Confident enough that all labels are the predicted ones, but not certain.
        let logits: Vec<f32> = (0..n).flat_map(|i| [3.0 + (i % 5) as f32, 0.0, 1.0]).collect();
        let fit = TemperatureFit::new(&logits, 3, &vec![0; n]).unwrap();
        let p = |t: f64| {
            let mut p = [0.0; 3];
            softmax(&scaled(&[3.0, 0.0, 1.0], t), &mut p);
            p[0]
        };
        assert!(fit.max_likelihood < 1e-2, "{fit:?}");
        // At least one image in n + 2 may be wrong: no confidence beyond what n images can show.
        assert!(fit.temperature <= 1.0 && 1.0 - p(fit.temperature) > 0.1 / (n + 2) as f64, "{fit:?}");
        assert!((n > 2) || fit.warning.as_ref().unwrap().contains("2 images are too few"), "{fit:?}");
    }
}

/// One wrong image of many that are right, and sure: the error must not be made twice as bad.
#[test]
fn one_error_keeps_probabilities_below_one() {
    for n in [40, 200, 1000] {
        let logits: Vec<f32> = (0..n).flat_map(|i| [4.0 + (i % 7) as f32, 0.0]).collect();
        let mut labels = vec![0; n];
        labels[n / 2] = 1;
        let fit = TemperatureFit::new(&logits, 2, &labels).unwrap();
        let after = nll(&scaled(&logits, fit.temperature), 2, &labels);
        assert!(after <= nll(&logits, 2, &labels), "{fit:?}");
        assert!(fit.temperature > 0.5, "{fit:?}");
    }
}

#[test]
fn all_wrong_makes_less_sure() {
    for n in [20, 200, 10_000] {
        let logits: Vec<f32> = (0..n).flat_map(|i| [3.0 + (i % 5) as f32, 0.0, 1.0]).collect();
        let labels: Vec<u16> = (0..n).map(|i| 1 + (i % 2) as u16).collect();
        let fit = TemperatureFit::new(&logits, 3, &labels).unwrap();
        assert!(fit.temperature > 2.0 && fit.temperature.is_finite(), "{fit:?}");
        let after = nll(&scaled(&logits, fit.temperature), 3, &labels);
        assert!(after < nll(&logits, 3, &labels), "{fit:?}");
    }
}

#[test]
fn many_images_find_the_temperature() {
    let drawn_by = Labelling { classes: 4, scale: 6.0, sure: false, temperature: 3.0, noise: 0.0 };
    let (logits, labels) = drawn_by.draw(&mut Philox::new(8, Stream::TEST, 32), 10_000);
    let fit = TemperatureFit::new(&logits, 4, &labels).unwrap();
    assert!((fit.max_likelihood - 3.0).abs() < 0.15 && (fit.temperature - 3.0).abs() < 0.25, "{fit:?}");
    assert!(fit.temperature < fit.max_likelihood && fit.warning.is_none() && fit.n == 10_000);
    assert!(fit.nll[1] < 0.9 * fit.nll[0], "{fit:?}");
    assert!(fit.line().contains("held-out NLL"), "{}", fit.line());
    // Calibrated logits are left alone.
    let drawn_by = Labelling { temperature: 1.0, ..drawn_by };
    let (logits, labels) = drawn_by.draw(&mut Philox::new(9, Stream::TEST, 32), 10_000);
    let fit = TemperatureFit::new(&logits, 4, &labels).unwrap();
    assert!((fit.temperature - 1.0).abs() < 0.03, "{fit:?}");
}

#[test]
fn odd_input() {
    assert!(TemperatureFit::new(&[f32::NAN, 0.0], 2, &[1]).is_err());
    let flat = TemperatureFit::new(&[0.5; 60], 2, &[0; 30]).unwrap();
    assert_eq!((flat.temperature, flat.max_likelihood), (1.0, 1.0));
    let huge: Vec<f32> = (0..40).flat_map(|_| [3e38, -3e38]).collect();
    let fit = TemperatureFit::new(&huge, 2, &[0; 40]).unwrap();
    assert!(fit.temperature.is_finite() && fit.temperature > 0.0, "{fit:?}");
}
