//! Random numbers by position: a seed, a stream and a step name a sequence, and nothing else does.
//!
//! Invariant: two uses of randomness never share a stream, so that adding a draw to one leaves all others
//! unchanged; a checkpoint need only store integers.

use core::convert::Infallible;
use kernels::philox::{Counter, key, philox4x32_10};
use rand_core::TryRng;

/// The uses of randomness. The numbers are part of the checkpoint format: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Initial weights; the step is the parameter's index.
    Init = 1,
    /// Order of the images for p(x); the step is the epoch.
    ShuffleUnlabelled = 2,
    /// Order of the labelled images; the step is the epoch.
    ShuffleLabelled = 3,
    /// Crops, flips and noise of the images for p(x); the step is the iteration.
    AugmentUnlabelled = 4,
    /// Crops, flips and noise of the labelled images; the step is the iteration.
    AugmentLabelled = 5,
    /// Buffer indices, restarts and classes of the chains; the step is the sampling round.
    Chains = 6,
    /// Informative and uniform restarts; the step is the sampling round.
    Restart = 7,
    /// Langevin noise; the step is the global chain step.
    Langevin = 8,
    /// First fill of the replay buffer; the step is the chunk.
    BufferFill = 9,
    /// Dropout masks of the training pass; the step is the iteration.
    Dropout = 10,
    /// Randomness of evaluations (shuffled pixels, noise sets, attacks).
    Eval = 11,
    /// Sampling on request, after training.
    Sample = 12,
    /// Dropout masks of the chains' steps; the step is the global chain step.
    ChainDropout = 13,
    /// Random starts of the attacks that adversarial training learns from; the step is the iteration.
    Adversary = 14,
    /// Tests.
    Test = 999,
}

/// A sequence of random words as a [`rand_core`] generator, so that `rand` and `rand_distr` work on it.
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    next: Counter,
    block: [u32; 4],
    used: usize,
}

impl Philox {
    /// The sequence of `stream` at `step` under `seed`.
    pub fn new(seed: u64, stream: Stream, step: u32) -> Self {
        let next = Counter { element: 0, step, stream: stream as u32 };
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

    /// A uniform in (0, 1).
    pub fn uniform(&mut self) -> f32 {
        kernels::philox::uniform(self.word())
    }

    /// A standard normal. Each takes two words; the second of Box–Muller's pair is dropped.
    pub fn normal(&mut self) -> f32 {
        let (a, b) = (self.word(), self.word());
        kernels::philox::normal_pair(a, b).0
    }

    /// An integer in `0..n`, from one word by multiplication (bias below n / 2³²). `n` = 0 gives 0.
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
    fn position_names_the_sequence() {
        let draw = |stream, step| {
            let mut r = Philox::new(5, stream, step);
            [r.word(), r.word(), r.word(), r.word(), r.word()]
        };
        assert_eq!(draw(Stream::Init, 3), draw(Stream::Init, 3));
        assert_ne!(draw(Stream::Init, 3), draw(Stream::Init, 4));
        assert_ne!(draw(Stream::Init, 3), draw(Stream::Eval, 3));
    }

    #[test]
    fn shuffle_is_a_permutation_and_rand_distr_works() {
        let mut r = Philox::new(1, Stream::Test, 0);
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
