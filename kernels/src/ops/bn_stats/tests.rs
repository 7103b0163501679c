use super::*;
use crate::cpu::Level;

/// Mean and variance of each channel by `Stats`, and in float64 in two passes.
fn both(level: Level, c: usize, x: &[f32]) -> [Vec<(f64, f64)>; 2] {
    let rows = x.len() / c;
    let stats = Stats::new(Grouped { groups: vec![rows], pixels: 1, c });
    let (mut mean, mut var, mut ws) = (vec![0.0f32; c], vec![0.0f32; c], vec![f32::NAN; stats.workspace()]);
    stats.run(&Cpu::new(1, level), x, &mut mean, &mut var, &mut ws);
    let got = mean.iter().zip(&var).map(|(&m, &v)| (m.into(), v.into())).collect();
    let want = (0..c).map(|j| {
        let column = || x[j..].iter().step_by(c).map(|&v| f64::from(v));
        let mean = column().sum::<f64>() / rows as f64;
        (mean, column().map(|v| (v - mean) * (v - mean)).sum::<f64>() / rows as f64)
    });
    [got, want.collect()]
}

#[test]
fn first_rows_that_tell_nothing_of_the_others_cost_no_digits() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        for (c, rows) in [(3, 500), (16, 1000), (160, 300), (640, 60)] {
            // Around 1000, but for the first rows of the first chunk.
            let x: Vec<f32> = (0..rows * c)
                .map(|i| if i < FIRST * c { -3e4 } else { 1000.0 + (i * 7919 % 1009) as f32 / 1009.0 })
                .collect();
            // In the second chunk, where there is one, they are like the others.
            let [got, want] = both(level, c, &x);
            for ((mean, var), (mean2, var2)) in got.iter().zip(&want) {
                assert!(
                    (mean - mean2).abs() < 1e-6 * (mean2.abs() + var2.sqrt()),
                    "{level:?} {c}: mean {mean} {mean2}"
                );
                assert!((var - var2).abs() < 1e-5 * var2, "{level:?} {c}: variance {var} {var2}");
            }
            // The same without the many: all that deviates is a few rows, far from the first.
            let x: Vec<f32> = (0..rows * c)
                .map(|i| if i < FIRST * c { 5.0 } else { 2000.0 + (i / c % 5) as f32 / 4.0 })
                .skip(FIRST * c - c)
                .collect();
            let [got, want] = both(level, c, &x);
            assert!(got.iter().zip(&want).all(|(a, b)| (a.1 - b.1).abs() < 1e-5 * b.1), "{level:?} {c}");
        }
    }
}

#[test]
fn what_is_constant_has_no_variance_and_its_own_mean_and_nan_stays_in_its_channel() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        for c in [1, 16, 48, 160] {
            let mut x = vec![0.1f32; 700 * c];
            let [got, _] = both(level, c, &x);
            assert!(got.iter().all(|&(m, v)| m == f64::from(0.1f32) && v == 0.0), "{level:?} {c}: {got:?}");
            x[333 * c] = f32::NAN;
            let [got, _] = both(level, c, &x);
            assert!(got[0].0.is_nan() && got[0].1.is_nan(), "{level:?} {c}: {:?}", got[0]);
            assert!(got[1..].iter().all(|&(m, v)| m == f64::from(0.1f32) && v == 0.0));
        }
    }
}
