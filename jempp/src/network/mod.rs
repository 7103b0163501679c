//! The Wide-ResNet (Zagoruyko & Komodakis, 2016) of JEM++: its parameters in a state, its forward pass on a tape.
//!
//! Invariants: parameters have the names and the order of the published PyTorch model; filters are K×R×S×C in memory
//! and O×I×H×W on disk. The forward pass does not update running statistics of batch norm but returns the batch
//! statistics; other norms have no statistics, and treat each image independently. If a network computes in bf16, its
//! parameters are float32 all the same, and each filter has a bf16 copy, which the convolutions read.

mod forward;
pub(crate) mod listing;
mod offsets;
mod pass;

use crate::config::{ModelConfig, NormKind};
use crate::error::{Error, Result};
use crate::streams;
use engine::rng::Philox;
use engine::{DType, Slot, Spec, State, Tape, Var, bf16};

pub(crate) use forward::Masks;
pub use forward::{BnMode, Forward, Heads, Objective};

/// The ε that normalisations add to variances.
pub(crate) const BN_EPS: f64 = 1e-5;

/// How a parameter is initialised, as in PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// Uniform within ±1/√fan_in (filters, linear weights and their biases).
    FanIn(usize),
    /// A constant: 1 for scales, 0 for shifts.
    Constant(f32),
}

/// A trainable parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in the published model, such as `f.layer1.0.conv1.weight`.
    pub name: String,
    /// Its slot in the state.
    pub slot: Slot,
    /// Its bf16 copy, which the network computes with; filters have one if activations are bf16.
    pub bf16: Option<Slot>,
    /// How it starts.
    pub init: Initializer,
}

/// Running statistics of one batch norm.
#[derive(Clone, Debug)]
pub struct RunningStats {
    /// Name in the published model, such as `f.layer1.0.bn1`.
    pub name: String,
    /// Running mean `[C]`.
    pub mean: Slot,
    /// Running variance `[C]`, unbiased.
    pub var: Slot,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvRef {
    pub weight: usize,
    pub bias: usize,
    pub stride: usize,
    pub pad: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub bn1: usize,
    pub conv1: ConvRef,
    pub bn2: usize,
    pub conv2: ConvRef,
    pub shortcut: Option<ConvRef>,
}

/// A network whose tensors live in a [`State`].
#[derive(Clone, Debug)]
pub struct Network {
    /// Its architecture.
    pub config: ModelConfig,
    /// All parameters, in the order of the published model.
    pub parameters: Vec<Parameter>,
    /// Running statistics of all batch norms, in the order of the forward pass; none if the network has another norm.
    pub norms: Vec<RunningStats>,
    /// Parameters of each normalisation: weight and bias, or loc and scale.
    pub(crate) affine: Vec<Option<[usize; 2]>>,
    /// Data type of images, parameters and everything after the last activation.
    pub(crate) dtype: DType,
    /// Data type of activations.
    pub(crate) activations: DType,
    /// Whether convolutions are fused with the normalisation before and the statistics after them; otherwise every op
    /// is recorded separately. True by default, except on a GPU, where cuDNN convolves, and in bf16, which rounds
    /// normalised activations.
    pub fused: bool,
    /// Whether convolutions leave out their biases where only batch norm in train mode follows, which subtracts them
    /// anyway: then their gradients are zero, and means lack what is added to them where they are used. True by default where
    /// convolutions are not fused.
    pub biases_apart: bool,
    pub(crate) conv1: ConvRef,
    pub(crate) blocks: Vec<Block>,
    pub(crate) last_bn: usize,
    pub(crate) head: (usize, usize),
    pub(crate) energy: Option<(usize, usize)>,
}

struct Builder<'a> {
    state: &'a mut State,
    kind: NormKind,
    activations: DType,
    parameters: Vec<Parameter>,
    norms: Vec<RunningStats>,
    affine: Vec<Option<[usize; 2]>>,
}

