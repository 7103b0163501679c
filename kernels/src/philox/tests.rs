use super::*;

/// The known-answer vectors published with the reference implementation (Random123, `kat_vectors`).
#[test]
fn known_answers() {
    let cases = [
        ([0u32; 4], [0u32; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (c, k, want) in cases {
        assert_eq!(philox4x32_10(c, k), want);
        let [low, high, step, stream] = c;
        let first = Counter { element: u64::from(high) << 32 | u64::from(low), step, stream };
        let all = words(first, k);
        assert_eq!(all[..2].as_flattened(), want);
        let next = Counter { element: first.element.wrapping_add(1), ..first };
        assert_eq!(all[2..4].as_flattened(), philox4x32_10(next.words(), k));
    }
}

#[test]
fn elementary_functions_are_accurate() {
    for i in 0..100_000u32 {
        let w = i.wrapping_mul(42_949) ^ (i << 13);
        let u = uniform(w);
        assert!(u > 0.0 && u < 1.0);
        let exact = f64::from(u).ln();
        assert!((f64::from(ln(u)) - exact).abs() <= 3e-7 * exact.abs().max(1e-2), "ln({u})");
        let (s, c) = sin_cos_turns(u);
        let (es, ec) = (f64::from(u) * core::f64::consts::TAU).sin_cos();
        assert!((f64::from(s) - es).abs() < 4e-7 && (f64::from(c) - ec).abs() < 4e-7, "sincos({u})");
    }
    assert!(uniform(u32::MAX) < 1.0 && uniform(0) > 0.0);
    assert!(ln(uniform(u32::MAX)) < 0.0 && ln(uniform(0)).is_finite());
}

#[test]
fn normals_have_the_moments_of_a_normal() {
    let (mut m, mut v, mut k) = (0.0f64, 0.0f64, 0.0f64);
    let n = 400_000u64;
    for e in 0..n / 4 {
        let w = philox4x32_10(Counter { element: e, step: 3, stream: 7 }.words(), key(11));
        let (a, b) = normal_pair(w[0], w[1]);
        let (c, d) = normal_pair(w[2], w[3]);
        for x in [a, b, c, d].map(f64::from) {
            m += x;
            v += x * x;
            k += x * x * x * x;
        }
    }
    let n = n as f64;
    assert!((m / n).abs() < 5e-3 && (v / n - 1.0).abs() < 1e-2 && (k / n - 3.0).abs() < 8e-2);
}
