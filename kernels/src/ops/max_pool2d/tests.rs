use super::*;
use crate::cpu::Level;

#[test]
fn a_nan_wins_and_of_equals_the_first() {
    let v = Windows { n: 1, h: 1, w: 4, c: 1, size: 3, stride: 1, pad: 1 };
    let cpu1 = Cpu::new(1, Level::Portable);
    let (mut y, mut dx) = ([0.0f32; 4], [0.0f32; 4]);
    cpu(&cpu1, &v, &[f32::NAN, 1.0, 2.0, 2.0], &mut y);
    assert!(y[0].is_nan() && y[1].is_nan() && y[2..] == [2.0, 2.0], "{y:?}");
    grad_cpu(&cpu1, &v, &[f32::NAN, 1.0, 2.0, 2.0], &[1.0, 2.0, 4.0, 8.0], &mut dx);
    assert_eq!(dx, [3.0, 0.0, 12.0, 0.0]);
}
