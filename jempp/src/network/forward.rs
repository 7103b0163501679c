//! Recording the forward pass and the log densities on a tape.

use super::Network;
use super::pass::{Next, Pass, Residual};
use crate::error::Result;
use engine::ops::cast::Cast;
use engine::ops::elementwise::Axpby;
use engine::ops::global_avg_pool::GlobalAvgPool;
use engine::ops::label::GatherLabel;
use engine::ops::linear::Linear;
use engine::ops::logsumexp::LogSumExp;
use engine::ops::softmax_cross_entropy::SoftmaxCrossEntropy;
use engine::rng::Stream;
use engine::{Tape, Var};

/// Which statistics batch norm uses. Other norms are the same in both modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BnMode {
    /// Batch statistics, computed separately for each group of images, exactly as if each group ran alone. Holds the
    /// groups' sizes.
    Train(Vec<usize>),
    /// Running statistics.
    Running,
}

/// The random stream of dropout masks: pass `step` of `stream` under a seed. Each block has its own mask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masks {
    /// Seed words, `i32[2]`.
    pub seed: Var,
    /// `i32[1]`.
    pub step: Var,
    /// [`crate::streams::DROPOUT`] or [`crate::streams::CHAIN_DROPOUT`].
    pub stream: Stream,
}

/// The outputs of a network.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// N×classes.
    pub logits: Var,
    /// Its logsumexp is unnormalised log p(x): the logits, or the N×1 output of the energy head, which is its own
    /// logsumexp.
    pub density: Var,
}

/// The recorded outputs of a forward pass.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The input of the first convolution: the images, converted to bf16 if activations are bf16.
    pub x: Var,
    /// The outputs.
    pub heads: Heads,
    /// N×F: the pooled output of the last block, which the heads are linear functions of.
    pub features: Var,
    /// Output of the first convolution, whose gradient the outer loop of PYLD uses (JEM++); without the bias if biases are
    /// apart. If [`Network::fused`], its
    /// batch statistics are separate outputs of the same op, and gradients with respect to `first` do not include the
    /// part through them.
    pub first: Var,
    /// Mean and biased variance [G, C] of each batch norm, in [`BnMode::Train`]; the means without what `Network::offsets`
    /// says.
    pub stats: Vec<(Var, Var)>,
    /// Input of each normalisation, N×H×W×C.
    pub(crate) normed: Vec<Var>,
}

impl Forward {
    /// Pixels per feature map of the input of normalisation `i`: values of one image per channel statistic.
    pub(crate) fn pixels(&self, tape: &Tape, i: usize) -> Result<usize> {
        let x = tape.spec(self.normed[i])?;
        Ok(x.row_len() / x.last())
    }
}

/// The unnormalised log density that a chain samples from.
#[derive(Clone, Copy, Debug)]
pub enum Objective {
    /// log p(x) = logsumexp of the logits, or the output of the energy head.
    LogDensity,
    /// log p(x, y): the label's logit, or with an energy head log p(x) + log p(y|x).
    Label(Var),
}

impl Network {
    /// Records the forward pass of x, N×H×W×C, without dropout. If activations are bf16, everything from the images to
    /// the last normalisation is bf16; global average pooling and what follows is float32.
    ///
    /// # Errors
    /// [`crate::Error::Engine`] if x has another shape, or the groups' sizes do not add up to its number of images.
    pub fn forward(&self, tape: &mut Tape, x: Var, mode: &BnMode) -> Result<Forward> {
        self.forward_with(tape, x, mode, None)
    }

