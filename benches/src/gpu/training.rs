//! Training on both devices from the same state, and twice on the GPU from the same seed.

use super::{Allowed, Found, Journal, Size, Wrong};
use crate::Result;
use engine::{DType, Device, Precision};
use jempp::config::Config;
use jempp::train::{Batch, BatchIndices, Options, TrainStep};
use jempp_data::Dataset;
use serde_json::json;

/// Steps in float32; half as many in other precisions.
const STEPS: usize = 10;
/// Largest difference where rounding decides the sign of a rectifier's input, which a few steps in float32 may show. In
/// other precisions many steps would, so there the rectifier has no kink and no step may show it.
const JUMP: f32 = 0.1;

pub(super) fn checks(journal: &mut Journal, gpu: &Device, allowed: Allowed, size: Size) -> Result<()> {
    let run = Run { allowed, size };
    let name = format!("WRN-10-1, 8×8, {} steps each from the CPU's state", run.count());
    journal.check("training", "one graph an iteration", || graph(gpu, run))?;
    journal.check("training", "the same seed twice", || twice(gpu, run))?;
    journal.check("training", name, || steps(gpu, run))
}

/// What a run may differ by, and how long it is.
#[derive(Clone, Copy)]
struct Run {
    allowed: Allowed,
    size: Size,
}

impl Run {
    /// Steps compared with the CPU.
    fn count(self) -> usize {
        match (self.size, self.allowed.precision) {
            (Size::Small, _) => 2,
            (Size::Real, Precision::F32) => STEPS,
            (Size::Real, _) => STEPS / 2,
        }
    }

    /// Iterations that a graph is tried for, the second of which is captured.
    fn iterations(self) -> usize {
        if self.size == Size::Small { 3 } else { 4 }
    }

    /// Images in a batch, and chain steps.
    fn batch(self) -> (usize, usize) {
        if self.size == Size::Small { (4, 1) } else { (16, 3) }
    }
}

fn trainer(device: &Device, run: Run) -> Result<TrainStep> {
    let (batch, outer) = run.batch();
    let leak = if run.allowed.precision == Precision::F32 { "model.leak=0.2" } else { "model.leak=0.999" };
    let (batch, outer) = (format!("train.batch_size={batch}"), format!("sampler.outer_steps={outer}"));
    let keys = [
        leak,
        &batch,
        &outer,
        "model.depth=10",
        "model.widen_factor=1",
        "model.image_size=[8,8,1]",
        "model.classes=2",
        "sampler.buffer_size=50",
        "data.pad=0",
    ];
    let config = Config::from_sources("digits", None, &keys.map(str::to_owned))?;
    let images: Vec<u8> = (0..40 * 64).map(|i| (i * 37 % 251) as u8).collect();
    let set = Dataset::new("made up", [8, 8, 1], 2, images, (0..40).map(|i| i % 2).collect())?;
    let train: Vec<u32> = (0..40).collect();
    TrainStep::new(&config, device, Some((&set, &train)), Options::default())
}

fn batch(run: Run) -> (Vec<f32>, Vec<i32>) {
    let (n, _) = run.batch();
    let images = (0..n * 64).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect();
    (images, (0..n as i32).map(|i| i % 2).collect())
}

fn steps(gpu: &Device, run: Run) -> Result<Found> {
    let allowed = run.allowed;
    let cpu = Device::cpu(1);
    let cpu = if gpu.activations() == DType::BF16 { cpu.emulating_bf16() } else { cpu };
    let (mut cpu, mut gpu) = (trainer(&cpu, run)?, trainer(gpu, run)?);
    let (most, jumps) = (allowed.step, if allowed.precision == Precision::F32 { 2 } else { 0 });
    let (x, labels) = batch(run);
    let batch = Batch { x_data: &x, x_labelled: &x, labels: &labels, chain_start: None };
    let (mut offs, count) = (Vec::new(), run.count());
    for _ in 0..count {
        gpu.copy_state(&cpu)?;
        let (want, got) = (cpu.step(&batch, 0.1)?, gpu.step(&batch, 0.1)?);
        let (off, name) = gpu.max_difference(&cpu, allowed.floor)?;
        offs.push((off, name, (want.loss - got.loss).abs()));
    }
    let near = offs.iter().filter(|o| o.0 < most).count();
    let Some((worst, name, _)) = offs.iter().max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return Ok(Err("no step was made".into()));
    };
    let list: Vec<f32> = offs.iter().map(|o| o.0).collect();
    let losses: Vec<f64> = offs.iter().map(|o| o.2).collect();
    let text =
        format!("{near} of {count} steps agree to {most:.0e}; largest difference {worst:.1e} in {name}");
    let data = json!({ "differences": list, "loss_differences": losses, "tolerance": most, "tensor": name });
    if near + jumps < count || *worst > JUMP {
        return Ok(Err(Wrong { text, data }));
    }
    Ok(Ok((text, data)))
}

fn twice(gpu: &Device, run: Run) -> Result<Found> {
    let (x, labels) = batch(run);
    let batch = Batch { x_data: &x, x_labelled: &x, labels: &labels, chain_start: None };
    let trained = || {
        let mut t = trainer(gpu, run)?;
        for _ in 0..run.iterations() {
            t.step(&batch, 0.1)?;
        }
        Ok::<_, crate::Error>(t)
    };
    let (off, name) = trained()?.max_difference(&trained()?, run.allowed.floor)?;
    if off != 0.0 {
        return Ok(Err(format!("{name} differs by {off:.1e}").into()));
    }
    Ok(Ok((format!("{} steps, every bit the same", run.iterations()), json!({ "steps": run.iterations() }))))
}

/// Iterations on images by index, replayed as one graph, compared with plain launches of the same programs.
fn graph(gpu: &Device, run: Run) -> Result<Found> {
    let mut watched = gpu.clone();
    watched.debug.nan = true;
    let (mut replayed, mut plain) = (trainer(gpu, run)?, trainer(&watched, run)?);
    for i in 0..run.iterations() as u32 {
        let rows: Vec<u32> = (0..run.batch().0 as u32).map(|k| (7 * k + 3 * i) % 40).collect();
        let picks = BatchIndices { data: &rows, labelled: &rows };
        let (got, want) = (replayed.step_on(&picks, 0.1)?, plain.step_on(&picks, 0.1)?);
        let (off, name) = replayed.max_difference(&plain, 1e-3)?;
        if off != 0.0 || got != want {
            return Ok(Err(format!("iteration {i}: {name} differs by {off:.1e} from plain launches").into()));
        }
    }
    if let Some(why) = replayed.capture_refused() {
        return Ok(Err(format!("no graph was captured: {why}").into()));
    }
    Ok(Ok((
        format!("{} iterations, every bit that of plain launches", run.iterations()),
        json!({ "iterations": run.iterations() }),
    )))
}
