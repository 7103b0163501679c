use super::*;
use crate::cpu::Level;

const PLACE: RandomSequence = RandomSequence { key: [3, 4], stream: 10, step: 7 };

fn ones(sequence: RandomSequence, layer: u32, rate: f64, n: usize) -> Vec<f64> {
    let (x, mut y) = (vec![1.0; n], vec![f64::NAN; n]);
    cpu(&Cpu::new(2, Level::Avx512), sequence, layer, rate, Some(&x), &mut y);
    y
}

/// The fraction that is dropped is within 4 standard deviations of the rate; the rest is scaled, so that the mean
/// stays.
#[test]
fn shares_and_scale_are_those_of_the_rate() {
    let n = 100_000;
    for rate in [0.1, 0.3, 0.5, 0.9] {
        let y = ones(PLACE, 0, rate, n);
        let kept = y.iter().filter(|v| **v != 0.0).count() as f64 / n as f64;
        let deviation = (rate * (1.0 - rate) / n as f64).sqrt();
        assert!((kept - (1.0 - rate)).abs() < 4.0 * deviation, "rate {rate}: {kept} kept");
        assert!(y.iter().all(|v| *v == 0.0 || *v == 1.0 / (1.0 - rate)), "rate {rate}");
    }
    assert!(ones(PLACE, 0, 0.0, n).iter().all(|v| *v == 1.0));
}

/// Two masks of rate ½ agree by chance in half of the elements; a shared or shifted sequence would show.
#[test]
fn layers_steps_streams_and_seeds_have_masks_of_their_own() {
    let n = 20_000;
    let of = |sequence, layer| ones(sequence, layer, 0.5, n);
    let base = of(PLACE, 1);
    assert_eq!(base, of(PLACE, 1));
    let others = [
        of(PLACE, 0),
        of(PLACE, 2),
        of(RandomSequence { step: 8, ..PLACE }, 1),
        of(RandomSequence { stream: 13, ..PLACE }, 1),
        of(RandomSequence { key: [3, 5], ..PLACE }, 1),
    ];
    for (i, other) in others.iter().enumerate() {
        let same = base.iter().zip(other).filter(|(a, b)| a == b).count() as f64 / n as f64;
        assert!((same - 0.5).abs() < 0.02, "mask {i} agrees in {same}");
    }
}

#[test]
fn in_place_and_by_parts_it_is_the_same() {
    let x: Vec<f32> = (0..3 * GRAIN + 7).map(|i| i as f32 + 1.0).collect();
    let cpu_of = |threads, level| Cpu::new(threads, level);
    let mut want = vec![0.0; x.len()];
    cpu(&cpu_of(1, Level::Portable), PLACE, 5, 0.4, Some(&x), &mut want);
    let mut got = x.clone();
    cpu(&cpu_of(3, Level::Avx512), PLACE, 5, 0.4, None, &mut got);
    assert_eq!(got, want);
}
