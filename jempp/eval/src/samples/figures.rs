//! Image files of samples.

use super::nearest::{NearestNeighbours, nearest_neighbours};
use super::picture::Picture;
use crate::progress::{ProgressFn, report_progress};
use engine::rng::Philox;
use jempp::Result;
use jempp::evaluation::{EvalData, images, log_density};
use jempp::metrics::{argmax, softmax};
use jempp::model::{Model, Scores};
use jempp::sampling::draw::{SampleOptions, Start, Trajectory, sample, sample_with_trajectory};
use jempp::streams;
use jempp_formats::grid::{save_animation, save_cells, save_grid};
use std::iter::repeat;
use std::path::Path;

/// Columns of a grid.
const COLUMNS: usize = 10;
/// Rows of a grid by class, at most.
const MAX_CLASSES: usize = 20;
/// Chains in the animation.
const ANIMATED: usize = 20;
/// Steps of the animated chains, at least, and frames, at most, not counting the first.
const FRAMES: u32 = 20;
/// Fresh chains, and the test images that they are compared with.
const COMPARED: usize = 100;
/// Rows of the grid of nearest neighbours, and neighbours in each row.
const NEIGHBOURS: (usize, usize) = (10, 5);
/// Images scored between two calls of the progress callback.
const BATCH: usize = 256;
/// Step of the random stream `Sample` at which the order of the buffer's chains is drawn; steps of chains stay below it.
const ORDER: u32 = u32::MAX - 2;

/// Draws samples and writes them to image files.
pub(super) struct SampleFigures<'a> {
    model: &'a Model,
    out: &'a Path,
    seed: u64,
    /// The files written so far.
    pub(super) pictures: Vec<Picture>,
}

impl<'a> SampleFigures<'a> {
    /// Prepares to write samples of a model to the folder `out`.
    pub(super) fn new(model: &'a Model, out: &'a Path, seed: u64) -> Self {
        Self { model, out, seed, pictures: Vec::new() }
    }

    fn pixels(&self) -> usize {
        self.model.network().pixels()
    }

    fn size(&self) -> [usize; 3] {
        self.model.network().config.image_size
    }

    fn classes(&self) -> usize {
        self.model.network().config.classes
    }

    fn add(&mut self, file: &str, caption: impl Into<String>) {
        self.pictures.push(Picture { file: file.to_owned(), caption: caption.into(), class_rows: 0 });
    }

    /// Adds a picture with a row per class.
    fn add_by_class(&mut self, file: &str, caption: &str) {
        self.add(file, caption);
        let rows = self.classes().min(MAX_CLASSES);
        self.pictures.iter_mut().rev().take(1).for_each(|p| p.class_rows = rows);
    }

    fn cells(&mut self, file: &str, cells: &[Option<&[f32]>]) -> Result<()> {
        Ok(save_cells(&self.out.join(file), cells, self.size(), COLUMNS)?)
    }

    /// Mean and samples of each class Gaussian, from which chains start, if the model has them.
    pub(super) fn class_gaussians(&mut self) -> Result<()> {
        let Some(start) = self.model.start_samples()? else { return Ok(()) };
        let px = self.pixels();
        let mut cells: Vec<Option<&[f32]>> = Vec::new();
        for (k, mean) in start.means.chunks_exact(px).enumerate().take(MAX_CLASSES) {
            let own = start.classes.iter().zip(start.draws.chunks_exact(px)).filter(|(c, _)| **c == k as i32);
            cells.push(Some(mean));
            cells.extend(own.map(|(_, d)| Some(d)).chain(repeat(None)).take(COLUMNS - 1));
        }
        let caption =
            "Class means (left) and samples of the class Gaussians, where chains start. One row per class.";
        self.cells("centres.png", &cells)?;
        self.add_by_class("centres.png", caption);
        Ok(())
    }

    /// A grid of fresh chains of p(x), which are returned, n×H×W×C.
    pub(super) fn fresh(&mut self, o: &SampleOptions<'_>, progress: &mut ProgressFn<'_>) -> Result<Vec<f32>> {
        let options = SampleOptions { n: COMPARED, ..o.clone() };
        let images = self.sample(&options, "sampling", progress)?;
        save_grid(&self.out.join("fresh.png"), &images, self.size(), COLUMNS)?;
        self.add("fresh.png", format!("Fresh chains of p(x), {} steps, unselected.", o.steps));
        Ok(images)
    }

    /// A grid of fresh chains of p(x, y), one row per class.
    pub(super) fn by_class(&mut self, o: &SampleOptions<'_>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let classes = self.classes().min(MAX_CLASSES);
        let labels: Vec<i32> = (0..classes * COLUMNS).map(|i| (i / COLUMNS) as i32).collect();
        let options = SampleOptions { n: labels.len(), labels: Some(labels), ..o.clone() };
        let images = self.sample(&options, "sampling by class", progress)?;
        save_grid(&self.out.join("fresh_by_class.png"), &images, self.size(), COLUMNS)?;
        self.add_by_class("fresh_by_class.png", "Fresh chains of p(x, y), unselected. One row per class.");
        Ok(())
    }

