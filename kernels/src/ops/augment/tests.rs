use super::*;
use crate::cpu::simd::{Level, Simd};

const PLACE: RandomSequence = RandomSequence { key: [5, 0], stream: 999, step: 4 };

fn images(n: usize, pixels: usize) -> Vec<u8> {
    (0..n * pixels).map(|i| (i * 7 % 251) as u8).collect()
}

fn run(args: Args, size: [usize; 3], index: &[i32]) -> Vec<f32> {
    let pixels: usize = size.iter().product();
    let mut out = vec![0.0; index.len() * pixels];
    cpu(&Cpu::new(2, Level::Avx512), args, size, &images(200, pixels), index, PLACE, &mut out);
    out
}

#[test]
fn values_span_the_box() {
    assert_eq!((value(0), value(255)), (-1.0, 1.0));
    for u in 0..=255u8 {
        let exact = (f64::from(u) - 127.5) / 127.5;
        assert!((f64::from(value(u)) - exact).abs() < 1.3e-7, "{u}");
    }
}

#[test]
fn reflection_does_not_repeat_the_edge() {
    let got: Vec<usize> = (-3..7).map(|i| reflect(i, 4)).collect();
    assert_eq!(got, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
}

/// Against `numpy.pad(mode="reflect")` written out: every window of a 3×3 image with a border of 1.
#[test]
fn crops_are_windows_of_the_reflected_image() {
    let image: Vec<u8> = (0..9).collect();
    let padded = [[4u8, 3, 4, 5, 4], [1, 0, 1, 2, 1], [4, 3, 4, 5, 4], [7, 6, 7, 8, 7], [4, 3, 4, 5, 4]];
    for (dy, dx) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
        for mirror in [false, true] {
            let mut out = [0.0; 9];
            crop(&image, [3, 3, 1], [dy as isize - 1, dx as isize - 1], mirror, &mut out);
            for (y, x) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
                let from = if mirror { 2 - x } else { x };
                assert_eq!(out[y * 3 + x], value(padded[y + dy][from + dx]), "{dy} {dx} {y} {x}");
            }
        }
    }
}

#[test]
fn nothing_switched_on_is_plain() {
    let size = [4, 6, 3];
    let all = images(200, 72);
    let plain: Vec<f32> =
        [4, 0, 2].iter().flat_map(|i| &all[i * 72..(i + 1) * 72]).map(|u| value(*u)).collect();
    assert_eq!(run(Args::default(), size, &[4, 0, 2]), plain);
    assert!(run(Args::default(), size, &[200, -1]).iter().all(|v| v.is_nan()));
}

#[test]
fn depends_on_position_not_on_neighbours() {
    let a = Args { pad: 2, flip: true, sigma: 0.1 };
    let x = run(a, [8, 8, 1], &[3, 1, 7]);
    let y = run(a, [8, 8, 1], &[0, 1, 2, 8]);
    assert_eq!(x[64..128], y[64..128]);
    let z = run(a, [8, 8, 1], &[3, 3]);
    assert_ne!(z[..64], z[64..]);
}

#[test]
fn noise_is_added_to_the_same_crop_and_has_its_size() {
    let all: Vec<i32> = (0..200).collect();
    let first = |sigma| run(Args { pad: 1, flip: true, sigma }, [8, 8, 1], &[7]);
    let difference: Vec<f32> = first(0.5).iter().zip(first(0.0)).map(|(a, b)| a - b).collect();
    assert!(difference.iter().all(|d| d.abs() < 3.0 && *d != 0.0));
    let plain = run(Args::default(), [8, 8, 1], &all);
    let noisy = run(Args { sigma: 0.5, ..Args::default() }, [8, 8, 1], &all);
    let square: f64 = noisy.iter().zip(&plain).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    assert!((square / plain.len() as f64 - 0.25).abs() < 0.01);
}

#[test]
fn moments_are_those_of_a_normal_at_every_level() {
    let draw = |level| {
        let mut x = vec![0.0f32; 200_001];
        add_normals(Simd::detect(level), PLACE, 0, 2.0, &mut x);
        x
    };
    let x = draw(Level::Portable);
    assert!(x == draw(Level::Avx2) && x == draw(Level::Avx512));
    let n = x.len() as f64;
    let moment = |k| x.iter().map(|v| (f64::from(*v) / 2.0).powi(k)).sum::<f64>() / n;
    assert!(moment(1).abs() < 8e-3 && (moment(2) - 1.0).abs() < 1e-2);
    assert!(moment(3).abs() < 3e-2 && (moment(4) - 3.0).abs() < 8e-2);
    let lag = x.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1])).sum::<f64>() / n / 4.0;
    assert!(lag.abs() < 1e-2);
}
