use super::*;

/// Channels 1 2 3 and 7 7 7, worked out by hand.
#[test]
fn two_channels_merge_to_their_common_statistics() {
    let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
    cpu(2, &[2.0, 7.0], &[2.0 / 3.0, 0.0], &mut m, &mut v);
    assert_eq!(m, [4.5; 2]);
    // ((3.5² + 2.5² + 1.5²) + 3·2.5²)/6
    let want: f64 = (12.25 + 6.25 + 2.25 + 18.75) / 6.0;
    assert!(v.iter().all(|v: &f64| (v - want).abs() < 1e-15));
}
