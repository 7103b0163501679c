use super::*;
use crate::cpu::Level;

#[test]
fn the_slope_at_zero_is_the_leak_in_both_gradients() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let cpu = Cpu::new(1, level);
        let shape = Grouped { groups: vec![1], pixels: 2, c: 2 };
        // z is 0 for the first pixel and ±1 for the second.
        let (x, dy) = ([3.0f32, 3.0, 4.0, 2.0], [4.0f32; 4]);
        let (mean, scale, shift) = ([3.0f32; 2], [1.0f32; 2], [0.0f32; 2]);
        let args =
            GradArgs { x: &x, dy: &dy, mean: &mean, scale: &scale, shift: &shift, stats: None, add: None };
        let mut dx = [0.0; 4];
        grad_cpu(&cpu, &shape, 0.25, &args, &mut dx);
        assert_eq!(dx, [1.0, 1.0, 4.0, 1.0]);
        let reduce = Reduce::new(shape, 0.25);
        let (mut dscale, mut dshift, mut ws) = ([0.0; 2], [0.0; 2], vec![0.0; reduce.workspace()]);
        reduce.run(&cpu, &x, &dy, (&mean, &scale, &shift), &mut dscale, &mut dshift, &mut ws);
        assert_eq!((dscale, dshift), ([4.0, -1.0], [5.0, 2.0]));
    }
}