impl Builder<'_> {
    fn parameter(&mut self, name: String, shape: &[usize], init: Initializer) -> Result<usize> {
        let spec = Spec::new(shape, self.activations);
        let slot = self.state.add(&name, spec.wide())?;
        let filters = shape.len() == 4 && spec != spec.wide();
        let bf16 = filters.then(|| self.state.add(&format!("{name}.{}", spec.dtype), spec)).transpose()?;
        self.parameters.push(Parameter { name, slot, bf16, init });
        Ok(self.parameters.len() - 1)
    }

    /// A convolution from `c` to `k` channels with square filters of side `r`.
    fn conv(&mut self, name: &str, c: usize, k: usize, r: usize, stride: usize) -> Result<ConvRef> {
        let start = Initializer::FanIn(c * r * r);
        Ok(ConvRef {
            weight: self.parameter(format!("{name}.weight"), &[k, r, r, c], start)?,
            bias: self.parameter(format!("{name}.bias"), &[k], start)?,
            stride,
            pad: r / 2,
        })
    }

    /// A linear layer from `c` to `k` values.
    fn linear(&mut self, name: &str, c: usize, k: usize) -> Result<(usize, usize)> {
        let weight = self.parameter(format!("{name}.weight"), &[k, c], Initializer::FanIn(c))?;
        Ok((weight, self.parameter(format!("{name}.bias"), &[k], Initializer::FanIn(c))?))
    }

    fn norm(&mut self, name: &str, c: usize) -> Result<usize> {
        let parts = match self.kind {
            NormKind::None => None,
            NormKind::Act => Some([("loc", 0.0), ("scale", 1.0)]),
            _ => Some([("weight", 1.0), ("bias", 0.0)]),
        };
        let mut part =
            |(part, start)| self.parameter(format!("{name}.{part}"), &[c], Initializer::Constant(start));
        let affine = parts.map(|[a, b]| Ok::<_, Error>([part(a)?, part(b)?])).transpose()?;
        if self.kind == NormKind::Batch {
            let spec = Spec::new(&[c], self.activations).wide();
            let mean = self.state.add(&format!("{name}.running_mean"), spec)?;
            let var = self.state.add(&format!("{name}.running_var"), spec)?;
            self.norms.push(RunningStats { name: name.to_owned(), mean, var });
        }
        self.affine.push(affine);
        Ok(self.affine.len() - 1)
    }

    fn block(&mut self, name: &str, c: usize, k: usize, stride: usize) -> Result<Block> {
        let bn1 = self.norm(&format!("{name}.bn1"), c)?;
        let conv1 = self.conv(&format!("{name}.conv1"), c, k, 3, 1)?;
        let bn2 = self.norm(&format!("{name}.bn2"), k)?;
        let conv2 = self.conv(&format!("{name}.conv2"), k, k, 3, stride)?;
        let shortcut = if stride != 1 || c != k {
            Some(self.conv(&format!("{name}.shortcut.0"), c, k, 1, stride)?)
        } else {
            None
        };
        Ok(Block { bn1, conv1, bn2, conv2, shortcut })
    }
}

impl Network {
    /// Adds the tensors of a network to `state`, all zero, running variances included; see [`Network::initialise`].
    ///
    /// # Errors
    /// [`Error::Engine`] if memory runs out; [`Error::Config`] if the depth is not 6n + 4.
    pub fn new(state: &mut State, config: &ModelConfig) -> Result<Self> {
        Self::with_dtype(state, config, DType::F32)
    }

    /// Adds the tensors of a network to `state` as [`Network::new`] does, with activations of type `dtype`: float64, in
    /// which everything then is, for reference computations, or bf16 (see [`engine::Device::activations`]).
    ///
    /// # Errors
    /// Those of [`Network::new`].
    pub fn with_dtype(state: &mut State, config: &ModelConfig, dtype: DType) -> Result<Self> {
        if config.depth < 10 || !(config.depth - 4).is_multiple_of(6) {
            let depth = config.depth;
            return Err(Error::Config(format!("model.depth = {depth}: it must be 6n + 4, 10 or more")));
        }
        let fused = !state.on_gpu() && dtype != DType::BF16;
        let (parameters, norms, affine) = (Vec::new(), Vec::new(), Vec::new());
        let mut b = Builder { state, activations: dtype, kind: config.norm, parameters, norms, affine };
        let conv1 = b.conv("f.conv1", config.image_size[2], 16, 3, 1)?;
        let mut blocks = Vec::new();
        let mut c = 16;
        for (layer, (base, stride)) in [(16, 1), (32, 2), (64, 2)].into_iter().enumerate() {
            let k = base * config.widen_factor;
            for i in 0..(config.depth - 4) / 6 {
                let name = format!("f.layer{}.{i}", layer + 1);
                blocks.push(b.block(&name, c, k, if i == 0 { stride } else { 1 })?);
                c = k;
            }
        }
        let last_bn = b.norm("f.bn1", c)?;
        let energy = config.energy_head.then(|| b.linear("energy_output", c, 1)).transpose()?;
        let head = b.linear("class_output", c, config.classes)?;
        let (parameters, norms, affine) = (b.parameters, b.norms, b.affine);
        let config = config.clone();
        let (dtype, activations) = (dtype.wide(), dtype);
        Ok(Self {
            config,
            parameters,
            norms,
            affine,
            dtype,
            activations,
            fused,
            biases_apart: !fused,
            conv1,
            blocks,
            last_bn,
            head,
            energy,
        })
    }

    /// Draws the initial weights; running means become 0, running variances 1.
    ///
    /// # Errors
    /// [`Error::Engine`] if the state is not the one that the network was added to.
    pub fn initialise(&self, state: &mut State, seed: u64) -> Result<()> {
        for (i, p) in self.parameters.iter().enumerate() {
            let mut rng = Philox::new(seed, streams::INIT, i as u32);
            let mut draw = || match p.init {
                Initializer::FanIn(n) => (2.0 * rng.uniform() - 1.0) / (n as f32).sqrt(),
                Initializer::Constant(c) => c,
            };
            let values: Vec<f32> = (0..p.slot.spec.len()).map(|_| draw()).collect();
            set(state, p.slot, &values)?;
        }
        for n in &self.norms {
            set(state, n.mean, &vec![0.0; n.mean.spec.len()])?;
            set(state, n.var, &vec![1.0; n.var.spec.len()])?;
        }
        self.round(state)
    }

