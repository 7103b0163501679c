//! The forward pass and the energies, recorded.

use super::{BN_EPS, ConvRef, Network};
use crate::error::Result;
use engine::ops::bn_coeffs::BnCoeffs;
use engine::ops::bn_stats::BnStats;
use engine::ops::cast::Cast;
use engine::ops::conv2d::{Conv2d, Geometry};
use engine::ops::global_avg_pool::GlobalAvgPool;
use engine::ops::label::GatherLabel;
use engine::ops::linear::Linear;
use engine::ops::logsumexp::LogSumExp;
use engine::ops::scale_shift_leaky::ScaleShiftLeaky;
use engine::{Tape, Var};

/// Which statistics batch norm uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BnMode {
    /// Those of each group of images, given by the groups' sizes: exactly as if each group ran alone.
    Train(Vec<usize>),
    /// The running ones.
    Running,
}

/// What the forward pass gives.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The images as the first convolution takes them: themselves, or in bf16.
    pub x: Var,
    /// N×classes.
    pub logits: Var,
    /// Output of the first convolution: where the outer point of PYLD is taken.
    pub first: Var,
    /// Mean and biased variance [G, C] of each batch norm, in [`BnMode::Train`].
    pub stats: Vec<(Var, Var)>,
}

/// Whose gradient moves the chains.
#[derive(Clone, Copy, Debug)]
pub enum Objective {
    /// log p(x) = logsumexp of the logits.
    LogDensity,
    /// log p(x, y): the label's logit.
    Label(Var),
}

struct Pass<'a> {
    network: &'a Network,
    tape: &'a mut Tape,
    mode: &'a BnMode,
    stats: Vec<(Var, Var)>,
}

impl Pass<'_> {
    fn parameter(&mut self, i: usize) -> Var {
        self.network.used(self.tape, i)
    }

    fn conv(&mut self, x: Var, c: ConvRef, residual: Option<Var>) -> Result<Var> {
        let geometry = Geometry { stride: c.stride, pad: c.pad };
        let (w, b) = (self.parameter(c.weight), self.parameter(c.bias));
        let inputs: Vec<Var> = [x, w, b].into_iter().chain(residual).collect();
        let op = Conv2d { geometry, bias: true, residual: residual.is_some() };
        Ok(self.tape.one(op, &inputs)?)
    }

    /// Batch norm in its parts, with the rectifier.
    fn norm(&mut self, x: Var, i: usize) -> Result<Var> {
        let n = &self.network.norms[i];
        let (gamma, beta) = (self.parameter(n.gamma), self.parameter(n.beta));
        let images = self.tape.spec(x)?.first();
        let (groups, mean, var) = match self.mode {
            BnMode::Train(groups) => {
                let s = self.tape.record(BnStats { groups: groups.clone() }, &[x])?;
                self.stats.push((s[0], s[1]));
                (groups.clone(), s[0], s[1])
            }
            BnMode::Running => (vec![images], self.tape.read(n.mean), self.tape.read(n.var)),
        };
        let scale = self.tape.one(BnCoeffs { eps: BN_EPS }, &[var, gamma])?;
        let op = ScaleShiftLeaky { groups, leak: self.network.config.leak };
        Ok(self.tape.one(op, &[x, mean, scale, beta])?)
    }
}

impl Network {
    /// Records the forward pass of x, N×H×W×C. Where activations are bf16 they are so from the images to the last batch
    /// norm; means over pixels and all after them are float32.
    ///
    /// # Errors
    /// If x has another size, or the groups do not share out its images.
    pub fn forward(&self, tape: &mut Tape, x: Var, mode: &BnMode) -> Result<Forward> {
        let mut p = Pass { network: self, tape, mode, stats: Vec::new() };
        let images = match self.activations == self.dtype {
            true => x,
            false => p.tape.one(Cast { to: self.activations }, &[x])?,
        };
        let first = p.conv(images, self.conv1, None)?;
        let mut x = first;
        for b in &self.blocks {
            let h = p.norm(x, b.bn1)?;
            let h = p.conv(h, b.conv1, None)?;
            let h = p.norm(h, b.bn2)?;
            // The shortcut takes the block's raw input, not the normalised one.
            let short = match b.shortcut {
                Some(c) => p.conv(x, c, None)?,
                None => x,
            };
            x = p.conv(h, b.conv2, Some(short))?;
        }
        let x = p.norm(x, self.last_bn)?;
        let x = p.tape.one(GlobalAvgPool, &[x])?;
        let (w, b) = (p.parameter(self.head.0), p.parameter(self.head.1));
        let logits = p.tape.one(Linear, &[x, w, b])?;
        let stats = p.stats;
        Ok(Forward { x: images, logits, first, stats })
    }
}

impl Objective {
    /// One value an image.
    ///
    /// # Errors
    /// If the labels do not fit the logits.
    pub fn record(self, tape: &mut Tape, logits: Var) -> Result<Var> {
        Ok(match self {
            Self::LogDensity => tape.one(LogSumExp, &[logits])?,
            Self::Label(labels) => tape.one(GatherLabel, &[logits, labels])?,
        })
    }
}
