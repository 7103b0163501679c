//! Whether data and model fit, and the slots that a trainer needs.

use super::program::{Chains, Slots};
use super::{labelled_size, update};
use crate::config::{Config, Init};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::sampling::Accumulator;
use engine::{Slot, State};
use jempp_data::Dataset;

/// Whether images and classes of a data set are those of the model.
///
/// # Errors
/// [`Error::Config`] saying which key to change.
pub fn check_fit(config: &Config, set: &Dataset) -> Result<()> {
    let m = &config.model;
    if set.size() != m.image_size {
        let (got, want) = (set.size(), m.image_size);
        let name = set.name();
        return Err(Error::Config(format!(
            "data set `{name}` has images of {got:?}, model.image_size is {want:?}; set model.image_size={got:?}"
        )));
    }
    if set.classes() != m.classes {
        let (name, got) = (set.name(), set.classes());
        return Err(Error::Config(format!(
            "data set `{name}` has {got} classes, model.classes is {}; set model.classes={got}",
            m.classes
        )));
    }
    Ok(())
}

pub(super) fn make_slots(
    state: &mut State,
    network: &Network,
    config: &Config,
    seed: Slot,
    data: bool,
) -> Result<Slots> {
    let t = &config.train;
    let update = update::Slots::new(state, network, t)?;
    let mut chains = |name: &str, n: usize, on: bool| -> Result<Option<Chains>> {
        if !on {
            return Ok(None);
        }
        let chain = state.add(name, network.images(n))?;
        Ok(Some(Chains { chain, accumulators: Accumulator::all(state, network, name)? }))
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
    Ok(Slots { update, chains: unconditional, labelled_chains, buffer, seed })
}
