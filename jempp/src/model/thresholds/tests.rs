use super::*;
use engine::rng::{Philox, Stream};

/// Scores of three classes whose labels follow softmax(z / 2).
fn scores(n: usize, seed: u64) -> (Scores, Vec<u16>) {
    let mut rng = Philox::new(seed, Stream::TEST, 5);
    let (mut s, mut labels) = (Scores::default(), Vec::new());
    for _ in 0..n {
        let z: Vec<f32> = (0..3).map(|_| 3.0 * rng.normal()).collect();
        let mut p = [0.0; 3];
        softmax(&scaled(&z, 2.0), &mut p);
        let u = f64::from(rng.uniform());
        labels.push((0..2).take_while(|k| p[..=*k].iter().sum::<f64>() < u).count() as u16);
        s.log_density.push(rng.normal());
        s.logits.extend(z);
    }
    (s, labels)
}

#[test]
fn guarantees_hold_on_fresh_images() {
    let (mut covered, mut low, mut all) = (0, 0, 0);
    // The guarantee is about the mean over fits, so there are many.
    for seed in 0..60 {
        let (s, y) = scores(200, seed);
        let t = Thresholds::fit(&s, (3, &y), [0.1, 0.05], "x").unwrap();
        let (fresh, labels) = scores(400, 1000 + seed);
        for ((row, y), d) in fresh.logits.chunks(3).zip(labels).zip(&fresh.log_density) {
            covered += usize::from(t.prediction_set(row).contains(&usize::from(y)));
            low += usize::from(t.p_value(*d) <= 0.1);
            all += 1;
        }
    }
    let (covered, low) = (covered as f64 / all as f64, low as f64 / all as f64);
    // Exactly 1 − α ≤ coverage ≤ 1 − α + 1/(n + 1) in expectation, n = 100.
    assert!((0.893..=0.917).contains(&covered), "{covered}");
    assert!((0.088..=0.107).contains(&low), "{low}");
}

#[test]
fn decisions_by_hand() {
    let values = ThresholdValues {
        temperature: 2.0,
        probability: 0.3,
        alpha: 0.1,
        ood_alpha: 0.3,
        fitted_on: [1, 1],
        dataset_crc32c: String::new(),
        fit: None,
        coverage: None,
    };
    let t = Thresholds { values, log_density: vec![-1.0, 0.0, 0.0, 2.0] };
    assert_eq!([-2.0, -1.0, 0.0, 9.0].map(|d| t.p_value(d)), [0.2, 0.4, 0.8, 1.0]);
    let d = t.decide(&[4.0, 0.0, 0.0], 0.5);
    let e = 2f64.exp();
    assert!((f64::from(d.probability) - e / (e + 2.0)).abs() < 1e-6 && d.label == 0 && !d.abstain);
    assert!(t.decide(&[4.0, 0.0, 0.0], -2.0).abstain, "no data");
    assert!(t.decide(&[4.0, 3.9, 0.0], 0.5).abstain, "two classes");
    let certain =
        Thresholds { values: ThresholdValues { probability: 0.99, ..t.values.clone() }, ..t.clone() };
    assert!(certain.decide(&[4.0, 0.0, 0.0], 0.5).abstain, "no class is likely enough");
    let mut c = Container::default();
    t.write(&mut c).unwrap();
    assert_eq!(Thresholds::read(&c.meta, &c).unwrap(), Some(t.clone()));
    assert_eq!(Thresholds::read(&BTreeMap::new(), &Container::default()).unwrap(), None);
    for bad in [vec![1.0, 0.0], vec![], vec![f32::NAN]] {
        let mut c = Container::default();
        Thresholds { log_density: bad, ..t.clone() }.write(&mut c).unwrap();
        assert_eq!(Thresholds::read(&c.meta, &c).unwrap_err().exit_code(), 6);
    }
}

#[test]
fn too_few_images_are_refused() {
    let (s, y) = scores(38, 1);
    let e = Thresholds::fit(&s, (3, &y), [0.05, 0.05], "x").unwrap_err().to_string();
    assert!(e.contains("38 validation images") && e.contains("40 are needed"), "{e}");
    assert!(Thresholds::fit(&s, (3, &y), [0.0, 0.05], "x").is_err());
    assert!(Thresholds::fit(&s, (3, &y), [0.2, 0.05], "x").is_ok());
}

#[test]
fn abstention_is_summed_up_by_hand() {
    let values = ThresholdValues {
        temperature: 1.0,
        probability: 0.6,
        alpha: 0.1,
        ood_alpha: 0.3,
        fitted_on: [1, 1],
        dataset_crc32c: String::new(),
        fit: None,
        coverage: None,
    };
    let t = Thresholds { values, log_density: vec![-1.0, 0.0, 0.0, 2.0] };
    // Answered and right; answered and wrong; unsure and wrong; sure, right, but out of distribution.
    let logits = vec![4.0, 0.0, 4.0, 0.0, 0.1, 0.0, 4.0, 0.0];
    let s = Scores { logits, log_density: vec![0.5, 0.5, 0.5, -2.0] };
    let a = t.abstention(&s, (2, &[0, 1, 1, 0])).unwrap();
    assert_eq!((a.n, a.abstained, a.coverage, a.false_alarms), (4, 2, 0.5, 0.25));
    assert_eq!((a.accuracy_answered, a.error_abstained), (Some(0.5), Some(0.5)));
    assert_eq!(a.row(), ["0.1", "0.500", "0.500", "0.500", "0.250"]);
    assert!(t.abstention(&s, (2, &[0])).is_err());
    // Nothing is left out of a set that is answered in full.
    let all = Scores { logits: vec![4.0, 0.0], log_density: vec![0.5] };
    assert_eq!(t.abstention(&all, (2, &[0])).unwrap().error_abstained, None);
}

/// A larger α answers otherwise, and false alarms follow it; α that need more images are left out.
#[test]
fn the_curve_shows_the_price() {
    let ((valid, y), (fresh, labels)) = (scores(400, 1), scores(4000, 2));
    let curve = Abstention::curve((&valid, &y), (&fresh, &labels), 3).unwrap();
    let alphas: Vec<f64> = curve.iter().map(|a| a.alpha).collect();
    assert_eq!(alphas, [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]);
    for a in &curve {
        assert!((a.false_alarms - a.alpha).abs() < 0.05, "{a:?}");
        assert!(a.accuracy_answered.unwrap() > 1.0 - a.error_abstained.unwrap(), "{a:?}");
    }
    assert!(curve[0].accuracy_answered > curve[3].accuracy_answered, "{curve:?}");
    let (few, y) = scores(50, 3);
    assert_eq!(Abstention::curve((&few, &y), (&fresh, &labels), 3).unwrap()[0].alpha, 0.05);
}

#[test]
fn heavy_abstention_and_a_temperature_of_one_are_warnings() {
    // Logits say nothing about the labels.
    let (mut s, _) = scores(100, 5);
    s.logits.iter_mut().for_each(|z| *z *= 0.01);
    let y: Vec<u16> = (0..100).map(|i| i % 3).collect();
    let t = Thresholds::fit(&s, (3, &y), [0.05, 0.05], "x").unwrap();
    assert!(t.values.coverage.unwrap() < 0.3, "{t:?}");
    let warnings = t.values.warnings();
    assert!(warnings.iter().any(|w| w.contains("abstains on") && w.contains("α = 0.05")), "{warnings:?}");
    assert!(warnings.iter().any(|w| w.contains("temperature stays 1")), "{warnings:?}");
}