    /// Updates the bf16 copies, if there are any. Must be called after parameters have been set.
    ///
    /// # Errors
    /// [`Error::Engine`] if the state is not the one that the network was added to, or a GPU fails.
    pub fn round(&self, state: &mut State) -> Result<()> {
        for (slot, copy) in self.parameters.iter().filter_map(|p| Some((p.slot, p.bf16?))) {
            let values: Vec<bf16> = state.view::<f32>(slot)?.iter().map(|v| bf16::from_f32(*v)).collect();
            state.set(copy, &values)?;
        }
        Ok(())
    }

    /// Parameter `i` in the form that the network computes with, with respect to which gradients are taken.
    pub(crate) fn used(&self, tape: &mut Tape, i: usize) -> Var {
        let p = &self.parameters[i];
        tape.read(p.bf16.unwrap_or(p.slot))
    }

    /// Number of trainable parameters, counted as single values.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(|p| p.slot.spec.len() as u64).sum()
    }

    /// Parameters and running statistics, with their published names.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Slot)> {
        let parameters = self.parameters.iter().map(|p| (p.name.clone(), p.slot));
        let statistics = self.norms.iter().flat_map(|n| {
            [(format!("{}.running_mean", n.name), n.mean), (format!("{}.running_var", n.name), n.var)]
        });
        parameters.chain(statistics)
    }

    /// Spec of a batch of `n` images, N×H×W×C.
    pub fn images(&self, n: usize) -> Spec {
        let [h, w, c] = self.config.image_size;
        Spec::new(&[n, h, w, c], self.dtype)
    }

    /// Number of features, which the heads are linear functions of: channels of the last block.
    pub fn feature_count(&self) -> usize {
        64 * self.config.widen_factor
    }

    /// Number of values of one image, H·W·C.
    pub fn pixels(&self) -> usize {
        self.config.image_size.iter().product()
    }
}

/// Sets a slot of type float32 or float64 from float32 values.
pub(crate) fn set(state: &mut State, slot: Slot, values: &[f32]) -> Result<()> {
    match slot.spec.dtype {
        DType::F64 => state.set(slot, &values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())?,
        _ => state.set(slot, values)?,
    }
    Ok(())
}

/// The values of a slot of type float32 or float64, as float32.
pub(crate) fn get(state: &State, slot: Slot) -> Result<Vec<f32>> {
    Ok(match slot.spec.dtype {
        DType::F64 => state.fetch::<f64>(slot)?.into_iter().map(|v| v as f32).collect(),
        _ => state.fetch::<f32>(slot)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 36,489,931 with the energy head of the unconditional variant, which the published model always has.
    #[test]
    fn wrn_28_10_has_the_published_number_of_parameters() {
        let mut config = crate::config::Config::preset("jempp").unwrap().model;
        let network = |config: &ModelConfig| Network::new(&mut State::new(), config).unwrap();
        assert_eq!(network(&config).parameter_count() + 641, 36_489_931);
        assert_eq!(network(&config).norms.len(), 25);
        config.energy_head = true;
        assert_eq!(network(&config).parameter_count(), 36_489_931);
        assert_eq!(network(&config).tensors().filter(|(n, _)| n.starts_with("energy_output.")).count(), 2);
    }

    #[test]
    fn other_norms_have_their_published_names_and_no_statistics() {
        let mut config = crate::config::Config::preset("digits").unwrap().model;
        let mut names = |norm| {
            config.norm = norm;
            let network = Network::new(&mut State::new(), &config).unwrap();
            assert!(network.norms.is_empty());
            network.tensors().map(|(n, _)| n).filter(|n| n.contains("layer1.0.bn1")).collect::<Vec<_>>()
        };
        let affine = ["f.layer1.0.bn1.weight", "f.layer1.0.bn1.bias"];
        assert_eq!(names(NormKind::Instance), affine);
        assert_eq!(names(NormKind::Layer), affine);
        assert_eq!(names(NormKind::Act), ["f.layer1.0.bn1.loc", "f.layer1.0.bn1.scale"]);
        assert!(names(NormKind::None).is_empty());
    }

    #[test]
    fn initial_weights_depend_on_the_seed_only() {
        let config = crate::config::Config::preset("digits").unwrap().model;
        let draw = |seed| {
            let mut state = State::new();
            let n = Network::new(&mut state, &config).unwrap();
            n.initialise(&mut state, seed).unwrap();
            get(&state, n.parameters[0].slot).unwrap()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        assert!(draw(3).iter().all(|v| v.abs() <= 1.0 / 3.0) && draw(3).iter().any(|v| v.abs() > 0.2));
    }
}
