//! Events of a run for TensorBoard, in the folder `tb/`: a new file each time the run is started or resumed.
//!
//! Invariant: nothing here ends or changes a run. A failure is reported once, as a warning, and nothing more is written.

use super::{Observer, TrainingRun};
use crate::error::{Error, Result};
use crate::evaluation::{self, Evaluation};
use crate::model::Model;
use crate::train::StepMetrics;
use jempp_formats::codecs::{Decoder, Format};
use jempp_formats::tensorboard::EventWriter;
use std::path::{Path, PathBuf};

/// Number of images, and of chains, whose log p(x) a histogram shows.
const SHOWN: usize = 256;
/// Memory for decoding a PNG that we wrote, besides its pixels.
const MOST_MEMORY: u64 = 1 << 20;

/// Tags of the events of a run: the stage that begins, the number of rollbacks, the learning rate's factor after one.
pub(super) const STAGE: &str = "run/stage";
pub(super) const ROLLBACKS: &str = "run/rollbacks";
pub(super) const LR_FACTOR: &str = "run/rollback_lr_factor";

/// The event file of a run, if it writes one.
pub(super) struct EventLog {
    writer: Option<EventWriter>,
}

impl EventLog {
    /// Starts a file in `folder/tb` for a run that continues after iteration `first`, if `wanted`.
    pub(super) fn open(folder: &Path, wanted: bool, first: u64, observer: &mut dyn Observer) -> Self {
        let open = || -> Result<EventWriter> {
            let mut writer = EventWriter::create(&folder.join("tb"))?;
            if first > 0 {
                writer.restart(first + 1)?;
            }
            Ok(writer)
        };
        let mut log = Self { writer: None };
        if wanted {
            match open() {
                Ok(writer) => log.writer = Some(writer),
                Err(e) => log.disable(&e, observer),
            }
        }
        log
    }

    /// Calls `write` with the file, if there is one.
    pub(super) fn write(
        &mut self,
        observer: &mut dyn Observer,
        write: impl FnOnce(&mut EventWriter) -> Result<()>,
    ) {
        if let Some(Err(e)) = self.writer.as_mut().map(write) {
            self.writer = None;
            self.disable(&e, observer);
        }
    }

    fn disable(&self, why: &Error, observer: &mut dyn Observer) {
        observer.warn(&format!("nothing more is written for TensorBoard: {why}"));
    }
}

/// Writes the metrics of an iteration.
pub(super) fn iteration(w: &mut EventWriter, m: &StepMetrics, images_per_second: f64) -> Result<()> {
    w.scalars(
        m.step,
        &[
            ("train/loss", m.loss),
            ("train/cross_entropy", m.ce),
            ("train/accuracy", m.accuracy),
            ("train/lr", m.lr),
            ("train/images_per_second", images_per_second),
            ("log_density/data", m.log_density_data),
            ("log_density/chains", m.log_density_chain),
            ("log_density/gap", m.gap()),
        ],
    )?;
    Ok(())
}

/// Writes the image in a PNG file.
pub(super) fn picture(w: &mut EventWriter, step: u64, tag: &str, path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let size = Decoder::new(Format::Png, &bytes, MOST_MEMORY).map(|d| d.size);
    let size = size.map_err(|e| Error::io(path, std::io::Error::other(e)))?;
    Ok(w.image(step, tag, bytes, size)?)
}

impl TrainingRun {
    /// Writes the events at the end of a run: the evaluation on the test images, chains by class, histograms.
    pub(super) fn last_events(
        &self,
        w: &mut EventWriter,
        model: &Model,
        evaluation: &Evaluation,
        by_class: Option<&PathBuf>,
    ) -> Result<()> {
        let (step, c) = (self.step.counters().iteration, &evaluation.classification);
        w.scalars(step, &[("test/accuracy", c.accuracy), ("test/ece", c.ece), ("test/nll", c.nll)])?;
        for d in &evaluation.detection {
            let tag = format!("test/auroc_log_density/{}", d.against.replace(' ', "_"));
            w.scalars(step, &[(&tag, d.auroc_log_density)])?;
        }
        if let Some(grid) = by_class {
            picture(w, step, "chains_by_class", grid)?;
        }
        self.densities(w, step, model)
    }

    /// Writes histograms of log p(x) under `model`: of training images, and of chains in the replay buffer if there are any.
    pub(super) fn densities(&self, w: &mut EventWriter, step: u64, model: &Model) -> Result<()> {
        let some = &self.split.train[..self.split.train.len().min(SHOWN)];
        let data = model.log_density(&evaluation::images(&self.set, some)?)?;
        w.histogram(step, "log_density_of/data", &data)?;
        if let Some(buffer) = self.step.buffer()? {
            let px = self.set.pixels();
            // The buffer is filled in class order, so rows are taken from all over it.
            let rows = buffer.len() / px;
            let by = rows.div_ceil(SHOWN).max(1);
            let chains: Vec<f32> =
                (0..rows).step_by(by).flat_map(|r| buffer[r * px..(r + 1) * px].iter().copied()).collect();
            w.histogram(step, "log_density_of/chains", &model.log_density(&chains)?)?;
        }
        Ok(())
    }
}
