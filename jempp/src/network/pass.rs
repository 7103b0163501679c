//! Recording a forward pass layer by layer: convolutions, normalisations, dropout and residual sums.

use super::forward::{BnMode, Masks};
use super::{BN_EPS, Block, ConvRef, Network};
use crate::config::NormKind;
use crate::error::Result;
use engine::ops::batch_norm::BatchNorm;
use engine::ops::bn_coeffs::BnCoeffs;
use engine::ops::bn_stats::BnStats;
use engine::ops::conv2d::{Conv2d, Geometry};
use engine::ops::dropout::Dropout;
use engine::ops::elementwise::{Axpby, Fill};
use engine::ops::fused_conv2d::FusedConv2d;
use engine::ops::layer_stats::LayerStats;
use engine::ops::leaky_relu::LeakyRelu;
use engine::ops::scale_shift_leaky::ScaleShiftLeaky;
use engine::{Tape, Var};

pub(super) struct Pass<'a> {
    pub(super) network: &'a Network,
    pub(super) tape: &'a mut Tape,
    pub(super) mode: &'a BnMode,
    pub(super) masks: Option<Masks>,
    pub(super) stats: Vec<(Var, Var)>,
    pub(super) normed: Vec<Var>,
    /// Output, mean and variance of the last fused convolution that computed statistics.
    pub(super) last_stats: Option<[Var; 3]>,
}

/// Input of a convolution: a tensor, and the normalisation to apply on load, with mean, scale and shift.
pub(super) struct ConvInput {
    pub(super) x: Var,
    pub(super) norm: Option<(ScaleShiftLeaky, [Var; 3])>,
}

impl From<Var> for ConvInput {
    fn from(x: Var) -> Self {
        Self { x, norm: None }
    }
}

/// The residual stream: a tensor, or the sum of two, which the next batch norm forms.
pub(super) struct Residual {
    pub(super) x: Var,
    pub(super) add: Option<Var>,
}

/// What takes the output of a convolution.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// A normalisation, unchanged.
    Norm,
    /// The residual sum.
    Sum,
    /// Dropout.
    Dropout,
}

