//! The optimiser update: SGD or Adam, and the exponential moving average of the weights.
//!
//! Invariants: everything that an update depends on lies in slots, including the number of steps before it, which is the
//! number of iterations done.

use crate::config::{Optimizer, TrainConfig};
use crate::error::Result;
use crate::network::{Network, get, set};
use engine::ops::adam::{self, Adam};
use engine::ops::counter::Advance;
use engine::ops::elementwise::Axpby;
use engine::ops::sgd::{Sgd, Updated};
use engine::{Slot, Spec, State, Tape, Var};

/// ε of Adam, PyTorch's default.
const ADAM_EPS: f64 = 1e-8;

/// The slots of the optimiser's state, each list in the order of the parameters.
#[derive(Clone, Debug)]
pub(super) struct UpdateSlots {
    moments: Moments,
    /// Averages of the parameters; empty without `train.ema`.
    pub(super) average: Vec<Slot>,
}

#[derive(Clone, Debug)]
enum Moments {
    Sgd {
        velocity: Vec<Slot>,
    },
    /// `done`: steps done, `i32[1]`.
    Adam {
        first: Vec<Slot>,
        second: Vec<Slot>,
        done: Slot,
    },
}

impl UpdateSlots {
    /// Adds the slots: moments of 0, averages equal to the parameters.
    ///
    /// # Errors
    /// If there is no memory.
    pub(super) fn new(state: &mut State, network: &Network, train: &TrainConfig) -> Result<Self> {
        let mut all = |prefix: &str| -> Result<Vec<Slot>> {
            let parameters = network.parameters.iter();
            parameters.map(|p| Ok(state.add(&format!("{prefix}.{}", p.name), p.slot.spec)?)).collect()
        };
        let average = if train.ema > 0.0 { all(EMA)? } else { Vec::new() };
        let moments = match train.optimizer {
            Optimizer::Sgd => Moments::Sgd { velocity: all(VELOCITY)? },
            Optimizer::Adam => {
                let (first, second) = (all(FIRST)?, all(SECOND)?);
                Moments::Adam { first, second, done: state.add("adam.done", Spec::i32(&[1]))? }
            }
        };
        let slots = Self { moments, average };
        slots.reset_average(state, network)?;
        Ok(slots)
    }

    /// Sets the averages to the current parameters.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(super) fn reset_average(&self, state: &mut State, network: &Network) -> Result<()> {
        for (p, a) in network.parameters.iter().zip(&self.average) {
            let start = get(state, p.slot)?;
            set(state, *a, &start)?;
        }
        Ok(())
    }

    /// The running means of the gradients: momentum, or first moments.
    pub(super) fn gradient_means(&self) -> &[Slot] {
        match &self.moments {
            Moments::Sgd { velocity } => velocity,
            Moments::Adam { first, .. } => first,
        }
    }

    /// The slots that are saved in a checkpoint, with their names there.
    pub(super) fn named(&self, network: &Network) -> Vec<(String, Slot)> {
        let lists = match &self.moments {
            Moments::Sgd { velocity } => vec![(VELOCITY, velocity)],
            Moments::Adam { first, second, .. } => vec![(FIRST, first), (SECOND, second)],
        };
        let lists = lists.into_iter().chain([(EMA, &self.average)]);
        let name = |prefix, slots: &Vec<Slot>| {
            let named = network.parameters.iter().zip(slots);
            named.map(|(p, s)| (format!("{prefix}.{}", p.name), *s)).collect::<Vec<_>>()
        };
        lists.flat_map(|(prefix, slots)| name(prefix, slots)).collect()
    }

    /// Sets the number of steps done, on which the bias correction of Adam depends.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(super) fn set_steps_done(&self, state: &mut State, steps: u64) -> Result<()> {
        match self.moments {
            Moments::Adam { done, .. } => Ok(state.set(done, &[steps as i32])?),
            Moments::Sgd { .. } => Ok(()),
        }
    }

    /// Records the update of all parameters from `weights` along `gradients`, each with a second term or without, of their bf16
    /// copies and of their averages.
    ///
    /// # Errors
    /// Only if the slots belong to another network.
    pub(super) fn record(
        &self,
        tape: &mut Tape,
        network: &Network,
        train: &TrainConfig,
        (weights, gradients): (&[Var], &[(Var, Option<Var>)]),
        lr: Var,
    ) -> Result<()> {
        let lists = match &self.moments {
            Moments::Sgd { velocity } => vec![velocity],
            Moments::Adam { first, second, .. } => vec![first, second],
        };
        let (mut tensors, mut inputs) = (Vec::new(), Vec::new());
        for (i, (p, (g, more))) in network.parameters.iter().zip(gradients).enumerate() {
            inputs.push(weights[i]);
            inputs.extend(lists.iter().map(|slots| tape.read(slots[i])));
            let terms: Vec<Var> = Some(*g).filter(|g| !tape.is_zero(*g)).into_iter().chain(*more).collect();
            let (gradient, more) = (!terms.is_empty(), terms.len() > 1);
            inputs.extend(terms);
            tensors.push(Updated { gradient, more, copy: p.bf16.is_some() });
        }
        inputs.push(lr);
        let new = match &self.moments {
            Moments::Sgd { .. } => {
                tape.record(Sgd::new(train.momentum, train.weight_decay, tensors), &inputs)?
            }
            Moments::Adam { done, .. } => {
                inputs.push(tape.read(*done));
                let (beta1, beta2, decay) = (train.beta1, train.beta2, train.weight_decay);
                tape.record(Adam::new(adam::Args { beta1, beta2, eps: ADAM_EPS, decay }, tensors), &inputs)?
            }
        };
        let mut new = new.into_iter();
        for (i, p) in network.parameters.iter().enumerate() {
            let slots = [p.slot].into_iter().chain(lists.iter().map(|slots| slots[i])).chain(p.bf16);
            for (slot, v) in slots.zip(&mut new) {
                tape.assign(slot, v)?;
            }
            if let Some(a) = self.average.get(i) {
                let (old, moved) = (tape.read(*a), tape.read(p.slot));
                let new = tape.one(Axpby { a: train.ema, b: 1.0 - train.ema }, &[old, moved])?;
                tape.assign(*a, new)?;
            }
        }
        if let Moments::Adam { done, .. } = self.moments {
            let before = tape.read(done);
            let after = tape.one(Advance { by: 1 }, &[before])?;
            tape.assign(done, after)?;
        }
        Ok(())
    }
}

const VELOCITY: &str = "velocity";
const FIRST: &str = "adam.first";
const SECOND: &str = "adam.second";
const EMA: &str = "ema";
