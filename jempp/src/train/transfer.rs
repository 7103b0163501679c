//! Copying a whole state from another training step, between any two devices, so that steps on two devices can be compared
//! from the same start.

use super::program::ahead::PREFIX;
use super::{Recovery, TrainStep};
use crate::error::{Error, Result};
use crate::model::REPLAY_BUFFER;
use crate::network::{get, set};
use engine::{DType, Slot, bf16};
use std::collections::HashMap;

impl TrainStep {
    /// Copies all tensors and counters of a training step of the same configuration.
    ///
    /// # Errors
    /// If the two hold different tensors, or a GPU fails.
    pub fn copy_state(&mut self, other: &Self) -> Result<()> {
        let (slots, mine) = (other.lasting(), self.lasting());
        if slots != mine {
            return Err(Error::Internal("the training steps hold different tensors".into()));
        }
        for (_, slot) in slots {
            match slot.spec.dtype {
                DType::F32 => self.state.set(slot, &other.state.view::<f32>(slot)?)?,
                DType::F64 => self.state.set(slot, &other.state.view::<f64>(slot)?)?,
                DType::BF16 => self.state.set(slot, &other.state.view::<bf16>(slot)?)?,
                DType::I32 => self.state.set(slot, &other.state.view::<i32>(slot)?)?,
                DType::U8 => self.state.set(slot, &other.state.view::<u8>(slot)?)?,
            }
        }
        self.counters = other.counters;
        Ok(())
    }

    /// The slots that last from one iteration to the next, with their names.
    fn lasting(&self) -> Vec<(String, Slot)> {
        let all = self.state.slots().filter(|(name, _)| !name.starts_with(PREFIX));
        all.map(|(name, slot)| (name.to_owned(), slot)).collect()
    }

    /// Goes on where the last stage of a run, `last`, has ended: with its counters, its number of rollbacks, and its replay
    /// buffer if chains were trained there. Weights are loaded separately; optimiser and factors of rollbacks are fresh.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(crate) fn continue_from(&mut self, last: &Self) -> Result<()> {
        if let (Some(mine), Some(theirs)) = (self.slots.buffer, last.slots.buffer) {
            set(&mut self.state, mine, &get(&last.state, theirs)?)?;
        }
        self.set_recovery(Recovery { lr_cuts: 0, step_cuts: 0, ..last.recovery })?;
        self.counters = last.counters;
        self.begin_stage(last.counters.iteration)
    }

    /// Copies weights, running statistics, optimiser, averages and counters of a training step of the same network and
    /// optimiser; the replay buffer stays as it is.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(super) fn take_over(&mut self, other: &Self) -> Result<()> {
        let theirs: HashMap<String, Slot> = other.network.tensors().chain(other.extra_slots()).collect();
        let mine: Vec<_> = self.network.tensors().chain(self.extra_slots()).collect();
        for (name, slot) in mine.into_iter().filter(|(name, _)| name != REPLAY_BUFFER) {
            if let Some(from) = theirs.get(&name) {
                set(&mut self.state, slot, &get(&other.state, *from)?)?;
            }
        }
        self.keep_actnorm = other.keep_actnorm;
        self.set_recovery(other.recovery)?;
        self.began = other.began;
        self.round()?;
        self.set_counters(other.counters)
    }

    /// The largest difference of a float32 tensor from that of another training step, relative to the tensor's largest
    /// magnitude or to `floor` if that is larger, and the tensor's name. Tensors of other types are not compared.
    ///
    /// # Errors
    /// If the two hold different tensors, or a GPU fails.
    pub fn max_difference(&self, other: &Self, floor: f32) -> Result<(f32, String)> {
        let mut worst = (0.0, String::new());
        for (name, slot) in self.lasting().into_iter().filter(|(_, slot)| slot.spec.dtype == DType::F32) {
            let (mine, theirs) = (self.state.view::<f32>(slot)?, other.state.view::<f32>(slot)?);
            let scale = theirs.iter().fold(floor, |m, v| m.max(v.abs()));
            let off = mine.iter().zip(theirs.iter()).map(|(a, b)| (a - b).abs() / scale);
            // A NaN counts as the largest.
            let off = off.fold(0.0, |m: f32, v| if v.is_nan() { f32::INFINITY } else { m.max(v) });
            if off > worst.0 {
                worst = (off, name);
            }
        }
        Ok(worst)
    }
}
