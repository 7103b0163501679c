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

/// Groups of four that are drawn side by side.
const GROUPS: usize = 64;

/// Values that [`block`] draws.
pub(crate) const BLOCK: usize = 4 * GROUPS;

/// Elements 4·`first` … 4·`first` + [`BLOCK`] − 1. One loop over groups without branches, so that it becomes vectors in
/// a body of `multiversion!`.
#[inline(always)]
pub(crate) fn block(place: Place, law: Law, first: u64) -> [f32; BLOCK] {
    let mut lanes = [[0.0f32; GROUPS]; 4];
    let [a, b, c, d] = &mut lanes;
    for l in 0..GROUPS {
        let at = Counter { element: first + l as u64, step: place.step, stream: place.stream };
        let w = philox4x32_10(at.words(), place.key);
        (a[l], b[l], c[l], d[l]) = match law {
            Law::Uniform => (uniform(w[0]), uniform(w[1]), uniform(w[2]), uniform(w[3])),
            Law::Normal => {
                let ((a, b), (c, d)) = (normal_pair(w[0], w[1]), normal_pair(w[2], w[3]));
                (a, b, c, d)
            }
        };
    }
    let mut out = [0.0; BLOCK];
    for (l, out) in out.chunks_exact_mut(4).enumerate() {
        out.copy_from_slice(&[lanes[0][l], lanes[1][l], lanes[2][l], lanes[3][l]]);
    }
    out
}

multiversion! {
    fn fill<T: Real>(place: Place, law: Law, first: u64, out: &mut [T]) {
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            for (o, v) in out.iter_mut().zip(block(place, law, first + (i * GROUPS) as u64)) {
                *o = T::of(f64::from(v));
            }
        }
    }
}

/// `out[i]` = the i-th value of the place; drawn in float32 whatever T.
pub fn cpu<T: Real>(cpu: &Cpu, place: Place, law: Law, out: &mut [T]) {
    for_parts(cpu, out, GRAIN, |t, out| fill(cpu.simd, place, law, (t * GRAIN / 4) as u64, out));
}

/// The CUDA arm: `cuda/noise.cu`.
pub mod cuda {
    use super::Law;
    use crate::gpu::launch::{Launch, PACK, i64, of, threads, u32};
    use crate::gpu::{Gpu, GpuError};

    /// The first n values of the place that the seed and the step name. Spans: seed (2 words), step (1), the result.
    ///
    /// # Errors
    /// What compiling and loading give.
    pub fn fill(gpu: &Gpu, law: Law, stream: u32, n: usize) -> Result<Launch, GpuError> {
        let name = match law {
            Law::Uniform => "noise_uniform_f32",
            Law::Normal => "noise_normal_f32",
        };
        let params = vec![
            of::<i32>("seed", 2),
            of::<i32>("step", 1),
            u32(0),
            u32(stream),
            i64(n),
            of::<f32>("out", n),
        ];
        // SAFETY: the kernel reads two words of the seed and one of the step and writes n values.
        unsafe { Launch::new(gpu, "noise", name, threads(n.div_ceil(PACK)), params) }
    }
}
