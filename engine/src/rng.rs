//! Counter-based random numbers (Philox4x32-10): a seed, a stream and a step determine a sequence.
//!
//! If no two uses of randomness share a stream, drawing more numbers for one use leaves all others unchanged, and a
//! checkpoint need only store integers.

use core::convert::Infallible;
use kernels::philox::{Counter, key, philox4x32_10};
use rand_core::TryRng;

/// One use of random numbers. Programs give each of their uses a number of its own; with the same seed and step,
/// different streams are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream(u32);

impl Stream {
    /// The stream of the engine's own tests and benchmarks.
    pub const TEST: Self = Self::new(999);

    /// The stream with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The stream's number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The sequence of a seed, a stream and a step as a [`rand_core`] generator, so that `rand` and `rand_distr` work on it.
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    next: Counter,
    block: [u32; 4],
    used: usize,
}

impl Philox {
    /// The sequence of `seed`, `stream` and `step`, from its start.
    pub fn new(seed: u64, stream: Stream, step: u32) -> Self {
        let next = Counter { element: 0, step, stream: stream.number() };
        Self { key: key(seed), next, block: [0; 4], used: 4 }
    }

    fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox4x32_10(self.next.words(), self.key);
            self.next.element += 1;
            self.used = 0;
        }
        let w = self.block[self.used];
        self.used += 1;
        w
    }

    /// A uniform on (0, 1).
    pub fn uniform(&mut self) -> f32 {
        kernels::philox::uniform(self.word())
    }

    /// A standard normal by Box–Muller, from two words; the pair's second normal is dropped.
    pub fn normal(&mut self) -> f32 {
        let (a, b) = (self.word(), self.word());
        kernels::philox::normal_pair(a, b).0
    }

    /// A uniform integer in `0..n`, from one word by multiplication (bias below n / 2³²); 0 if `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(n)) >> 32) as u32
    }

    /// Shuffles `items` in place (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u32 + 1) as usize;
            items.swap(i, j);
        }
    }
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let (lo, hi) = (self.word(), self.word());
        Ok(u64::from(lo) | (u64::from(hi) << 32))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(4) {
            let w = self.word().to_le_bytes();
            chunk.copy_from_slice(&w[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::Distribution;

    #[test]
    fn seed_stream_and_step_determine_the_sequence() {
        let draw = |stream, step| {
            let mut r = Philox::new(5, stream, step);
            [r.word(), r.word(), r.word(), r.word(), r.word()]
        };
        assert_eq!(draw(Stream::new(1), 3), draw(Stream::new(1), 3));
        assert_ne!(draw(Stream::new(1), 3), draw(Stream::new(1), 4));
        assert_ne!(draw(Stream::new(1), 3), draw(Stream::new(11), 3));
    }

    #[test]
    fn shuffle_is_a_permutation_and_rand_distr_works() {
        let mut r = Philox::new(1, Stream::TEST, 0);
        let mut v: Vec<u32> = (0..100).collect();
        r.shuffle(&mut v);
        assert_ne!(v, (0..100).collect::<Vec<_>>());
        v.sort_unstable();
        assert_eq!(v, (0..100).collect::<Vec<_>>());
        let normal = rand_distr::Normal::new(2.0f64, 0.5).expect("valid");
        let mean = (0..20_000).map(|_| normal.sample(&mut r)).sum::<f64>() / 20_000.0;
        assert!((mean - 2.0).abs() < 0.02);
    }
}
