//! The slots that a training step needs besides those of the network.

use super::labelled_size;
use super::program::ahead::AheadSlots;
use super::program::{ChainSlots, TrainSlots};
use super::update::UpdateSlots;
use crate::config::{Config, Init, TrainBn};
use crate::error::Result;
use crate::network::Network;
use crate::sampling::Accumulator;
use engine::{Slot, State};

/// Adds the slots of the optimiser, of the chains if log p(x) or log p(x, y) is trained, with a data set (`data`) of their replay
/// buffer, and if data and labelled images have a program of their own (`ahead`), of what that hands on. `seed` is the slot of
/// the seed words.
pub(super) fn train_slots(
    state: &mut State,
    network: &Network,
    config: &Config,
    (seed, data, ahead): (Slot, bool, bool),
) -> Result<TrainSlots> {
    let t = &config.train;
    let update = UpdateSlots::new(state, network, t)?;
    let mut chains = |name: &str, n: usize, on: bool| -> Result<Option<ChainSlots>> {
        if !on {
            return Ok(None);
        }
        let chain = state.add(name, network.images(n))?;
        let moving = t.bn == TrainBn::Batch;
        let accumulators = moving.then(|| Accumulator::all(state, network, name)).transpose()?;
        Ok(Some(ChainSlots { chain, accumulators }))
    };
    let px = t.p_x_weight != 0.0;
    let pxy = t.p_x_y_weight != 0.0;
    let unconditional = chains("chain", t.batch_size, px)?;
    let labelled_chains = chains("chain_y", labelled_size(config), pxy)?;
    let buffer = ((px || pxy) && data)
        .then(|| state.add("replay_buffer", network.images(config.sampler.buffer_size)))
        .transpose()?;
    let uniform_only = config.sampler.init == Init::Uniform;
    debug_assert!(data || buffer.is_none() || uniform_only);
    // Last, so that all other slots are the same with them and without.
    let moving = t.bn == TrainBn::Batch;
    let ahead = ahead.then(|| AheadSlots::new(state, network, moving)).transpose()?;
    Ok(TrainSlots { update, chains: unconditional, labelled_chains, buffer, seed, ahead })
}
