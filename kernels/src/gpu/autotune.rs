//! Choosing by measurement: timing candidates, and remembering which one was the fastest.
//!
//! What must hold: within a process, the same question always gets the same answer: from the table of this run, or else
//! from the disk cache, which later processes read too.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::disk_cache;
use super::driver::{Buffer, Gpu};
use super::error::GpuError;
use crate::cache_folder::cache_folder;
use crate::dtype::{Float, bf16};
use crate::philox::{Counter, key, philox4x32_10, uniform};

/// Candidates that need more bytes of workspace are never considered.
pub(super) const MAX_WORKSPACE: usize = 4 << 30;
/// A new candidate may need this part of the memory that is free.
const OF_FREE: u64 = 8;
/// Runs of a candidate in the graph that is timed.
const RUNS: u32 = 10;
/// How often that is timed at most; the shortest time counts.
const TRIES: usize = 3;
/// Seconds after which it is not timed again.
const ENOUGH: f64 = 0.02;
/// A candidate whose second run takes longer than the best one's time by this factor and these seconds, which are for
/// the launch, is not timed any further.
const HOPELESS: (f64, f64) = (1.3, 1e-4);
/// A later candidate must be faster than an earlier one by this factor.
const CLEARLY: f64 = 0.95;
/// Random numbers drawn for the data that candidates are timed on; longer data repeat them. 4 times a prime, so that rows
/// differ.
const DRAWN: usize = 4 * 1031;

/// The choices made on a device so far: the winning candidate of each question.
#[derive(Default)]
struct Choices(Mutex<BTreeMap<String, String>>);

fn table(gpu: &Gpu) -> MutexGuard<'_, BTreeMap<String, String>> {
    gpu.attached::<Choices>().0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to a question: of this run, or else of an earlier one, from the disk cache.
pub(super) fn remembered(gpu: &Gpu, question: &str) -> Option<String> {
    let of_this_run = table(gpu).get(question).cloned();
    of_this_run.or_else(|| {
        let stored = disk_cache::get(cache_folder().as_deref(), question.as_bytes())?;
        String::from_utf8(stored).ok()
    })
}

/// Remembers an answer for the rest of this run.
pub(super) fn remember(gpu: &Gpu, question: String, answer: String) {
    table(gpu).insert(question, answer);
}

/// Writes a measured answer to the disk cache, for later runs.
pub(super) fn store(question: &str, answer: &str) {
    disk_cache::put(cache_folder().as_deref(), question.as_bytes(), answer.as_bytes());
}

/// The most bytes of workspace that a new candidate may need.
pub(super) fn workspace_limit(gpu: &Gpu) -> Result<usize, GpuError> {
    let part = usize::try_from(gpu.memory_free()? / OF_FREE).unwrap_or(usize::MAX);
    Ok(part.min(MAX_WORKSPACE))
}

/// Seconds that one run of a candidate takes, in a captured graph of several, so that no work of the host counts; `None`
/// if it clearly takes longer than `best`. What cannot be captured is an error, since programs are captured.
pub(super) fn seconds(
    gpu: &Gpu,
    best: f64,
    run: impl Fn() -> Result<(), GpuError>,
) -> Result<Option<f64>, GpuError> {
    run()?;
    gpu.synchronize()?;
    if gpu.seconds(&run)? > HOPELESS.0 * best + HOPELESS.1 {
        return Ok(None);
    }
    let graph = gpu.capture(|| (0..RUNS).try_for_each(|_| run()))?;
    let (mut seconds, mut spent) = (f64::INFINITY, 0.0);
    for _ in 0..TRIES {
        let taken = gpu.seconds(|| graph.replay(gpu))?;
        seconds = seconds.min(taken / f64::from(RUNS));
        spent += taken;
        if spent > ENOUGH {
            break;
        }
    }
    Ok(Some(seconds))
}

/// The index of the first candidate that no later one clearly beats.
pub(super) fn fastest(seconds: &[f64]) -> Option<usize> {
    let least = seconds.iter().copied().min_by(f64::total_cmp)?;
    seconds.iter().position(|t| t * CLEARLY <= least)
}

/// `n` values to time candidates on. Not zeros, which devices multiply faster than other numbers.
pub(super) fn operand(gpu: &Gpu, float: Float, n: usize, seed: u64) -> Result<Buffer<u8>, GpuError> {
    let words = (0..DRAWN.div_ceil(4) as u64)
        .flat_map(|element| philox4x32_10(Counter { element, step: 0, stream: 0 }.words(), key(seed)));
    let drawn: Vec<f32> = words.map(|word| 2.0 * uniform(word) - 1.0).collect();
    let bytes: Vec<u8> = match float {
        Float::F32 => drawn.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        Float::Bf16 => drawn.iter().flat_map(|&v| bf16::from_f32(v).to_ne_bytes()).collect(),
    };
    gpu.repeated(&bytes, n * float.size())
}

impl Gpu {
    /// The choices made by measurement so far, as (question, answer), sorted by question.
    #[must_use]
    pub fn choices(&self) -> Vec<(String, String)> {
        table(self).iter().map(|(q, a)| (q.clone(), a.clone())).collect()
    }

    /// Takes over the choices of an earlier run, which come before those in the disk cache. They apply to what is
    /// prepared from now on, where the question is exactly the same; others have no effect.
    pub fn recall(&self, choices: impl IntoIterator<Item = (String, String)>) {
        table(self).extend(choices);
    }
}

#[cfg(test)]
mod tests;
