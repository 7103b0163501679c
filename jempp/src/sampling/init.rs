//! Where chains start: rows of the replay buffer, restarts from the informative distribution of the training images or
//! from uniform noise, and the initial content of the buffer.

use crate::config::{Init, Prior, SamplerConfig};
use crate::error::{Error, Result};
use crate::streams;
use engine::ops::augment::{Args, Augment};
use engine::ops::replay::{GatherRows, Restart, RestartKind};
use engine::rng::{Philox, Stream};
use engine::{DType, Device, HostTensor, Plan, Slot, Spec, State, Tape, Var};
use jempp_data::Dataset;

/// The training images in the state, sorted by class, with the mean of each class: what batches are taken from and fresh
/// chains are drawn from.
#[derive(Clone, Copy, Debug)]
pub struct TrainingImages {
    images: Slot,
    size: [usize; 3],
    offsets: Slot,
    means: Slot,
    seed: Slot,
}

impl TrainingImages {
    /// Copies the images `indices` of `set` into the state, sorted by class. Also returns the row of each image of `set`
    /// there, or −1 for an image that is not among `indices`.
    ///
    /// # Errors
    /// If there is no memory, or an index is out of range.
    pub fn new(state: &mut State, set: &Dataset, indices: &[u32], seed: Slot) -> Result<(Self, Vec<i32>)> {
        let (classes, pixels) = (set.classes(), set.pixels());
        let mut labels = vec![0; indices.len()];
        set.labels_of(indices, &mut labels)?;
        let mut order: Vec<usize> = (0..indices.len()).collect();
        order.sort_by_key(|&i| labels[i]);
        let mut rows = vec![-1; set.len()];
        for (row, &i) in order.iter().enumerate() {
            if let Some(r) = rows.get_mut(indices[i] as usize) {
                *r = row as i32;
            }
        }
        let mut images = Vec::with_capacity(indices.len() * pixels);
        let mut means = vec![0.0f64; classes * pixels];
        let mut counts = vec![0i32; classes];
        for i in order {
            let image =
                set.image(indices[i]).ok_or_else(|| Error::Data("image index out of range".into()))?;
            images.extend_from_slice(image);
            let c = usize::from(labels[i]);
            counts[c] += 1;
            let mean = &mut means[c * pixels..(c + 1) * pixels];
            mean.iter_mut().zip(image).for_each(|(m, u)| *m += f64::from(jempp_formats::pixels::value(*u)));
        }
        let mut offsets = vec![0i32];
        counts.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
        let means: Vec<f32> = means
            .iter()
            .enumerate()
            .map(|(i, m)| (m / f64::from(counts[i / pixels].max(1))) as f32)
            .collect();
        let training = Self {
            size: set.size(),
            images: state.add("init.images", Spec::new(&[indices.len(), pixels], DType::U8))?,
            offsets: state.add("init.offsets", Spec::i32(&[classes + 1]))?,
            means: state.add("init.means", Spec::f32(&[classes, pixels]))?,
            seed,
        };
        state.set(training.images, &images)?;
        state.set(training.offsets, &offsets)?;
        state.set(training.means, &means)?;
        Ok((training, rows))
    }

    /// Records a batch `[n, H, W, C]` of the rows `index`, `i32[n]`, augmented by `args` with the random numbers of
    /// `stream` at the iteration `step`, `i32[1]`.
    ///
    /// # Errors
    /// If the padding of the random crop is too wide for the images.
    pub(crate) fn batch(
        self,
        tape: &mut Tape,
        args: Args,
        stream: Stream,
        index: Var,
        step: Var,
    ) -> Result<Var> {
        let (images, seed) = (tape.read(self.images), tape.read(self.seed));
        Ok(tape.one(Augment { args, size: self.size, stream }, &[images, index, seed, step])?)
    }

    /// Class means, `[classes, H·W·C]`.
    pub(crate) fn means(&self) -> Slot {
        self.means
    }

    /// The first row of each class, then the number of images: `i32[classes + 1]`.
    pub fn offsets(&self) -> Slot {
        self.offsets
    }

    /// Records the restart of some rows of `x`; also returns the inputs: kinds and classes of the restarts, round.
    fn record_restart(self, tape: &mut Tape, x: Var, stream: Stream) -> Result<(Var, [Var; 3])> {
        let n = tape.spec(x)?.first();
        let (kind, class) = (tape.input("kind", Spec::i32(&[n])), tape.input("class", Spec::i32(&[n])));
        let step = tape.input("round", Spec::i32(&[1]));
        let data = [self.images, self.offsets, self.means, self.seed].map(|s| tape.read(s));
        let fresh =
            tape.one(Restart { stream }, &[x, kind, class, data[0], data[1], data[2], data[3], step])?;
        Ok((fresh, [kind, class, step]))
    }
}

/// The random choices of one sampling round, one entry per chain: where it starts, and whether it is restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundPlan {
    /// Its row in the replay buffer.
    pub index: Vec<i32>,
    /// Whether it is kept or restarted, and how: a [`RestartKind`].
    pub kind: Vec<i32>,
    /// The class of an informative restart; of a conditional chain, its label.
    pub class: Vec<i32>,
}

impl RoundPlan {
    /// The choices of round `round` for `n` chains. `offsets` gives the class frequencies as [`TrainingImages::offsets`]
    /// does; with `labels`, one per chain, chains come from their label's part of the buffer and restart in its class.
    pub fn new(
        s: &SamplerConfig,
        n: usize,
        seed: u64,
        round: u32,
        offsets: &[i32],
        labels: Option<&[i32]>,
    ) -> Self {
        let mut plan = Self::default();
        plan.redraw(s, n, seed, round, offsets, labels);
        plan
    }

