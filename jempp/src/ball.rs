//! ε-balls around an image and steps in them, for adversarial perturbations, as in foolbox 3.
//!
//! Invariant: a projected image lies in the ball and in the box [−1, 1] exactly, not just up to rounding: distances
//! computed in float64 from the stored float32 values are at most ε. Lengths are in units of the model's inputs,
//! [−1, 1], which are twice those of pixels in [0, 1].

use engine::rng::Philox;
use serde::{Deserialize, Serialize};

/// The norm that bounds a perturbation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// L∞: the largest absolute change of a value.
    Linf,
    /// L2: the root of the sum of squared changes over all values.
    L2,
}

impl Norm {
    /// Its name in configurations and reports: `linf` or `l2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linf => "linf",
            Self::L2 => "l2",
        }
    }

    /// The distance between two images of the same length, computed in float64.
    pub fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let differences = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        match self {
            Self::Linf => differences.fold(0.0, f64::max),
            Self::L2 => differences.map(|d| d * d).sum::<f64>().sqrt(),
        }
    }

    /// A uniform sample from the ball of radius `epsilon` around `x0`, clipped to the box [−1, 1].
    pub fn random(self, x0: &[f32], epsilon: f64, rng: &mut Philox) -> Vec<f32> {
        let mut x: Vec<f32> = match self {
            Self::Linf => {
                let e = epsilon as f32;
                x0.iter().map(|v| v + e * (2.0 * rng.uniform() - 1.0)).collect()
            }
            Self::L2 => {
                let direction: Vec<f64> = x0.iter().map(|_| f64::from(rng.normal())).collect();
                let norm = direction.iter().map(|v| v * v).sum::<f64>().sqrt().max(TINY);
                let radius = epsilon * f64::from(rng.uniform()).powf(1.0 / x0.len() as f64);
                x0.iter().zip(direction).map(|(v, d)| (f64::from(*v) + d * radius / norm) as f32).collect()
            }
        };
        self.project(&mut x, x0, epsilon);
        x
    }

    /// Takes a step of this length along the gradient: along its sign (L∞) or its direction (L2). A zero gradient gives
    /// no step.
    pub fn step(self, x: &mut [f32], gradient: &[f32], length: f64) {
        match self {
            Self::Linf => {
                let e = length as f32;
                for (x, g) in x.iter_mut().zip(gradient) {
                    *x += if *g > 0.0 {
                        e
                    } else if *g < 0.0 {
                        -e
                    } else {
                        0.0
                    };
                }
            }
            Self::L2 => {
                let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt().max(TINY);
                for (x, g) in x.iter_mut().zip(gradient) {
                    *x = (f64::from(*x) + length / norm * f64::from(*g)) as f32;
                }
            }
        }
    }

    /// Projects `x` to the ball of radius `epsilon` around `x0`, which must lie in the box [−1, 1], and then to the
    /// box.
    pub fn project(self, x: &mut [f32], x0: &[f32], epsilon: f64) {
        match self {
            Self::Linf => {
                for (x, c) in x.iter_mut().zip(x0) {
                    *x = x.clamp(edge(*c, -epsilon), edge(*c, epsilon));
                }
            }
            Self::L2 => {
                let (start, far) = (x.to_vec(), self.distance(x, x0));
                // Rounding to float32 may leave the ball by a few ulps; then the target radius is reduced by as much.
                for k in 0..20 {
                    if self.distance(x, x0) <= epsilon {
                        break;
                    }
                    let factor = epsilon * (1.0 - 1e-7 * f64::from(k)) / far;
                    for ((x, s), c) in x.iter_mut().zip(&start).zip(x0) {
                        *x = (f64::from(*c) + factor * (f64::from(*s) - f64::from(*c))) as f32;
                    }
                }
                if self.distance(x, x0) > epsilon {
                    x.copy_from_slice(x0);
                }
            }
        }
        x.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
    }
}

/// Lower bound on norms that are divided by, as in foolbox.
const TINY: f64 = 1e-12;

/// The float32 farthest from `c` in the direction of `by` whose distance is at most |`by`|.
fn edge(c: f32, by: f64) -> f32 {
    let exact = f64::from(c) + by;
    let mut near = exact as f32;
    // The sum may already have been rounded, so the distance is checked.
    while (f64::from(near) - f64::from(c)).abs() > by.abs() {
        near = if by > 0.0 { near.next_down() } else { near.next_up() };
    }
    near
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::rng::Stream;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn perturbations_never_leave_ball_or_box(
            seed in 0u64..1_000_000, epsilon in 1e-7f64..3.0, length in 1e-7f64..3.0, len in 1usize..60,
            l2 in proptest::bool::ANY,
        ) {
            let norm = if l2 { Norm::L2 } else { Norm::Linf };
            let mut rng = Philox::new(seed, Stream::TEST, 0);
            // Some values lie on the faces of the box.
            let x0: Vec<f32> = (0..len).map(|_| (3.0 * rng.uniform() - 1.5).clamp(-1.0, 1.0)).collect();
            let within = |x: &[f32]| {
                norm.distance(x, &x0) <= epsilon && x.iter().all(|v| (-1.0..=1.0).contains(v))
            };
            let mut x = norm.random(&x0, epsilon, &mut rng);
            prop_assert!(within(&x));
            for k in 0..4 {
                let g: Vec<f32> = (0..len).map(|_| if k == 2 { 0.0 } else { rng.normal() }).collect();
                norm.step(&mut x, &g, length);
                norm.project(&mut x, &x0, epsilon);
                prop_assert!(within(&x), "{} of {epsilon}", norm.distance(&x, &x0));
            }
        }
    }

    #[test]
    fn steps_by_hand() {
        let x0 = [0.0f32, 0.5, 0.99];
        let mut x = x0;
        Norm::Linf.step(&mut x, &[3.0, -1e-9, 2.0], 0.1);
        Norm::Linf.project(&mut x, &x0, 0.05);
        assert!(x.iter().zip([0.05, 0.45, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{x:?}");
        let mut x = [0.0f32, 0.0];
        Norm::L2.step(&mut x, &[3.0, 4.0], 0.5);
        assert!((x[0] - 0.3).abs() < 1e-7 && (x[1] - 0.4).abs() < 1e-7);
        Norm::L2.project(&mut x, &[0.0, 0.0], 0.25);
        assert!((x[0] - 0.15).abs() < 1e-7 && (x[1] - 0.2).abs() < 1e-7);
        // A point inside the ball does not move.
        let mut y = x;
        Norm::L2.project(&mut y, &[0.0, 0.0], 0.25);
        assert_eq!(x, y);
    }

    /// In d dimensions a fraction 2^-d of a ball's volume lies within half its radius.
    #[test]
    fn starts_fill_the_ball() {
        let mut rng = Philox::new(1, Stream::TEST, 3);
        let x0 = [0.0f32; 3];
        for norm in [Norm::Linf, Norm::L2] {
            let near =
                (0..4000).filter(|_| norm.distance(&norm.random(&x0, 0.5, &mut rng), &x0) < 0.25).count();
            assert!((near as f64 / 4000.0 - 0.125).abs() < 0.02, "{norm:?} {near}");
        }
    }
}
