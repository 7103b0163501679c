use super::*;
use crate::cpu::Cpu;

#[derive(Clone, Copy)]
struct Product<'a, T>(&'a [T], &'a [T], &'a [T]);

// SAFETY: lanes are read at i and j, as in `one`.
unsafe impl<T: Real> Term<T, 2> for Product<'_, T> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn one(&self, i: usize, j: usize) -> [T; 2] {
        [self.0[i] * self.1[i], self.0[i] * self.2[j]]
    }
    fn tensors(&self) -> [Option<*const T>; 2] {
        [Some(self.0.as_ptr()), Some(self.1.as_ptr())]
    }
    unsafe fn add<V: Arithmetic>(&self, i: usize, j: usize, [a, b]: [V; 2]) -> [V; 2] {
        // SAFETY: as the caller guarantees.
        unsafe {
            let x = V::load(self.0.as_ptr().add(i).cast());
            let (y, k) = (V::load(self.1.as_ptr().add(i).cast()), V::load(self.2.as_ptr().add(j).cast()));
            [a.fma(x, y), b.fma(x, k)]
        }
    }
}

#[test]
fn sums_are_those_of_the_definition_for_every_number_of_channels_and_rows() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        let simd = Cpu::new(1, level).simd;
        for c in [1, 3, 5, 10, 16, 24, 48, 80, 100, 127, 128, 160, 170, 192, 640] {
            let n = span(c);
            for rows in [0, 1, n / c, n / c + 1, 5 * (n / c) + 2] {
                let x: Vec<f64> = (0..rows * c).map(|i| (i * 37 % 101) as f64 / 50.0 - 1.0).collect();
                let y: Vec<f64> = (0..rows * c).map(|i| (i * 53 % 89) as f64 / 44.0 - 0.9).collect();
                let k: Vec<f64> = (0..n).map(|j| (j % c) as f64 / c as f64 + 0.5).collect();
                let mut want = vec![0.0; 2 * c];
                for i in 0..rows * c {
                    want[i % c] += x[i] * y[i];
                    want[c + i % c] += x[i] * k[i % c];
                }
                let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
                let (x32, y32, k32) = (narrow(&x), narrow(&y), narrow(&k));
                for prefetch in [false, true] {
                    let (mut got, mut got32) = (vec![f64::NAN; 2 * n], vec![f32::NAN; 2 * n]);
                    sums(simd, &Product(&x, &y, &k), c, prefetch, &mut got);
                    sums(simd, &Product(&x32, &y32, &k32), c, prefetch, &mut got32);
                    for (j, want) in want.iter().enumerate() {
                        let at = j / c * n + j % c;
                        let context = format!("{level:?}, {rows} rows of {c}, sum {j}");
                        assert!(
                            (got[at] - want).abs() < 1e-12 * (1.0 + rows as f64),
                            "{context}: {} {want}",
                            got[at]
                        );
                        let d = (f64::from(got32[at]) - want).abs();
                        assert!(d < 1e-6 * (1.0 + rows as f64), "{context}: {} {want}", got32[at]);
                    }
                }
            }
        }
    }
}