impl Pass<'_> {
    pub(super) fn parameter(&mut self, i: usize) -> Var {
        self.network.used(self.tape, i)
    }

    /// Whether batch norm is one op, from the statistics to the leaky ReLU; then the groups.
    fn joint(&self) -> Option<Vec<usize>> {
        match self.mode {
            BnMode::Train(groups) if !self.network.fused => {
                (self.network.config.norm == NormKind::Batch).then(|| groups.clone())
            }
            _ => None,
        }
    }

    /// Whether a convolution leaves out its bias: batch norms in train mode subtract it anyway.
    fn without_bias(&self, next: Next) -> bool {
        let train = matches!(self.mode, BnMode::Train(_));
        self.network.leaves_out_biases() && train && next != Next::Dropout
    }

    /// Records a convolution. If the network is fused, the fused op is recorded where there is anything to fuse.
    pub(super) fn conv(
        &mut self,
        x: ConvInput,
        c: ConvRef,
        residual: Option<Var>,
        next: Next,
    ) -> Result<Var> {
        let geometry = Geometry { stride: c.stride, pad: c.pad };
        let images = self.tape.spec(x.x)?.first();
        let stats = self.groups(images).filter(|_| next == Next::Norm && self.network.fused);
        let w = self.parameter(c.weight);
        if x.norm.is_none() && stats.is_none() {
            let bias = (!self.without_bias(next)).then(|| self.parameter(c.bias));
            let inputs: Vec<Var> = [x.x, w].into_iter().chain(bias).chain(residual).collect();
            let op = Conv2d { geometry, bias: bias.is_some(), residual: residual.is_some() };
            return Ok(self.tape.one(op, &inputs)?);
        }
        let b = self.parameter(c.bias);
        let (norm, coefficients) = x.norm.unzip();
        let inputs = [x.x, w, b].into_iter().chain(coefficients.into_iter().flatten()).chain(residual);
        let op = FusedConv2d { geometry, norm, residual: residual.is_some(), stats };
        let out = self.tape.record(op, &inputs.collect::<Vec<_>>())?;
        self.last_stats = <[Var; 3]>::try_from(&out[..]).ok();
        Ok(out[0])
    }

    /// A normalisation as per-channel scale and shift, with the leaky ReLU after it; if the network is fused, it is
    /// left to the next convolution. Also the normalised tensor, the sum of `r`.
    pub(super) fn norm(&mut self, r: &Residual, i: usize) -> Result<(ConvInput, Var)> {
        let leak = self.network.config.leak;
        let Some(affine) = self.network.affine[i] else {
            self.normed.push(r.x);
            return Ok((self.tape.one(LeakyRelu { leak }, &[r.x])?.into(), r.x));
        };
        let affine = affine.map(|p| self.parameter(p));
        if let Some(groups) = self.joint() {
            return self.batch_norm(r, groups, affine);
        }
        let (x, [first, second]) = (r.x, affine);
        self.normed.push(x);
        let spec = self.tape.spec(x)?;
        let images = spec.first();
        let (groups, mean, scale, shift) = if self.network.config.norm == NormKind::Act {
            let mean = self.tape.one(Axpby { a: -1.0, b: 0.0 }, &[first])?;
            let shift =
                self.tape.one(Fill { spec: spec.with_shape(&[spec.last()]).wide(), value: 0.0 }, &[])?;
            (vec![images], mean, second, shift)
        } else {
            let (groups, mean, var) = self.statistics(x, i, images)?;
            (groups, mean, self.tape.one(BnCoeffs { eps: BN_EPS }, &[var, first])?, second)
        };
        let input = ConvInput { x, norm: Some((ScaleShiftLeaky { groups, leak }, [mean, scale, shift])) };
        let input = if self.network.fused { input } else { self.store(input)?.into() };
        Ok((input, x))
    }

    /// Batch norm in train mode as one op.
    fn batch_norm(
        &mut self,
        r: &Residual,
        groups: Vec<usize>,
        [gamma, beta]: [Var; 2],
    ) -> Result<(ConvInput, Var)> {
        let (leak, residual) = (self.network.config.leak, r.add.is_some());
        let op = BatchNorm { groups, eps: BN_EPS, leak, residual };
        let inputs: Vec<Var> = [r.x, gamma, beta].into_iter().chain(r.add).collect();
        let out = self.tape.record(op, &inputs)?;
        let x = out.get(4).copied().unwrap_or(r.x);
        self.normed.push(x);
        self.stats.push((out[1], out[2]));
        Ok((out[0].into(), x))
    }

    /// The end of a block: its second convolution of h, added to x, the block's input before normalisation.
    pub(super) fn residual(&mut self, h: ConvInput, b: &Block, x: Var) -> Result<Residual> {
        let add = match b.shortcut {
            // A batch norm adds what is needed later too; a convolution adds to what is not.
            None if self.joint().is_some() => {
                return Ok(Residual { x: self.conv(h, b.conv2, None, Next::Norm)?, add: Some(x) });
            }
            None => x,
            Some(c) => self.conv(x.into(), c, None, Next::Sum)?,
        };
        Ok(Residual { x: self.conv(h, b.conv2, Some(add), Next::Norm)?, add: None })
    }

    /// Records a pending normalisation, so that its result is a tensor.
    pub(super) fn store(&mut self, input: ConvInput) -> Result<Var> {
        let Some((op, [mean, scale, shift])) = input.norm else { return Ok(input.x) };
        Ok(self.tape.one(op, &[input.x, mean, scale, shift])?)
    }

    /// The groups of images that share statistics, if normalisations compute statistics of their input.
    fn groups(&self, images: usize) -> Option<Vec<usize>> {
        match (self.network.config.norm, self.mode) {
            (NormKind::None | NormKind::Act, _) | (NormKind::Batch, BnMode::Running) => None,
            (NormKind::Batch, BnMode::Train(groups)) => Some(groups.clone()),
            _ => Some(vec![1; images]),
        }
    }

    /// The groups, and their mean and biased variance: from the convolution that computed x, if it computed them too.
    fn statistics(&mut self, x: Var, i: usize, images: usize) -> Result<(Vec<usize>, Var, Var)> {
        let kind = self.network.config.norm;
        let Some(groups) = self.groups(images) else {
            let n = &self.network.norms[i];
            return Ok((vec![images], self.tape.read(n.mean), self.tape.read(n.var)));
        };
        let mut s = match self.last_stats {
            Some([y, mean, var]) if y == x => vec![mean, var],
            _ => self.tape.record(BnStats { groups: groups.clone() }, &[x])?,
        };
        match kind {
            NormKind::Batch => self.stats.push((s[0], s[1])),
            NormKind::Layer => s = self.tape.record(LayerStats, &s)?,
            _ => (),
        }
        Ok((groups, s[0], s[1]))
    }

    /// The dropout rate of this pass.
    pub(super) fn dropout_rate(&self) -> f64 {
        self.masks.map_or(0.0, |_| self.network.config.dropout)
    }

    /// Dropout after the first convolution of a block, if the pass has masks.
    pub(super) fn dropout(&mut self, x: Var, block: usize) -> Result<Var> {
        let rate = self.dropout_rate();
        match self.masks {
            Some(m) if rate > 0.0 => {
                let op = Dropout { rate, stream: m.stream, layer: block as u32 };
                Ok(self.tape.one(op, &[x, m.seed, m.step])?)
            }
            _ => Ok(x),
        }
    }
}
