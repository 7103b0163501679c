//! Signs that a model's gradient misleads attacks (Athalye et al., ICML 2018; Carlini et al., 2019).

use super::{Norm, Point};
use crate::Estimate;

/// Share of all images that noise or transfer may break beside the white box before it is a sign.
const MISSED: f64 = 0.01;
/// The radius within which any image can be made any other's grey, so that nothing should stand.
const ALL: f64 = 0.5;

/// Compares attacks that know the gradient with those that do not.
pub(super) fn masking(norm: Norm, n: usize, points: &[Point], clean: &Estimate) -> Vec<String> {
    let mut signs = Vec::new();
    for p in points {
        let at = format!("at ε = {:.4}", p.epsilon);
        let percent = |v: f64| format!("{:.1} %", 100.0 * v);
        for (other, name) in [(Some(p.noise), "noise"), (p.transfer, "transferred adversaries")] {
            if let Some(other) = other.filter(|o| o.value < p.white_box.value) {
                signs.push(format!(
                    "{at} {name} leave {} right, the white box leaves {}: a weaker attack does more",
                    percent(other.value),
                    percent(p.white_box.value)
                ));
            }
        }
        if p.missed as f64 > MISSED * n as f64 {
            let missed = p.missed;
            signs.push(format!("{at} noise or transfer break {missed} images that the white box leaves"));
        }
        if norm == Norm::Linf && p.epsilon >= ALL && p.white_box.value > 0.1 * clean.value {
            signs.push(format!(
                "{at} any image can become grey, and {} are still right",
                percent(p.white_box.value)
            ));
        }
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weaker_attacks_that_do_more_are_signs() {
        let e = |v| Estimate { value: v, low: v, high: v };
        let point = |epsilon, white, noise, transfer, missed| Point {
            epsilon,
            cross_entropy: e(white),
            white_box: e(white),
            noise: e(noise),
            transfer: Some(e(transfer)),
            worst: e(white),
            missed,
        };
        let signs = |p| masking(Norm::Linf, 100, &[p], &e(0.9));
        assert!(signs(point(0.1, 0.4, 0.8, 0.7, 1)).is_empty());
        assert!(signs(point(0.1, 0.4, 0.3, 0.7, 0))[0].contains("noise leave 30.0 %"));
        assert!(signs(point(0.1, 0.4, 0.8, 0.1, 0))[0].contains("transferred adversaries"));
        assert!(signs(point(0.1, 0.4, 0.8, 0.7, 2))[0].contains("break 2 images"));
        assert!(signs(point(0.5, 0.4, 0.8, 0.7, 0))[0].contains("grey"));
        assert!(masking(Norm::L2, 100, &[point(0.5, 0.4, 0.8, 0.7, 0)], &e(0.9)).is_empty());
    }
}
