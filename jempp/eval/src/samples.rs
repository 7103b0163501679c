//! What a model draws: grids of chains, the best and the worst by its own scores, nearest training images, and what the
//! chains of the replay buffer are like.
//!
//! Invariant: no image is chosen by hand. Where some are shown for their score the grid says so; all others are taken in
//! an order drawn from the seed.

mod buffer;
mod nearest;

use super::{Watcher, tell};
pub use buffer::{Ages, Buffer, ages, saturation};
use engine::rng::Philox;
use jempp::config::Config;
use jempp::evaluation::Subject;
use jempp::metrics::{argmax, softmax};
use jempp::model::{Model, Scores};
use jempp::sampling::draw::{Film, SampleOptions, Start, replay_buffer, sample, sample_filmed};
use jempp::streams;
use jempp::{Error, Result};
use jempp_formats::grid::{save_animation, save_cells, save_grid};
pub use nearest::{Nearest, nearest};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Images in a row.
const COLUMNS: usize = 10;
/// Rows of a grid by class, at most.
const CLASSES: usize = 20;
/// Chains in the animation.
const FILMED: usize = 20;
/// Samples compared with the training images, and test images as a yardstick.
const COMPARED: usize = 100;
/// Rows of the grid of neighbours, and neighbours in each.
const SHOWN: (usize, usize) = (10, 5);

/// A picture and what it shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Its file in the evaluation's folder.
    pub file: String,
    /// What it shows, and how its images were chosen.
    pub caption: String,
}

/// What is known of a model's samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// Seed of starts, noise and orders.
    pub seed: u64,
    /// Outer steps of fresh chains.
    pub steps: u32,
    /// Mean unnormalised log p(x) of fresh chains of log p(x), and mean max p(y|x).
    pub fresh: Option<[f64; 2]>,
    /// The replay buffer, if the run kept one.
    pub buffer: Option<Buffer>,
    /// Samples beside the training images.
    pub nearest: Option<Nearest>,
    /// The pictures.
    pub pictures: Vec<Picture>,
}

/// Draws, judges and pictures the samples of the model at `path`, into the folder `out`.
///
/// # Errors
/// [`Error::Data`] for images that are no pictures; those of [`sample`]; [`Error::Io`].
pub fn samples(
    (model, path): (&Model, &Path),
    config: &Config,
    subject: &Subject,
    out: &Path,
    watch: &mut Watcher<'_>,
) -> Result<Samples> {
    let size = model.network().config.image_size;
    if size[2] != 1 && size[2] != 3 {
        return Err(Error::Data(format!("images of {} channels are no pictures", size[2])));
    }
    let mut s = Sampler { model, size, out, seed: subject.seed, pictures: Vec::new() };
    s.centres()?;
    let options = SampleOptions { seed: s.seed, ..SampleOptions::new(config) };
    let (mut fresh, mut buffer, mut near) = (None, None, None);
    if config.train.p_x_weight > 0.0 || config.train.p_x_y_weight > 0.0 {
        let images = s.fresh(&options, watch)?;
        fresh = Some(s.means(&images)?);
        s.by_class(&options, watch)?;
        s.film(&options, watch)?;
        let kept = replay_buffer(path, model).ok();
        if let Some(kept) = &kept {
            s.best_and_worst(kept, watch)?;
            tell(watch, "chains", 0, 1)?;
            buffer = Some(buffer::describe(model, config, kept, s.seed)?);
            tell(watch, "chains", 1, 1)?;
        }
        near = Some(s.neighbours(subject, &images, watch)?);
    }
    Ok(Samples { seed: s.seed, steps: options.steps, fresh, buffer, nearest: near, pictures: s.pictures })
}

struct Sampler<'a> {
    model: &'a Model,
    size: [usize; 3],
    out: &'a Path,
    seed: u64,
    pictures: Vec<Picture>,
}

