//! Every CUDA kernel of the project, run on the CPU and compared with its Rust counterpart.
//!
//! What must hold for each kernel: the same bits whatever the order of threads and blocks and, except for kernels that
//! write partial results, whatever the grid; the counterpart's values within the tolerances given here; no access
//! outside its buffers. Without a C++ compiler each test says that it is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod augment;
mod batch_norm;
mod conv2d;
mod elementwise;
mod harness;
mod layer_norm;
mod library_norm;
mod optimiser;
mod pool;
mod random;
mod reduce;
mod replay;
mod softmax;
mod statistics;

use bytemuck::Pod;
use emulated::{Arg, Buffer, Order, launch, why_not};
use half::bf16;

/// Tolerance of float32 sums against float64, relative to the sum of magnitudes.
const SUM: f64 = 2e-6;
/// Tolerance of float32 exponentials and logarithms against float64, relative to the largest value or 1.
const EXP: f64 = 1e-6;
/// Additional relative error of rounding to bf16: half of 2⁻⁷.
const BF16: f64 = 0.00391;

/// Whether the test has to be skipped; the reason has then been printed.
pub fn skipped() -> bool {
    if let Some(why) = why_not() {
        println!("skipped: {why}");
    }
    why_not().is_some()
}

/// A type of activations.
pub trait Element: Pod + PartialEq + std::fmt::Debug {
    /// The suffix of the kernels' names.
    const S: &'static str;
    /// Elements per vector.
    const V: usize;
    /// The relative error of rounding to it.
    const ROUNDING: f64;
    fn of(v: f32) -> Self;
    fn to(self) -> f32;
}

impl Element for f32 {
    const S: &'static str = "f32";
    const V: usize = 4;
    const ROUNDING: f64 = 0.0;
    fn of(v: f32) -> Self {
        v
    }
    fn to(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    const S: &'static str = "bf16";
    const V: usize = 8;
    const ROUNDING: f64 = BF16;
    fn of(v: f32) -> Self {
        Self::from_f32(v)
    }
    fn to(self) -> f32 {
        self.to_f32()
    }
}

/// Values of a type, and the same values as float32, for the Rust counterpart.
pub struct Data<E> {
    pub raw: Vec<E>,
    pub f32: Vec<f32>,
}

impl<E: Element> Data<E> {
    pub fn new(values: &[f32]) -> Self {
        let raw: Vec<E> = values.iter().map(|&v| E::of(v)).collect();
        let f32 = raw.iter().map(|v| v.to()).collect();
        Self { raw, f32 }
    }
    pub fn buffer(&self) -> Buffer<E> {
        Buffer::from(&self.raw)
    }
    pub fn f64(&self) -> Vec<f64> {
        doubles(&self.f32)
    }
}

pub fn doubles(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| f64::from(v)).collect()
}

/// Values of a buffer as float32, without changing one.
pub fn floats<E: Element>(b: &Buffer<E>) -> Vec<f32> {
    b.read().iter().map(|v| v.to()).collect()
}

/// `n` values in (−`bound`, `bound`), determined by `seed` (SplitMix64).
pub fn random(n: usize, bound: f32, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (2.0 * ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32 - 1.0) * bound
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// `v` with NaN, infinities, zeros of both signs, the smallest and the largest numbers at its start.
pub fn with_extremes(mut v: Vec<f32>) -> Vec<f32> {
    let hard =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-45, -1e-45, f32::MAX, f32::MIN, 1e-38];
    let n = v.len().min(hard.len());
    v[..n].copy_from_slice(&hard[..n]);
    v
}

/// One way of running a kernel: the order of threads, and the number of blocks in x given the number that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    order: Order,
    blocks: fn(u32) -> u32,
}

impl Schedule {
    /// Launches the kernel; a launch that fails, fails the test.
    pub fn go(self, name: &str, grid: [u32; 3], block: u32, args: &[Arg<'_>]) {
        let grid = [(self.blocks)(grid[0]), grid[1], grid[2]];
        launch(name, grid, [block, 1, 1], 0, self.order, args).unwrap();
    }
    /// Launches with exactly this grid, for kernels whose result depends on it.
    pub fn go_exact(self, name: &str, grid: [u32; 3], block: u32, args: &[Arg<'_>]) {
        launch(name, grid, [block, 1, 1], 0, self.order, args).unwrap();
    }
}

/// The results of `f`, which must be bit-identical for every schedule.
pub fn every_schedule(f: impl Fn(Schedule) -> Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let schedules = [
        Schedule { order: Order::Ascending, blocks: |n| n },
        Schedule { order: Order::Descending, blocks: |_| 1 },
        Schedule { order: Order::Random(7), blocks: |n| n.min(3) },
    ];
    let bits = |r: &Vec<Vec<f32>>| -> Vec<Vec<u32>> {
        r.iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect()
    };
    let first = f(schedules[0]);
    for schedule in &schedules[1..] {
        assert!(
            bits(&f(*schedule)) == bits(&first),
            "{:?} gives other bits than ascending order",
            schedule.order
        );
    }
    first
}

/// Asserts equal bits; all NaNs count as equal.
pub fn assert_same(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let same = g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan());
        assert!(same, "{name}[{i}] is {g:e}, not {w:e}");
    }
    println!("{name:<34} {:>7} values, the counterpart's bits", got.len());
}

/// Within `allowed` of the counterpart, relative to `scale` of each value (the counterpart's magnitude, if `None`) or
/// 1; prints the largest error.
pub fn assert_near(name: &str, got: &[f32], want: &[f64], scale: Option<&[f64]>, allowed: f64) {
    assert_eq!(got.len(), want.len(), "{name}");
    let mut largest = 0.0f64;
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let g = f64::from(g);
        if g == w || (g.is_nan() && w.is_nan()) {
            continue;
        }
        let error = (g - w).abs() / scale.map_or(w.abs().max(1.0), |s| s[i].max(f64::MIN_POSITIVE));
        assert!(error <= allowed, "{name}[{i}] is {g:e}, not {w:e}: {error:.1e} of its scale");
        largest = largest.max(error);
    }
    println!("{name:<34} {:>7} values, error {largest:.1e} (allowed {allowed:.1e})", got.len());
}

/// Blocks for `n` threads.
pub fn blocks(threads: usize) -> u32 {
    threads.div_ceil(256).max(1) as u32
}