    /// Records the forward pass of x, N×H×W×C; with masks, dropout has the rate `model.dropout`.
    ///
    /// # Errors
    /// Those of [`Network::forward`].
    pub(crate) fn forward_with(
        &self,
        tape: &mut Tape,
        x: Var,
        mode: &BnMode,
        masks: Option<Masks>,
    ) -> Result<Forward> {
        let (stats, normed) = (Vec::new(), Vec::new());
        let mut p = Pass { network: self, tape, mode, masks, stats, normed, last_stats: None };
        let images = match self.activations == self.dtype {
            true => x,
            false => p.tape.one(Cast { to: self.activations }, &[x])?,
        };
        let first = p.conv(images.into(), self.conv1, None, Next::Norm)?;
        let mut r = Residual { x: first, add: None };
        let within = if p.dropout_rate() == 0.0 { Next::Norm } else { Next::Dropout };
        for (i, b) in self.blocks.iter().enumerate() {
            let (h, x) = p.norm(&r, b.bn1)?;
            let h = p.conv(h, b.conv1, None, within)?;
            let h = Residual { x: p.dropout(h, i)?, add: None };
            let (h, _) = p.norm(&h, b.bn2)?;
            r = p.residual(h, b, x)?;
        }
        let (x, _) = p.norm(&r, self.last_bn)?;
        let x = p.store(x)?;
        let x = p.tape.one(GlobalAvgPool, &[x])?;
        let mut head = |(w, b)| {
            let (w, b) = (p.parameter(w), p.parameter(b));
            p.tape.one(Linear, &[x, w, b])
        };
        let logits = head(self.head)?;
        let density = self.energy.map_or(Ok(logits), head)?;
        let (stats, normed) = (p.stats, p.normed);
        Ok(Forward { x: images, heads: Heads { logits, density }, features: x, first, stats, normed })
    }
}

impl Objective {
    /// Records the log density, one value per image.
    ///
    /// # Errors
    /// [`crate::Error::Engine`] if there is not one label per row of the logits.
    pub fn record(self, tape: &mut Tape, heads: Heads) -> Result<Var> {
        let Heads { logits, density } = heads;
        Ok(match self {
            Self::LogDensity => tape.one(LogSumExp, &[density])?,
            Self::Label(labels) if density == logits => tape.one(GatherLabel, &[logits, labels])?,
            Self::Label(labels) => {
                let f = tape.one(LogSumExp, &[density])?;
                let minus = tape.one(SoftmaxCrossEntropy, &[logits, labels])?;
                tape.one(Axpby { a: 1.0, b: -1.0 }, &[f, minus])?
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, NormKind};
    use crate::streams;
    use engine::{Device, HostTensor, Spec, State};

    /// Dropout is between conv1 and bn2 of each block, and nowhere else; a pass without masks has none.
    #[test]
    fn dropout_sits_between_the_convolutions_of_a_block() {
        let mut config = Config::preset("digits").unwrap().model;
        (config.dropout, config.norm) = (0.3, NormKind::None);
        let device = Device::cpu(1);
        let mut state = State::on(&device);
        let net = Network::new(&mut state, &config).unwrap();
        net.initialise(&mut state, 4).unwrap();
        let images: Vec<f32> = (0..6 * 64).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect();
        let run = |thinned: bool| {
            let mut tape = Tape::new();
            let x = tape.input("x", net.images(6));
            let (seed, step) = (tape.input("seed", Spec::i32(&[2])), tape.input("step", Spec::i32(&[1])));
            let masks = thinned.then_some(Masks { seed, step, stream: streams::DROPOUT });
            let f = net.forward_with(&mut tape, x, &BnMode::Running, masks).unwrap();
            assert_eq!(tape.count("dropout"), if thinned { 3 } else { 0 });
            let mut plan = tape.plan(&device, &f.normed).unwrap();
            let place = [(seed, HostTensor::I32(&[1, 2][..])), (step, HostTensor::I32(&[7]))];
            let inputs: Vec<_> = [(x, HostTensor::F32(&images))].into_iter().chain(place).collect();
            plan.run(&mut state.duplicate().unwrap(), &inputs).unwrap();
            f.normed.iter().map(|v| plan.fetch::<f32>(*v).unwrap()).collect::<Vec<_>>()
        };
        let (thin, whole) = (run(true), run(false));
        assert_eq!(thin[0], whole[0], "the first block's input is whole");
        let scale = 1.0 / (1.0 - 0.3f64);
        assert!(thin[1].iter().zip(&whole[1]).all(|(a, b)| *a == 0.0 || *a == b * scale as f32));
        for (k, v) in thin.iter().enumerate() {
            let dropped = v.iter().filter(|v| **v == 0.0).count() as f64 / v.len() as f64;
            let want = if k % 2 == 1 { 0.3 } else { 0.0 };
            assert!((dropped - want).abs() < 0.03, "{dropped} of what normalisation {k} takes is zero");
        }
    }
}
