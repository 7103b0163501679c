//! The starts of chains: the model's start samples, a pool of images, noise, or given images.
//!
//! Invariant: the first k of n starts are the k starts of a call for k.

use super::{CHUNK, START, SampleOptions};
use crate::error::{Error, Result};
use crate::metrics::argmax;
use crate::model::{Model, StartSamples};
use crate::streams;
use engine::rng::Philox;

/// Standard deviation of the pixel noise of an informative restart, as in training.
const PIXEL_NOISE: f32 = 1e-2;

/// Where chains start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Start<'a> {
    /// At the samples of the informative distribution that the model carries: those of the chain's class if it follows
    /// one, else of any class. When they run out, more are drawn from their means and covariances.
    #[default]
    StartSamples,
    /// At images of a pool (such as the replay buffer of a checkpoint), n×H×W×C, in random order, starting over when it is
    /// exhausted. A chain that follows a class starts at an image for which the model predicts this class, if there is
    /// one.
    Pool(&'a [f32]),
    /// At uniform noise in [−1, 1].
    Noise,
    /// At these images, one per chain, n×H×W×C.
    Images(&'a [f32]),
}

/// The starts of all chains, n×H×W×C. Chains beyond the first `asked`, which are companions, share the given images with these.
pub(super) fn starts(model: &Model, options: &SampleOptions<'_>, asked: usize) -> Result<Vec<f32>> {
    let (n, px) = (options.n, model.network().pixels());
    let mut rng = Philox::new(options.seed, streams::SAMPLE, START);
    match options.start {
        Start::Noise => Ok((0..n * px).map(|_| 2.0 * rng.uniform() - 1.0).collect()),
        Start::Images(x) => {
            if x.len() != asked * px {
                return Err(Error::Data(format!(
                    "starts hold {} values, not {asked} images of {px}",
                    x.len()
                )));
            }
            check_finite(x, px)?;
            Ok(x.iter().copied().cycle().take(n * px).collect())
        }
        Start::Pool(pool) => from_pool(model, options, pool, &mut rng),
        Start::StartSamples => {
            let missing = "the model carries no start samples; start from the chains of its training (--start buffer), if its \
                        file has them, or from noise (--start noise)";
            let samples = model.start_samples()?.ok_or_else(|| Error::Data(missing.into()))?;
            from_start_samples(samples, px, options, &mut rng)
        }
    }
}

/// [`Error::Data`] if a start is not finite.
fn check_finite(images: &[f32], px: usize) -> Result<()> {
    match images.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::Data(format!("start {} holds {}", i / px, images[i]))),
        None => Ok(()),
    }
}

/// Hands out rows in a fixed order, group by group, starting over when a group is exhausted.
struct RowOrder {
    rows: Vec<Vec<usize>>,
    next: Vec<usize>,
}

impl RowOrder {
    /// With the rows of each group in their order.
    fn new(rows: Vec<Vec<usize>>) -> Self {
        let next = vec![0; rows.len()];
        Self { rows, next }
    }

    /// The next row of `group`, and whether it was handed out before.
    fn next(&mut self, group: usize) -> Option<(usize, bool)> {
        let (rows, next) = (self.rows.get(group)?, self.next.get_mut(group)?);
        let i = *next;
        *next += 1;
        rows.get(i % rows.len().max(1)).map(|r| (*r, i >= rows.len()))
    }
}

fn from_pool(model: &Model, options: &SampleOptions<'_>, pool: &[f32], rng: &mut Philox) -> Result<Vec<f32>> {
    let px = model.network().pixels();
    if pool.is_empty() || !pool.len().is_multiple_of(px) {
        return Err(Error::Data(format!("the pool holds {} values, not whole images of {px}", pool.len())));
    }
    check_finite(pool, px)?;
    let mut all: Vec<usize> = (0..pool.len() / px).collect();
    rng.shuffle(&mut all);
    let mut by_class = match &options.labels {
        Some(_) => RowOrder::new(by_predicted_class(model, pool, &all, options.n)?),
        None => RowOrder::new(Vec::new()),
    };
    let mut any = RowOrder::new(vec![all]);
    let mut out = Vec::with_capacity(options.n * px);
    for i in 0..options.n {
        let own = options.labels.as_ref().and_then(|l| by_class.next(l[i] as usize));
        let (row, _) = own.or_else(|| any.next(0)).unwrap_or_default();
        out.extend_from_slice(&pool[row * px..(row + 1) * px]);
    }
    Ok(out)
}

