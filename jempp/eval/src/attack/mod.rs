//! Robustness: accuracy under attack as a function of ε, and whether these attacks are to be believed.
//!
//! Invariants: an image counts as broken at ε from the smallest ε on at which any adversary was found, so that curves
//! fall; the clean image is tried first; finished portions are kept.

mod audit;
pub mod pgd;

use super::cache::Cache;
use super::{Estimate, Protocol, Watcher, tell};
use engine::rng::Philox;
pub use jempp::ball::Norm;
use jempp::metrics::argmax;
use jempp::model::{Loss, Model};
use jempp::streams;
use jempp::{Error, Result};
use jempp_data::{Dataset, plain_batch};
use pgd::{MOST_RESTARTS, Pgd, Targets};
use serde::{Deserialize, Serialize};

/// Images attacked, and kept, together.
const PORTION: usize = 64;
/// Random perturbations of an image in the audit.
const NOISES: u32 = 20;
/// First step of the random stream of the noises.
const NOISE: u32 = (16 + MOST_RESTARTS) << 24;

/// What is to be tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The ball.
    pub norm: Norm,
    /// Its radii in pixel units, rising.
    pub epsilons: Vec<f64>,
    /// Steps of each restart.
    pub steps: u32,
    /// Length of a step in pixel units; without it [`Plan::step_of`] gives foolbox 3's.
    pub step_size: Option<f64>,
    /// Starts.
    pub restarts: u32,
    /// Whether what survives the cross-entropy is attacked by the margin loss too.
    pub margin: bool,
}

impl Plan {
    /// foolbox 3's defaults (L∞: 40 steps; L2: 50 steps; a random start) at usual radii.
    pub fn usual(norm: Norm) -> Self {
        let (epsilons, steps) = match norm {
            Norm::Linf => ([2.0, 4.0, 8.0, 16.0, 32.0].map(|e| e / 255.0).to_vec(), 40),
            Norm::L2 => (vec![0.25, 0.5, 1.0, 2.0], 50),
        };
        Self { norm, epsilons, steps, step_size: None, restarts: 1, margin: true }
    }

    /// The length of a step at ε: what was asked for, or 0.01/0.3·ε (L∞) and 0.025·ε (L2).
    pub fn step_of(&self, epsilon: f64) -> f64 {
        let share = if self.norm == Norm::Linf { 0.01 / 0.3 } else { 0.025 };
        self.step_size.unwrap_or(share * epsilon)
    }

    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self) -> Result<()> {
        let good = |v: f64| v.is_finite() && v > 0.0;
        let fail = |why: String| Err(Error::Config(why));
        if self.epsilons.is_empty() || !self.epsilons.iter().all(|e| good(*e)) {
            return fail(format!(
                "ε of {:?}: give radii above 0, in units of pixels in [0, 1]",
                self.epsilons
            ));
        }
        if !self.epsilons.is_sorted_by(|a, b| a < b) {
            return fail(format!("ε of {:?}: must rise from each to the next", self.epsilons));
        }
        if self.step_size.is_some_and(|s| !good(s)) || self.steps == 0 {
            let (steps, size) = (self.steps, self.step_size);
            return fail(format!("{steps} steps of {size:?}: both must be above 0"));
        }
        if !(1..=MOST_RESTARTS).contains(&self.restarts) {
            return fail(format!("{} restarts: must be 1 to {MOST_RESTARTS}", self.restarts));
        }
        Ok(())
    }

    fn pgd(&self, epsilon: f64, loss: Loss, stop_early: bool, seed: u64) -> Pgd {
        Pgd {
            norm: self.norm,
            epsilon,
            steps: self.steps,
            step_size: self.step_of(epsilon),
            loss,
            restarts: self.restarts,
            random_start: true,
            stop_early,
            seed,
        }
    }
}

/// Which images are broken, attack by attack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Broken {
    /// By PGD on the cross-entropy; wrong ones from the start.
    entropy: Vec<bool>,
    /// By that or PGD on the margin.
    white: Vec<bool>,
    /// By noise from the ball.
    noise: Vec<bool>,
    /// By PGD on another model; empty without one.
    transfer: Vec<bool>,
}

/// Accuracy at one ε.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The radius, in pixel units.
    pub epsilon: f64,
    /// Under PGD on the cross-entropy.
    pub cross_entropy: Estimate,
    /// Under that and PGD on the margin: the white box.
    pub white_box: Estimate,
    /// Under noise from the ball, the worst of 20 draws.
    pub noise: Estimate,
    /// Under adversaries of another model.
    pub transfer: Option<Estimate>,
    /// Under all of it.
    pub worst: Estimate,
    /// Images that noise or transfer broke and the white box did not.
    pub missed: usize,
}

