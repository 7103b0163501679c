//! Counter-based randomness: Philox4x32-10 and the maps from its words to uniforms and normals.
//!
//! Invariant: every function here is a pure function of its integer arguments, and its floating-point part
//! uses only IEEE operations and explicit fused multiply-adds, so that the CPU and a GPU give the same bits.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

/// A Philox counter. `element` numbers the draws of one use, `step` the repetitions, `stream` the use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Which group of four words within the draw.
    pub element: u64,
    /// Which repetition (iteration, chain step, epoch…).
    pub step: u32,
    /// Which use of randomness; `engine::rng` numbers the streams.
    pub stream: u32,
}

impl Counter {
    /// The four 32-bit words that Philox encrypts.
    #[inline(always)]
    pub fn words(self) -> [u32; 4] {
        [self.element as u32, (self.element >> 32) as u32, self.step, self.stream]
    }
}

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// Ten rounds of Philox4x32 on counter `c` under key `k`.
#[inline(always)]
pub fn philox4x32_10(c: [u32; 4], k: [u32; 2]) -> [u32; 4] {
    wide(c.map(u64::from), k).map(|word| word as u32)
}

/// Philox4x32-10 on 64-bit lanes whose lower halves hold the words, so that loops over counters vectorise with
/// 32×32→64-bit multiplications and no shuffles.
#[inline(always)]
fn wide([mut a, mut b, mut c, mut d]: [u64; 4], [mut k0, mut k1]: [u32; 2]) -> [u64; 4] {
    const LOW: u64 = u32::MAX as u64;
    for _ in 0..10 {
        let (p0, p1) = (u64::from(M0) * (a & LOW), u64::from(M1) * (c & LOW));
        (a, b, c, d) = ((p1 >> 32) ^ b ^ u64::from(k0), p1, (p0 >> 32) ^ d ^ u64::from(k1), p0);
        (k0, k1) = (k0.wrapping_add(W0), k1.wrapping_add(W1));
    }
    [a & LOW, b & LOW, c & LOW, d & LOW]
}

/// Counters that [`words`] computes at once.
pub(crate) const GROUPS: usize = 64;

/// The words of [`GROUPS`] counters from `first` on, in pairs: the four words of each counter, one counter after
/// another. The loop has no branches, so that it vectorises in a body of `multiversion!`.
#[inline(always)]
pub(crate) fn words(first: Counter, key: [u32; 2]) -> [[u32; 2]; 2 * GROUPS] {
    let mut out = [[0u64; 2]; GROUPS];
    let (step, stream) = (u64::from(first.step), u64::from(first.stream));
    for (l, out) in out.iter_mut().enumerate() {
        let element = first.element.wrapping_add(l as u64);
        let [a, b, c, d] = wide([element, element >> 32, step, stream], key);
        *out = [a | b << 32, c | d << 32].map(u64::to_le);
    }
    let out: [[u32; 2]; 2 * GROUPS] = bytemuck::cast(out);
    out.map(|two| two.map(u32::from_le))
}

/// The key of a 64-bit seed.
#[inline(always)]
pub fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

/// Maps a word to a uniform in the open interval (0, 1): the midpoints of 2²³ equal cells, never 0 or 1 in float32. The
/// conversion goes through `i32`, since that vectorises.
#[inline(always)]
pub fn uniform(word: u32) -> f32 {
    ((word >> 9) as i32 as f32 + 0.5) * (1.0 / 8_388_608.0)
}

/// Maps two words to two independent standard normals (Box–Muller).
#[inline(always)]
pub fn normal_pair(a: u32, b: u32) -> (f32, f32) {
    let r = (-2.0 * ln(uniform(a))).sqrt();
    let (s, c) = sin_cos_turns(uniform(b));
    (r * c, r * s)
}

/// Natural logarithm of a normal positive float32, within 2 ulp (minimax polynomial of Cephes' `logf`).
#[inline(always)]
fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    // Mantissa in [√½, √2): shift the exponent boundary by the bits of √½.
    let shifted = bits.wrapping_sub(0x3F35_04F3);
    let e = (shifted as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((e << 23) as u32)) - 1.0;
    let e = e as f32;
    let mut p = 7.037_683_6e-2_f32;
    for c in [
        -1.151_461e-1_f32,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = p.mul_add(m, c);
    }
    let z = m * m;
    let y = (p * m) * z;
    let y = e.mul_add(-2.121_944_4e-4, y);
    let y = z.mul_add(-0.5, y);
    e.mul_add(0.693_359_4, m + y)
}

/// (sin 2πt, cos 2πt) for t in [0, 1).
#[inline(always)]
fn sin_cos_turns(t: f32) -> (f32, f32) {
    // Nearest quarter turn; the remainder is within ±1/8 of a turn.
    let q = (t * 4.0 + 0.5) as i32;
    let a = (t - q as f32 * 0.25) * core::f32::consts::TAU;
    let z = a * a;
    let s = (-1.951_529_6e-4_f32).mul_add(z, 8.332_161e-3).mul_add(z, -1.666_665_5e-1);
    let s = (s * z).mul_add(a, a);
    let c = 2.443_315_7e-5_f32.mul_add(z, -1.388_731_6e-3).mul_add(z, 4.166_664_6e-2);
    let c = (c * z).mul_add(z, (-0.5_f32).mul_add(z, 1.0));
    // Odd quarters swap the two; the sine is negative in quarters 2 and 3, the cosine in 1 and 2. Without branches, so
    // that loops over it vectorise.
    let (u, v) = if q & 1 == 0 { (s, c) } else { (c, s) };
    let flip = |x: f32, bit: i32| f32::from_bits(x.to_bits() ^ ((bit as u32 & 2) << 30));
    (flip(u, q), flip(v, q + 1))
}

#[cfg(test)]
mod tests;
