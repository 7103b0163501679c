//! Audit for gradient masking: gradients that mislead white-box attacks (Athalye et al., ICML 2018; Carlini et al., 2019).

use super::curve::RobustnessPoint;
use crate::estimate::Estimate;
use jempp::ball::Norm;

/// Images that noise or transfer attacks break but the white-box attack does not are a sign of masking if they are more
/// than this fraction of all images.
const MISSED: f64 = 0.01;
/// L∞ radius (pixels in [0, 1]) within which every image can be turned into uniform grey, so that none should survive.
const GREY: f64 = 0.5;

/// Compares the white-box attack with attacks that do not use the gradient. Returns one message per sign of masking.
pub(super) fn signs_of_masking(
    norm: Norm,
    n: usize,
    points: &[RobustnessPoint],
    clean: &Estimate,
) -> Vec<String> {
    let mut signs = Vec::new();
    for p in points {
        let at = format!("at ε = {:.4}", p.epsilon);
        let percent = |v: f64| format!("{:.1} %", 100.0 * v);
        for (other, name) in [(Some(p.noise), "noise"), (p.transfer, "the transfer attack")] {
            if let Some(other) = other.filter(|o| o.value < p.white_box.value) {
                signs.push(format!(
                    "{at} {name} leaves {} correct, the white-box attack {}: a weaker attack succeeds more often",
                    percent(other.value),
                    percent(p.white_box.value)
                ));
            }
        }
        if p.missed as f64 > MISSED * n as f64 {
            let missed = p.missed;
            signs.push(format!(
                "{at} noise or the transfer attack breaks {missed} images that survive the white-box attack"
            ));
        }
        if norm == Norm::Linf && p.epsilon >= GREY && p.white_box.value > 0.1 * clean.value {
            signs.push(format!(
                "{at} every image can be turned grey, yet {} are still classified correctly",
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
    fn a_weaker_attack_that_succeeds_more_often_is_a_sign() {
        let e = |v| Estimate { value: v, low: v, high: v };
        let point = |epsilon, white, noise, transfer, missed| RobustnessPoint {
            epsilon,
            cross_entropy: e(white),
            white_box: e(white),
            noise: e(noise),
            transfer: Some(e(transfer)),
            worst: e(white),
            missed,
        };
        let signs = |p| signs_of_masking(Norm::Linf, 100, &[p], &e(0.9));
        assert!(signs(point(0.1, 0.4, 0.8, 0.7, 1)).is_empty());
        assert!(signs(point(0.1, 0.4, 0.3, 0.7, 0))[0].contains("noise leaves 30.0 %"));
        assert!(signs(point(0.1, 0.4, 0.8, 0.1, 0))[0].contains("the transfer attack leaves"));
        assert!(signs(point(0.1, 0.4, 0.8, 0.7, 2))[0].contains("breaks 2 images"));
        assert!(signs(point(0.5, 0.4, 0.8, 0.7, 0))[0].contains("grey"));
        assert!(signs_of_masking(Norm::L2, 100, &[point(0.5, 0.4, 0.8, 0.7, 0)], &e(0.9)).is_empty());
    }
}
