use super::*;
use crate::cpu::Level;

#[test]
fn the_slope_at_zero_is_the_leak() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let (x, mut dx) = ([0.0f32, -0.0, 1e-30, -1e-30], [0.0; 4]);
        grad_cpu(&Cpu::new(1, level), 0.25, &x, &[4.0; 4], &mut dx);
        assert_eq!(dx, [1.0, 1.0, 4.0, 1.0]);
    }
}
