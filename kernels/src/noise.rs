//! Philox uniforms and normals, by element.

use crate::cpu::{Cpu, GRAIN, Real, for_parts, simd::multiversion};
use crate::philox::{Counter, normal_pair, philox4x32_10, uniform};

/// Which law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Uniform on (0, 1).
    Uniform,
    /// Standard normal.
    Normal,
}

/// The words of the seed and where in its sequence to draw.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Philox key.
    pub key: [u32; 2],
    /// Which use of randomness.
    pub stream: u32,
    /// Which repetition.
    pub step: u32,
}

/// Four values: elements 4·`group` … 4·`group` + 3.
#[inline(always)]
pub(crate) fn quad(place: Place, law: Law, group: u64) -> [f32; 4] {
    let c = Counter { element: group, step: place.step, stream: place.stream };
    let w = philox4x32_10(c.words(), place.key);
    match law {
        Law::Uniform => w.map(uniform),
        Law::Normal => {
            let ((a, b), (c, d)) = (normal_pair(w[0], w[1]), normal_pair(w[2], w[3]));
            [a, b, c, d]
        }
    }
}

multiversion! {
    fn fill<T: Real>(place: Place, law: Law, first: u64, out: &mut [T]) {
        for (i, out) in out.chunks_mut(4).enumerate() {
            for (o, v) in out.iter_mut().zip(quad(place, law, first + i as u64)) {
                *o = T::of(f64::from(v));
            }
        }
    }
}

/// `out[i]` = the i-th value of the place; drawn in float32 whatever T.
pub fn cpu<T: Real>(cpu: &Cpu, place: Place, law: Law, out: &mut [T]) {
    for_parts(cpu, out, GRAIN, |t, out| fill(cpu.simd, place, law, (t * GRAIN / 4) as u64, out));
}
