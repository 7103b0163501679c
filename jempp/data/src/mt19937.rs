//! The Mersenne Twister as NumPy's legacy `RandomState` uses it, for the published validation split.
//!
//! Invariant: [`numpy_permutation`] equals NumPy's result, which reference values in the tests ensure.
//!
//! Source: Matsumoto & Nishimura, "Mersenne Twister", ACM TOMACS 8, 1998; NumPy's `legacy_seeding` (for an integer
//! seed, the 2002 `init_genrand`), `random_interval` and `RandomState.shuffle`.

const N: usize = 624;
const M: usize = 397;

/// A generator, seeded like `numpy.random.seed`.
#[derive(Clone, Debug)]
pub(crate) struct Mt19937 {
    state: [u32; N],
    used: usize,
}

impl Mt19937 {
    /// A generator seeded with `seed`.
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = [0; N];
        let mut s = seed;
        for (i, word) in (0u32..).zip(&mut state) {
            *word = s;
            s = 1_812_433_253u32.wrapping_mul(s ^ (s >> 30)).wrapping_add(i + 1);
        }
        Self { state, used: N }
    }

    /// The next 32 bits.
    pub(crate) fn next_u32(&mut self) -> u32 {
        if self.used == N {
            self.refill();
        }
        let mut y = self.state[self.used];
        self.used += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.used = 0;
    }

    /// An integer in `0..=max`, by rejection: words are masked to the bits of `max` and discarded if above it.
    pub(crate) fn up_to(&mut self, max: u32) -> u32 {
        let mask = u32::MAX.checked_shr(max.leading_zeros()).unwrap_or(0);
        loop {
            let v = self.next_u32() & mask;
            // NumPy draws nothing for a maximum of 0, which `shuffle` never requests.
            if v <= max {
                return v;
            }
        }
    }
}

/// The content of `x` after `numpy.random.seed(seed); x = list(range(n)); numpy.random.shuffle(x)`, for n < 2³².
pub(crate) fn numpy_permutation(seed: u32, n: usize) -> Vec<usize> {
    let mut rng = Mt19937::new(seed);
    let mut x: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = rng.up_to(u32::try_from(i).unwrap_or(u32::MAX)) as usize;
        x.swap(i, j);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the 10,000th output for the seed 5489, which the C++ standard requires of `std::mt19937`.
    #[test]
    fn known_answers() {
        let mut r = Mt19937::new(5489);
        assert_eq!(r.next_u32(), 3_499_211_612);
        let last = (1..10_000).fold(0, |_, _| r.next_u32());
        assert_eq!(last, 4_123_659_995);
    }

    #[test]
    fn permutations_are_numpys() {
        let cifar = numpy_permutation(1234, 50_000);
        assert_eq!(cifar[..4], [20308, 37706, 6041, 42143]);
        assert_eq!(cifar[5000..5004], [31704, 19298, 36004, 46873]);
        assert_eq!(numpy_permutation(1234, 73_257)[..3], [21013, 71630, 29833]);
        assert_eq!(numpy_permutation(1, 1), [0]);
        assert!(numpy_permutation(1, 0).is_empty());
    }
}
