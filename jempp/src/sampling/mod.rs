//! Sampling by Langevin dynamics: where chains start, how they move, and the replay buffer that they come from.
//!
//! - [`Langevin`]: one outer step of the chains, as a program.
//! - [`RoundPlan`]: the random choices of a sampling round of training, which takes chains from the buffer or restarts them.
//! - [`draw`]: new images from a trained model.
//!
//! Invariant: which buffer rows, restarts and classes a sampling round uses is a function of (seed, round) only;
//! the Langevin noise and the masks of dropout of (seed, chain step).

pub mod draw;
mod folding;
mod init;
mod langevin;

use crate::error::Result;
use crate::network::Network;
use engine::ops::noise::seed_words;
use engine::{Slot, Spec, State};
pub(crate) use folding::Folding;
pub(crate) use init::{InitChains, fill_buffer};
pub use init::{RoundPlan, TrainingImages, fresh};
pub use langevin::{Langevin, LangevinSpec};

/// The statistics of one batch norm, accumulated over the chain steps of a round.
#[derive(Clone, Copy, Debug)]
pub struct Accumulator {
    /// Accumulated means, `[C]`.
    pub mean: Slot,
    /// Accumulated unbiased variances, `[C]`.
    pub var: Slot,
}

impl Accumulator {
    /// One accumulator for each batch norm of `network`, in the order of [`Network::norms`]; `name` begins the slots'
    /// names.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn all(state: &mut State, network: &Network, name: &str) -> Result<Vec<Self>> {
        network
            .norms
            .iter()
            .map(|n| {
                let mean = state.add(&format!("{name}.{}.mean", n.name), n.mean.spec)?;
                let var = state.add(&format!("{name}.{}.var", n.name), n.var.spec)?;
                Ok(Self { mean, var })
            })
            .collect()
    }
}

/// n/(n − 1) for each group: from the biased variance of a batch to the unbiased one that running statistics take.
pub(crate) fn unbias(rows: &[usize]) -> Vec<f64> {
    rows.iter().map(|&n| if n > 1 { n as f64 / (n - 1) as f64 } else { 1.0 }).collect()
}

/// Adds a slot that holds the words of `seed`, `i32[2]`.
///
/// # Errors
/// If there is no memory.
pub fn seed_slot(state: &mut State, seed: u64) -> Result<Slot> {
    let slot = state.add("seed", Spec::i32(&[2]))?;
    state.set(slot, &seed_words(seed))?;
    Ok(slot)
}

/// Adds a slot that holds the number of the next chain step, `i32[1]`.
///
/// # Errors
/// If there is no memory.
pub fn counter_slot(state: &mut State, next: u32) -> Result<Slot> {
    let slot = state.add("chain_step", Spec::i32(&[1]))?;
    state.set(slot, &[next as i32])?;
    Ok(slot)
}