/// A curve of robustness, and its audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What was attacked, and how.
    pub protocol: Protocol,
    /// The attack.
    pub plan: Plan,
    /// Accuracy without attack.
    pub clean: Estimate,
    /// At each ε.
    pub points: Vec<Point>,
    /// The model that adversaries were transferred from.
    pub transfer_from: Option<String>,
    /// Signs that the gradient misleads the attack, so that robustness is less than it seems; none is no proof.
    pub masking: Vec<String>,
}

/// Images to be attacked.
#[derive(Clone, Copy, Debug)]
pub struct Subjects<'a> {
    /// The data set.
    pub set: &'a Dataset,
    /// The images.
    pub indices: &'a [u32],
}

/// What attacks: the plan, and a model whose adversaries are tried too, with its name.
#[derive(Clone, Copy, Debug)]
pub struct Attack<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The other model.
    pub source: Option<(&'a Model, &'a str)>,
}

/// Attacks a model at each ε of the plan, and audits the outcome.
///
/// # Errors
/// Those of [`Plan::check`] and of the models; [`Error::Data`] when the other model takes other images;
/// [`Error::Cancelled`].
pub fn curve(
    model: &Model,
    subjects: Subjects<'_>,
    attack: &Attack<'_>,
    protocol: Protocol,
    cache: &Cache,
    watch: &mut Watcher<'_>,
) -> Result<Curve> {
    let (plan, indices) = (attack.plan, subjects.indices);
    plan.check()?;
    if let Some((other, name)) = attack.source {
        let (own, its) = (&model.network().config, &other.network().config);
        if own.image_size != its.image_size || own.classes != its.classes {
            return Err(Error::Data(format!(
                "{name}: takes images of {:?} in {} classes, the model those of {:?} in {}",
                its.image_size, its.classes, own.image_size, own.classes
            )));
        }
    }
    let stamp = format!("{plan:?} {:?}", attack.source.map(|s| s.0.crc32c()).transpose()?);
    let cache = cache.with(&stamp);
    let mut broken: Vec<Broken> = vec![Broken::default(); indices.len().div_ceil(PORTION)];
    let what = format!("attack {}", plan.norm.name());
    let portions = plan.epsilons.len() * broken.len();
    let (mut points, mut done) = (Vec::new(), 0);
    let clean = cache.part(&format!("attack-{}-clean", plan.norm.name()), || clean(model, subjects))?;
    for (e, epsilon) in plan.epsilons.iter().enumerate() {
        for (k, part) in indices.chunks(PORTION).enumerate() {
            let name = format!("attack-{}-{e:02}-{k:04}", plan.norm.name());
            let before = broken[k].clone();
            let one =
                One { model, attack, subjects, first: k * PORTION, epsilon: *epsilon, seed: protocol.seed };
            let wrong = &clean[k * PORTION..k * PORTION + part.len()];
            broken[k] = cache.part(&name, || {
                let mut tick = || tell(watch, &what, done, portions);
                one.run(part, before, wrong, &mut tick)
            })?;
            done += 1;
            tell(watch, &what, done, portions)?;
        }
        points.push(point(*epsilon, &broken));
    }
    let wrong = clean.iter().filter(|w| **w).count();
    let clean = Estimate::share(indices.len() - wrong, indices.len());
    let masking = audit::masking(plan.norm, indices.len(), &points, &clean);
    let (plan, transfer_from) = (plan.clone(), attack.source.map(|s| s.1.to_owned()));
    Ok(Curve { protocol, plan, clean, points, transfer_from, masking })
}

/// Which images are wrong as they are.
fn clean(model: &Model, s: Subjects<'_>) -> Result<Vec<bool>> {
    let mut out = Vec::with_capacity(s.indices.len());
    for part in s.indices.chunks(PORTION) {
        let (x, labels) = load(s.set, part)?;
        out.extend(wrong(model, &x, &labels)?);
    }
    Ok(out)
}

fn load(set: &Dataset, part: &[u32]) -> Result<(Vec<f32>, Vec<i32>)> {
    let mut x = vec![0.0; part.len() * set.pixels()];
    plain_batch(set, part, &mut x)?;
    let mut labels = vec![0; part.len()];
    set.labels_of(part, &mut labels)?;
    Ok((x, labels.into_iter().map(i32::from).collect()))
}

fn wrong(model: &Model, x: &[f32], labels: &[i32]) -> Result<Vec<bool>> {
    let logits = model.logits(x)?;
    let rows = logits.chunks_exact(model.network().config.classes).zip(labels);
    Ok(rows.map(|(row, l)| argmax(row) != *l as usize).collect())
}

/// One portion at one ε.
struct One<'a> {
    model: &'a Model,
    attack: &'a Attack<'a>,
    subjects: Subjects<'a>,
    /// Number of its first image.
    first: usize,
    epsilon: f64,
    seed: u64,
}

