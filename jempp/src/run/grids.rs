//! Pictures of the replay buffer: what the chains look like.

use super::{Folder, Session};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::sampling::draw::by_predicted_class;
use crate::streams;
use engine::rng::Philox;
use jempp_formats::grid::{save_cells, save_grid};
use std::borrow::Cow;
use std::path::PathBuf;

/// Chains in a grid of samples, at most.
const GRID: usize = 100;
/// Images in a row.
const COLUMNS: usize = 10;
/// Classes in the grid by class, at most; a picture of more is too high.
const CLASSES: usize = 100;

impl Session {
    /// A grid of chains from the replay buffer, at rows chosen by the seed.
    pub(super) fn chain_grid(&self, folder: &Folder, epoch: u64) -> Result<PathBuf> {
        let (buffer, rows) = self.shuffled_buffer(epoch as u32)?;
        let px = self.set.pixels();
        let images: Vec<f32> =
            rows.iter().take(GRID).flat_map(|r| buffer[r * px..(r + 1) * px].iter().copied()).collect();
        let path = folder.path().join("samples").join(format!("chains_epoch_{epoch:04}.png"));
        save_grid(&path, &images, self.set.size(), COLUMNS)?;
        Ok(path)
    }

    /// The grids at a run's end: `chains_last.png`, random chains, and `chains_by_class.png`.
    pub(super) fn last_grids(&self, folder: &Folder, model: &Model, grids: &mut Vec<PathBuf>) -> Result<()> {
        let at = self.chain_grid(folder, self.total.div_ceil(self.per_epoch))?;
        let last = folder.path().join("samples").join("chains_last.png");
        std::fs::copy(&at, &last).map_err(|e| Error::io(&last, e))?;
        if !grids.contains(&at) {
            grids.push(at);
        }
        grids.push(last);
        grids.push(self.class_grid(folder, model)?);
        Ok(())
    }

    /// One row a class (the first hundred), ten chains each: those of the replay buffer in which the final model sees
    /// the row's class, taken in random order. No chain is preferred for its score; where the buffer has fewer of a
    /// class, cells stay blank.
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

    /// The replay buffer and an order of its rows.
    fn shuffled_buffer(&self, step: u32) -> Result<(Cow<'_, [f32]>, Vec<usize>)> {
        let buffer = self.trainer.buffer()?;
        let buffer = buffer.ok_or_else(|| Error::Internal("a grid without a replay buffer".into()))?;
        let mut rows: Vec<usize> = (0..buffer.len() / self.set.pixels()).collect();
        Philox::new(self.config.seed, streams::SAMPLE, step).shuffle(&mut rows);
        Ok((buffer, rows))
    }
}
