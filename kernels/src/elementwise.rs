//! a·x + b·y and x·y, elementwise.

use crate::cpu::{Cpu, GRAIN, Real, for_parts, simd::multiversion};

multiversion! {
    fn axpby_body<T: Real>(a: T, x: &[T], b: T, y: &[T], out: &mut [T]) {
        for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *o = a * x + b * y;
        }
    }
}

multiversion! {
    fn axpby_place<T: Real>(a: T, b: T, y: &[T], out: &mut [T]) {
        for (o, &y) in out.iter_mut().zip(y) {
            *o = a * *o + b * y;
        }
    }
}

multiversion! {
    fn mul_body<T: Real>(x: &[T], y: &[T], out: &mut [T]) {
        for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *o = x * y;
        }
    }
}

/// out = a·x + b·y; `x` = `None` means that `out` holds x.
pub fn axpby<T: Real>(cpu: &Cpu, a: f64, x: Option<&[T]>, b: f64, y: &[T], out: &mut [T]) {
    let (a, b) = (T::of(a), T::of(b));
    for_parts(cpu, out, GRAIN, |t, out| {
        let at = t * GRAIN;
        match x {
            Some(x) => axpby_body(cpu.simd, a, &x[at..], b, &y[at..], out),
            None => axpby_place(cpu.simd, a, b, &y[at..], out),
        }
    });
}

/// out = x·y.
pub fn mul<T: Real>(cpu: &Cpu, x: &[T], y: &[T], out: &mut [T]) {
    for_parts(cpu, out, GRAIN, |t, out| {
        let at = t * GRAIN;
        mul_body(cpu.simd, &x[at..], &y[at..], out);
    });
}
