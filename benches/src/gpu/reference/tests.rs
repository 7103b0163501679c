use super::*;

#[test]
fn a_filter_of_one_pixel_in_the_middle_copies() {
    let shape = ConvShape { n: 1, h: 3, w: 4, c: 1, k: 1, r: 3, s: 3, stride: 1, pad: 1 };
    let x = uniform(12, 1.0, 5);
    let mut w = [0.0; 9];
    w[4] = 1.0;
    assert!(conv(shape, &x, &w).iter().zip(&x).all(|(y, x)| *y == f64::from(*x)));
    // One place to the left in the filter reads the pixel to the left: no flipping.
    w = [0.0; 9];
    w[3] = 1.0;
    assert_eq!(conv(shape, &x, &w)[1], f64::from(x[0]));
    assert_eq!(conv(shape, &x, &w)[0], 0.0);
}

#[test]
fn the_three_forms_are_one_bilinear_form() {
    let shape = ConvShape { n: 2, h: 5, w: 4, c: 3, k: 2, r: 3, s: 2, stride: 2, pad: 1 };
    let (nx, nw, ny) = (shape.x_len(), shape.w_len(), shape.y_len());
    let (x, w, dy) = (uniform(nx, 1.0, 1), uniform(nw, 1.0, 2), uniform(ny, 1.0, 3));
    let dot = |a: &[f64], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum::<f64>();
    let by_output = dot(&conv(shape, &x, &w), &dy);
    assert!((by_output - dot(&conv_input_grad(shape, &w, &dy), &x)).abs() < 1e-9);
    assert!((by_output - dot(&conv_weight_grad(shape, &x, &dy), &w)).abs() < 1e-9);
}

#[test]
fn the_random_values_fill_their_range() {
    let x = uniform(10_000, 2.0, 9);
    let mean = x.iter().sum::<f32>() / 1e4;
    assert!(x.iter().all(|v| v.abs() <= 2.0) && mean.abs() < 0.05);
    assert!(x.iter().any(|&v| v > 1.9) && x.iter().any(|&v| v < -1.9));
}
