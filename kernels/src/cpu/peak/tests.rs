use super::*;

#[test]
fn operations_are_counted_and_copies_are_whole() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let cpu = Cpu::new(2, level);
        let lanes = [4, 8, 16][cpu.simd.level() as usize];
        assert_eq!(multiply_add(&cpu, 10), 2 * 12 * lanes * 10 * 8);
        let cpu = cpu.with_products(Products::Bf16);
        let each = if cpu.simd.bf16() { 4 * 24 * 16 } else { 2 * 12 * lanes };
        assert_eq!(multiply_add(&cpu, 10), each * 10 * 8);
    }
    let cpu = Cpu::new(2, Level::Avx512);
    let src: Vec<f32> = (0..3 * GRAIN + 5).map(|i| i as f32).collect();
    let mut dst = vec![-1.0; src.len() + 2];
    copy(&cpu, &src, &mut dst);
    assert_eq!((&dst[..src.len()], &dst[src.len()..]), (&src[..], &[-1.0, -1.0][..]));
}
