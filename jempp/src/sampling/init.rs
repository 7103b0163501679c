//! Where chains start: rows of the buffer, restarts from the data's classes or from noise, and the buffer's first fill.

use crate::config::{Init, Prior, SamplerConfig};
use crate::error::{Error, Result};
use crate::streams;
use engine::ops::augment::{Args, Augment};
use engine::ops::replay::{GatherRows, Restart, RestartKind};
use engine::rng::{Philox, Stream};
use engine::{DType, Device, HostTensor, Plan, Slot, Spec, State, Tape, Var};
use jempp_data::Dataset;

/// What fresh chains are drawn from: the training images by class.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    images: Slot,
    size: [usize; 3],
    offsets: Slot,
    means: Slot,
    seed: Slot,
}

impl Source {
    /// Copies the images `indices` of `set`, sorted by class, into the state; says for each image of `set` which row it
    /// is there, or −1.
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
        let source = Self {
            size: set.size(),
            images: state.add("init.images", Spec::new(&[indices.len(), pixels], DType::U8))?,
            offsets: state.add("init.offsets", Spec::i32(&[classes + 1]))?,
            means: state.add("init.means", Spec::f32(&[classes, pixels]))?,
            seed,
        };
        state.set(source.images, &images)?;
        state.set(source.offsets, &offsets)?;
        state.set(source.means, &means)?;
        Ok((source, rows))
    }

    /// Records a batch of its images: rows `index`, `i32[n]`, as `args` says, at `step`, `i32[1]`. `[n, H, W, C]`.
    ///
    /// # Errors
    /// If the border is too wide for the images.
    pub fn batch(self, tape: &mut Tape, args: Args, stream: Stream, index: Var, step: Var) -> Result<Var> {
        let (images, seed) = (tape.read(self.images), tape.read(self.seed));
        Ok(tape.one(Augment { args, size: self.size, stream }, &[images, index, seed, step])?)
    }

    /// Class means [classes, H·W·C].
    pub fn means(&self) -> Slot {
        self.means
    }

    /// First image of each class, and their number.
    pub fn offsets(&self) -> Slot {
        self.offsets
    }

    fn record(self, tape: &mut Tape, x: Var, stream: Stream) -> Result<(Var, [Var; 3])> {
        let n = tape.spec(x)?.first();
        let (kind, class) = (tape.input("kind", Spec::i32(&[n])), tape.input("class", Spec::i32(&[n])));
        let step = tape.input("round", Spec::i32(&[1]));
        let data = [self.images, self.offsets, self.means, self.seed].map(|s| tape.read(s));
        let fresh =
            tape.one(Restart { stream }, &[x, kind, class, data[0], data[1], data[2], data[3], step])?;
        Ok((fresh, [kind, class, step]))
    }
}

/// The choices of one sampling round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    /// Buffer rows.
    pub index: Vec<i32>,
    /// A [`RestartKind`] each.
    pub kind: Vec<i32>,
    /// Class of an informative restart, or the label of a conditional chain.
    pub class: Vec<i32>,
}

impl Draw {
    /// The choices of round `round` for n chains. `offsets` gives the class frequencies; with `labels`, chains come
    /// from the label's part of the buffer and restart in its class.
    pub fn new(
        s: &SamplerConfig,
        n: usize,
        seed: u64,
        round: u32,
        offsets: &[i32],
        labels: Option<&[i32]>,
    ) -> Self {
        let mut draw = Self::default();
        draw.again(s, n, seed, round, offsets, labels);
        draw
    }

    /// The choices of another round, as [`Draw::new`], in the same memory.
    pub fn again(
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

/// The start of a sampling round: rows of the buffer, some of them restarted, into the chains' slot.
#[derive(Debug)]
pub struct Begin {
    plan: Plan,
    index: Var,
    rest: [Var; 3],
}

impl Begin {
    /// Records and plans the program.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(device: &Device, buffer: Slot, chain: Slot, source: Source) -> Result<Self> {
        let mut tape = Tape::new();
        let old = tape.read(buffer);
        let index = tape.input("index", Spec::i32(&[chain.spec.first()]));
        let x = tape.one(GatherRows, &[old, index])?;
        let (x, rest) = source.record(&mut tape, x, streams::RESTART)?;
        tape.assign(chain, x)?;
        Ok(Self { plan: tape.plan(device, &[])?, index, rest })
    }

    /// The inputs of a round, whose number is `round`.
    pub fn inputs<'a>(&self, draw: &'a Draw, round: &'a [i32; 1]) -> [(Var, HostTensor<'a>); 4] {
        let [kind, class, step] = self.rest;
        [
            (self.index, HostTensor::I32(&draw.index)),
            (kind, HostTensor::I32(&draw.kind)),
            (class, HostTensor::I32(&draw.class)),
            (step, HostTensor::I32(round)),
        ]
    }

    /// The program, to be run as part of others.
    pub fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }
}

/// Draws `n` fresh chains: of the given classes, or uniform noise. Values in [−1, 1], n×H×W×C.
///
/// # Errors
/// If there is no memory.
pub fn fresh(
    device: &Device,
    state: &mut State,
    source: Source,
    images: Spec,
    classes: &[i32],
    init: Init,
    place: (Stream, u32),
) -> Result<Vec<f32>> {
    let mut tape = Tape::new();
    let spec = images.with_first(classes.len());
    let zeros = tape.one(engine::ops::elementwise::Fill { spec, value: 0.0 }, &[])?;
    let (x, [kind, class, step]) = source.record(&mut tape, zeros, place.0)?;
    let mut plan = tape.plan(device, &[x])?;
    let of = if init == Init::Uniform { RestartKind::Uniform } else { RestartKind::Informative };
    let (kinds, number) = (vec![of as i32; classes.len()], [place.1 as i32]);
    let inputs = [
        (kind, HostTensor::I32(&kinds)),
        (class, HostTensor::I32(classes)),
        (step, HostTensor::I32(&number)),
    ];
    plan.run(state, &inputs)?;
    Ok(plan.fetch::<f32>(x)?)
}

/// Fills the buffer: rows in class order, as many of each class, from the law that chains restart from.
///
/// # Errors
/// If there is no memory.
pub fn fill_buffer(
    device: &Device,
    state: &mut State,
    source: Source,
    buffer: Slot,
    s: &SamplerConfig,
    classes: usize,
) -> Result<()> {
    const CHUNK: usize = 250;
    let (rows, row) = (buffer.spec.first(), buffer.spec.row_len());
    for (chunk, start) in (0..rows).step_by(CHUNK).enumerate() {
        let end = (start + CHUNK).min(rows);
        let class: Vec<i32> = (start..end).map(|i| (i * classes / rows) as i32).collect();
        let place = (streams::BUFFER_FILL, chunk as u32);
        let x = fresh(device, state, source, buffer.spec, &class, s.init, place)?;
        state.set_at(buffer, start * row, &x)?;
    }
    Ok(())
}