    /// Replaces the choices by those of another round, as [`RoundPlan::new`] draws them, without new allocations.
    pub fn redraw(
        &mut self,
        s: &SamplerConfig,
        n: usize,
        seed: u64,
        round: u32,
        offsets: &[i32],
        labels: Option<&[i32]>,
    ) {
        let classes = offsets.len().saturating_sub(1).max(1);
        let total = offsets.last().copied().unwrap_or(1) as u32;
        let mut rng = Philox::new(seed, streams::CHAINS, round);
        [&mut self.index, &mut self.kind, &mut self.class].into_iter().for_each(Vec::clear);
        for i in 0..n {
            let part = s.buffer_size / classes;
            let row = match labels {
                Some(l) => l[i] as u32 * part as u32 + rng.below(part as u32),
                None => rng.below(s.buffer_size as u32),
            };
            let u = f64::from(rng.uniform());
            let kind = if u < s.reinit_freq {
                if s.init == Init::Uniform { RestartKind::Uniform } else { RestartKind::Informative }
            } else if u < s.reinit_freq + s.uniform_reinit_freq {
                RestartKind::Uniform
            } else {
                RestartKind::Keep
            };
            let image = rng.below(total) as i32;
            let class = match (labels, s.init_prior) {
                (Some(l), _) => l[i],
                (None, Prior::Data) => offsets[1..].iter().take_while(|&&o| o <= image).count() as i32,
                (None, Prior::Uniform) => rng.below(classes as u32) as i32,
            };
            self.index.push(row as i32);
            self.kind.push(kind as i32);
            self.class.push(class);
        }
    }
}

/// The program that starts a sampling round: copies rows of the replay buffer, some of them restarted, into the chains'
/// slot.
#[derive(Debug)]
pub(crate) struct InitChains {
    plan: Plan,
    index: Var,
    /// Kinds and classes of the restarts, round.
    restart: [Var; 3],
}

impl InitChains {
    /// Records and plans the program.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn new(device: &Device, buffer: Slot, chain: Slot, images: TrainingImages) -> Result<Self> {
        let mut tape = Tape::new();
        let old = tape.read(buffer);
        let index = tape.input("index", Spec::i32(&[chain.spec.first()]));
        let x = tape.one(GatherRows, &[old, index])?;
        let (x, restart) = images.record_restart(&mut tape, x, streams::RESTART)?;
        tape.assign(chain, x)?;
        Ok(Self { plan: tape.plan(device, &[])?, index, restart })
    }

    /// The host inputs of the round `plan`, whose number is `round`.
    pub(crate) fn inputs<'a>(&self, plan: &'a RoundPlan, round: &'a [i32; 1]) -> [(Var, HostTensor<'a>); 4] {
        let [kind, class, step] = self.restart;
        [
            (self.index, HostTensor::I32(&plan.index)),
            (kind, HostTensor::I32(&plan.kind)),
            (class, HostTensor::I32(&plan.class)),
            (step, HostTensor::I32(round)),
        ]
    }

    /// The planned program.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The planned program, to be run within a sequence.
    pub(crate) fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }
}

/// Draws fresh chains, one for each of `classes`, n×H×W×C in [−1, 1]: from the informative distribution of the classes, or
/// from uniform noise. `random` names the random stream and the step in it; `shape` is the spec of any number of images.
///
/// # Errors
/// If there is no memory.
pub fn fresh(
    device: &Device,
    state: &mut State,
    images: TrainingImages,
    shape: Spec,
    classes: &[i32],
    init: Init,
    random: (Stream, u32),
) -> Result<Vec<f32>> {
    let mut tape = Tape::new();
    let spec = shape.with_first(classes.len());
    let zeros = tape.one(engine::ops::elementwise::Fill { spec, value: 0.0 }, &[])?;
    let (x, [kind, class, step]) = images.record_restart(&mut tape, zeros, random.0)?;
    let mut plan = tape.plan(device, &[x])?;
    let restart = if init == Init::Uniform { RestartKind::Uniform } else { RestartKind::Informative };
    let (kinds, number) = (vec![restart as i32; classes.len()], [random.1 as i32]);
    let inputs = [
        (kind, HostTensor::I32(&kinds)),
        (class, HostTensor::I32(classes)),
        (step, HostTensor::I32(&number)),
    ];
    plan.run(state, &inputs)?;
    Ok(plan.fetch::<f32>(x)?)
}

/// Fills the replay buffer with fresh chains, in class order and equally many of each class.
///
/// # Errors
/// If there is no memory.
pub(crate) fn fill_buffer(
    device: &Device,
    state: &mut State,
    images: TrainingImages,
    buffer: Slot,
    s: &SamplerConfig,
    classes: usize,
) -> Result<()> {
    const CHUNK: usize = 250;
    let (rows, row) = (buffer.spec.first(), buffer.spec.row_len());
    for (chunk, start) in (0..rows).step_by(CHUNK).enumerate() {
        let end = (start + CHUNK).min(rows);
        let class: Vec<i32> = (start..end).map(|i| (i * classes / rows) as i32).collect();
        let random = (streams::BUFFER_FILL, chunk as u32);
        let x = fresh(device, state, images, buffer.spec, &class, s.init, random)?;
        state.set_at(buffer, start * row, &x)?;
    }
    Ok(())
}