impl One<'_> {
    fn run(
        &self,
        part: &[u32],
        before: Broken,
        clean: &[bool],
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Broken> {
        let (x, labels) = load(self.subjects.set, part)?;
        // What broke at a smaller ε, or is wrong unharmed, is broken here.
        let start = |b: Vec<bool>| if b.is_empty() { clean.to_vec() } else { b };
        let mut b = Broken {
            entropy: start(before.entropy),
            white: start(before.white),
            noise: start(before.noise),
            transfer: if self.attack.source.is_some() { start(before.transfer) } else { Vec::new() },
        };
        self.white(&x, &labels, Loss::CrossEntropy, &mut b.entropy, tick)?;
        b.white.iter_mut().zip(&b.entropy).for_each(|(w, e)| *w |= *e);
        if self.attack.plan.margin {
            self.white(&x, &labels, Loss::Margin, &mut b.white, tick)?;
        }
        self.noise(&x, &labels, &mut b.noise, tick)?;
        if let Some((source, _)) = self.attack.source {
            let numbers: Vec<u32> = (0..part.len()).map(|i| (self.first + i) as u32).collect();
            let pgd = self.attack.plan.pgd(self.epsilon, Loss::CrossEntropy, false, self.seed);
            let t = Targets { images: &x, labels: &labels, numbers: &numbers };
            let moved = pgd.run(source, &t, tick)?.images;
            for (b, w) in b.transfer.iter_mut().zip(wrong(self.model, &moved, &labels)?) {
                *b |= w;
            }
        }
        Ok(b)
    }

    /// Attacks what is not broken yet.
    fn white(
        &self,
        x: &[f32],
        labels: &[i32],
        loss: Loss,
        broken: &mut [bool],
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let left = self.left(x, labels, broken);
        let pgd = self.attack.plan.pgd(self.epsilon, loss, true, self.seed);
        let t = Targets { images: &left.images, labels: &left.labels, numbers: &left.numbers };
        let outcome = pgd.run(self.model, &t, tick)?;
        left.rows.iter().zip(outcome.broken).for_each(|(i, b)| broken[*i] |= b);
        Ok(())
    }

    fn noise(
        &self,
        x: &[f32],
        labels: &[i32],
        broken: &mut [bool],
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let norm = self.attack.plan.norm;
        for draw in 0..NOISES {
            let left = self.left(x, labels, broken);
            if left.rows.is_empty() {
                break;
            }
            tick()?;
            let px = x.len() / labels.len();
            let noisy = |(i, image): (&u32, &[f32])| {
                let mut rng = Philox::new(self.seed, streams::EVAL, NOISE + (draw << 24) + i);
                norm.random(image, 2.0 * self.epsilon, &mut rng)
            };
            let moved: Vec<f32> =
                left.numbers.iter().zip(left.images.chunks_exact(px)).flat_map(noisy).collect();
            let wrong = wrong(self.model, &moved, &left.labels)?;
            left.rows.iter().zip(wrong).for_each(|(i, w)| broken[*i] |= w);
        }
        Ok(())
    }

    fn left(&self, x: &[f32], labels: &[i32], broken: &[bool]) -> Left {
        let px = x.len() / labels.len().max(1);
        let rows: Vec<usize> = (0..labels.len()).filter(|i| !broken[*i]).collect();
        Left {
            images: rows.iter().flat_map(|i| x[i * px..(i + 1) * px].iter().copied()).collect(),
            labels: rows.iter().map(|i| labels[*i]).collect(),
            numbers: rows.iter().map(|i| (self.first + i) as u32).collect(),
            rows,
        }
    }
}

/// The images of a portion that stand.
struct Left {
    rows: Vec<usize>,
    images: Vec<f32>,
    labels: Vec<i32>,
    numbers: Vec<u32>,
}

fn point(epsilon: f64, broken: &[Broken]) -> Point {
    let n: usize = broken.iter().map(|b| b.white.len()).sum();
    let share = |f: &dyn Fn(&Broken, usize) -> bool| {
        let count = |b: &Broken| (0..b.white.len()).filter(|i| f(b, *i)).count();
        broken.iter().map(count).sum::<usize>()
    };
    let standing = |f: &dyn Fn(&Broken, usize) -> bool| Estimate::share(n - share(f), n);
    let other = |b: &Broken, i: usize| b.noise[i] || b.transfer.get(i).is_some_and(|t| *t);
    let transferred = broken.iter().any(|b| !b.transfer.is_empty());
    Point {
        epsilon,
        cross_entropy: standing(&|b, i| b.entropy[i]),
        white_box: standing(&|b, i| b.white[i]),
        noise: standing(&|b, i| b.noise[i]),
        transfer: transferred.then(|| standing(&|b, i| b.transfer[i])),
        worst: standing(&|b, i| b.white[i] || other(b, i)),
        missed: share(&|b, i| !b.white[i] && other(b, i)),
    }
}
