//! The processor's peak rates, which kernels are measured against.
//!
//! What must hold: `multiply_add` uses registers only, `copy` only moves bytes; both use the threads, the instruction
//! set and the task sizes of the kernels.

use super::{Cpu, GRAIN, Level, Products, for_parts};
use core::hint::black_box;

/// Independent chains: enough to hide the latency of two units, few enough for the registers of every level.
const CHAINS: usize = 12;
/// Independent chains for products of bf16, whose latency is higher.
#[cfg(target_arch = "x86_64")]
const PAIR_CHAINS: usize = 24;
/// Tasks per thread, so that the others are not idle while a late thread finishes.
const TASKS: usize = 4;

/// Runs `rounds` multiply-adds on each chain of each task, and returns how many floating-point operations that
/// were, all threads together. At [`Level::Portable`] they are a product and a sum; they are pairs of bf16 products if
/// `cpu` forms such products and has instructions for them.
pub fn multiply_add(cpu: &Cpu, rounds: usize) -> u64 {
    let level = cpu.simd.level();
    let tasks = TASKS * cpu.pool.threads();
    #[cfg(target_arch = "x86_64")]
    if cpu.products == Products::Bf16 && cpu.simd.bf16() {
        // SAFETY: a `Simd` says `bf16` only where detection found these instructions.
        cpu.pool.run(tasks, &|_, _| unsafe { x86::pairs(rounds) });
        return (4 * PAIR_CHAINS * 16 * rounds * tasks) as u64;
    }
    cpu.pool.run(tasks, &|_, _| match level {
        // SAFETY: a `Simd` of this level exists only where detection found these instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::avx512(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::avx2(rounds) },
        _ => portable(rounds),
    });
    let lanes = match level {
        Level::Avx512 => 16,
        Level::Avx2 => 8,
        Level::Portable => 4,
    };
    (2 * CHAINS * lanes * rounds * tasks) as u64
}

/// Copies `src` to the start of `dst` on all threads.
pub fn copy(cpu: &Cpu, src: &[f32], dst: &mut [f32]) {
    for_parts(cpu, dst, GRAIN, |t, dst| {
        let from = &src[(t * GRAIN).min(src.len())..];
        let n = dst.len().min(from.len());
        dst[..n].copy_from_slice(&from[..n]);
    });
}

fn portable(rounds: usize) {
    let (a, b) = black_box(([0.999f32; 4], [0.001f32; 4]));
    let mut acc = [[1.0f32; 4]; CHAINS];
    for _ in 0..rounds {
        for x in &mut acc {
            *x = core::array::from_fn(|i| x[i] * a[i] + b[i]);
        }
    }
    black_box(acc);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, PAIR_CHAINS, black_box};
    use core::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(super) fn pairs(rounds: usize) {
        let both = |x: f32| _mm512_cvtne2ps_pbh(_mm512_set1_ps(x), _mm512_set1_ps(x));
        let (a, b) = (both(black_box(0.999)), both(black_box(0.001)));
        let mut acc = [_mm512_set1_ps(1.0); PAIR_CHAINS];
        for _ in 0..rounds {
            for x in &mut acc {
                *x = _mm512_dpbf16_ps(*x, a, b);
            }
        }
        black_box(acc);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn avx512(rounds: usize) {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut acc = [_mm512_set1_ps(1.0); CHAINS];
        for _ in 0..rounds {
            for x in &mut acc {
                *x = _mm512_fmadd_ps(*x, a, b);
            }
        }
        black_box(acc);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(rounds: usize) {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut acc = [_mm256_set1_ps(1.0); CHAINS];
        for _ in 0..rounds {
            for x in &mut acc {
                *x = _mm256_fmadd_ps(*x, a, b);
            }
        }
        black_box(acc);
    }
}

#[cfg(test)]
mod tests;