    fn sample(
        &self,
        options: &SampleOptions<'_>,
        stage: &str,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Vec<f32>> {
        let mut tick = |done: u32, total: u32| progress(stage, done as usize, total as usize);
        Ok(sample(self.model, options, &mut tick)?.images)
    }

    /// An animation of chains of p(x).
    pub(super) fn animation(&mut self, o: &SampleOptions<'_>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let steps = o.steps.max(FRAMES);
        let options = SampleOptions { n: ANIMATED, steps, start: Start::StartSamples, ..o.clone() };
        let mut trajectory = Trajectory::new(steps.div_ceil(FRAMES));
        let mut tick = |done: u32, total: u32| progress("animation", done as usize, total as usize);
        sample_with_trajectory(self.model, &options, Some(&mut trajectory), &mut tick)?;
        save_animation(&self.out.join("chains.gif"), &trajectory.frames, self.size(), COLUMNS)?;
        let caption = format!("Chains over {steps} steps, from samples of the class Gaussians.");
        self.add("chains.gif", caption);
        Ok(())
    }

    fn scores(&self, chains: &[f32], progress: &mut ProgressFn<'_>) -> Result<Scores> {
        let (px, mut all) = (self.pixels(), Scores::default());
        let n = chains.len() / px;
        for (k, batch) in chains.chunks(BATCH * px).enumerate() {
            report_progress(progress, "scoring the replay buffer", k * BATCH, n)?;
            all.append(self.model.scores(batch)?);
        }
        Ok(all)
    }

    /// Mean log p(x) and mean max p(y|x) of images.
    pub(super) fn means(&self, images: &[f32]) -> Result<[f64; 2]> {
        let s = self.model.scores(images)?;
        let n = s.log_density.len().max(1) as f64;
        let density = log_density(&s).iter().sum::<f64>() / n;
        Ok([density, self.confidences(&s).iter().sum::<f64>() / n])
    }

    fn confidences(&self, s: &Scores) -> Vec<f64> {
        let mut p = vec![0.0; self.classes()];
        let rows = s.logits.chunks_exact(self.classes());
        rows.map(|row| {
            softmax(row, &mut p);
            p[argmax(row)]
        })
        .collect()
    }

    /// Chains of the replay buffer in random order; and, for each predicted class, those with the highest and with the lowest
    /// log p(x) and p(y|x).
    pub(super) fn best_and_worst(&mut self, chains: &[f32], progress: &mut ProgressFn<'_>) -> Result<()> {
        let px = self.pixels();
        let scores = self.scores(chains, progress)?;
        let mut order: Vec<usize> = (0..chains.len() / px).collect();
        Philox::new(self.seed, streams::SAMPLE, ORDER).shuffle(&mut order);
        let image = |i: usize| &chains[i * px..(i + 1) * px];
        let any: Vec<Option<&[f32]>> = order.iter().take(100).map(|i| Some(image(*i))).collect();
        self.cells("buffer.png", &any)?;
        self.add("buffer.png", "Chains of the replay buffer, in random order.");
        let predicted: Vec<usize> = scores.logits.chunks_exact(self.classes()).map(argmax).collect();
        let (density, confidence) = (log_density(&scores), self.confidences(&scores));
        for (score, values, name) in
            [("log p(x)", &density, "density"), ("p(y|x)", &confidence, "confidence")]
        {
            for (best, word) in [(true, "best"), (false, "worst")] {
                let mut cells = Vec::new();
                for class in 0..self.classes().min(MAX_CLASSES) {
                    let mut own: Vec<usize> =
                        order.iter().copied().filter(|i| predicted[*i] == class).collect();
                    own.sort_by(|a, b| {
                        let (a, b) = if best { (b, a) } else { (a, b) };
                        values[*a].total_cmp(&values[*b])
                    });
                    cells.extend(own.into_iter().map(|i| Some(image(i))).chain(repeat(None)).take(COLUMNS));
                }
                let caption = format!(
                    "Selected: the {word} chains of the replay buffer by {score}. One row per predicted class."
                );
                let file = format!("{word}_{name}.png");
                self.cells(&file, &cells)?;
                self.add_by_class(&file, &caption);
            }
        }
        Ok(())
    }

    /// Compares fresh chains with the training images nearest to them.
    pub(super) fn nearest(
        &mut self,
        data: &EvalData,
        chains: &[f32],
        progress: &mut ProgressFn<'_>,
    ) -> Result<NearestNeighbours> {
        let (set, px, (rows, columns)) = (&data.set, self.pixels(), NEIGHBOURS);
        let (train, test) = (&data.split.train, &data.split.test);
        let test = images(set, &test[..test.len().min(COMPARED)])?;
        let found = nearest_neighbours(set, train, chains, columns, progress)?;
        let of_test = nearest_neighbours(set, train, &test, 1, progress)?;
        let mut grid = Vec::new();
        for (image, near) in chains.chunks_exact(px).zip(&found).take(rows) {
            grid.extend_from_slice(image);
            let indices: Vec<u32> = near.iter().map(|n| n.0).collect();
            grid.extend(images(set, &indices)?);
        }
        save_grid(&self.out.join("neighbours.png"), &grid, self.size(), columns + 1)?;
        self.add("neighbours.png", "The first fresh chains (left) and the training images nearest to each.");
        Ok(NearestNeighbours::new(&found, &of_test))
    }
}