impl Sampler<'_> {
    fn px(&self) -> usize {
        self.model.network().pixels()
    }

    fn shown(&mut self, file: &str, caption: impl Into<String>) {
        self.pictures.push(Picture { file: file.to_owned(), caption: caption.into() });
    }

    fn cells(&mut self, file: &str, cells: &[Option<&[f32]>], columns: usize, caption: &str) -> Result<()> {
        save_cells(&self.out.join(file), cells, self.size, columns)?;
        self.shown(file, caption);
        Ok(())
    }

    /// The mean of each class, and draws from the normal fitted to it: where chains start.
    fn centres(&mut self) -> Result<()> {
        let Some(bank) = self.model.start_samples()? else { return Ok(()) };
        let px = self.px();
        let mut cells: Vec<Option<&[f32]>> = Vec::new();
        for (k, mean) in bank.means.chunks_exact(px).enumerate().take(CLASSES) {
            let own = bank.classes.iter().zip(bank.draws.chunks_exact(px)).filter(|(c, _)| **c == k as i32);
            cells.push(Some(mean));
            cells.extend(own.map(|(_, d)| Some(d)).chain(std::iter::repeat(None)).take(COLUMNS - 1));
        }
        let caption =
            "Class means (left), and draws from each class's normal: where chains start. One row a class.";
        self.cells("centres.png", &cells, COLUMNS, caption)
    }

    fn fresh(&mut self, o: &SampleOptions<'_>, watch: &mut Watcher<'_>) -> Result<Vec<f32>> {
        let options = SampleOptions { n: COMPARED, ..o.clone() };
        let images =
            sample(self.model, &options, &mut |d, n| watch("sampling", d as usize, n as usize))?.images;
        save_grid(&self.out.join("fresh.png"), &images, self.size, COLUMNS)?;
        self.shown("fresh.png", format!("Fresh chains of log p(x), {} steps, as they came.", o.steps));
        Ok(images)
    }

    fn by_class(&mut self, o: &SampleOptions<'_>, watch: &mut Watcher<'_>) -> Result<()> {
        let classes = self.model.network().config.classes.min(CLASSES);
        let labels: Vec<i32> = (0..classes * COLUMNS).map(|i| (i / COLUMNS) as i32).collect();
        let options = SampleOptions { n: labels.len(), labels: Some(labels), ..o.clone() };
        let what = "sampling by class";
        let images = sample(self.model, &options, &mut |d, n| watch(what, d as usize, n as usize))?.images;
        save_grid(&self.out.join("fresh_by_class.png"), &images, self.size, COLUMNS)?;
        let caption = "Fresh chains of log p(x, y), as they came. One row a class.";
        self.shown("fresh_by_class.png", caption);
        Ok(())
    }

    fn film(&mut self, o: &SampleOptions<'_>, watch: &mut Watcher<'_>) -> Result<()> {
        let steps = o.steps.max(20);
        let options = SampleOptions { n: FILMED, steps, start: Start::Bank, ..o.clone() };
        let mut film = Film::new(steps.div_ceil(20));
        let mut tick = |d: u32, n: u32| watch("filming", d as usize, n as usize);
        sample_filmed(self.model, &options, Some(&mut film), &mut tick)?;
        save_animation(&self.out.join("chains.gif"), &film.frames, self.size, COLUMNS)?;
        self.shown("chains.gif", format!("Chains on their way from class draws, {steps} steps."));
        Ok(())
    }

    fn scores(&self, images: &[f32], watch: &mut Watcher<'_>) -> Result<Scores> {
        let (px, mut out) = (self.px(), Scores::default());
        let n = images.len() / px;
        for (k, part) in images.chunks(256 * px).enumerate() {
            tell(watch, "scoring the buffer", k * 256, n)?;
            let s = self.model.scores(part)?;
            out.logits.extend(s.logits);
            out.log_density.extend(s.log_density);
        }
        Ok(out)
    }

    /// Mean log p(x) and mean max p(y|x).
    fn means(&self, images: &[f32]) -> Result<[f64; 2]> {
        let s = self.model.scores(images)?;
        let n = s.log_density.len().max(1) as f64;
        let density = s.log_density.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        Ok([density, self.confidences(&s).iter().sum::<f64>() / n])
    }

    fn confidences(&self, s: &Scores) -> Vec<f64> {
        let classes = self.model.network().config.classes;
        let mut p = vec![0.0; classes];
        let rows = s.logits.chunks_exact(classes);
        rows.map(|row| {
            softmax(row, &mut p);
            p[argmax(row)]
        })
        .collect()
    }

    /// Chains of the buffer as they are, and in each class that the model sees the best and worst by both scores.
    fn best_and_worst(&mut self, buffer: &[f32], watch: &mut Watcher<'_>) -> Result<()> {
        let (px, classes) = (self.px(), self.model.network().config.classes);
        let scores = self.scores(buffer, watch)?;
        let mut order: Vec<usize> = (0..buffer.len() / px).collect();
        Philox::new(self.seed, streams::SAMPLE, u32::MAX - 2).shuffle(&mut order);
        let image = |i: usize| &buffer[i * px..(i + 1) * px];
        let any: Vec<Option<&[f32]>> = order.iter().take(100).map(|i| Some(image(*i))).collect();
        self.cells("buffer.png", &any, COLUMNS, "Chains of the replay buffer, in random order.")?;
        let seen: Vec<usize> = scores.logits.chunks_exact(classes).map(argmax).collect();
        let density: Vec<f64> = scores.log_density.iter().map(|v| f64::from(*v)).collect();
        let confidence = self.confidences(&scores);
        for (score, of, name) in [("log p(x)", &density, "density"), ("p(y|x)", &confidence, "confidence")] {
            for (best, word) in [(true, "best"), (false, "worst")] {
                let mut cells = Vec::new();
                for class in 0..classes.min(CLASSES) {
                    let mut own: Vec<usize> = order.iter().copied().filter(|i| seen[*i] == class).collect();
                    own.sort_by(
                        |a, b| if best { of[*b].total_cmp(&of[*a]) } else { of[*a].total_cmp(&of[*b]) },
                    );
                    let row = own.into_iter().map(|i| Some(image(i)));
                    cells.extend(row.chain(std::iter::repeat(None)).take(COLUMNS));
                }
                let caption = format!(
                    "Chosen: the {word} chains of the buffer by {score}. One row a class that the model sees."
                );
                self.cells(&format!("{word}_{name}.png"), &cells, COLUMNS, &caption)?;
            }
        }
        Ok(())
    }

    /// Samples beside the training images that are nearest to them.
    fn neighbours(&mut self, subject: &Subject, images: &[f32], watch: &mut Watcher<'_>) -> Result<Nearest> {
        let (set, px) = (&subject.set, self.px());
        let train = &subject.split.train;
        let test = &subject.split.test[..subject.split.test.len().min(COMPARED)];
        let yardstick = jempp::evaluation::images(set, test)?;
        let found = nearest(set, train, images, SHOWN.1, watch)?;
        let own = nearest(set, train, &yardstick, 1, watch)?;
        let mut rows = Vec::new();
        for (image, near) in images.chunks_exact(px).zip(&found).take(SHOWN.0) {
            rows.extend_from_slice(image);
            let indices: Vec<u32> = near.iter().map(|n| n.0).collect();
            rows.extend(jempp::evaluation::images(set, &indices)?);
        }
        save_grid(&self.out.join("neighbours.png"), &rows, self.size, SHOWN.1 + 1)?;
        let caption = "The first fresh chains (left), and the training images nearest to each.";
        self.shown("neighbours.png", caption);
        Ok(Nearest::of(&found, &own))
    }
}
