use super::*;

#[test]
fn infinities_and_nan_are_what_mathematics_says() {
    const INF: f32 = f32::INFINITY;
    let rows = [[0.0, INF], [-INF, INF], [-INF, 2.5], [-INF, -INF], [INF, f32::NAN], [f32::NAN, -INF]];
    let mut y = [0.0f32; 6];
    cpu(2, rows.as_flattened(), &mut y);
    assert_eq!(y[..4], [INF, INF, 2.5, -INF]);
    assert!(y[4].is_nan() && y[5].is_nan());
}
