//! The limits of the machine: multiply-adds in registers and memory copies, with the threads and the instruction set of a
//! device.

use engine::{Device, Level, peak};
use std::time::Instant;

/// Bytes read and written by the copies that are measured: from one core's cache to main memory.
const SETS: [usize; 7] = [128 << 10, 1 << 20, 4 << 20, 16 << 20, 32 << 20, 64 << 20, 256 << 20];
/// Multiply-adds per dependency chain: about a millisecond.
const ROUNDS: usize = 150_000;
/// Measurements of each rate, of which the fastest counts.
const TRIES: usize = 15;

/// Copying speed at one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Bytes read and written.
    pub bytes: usize,
    /// 10⁹ bytes per second, read and written.
    pub gb_per_s: f64,
}

/// The highest rates of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// Threads used.
    pub threads: usize,
    /// Instruction set used.
    pub level: Level,
    /// 10⁹ float32 operations per second; a multiply-add counts as two.
    pub gflop_per_s: f64,
    /// Copying speeds by size, smallest first.
    pub copies: Vec<Bandwidth>,
}

impl Ceiling {
    /// Measures the CPU, with the threads and instruction set of `device` if that is the CPU; takes about a second.
    pub fn measure(device: &Device) -> Self {
        let cpu = &if device.is_gpu() { Device::cpu(0) } else { device.clone() };
        // The first try also wakes threads and raises clocks.
        let rate = || {
            let start = Instant::now();
            let flops = peak::multiply_add(cpu, ROUNDS);
            flops as f64 / start.elapsed().as_secs_f64() / 1e9
        };
        let gflop_per_s = (0..2 * TRIES).map(|_| rate()).fold(0.0, f64::max);
        let n = SETS[SETS.len() - 1] / 8;
        let (src, mut dst) = (vec![1.0f32; n], vec![0.0f32; n]);
        let copies = SETS
            .iter()
            .map(|&bytes| {
                let n = bytes / 8;
                let calls = (SETS[3] / bytes).max(1);
                let mut rate = || {
                    let start = Instant::now();
                    for _ in 0..calls {
                        peak::copy(cpu, &src[..n], &mut dst[..n]);
                    }
                    (calls * bytes) as f64 / start.elapsed().as_secs_f64() / 1e9
                };
                Bandwidth { bytes, gb_per_s: (0..TRIES).map(|_| rate()).fold(0.0, f64::max) }
            })
            .collect();
        Self {
            threads: cpu.concurrency(),
            level: cpu.instruction_set().unwrap_or(Level::Portable),
            gflop_per_s,
            copies,
        }
    }

    /// Copying speed for a working set of `bytes`, so that one that fits into a cache is compared with the cache's speed:
    /// interpolated in the logarithm of the size between measured sizes, and constant outside them.
    pub fn gb_per_s(&self, bytes: u64) -> f64 {
        let bytes = bytes as f64;
        let above = self.copies.partition_point(|c| c.bytes as f64 <= bytes);
        match (above.checked_sub(1).map(|i| self.copies[i]), self.copies.get(above)) {
            (Some(lo), Some(hi)) => {
                let t = (bytes / lo.bytes as f64).ln() / (hi.bytes as f64 / lo.bytes as f64).ln();
                lo.gb_per_s + t * (hi.gb_per_s - lo.gb_per_s)
            }
            (Some(c), None) => c.gb_per_s,
            (None, Some(c)) => c.gb_per_s,
            (None, None) => f64::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_speed_lies_between_the_measured_sizes() {
        let copies =
            [(100, 9.0), (10_000, 5.0)].map(|(bytes, gb_per_s)| Bandwidth { bytes, gb_per_s }).to_vec();
        let c = Ceiling { threads: 1, level: Level::Portable, gflop_per_s: 1.0, copies };
        assert_eq!([1, 100, 10_000, 1 << 40].map(|b| c.gb_per_s(b)), [9.0, 9.0, 5.0, 5.0]);
        assert!((c.gb_per_s(1000) - 7.0).abs() < 1e-12);
    }
}
