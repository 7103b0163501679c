//! Grids of chains from the replay buffer, as PNG files.

use super::{Folder, TrainingRun};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::sampling::draw::by_predicted_class;
use crate::streams;
use engine::rng::Philox;
use jempp_formats::grid::{save_cells, save_grid};
use std::borrow::Cow;
use std::path::PathBuf;

/// Largest number of chains in a grid of samples.
const GRID: usize = 100;
/// Images per row.
const COLUMNS: usize = 10;
/// Largest number of classes in the grid by class; more rows would make the image too tall.
const CLASSES: usize = 100;

impl TrainingRun {
    /// Writes a grid of random chains from the replay buffer, chosen by seed and epoch; returns its path.
    pub(super) fn chain_grid(&self, folder: &Folder, epoch: u64) -> Result<PathBuf> {
        let (buffer, rows) = self.shuffled_buffer(epoch as u32)?;
        let px = self.set.pixels();
        let images: Vec<f32> =
            rows.iter().take(GRID).flat_map(|r| buffer[r * px..(r + 1) * px].iter().copied()).collect();
        let path = folder.path().join("samples").join(format!("chains_epoch_{epoch:04}.png"));
        save_grid(&path, &images, self.set.size(), COLUMNS)?;
        Ok(path)
    }

    /// Writes the grids at the end of a run, `chains_last.png` (random chains) and `chains_by_class.png`, and adds their paths
    /// to `grids`.
    pub(super) fn last_grids(&self, folder: &Folder, model: &Model, grids: &mut Vec<PathBuf>) -> Result<()> {
        let at = self.chain_grid(folder, self.epochs_begun())?;
        let last = folder.path().join("samples").join("chains_last.png");
        std::fs::copy(&at, &last).map_err(|e| Error::io(&last, e))?;
        if !grids.contains(&at) {
            grids.push(at);
        }
        grids.push(last);
        grids.push(self.class_grid(folder, model)?);
        Ok(())
    }

    /// Writes a grid with a row of ten chains for each of the first hundred classes: random chains of the replay buffer for
    /// which the final model predicts the class, unselected otherwise. Cells stay blank where the buffer has fewer.
    fn class_grid(&self, folder: &Folder, model: &Model) -> Result<PathBuf> {
        let (buffer, order) = self.shuffled_buffer(u32::MAX)?;
        let px = self.set.pixels();
        let rows = by_predicted_class(model, &buffer, &order, COLUMNS)?;
        let cell = |row: &Vec<usize>, i: usize| row.get(i).map(|r| &buffer[r * px..(r + 1) * px]);
        let cells: Vec<Option<&[f32]>> =
            rows.iter().take(CLASSES).flat_map(|row| (0..COLUMNS).map(move |i| cell(row, i))).collect();
        let path = folder.path().join("samples").join("chains_by_class.png");
        save_cells(&path, &cells, self.set.size(), COLUMNS)?;
        Ok(path)
    }

    /// The replay buffer, and a random order of its rows.
    fn shuffled_buffer(&self, random_step: u32) -> Result<(Cow<'_, [f32]>, Vec<usize>)> {
        let buffer = self.step.buffer()?;
        let buffer = buffer.ok_or_else(|| Error::Internal("a grid without a replay buffer".into()))?;
        let mut rows: Vec<usize> = (0..buffer.len() / self.set.pixels()).collect();
        Philox::new(self.config.seed, streams::SAMPLE, random_step).shuffle(&mut rows);
        Ok((buffer, rows))
    }
}
