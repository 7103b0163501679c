//! Copying weights or a whole state from a model or another training step, between any two devices. This allows
//! steps on two devices to be compared from the same start.

use super::TrainStep;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::network::{get, set};
use engine::{DType, bf16};

impl TrainStep {
    /// Copies the weights and running statistics of a model; averages of weights start again from them. Optimiser, replay
    /// buffer and counters stay as they are.
    ///
    /// # Errors
    /// [`Error::Data`] if the model's architecture differs.
    pub fn load_weights(&mut self, model: &Model) -> Result<()> {
        let (mine, theirs) = (&self.network.config, &model.network().config);
        // Settings that matter in training only may differ.
        let same = crate::config::ModelConfig {
            dropout: mine.dropout,
            bn_momentum: mine.bn_momentum,
            ..theirs.clone()
        };
        if same != *mine {
            let why = "the model's architecture differs from the trainer's";
            return Err(Error::Data(format!("{why}: {theirs:?}, not {mine:?}")));
        }
        let pairs: Vec<_> = self.network.tensors().zip(model.network().tensors()).collect();
        for ((_, to), (_, from)) in pairs {
            let values = get(model.state(), from)?;
            set(&mut self.state, to, &values)?;
        }
        self.round()?;
        self.slots.update.reset_average(&mut self.state, &self.network)
    }

    /// Copies all tensors and counters of a training step of the same configuration.
    ///
    /// # Errors
    /// If the two hold different tensors, or a GPU fails.
    pub fn copy_state(&mut self, other: &Self) -> Result<()> {
        let slots: Vec<_> = other.state.slots().map(|(name, slot)| (name.to_owned(), slot)).collect();
        let mine: Vec<_> = self.state.slots().map(|(name, slot)| (name.to_owned(), slot)).collect();
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

    /// The largest difference of a float32 tensor from that of another training step, relative to the tensor's largest
    /// magnitude or to `floor` if that is larger, and the tensor's name. Tensors of other types are not compared.
    ///
    /// # Errors
    /// If the two hold different tensors, or a GPU fails.
    pub fn max_difference(&self, other: &Self, floor: f32) -> Result<(f32, String)> {
        let mut worst = (0.0, String::new());
        for (name, slot) in self.state.slots().filter(|(_, slot)| slot.spec.dtype == DType::F32) {
            let (mine, theirs) = (self.state.view::<f32>(slot)?, other.state.view::<f32>(slot)?);
            let scale = theirs.iter().fold(floor, |m, v| m.max(v.abs()));
            let off = mine.iter().zip(theirs.iter()).map(|(a, b)| (a - b).abs() / scale);
            // A NaN counts as the largest.
            let off = off.fold(0.0, |m: f32, v| if v.is_nan() { f32::INFINITY } else { m.max(v) });
            if off > worst.0 {
                worst = (off, name.to_owned());
            }
        }
        Ok(worst)
    }
}