/// For each class the first `most` rows of `pool`, n×H×W×C, for which the model predicts the class, going through the rows
/// in the order `order`; it stops when all classes have as many.
///
/// # Errors
/// Those of [`Model::scores`].
pub(crate) fn by_predicted_class(
    model: &Model,
    pool: &[f32],
    order: &[usize],
    most: usize,
) -> Result<Vec<Vec<usize>>> {
    let (px, classes) = (model.network().pixels(), model.network().config.classes);
    let mut rows = vec![Vec::new(); classes];
    for part in order.chunks(CHUNK) {
        let images: Vec<f32> = part.iter().flat_map(|r| pool[r * px..(r + 1) * px].iter().copied()).collect();
        let logits = model.logits(&images)?;
        for (row, logits) in part.iter().zip(logits.chunks_exact(classes)) {
            let of = &mut rows[argmax(logits)];
            if of.len() < most {
                of.push(*row);
            }
        }
        if rows.iter().all(|r: &Vec<usize>| r.len() >= most) {
            break;
        }
    }
    Ok(rows)
}

fn from_start_samples(
    samples: &StartSamples,
    px: usize,
    options: &SampleOptions<'_>,
    rng: &mut Philox,
) -> Result<Vec<f32>> {
    let classes = samples.means.len() / px;
    if samples.means.len() != classes * px || samples.draws.len() != samples.classes.len() * px {
        return Err(Error::Data(format!("the model's start samples are not images of {px} values")));
    }
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (i, c) in samples.classes.iter().enumerate() {
        let unknown = || Error::Data(format!("start sample {i} is of class {c}, which has no mean"));
        usize::try_from(*c).ok().and_then(|c| rows.get_mut(c)).ok_or_else(unknown)?.push(i);
    }
    let mut all: Vec<usize> = (0..samples.classes.len()).collect();
    rng.shuffle(&mut all);
    let mut own = rows.clone();
    own.iter_mut().for_each(|r| rng.shuffle(r));
    let (mut by_class, mut any) = (RowOrder::new(own), RowOrder::new(vec![all]));
    let mut out = Vec::with_capacity(options.n * px);
    for i in 0..options.n {
        let label = options.labels.as_ref().map(|l| l[i]);
        let drawn = match label {
            Some(l) => by_class.next(l as usize),
            None => any.next(0),
        };
        match drawn {
            Some((row, false)) => out.extend_from_slice(&samples.draws[row * px..(row + 1) * px]),
            Some((row, true)) => draw_more(samples, px, samples.classes[row] as usize, &rows, rng, &mut out),
            None => {
                return Err(Error::Data(format!("the model carries no start samples of class {label:?}")));
            }
        }
    }
    Ok(out)
}

/// One more sample of a class: μ + n^-½ Σ z (x − μ) + 10⁻²ξ over the n start samples x of the class, clipped to
/// [−1, 1]. It has their mean and covariance.
fn draw_more(
    samples: &StartSamples,
    px: usize,
    class: usize,
    rows: &[Vec<usize>],
    rng: &mut Philox,
    out: &mut Vec<f32>,
) {
    let mean = &samples.means[class * px..(class + 1) * px];
    let mut x = mean.to_vec();
    let factor = 1.0 / (rows[class].len().max(1) as f32).sqrt();
    for row in &rows[class] {
        let z = factor * rng.normal();
        let draw = &samples.draws[row * px..(row + 1) * px];
        x.iter_mut().zip(draw.iter().zip(mean)).for_each(|(x, (d, m))| *x += z * (d - m));
    }
    out.extend(x.iter().map(|x| (x + PIXEL_NOISE * rng.normal()).clamp(-1.0, 1.0)));
}
