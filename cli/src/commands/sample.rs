//! `jempp-cli sample`.

use super::{check_output, print};
use crate::args::{Global, Sample, StartName};
use crate::progress::StepProgress;
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::sampling::{
    Animation, ChainStart, Conditioning, SampleJob, Sampled, SamplerOverrides, write_npz,
};
use jempp_formats::grid::{save_animation, save_grid};
use std::path::{Path, PathBuf};

impl From<StartName> for ChainStart {
    fn from(name: StartName) -> Self {
        match name {
            StartName::Informative => Self::Informative,
            StartName::Buffer => Self::ReplayBuffer,
            StartName::Data => Self::Data,
            StartName::Noise => Self::Noise,
        }
    }
}

/// Samples, and writes the images.
pub(crate) fn run(global: &Global, a: &Sample) -> Result<()> {
    for path in a.grid.iter().chain(&a.output).chain(&a.gif) {
        check_output(path)?;
    }
    let model = Model::load(&global.device()?, &a.model)?;
    let size = model.network().config.image_size;
    let grid = match (&a.grid, &a.output, &a.gif) {
        (None, None, None) => Some(next_free()?),
        (grid, ..) => grid.clone(),
    };
    if (grid.is_some() || a.gif.is_some()) && size[2] != 1 && size[2] != 3 {
        let c = size[2];
        return Err(Error::Data(format!(
            "images of {c} channels cannot be drawn; write arrays with --output FILE.npz"
        )));
    }
    if a.gif_every == Some(0) {
        return Err(Error::Config("--gif-every 0: there must be at least one step between frames".into()));
    }
    let job = SampleJob {
        model: (&model, &a.model),
        n: a.n,
        conditioning: conditioning(a, model.network().config.classes)?,
        start: a.start.into(),
        overrides: overrides(global, a),
        animate: a.gif.as_ref().map_or(Animation::None, |_| Animation::Every(a.gif_every)),
    };
    let mut bar = StepProgress::new(global, "sampling");
    let sampled = job.run(&mut |done, total| {
        bar.step(done, total);
        true
    })?;
    if let Some(path) = &a.gif {
        save_animation(path, &sampled.frames, size, sampled.columns)?;
        print(&format!("{}\n", path.display()))?;
    }
    write(&sampled, size, grid.as_deref(), a.output.as_deref())?;
    if !global.quiet {
        report(&sampled);
    }
    Ok(())
}

fn overrides(global: &Global, a: &Sample) -> SamplerOverrides {
    SamplerOverrides {
        steps: a.steps,
        step_size: a.step_size,
        inner_steps: a.inner_steps,
        clip: a.clip,
        noise: a.noise,
        seed: global.seed,
    }
}

fn conditioning(a: &Sample, classes: usize) -> Result<Conditioning> {
    match a.class {
        _ if a.by_class => Ok(Conditioning::EveryClass),
        Some(k) if usize::try_from(k).map_or(true, |k| k >= classes) => {
            Err(Error::Config(format!("--class {k}: the model's classes are 0 to {}", classes - 1)))
        }
        Some(k) => Ok(Conditioning::Class(k)),
        None => Ok(Conditioning::None),
    }
}

/// The first of `samples-001.png`, `samples-002.png`, … that does not exist.
fn next_free() -> Result<PathBuf> {
    let names = (1..=u32::MAX).map(|i| PathBuf::from(format!("samples-{i:03}.png")));
    let free = names.into_iter().find(|p| p.symlink_metadata().is_err());
    free.ok_or_else(|| Error::Internal("no free number for samples".into()))
}

fn write(s: &Sampled, size: [usize; 3], grid: Option<&Path>, output: Option<&Path>) -> Result<()> {
    if let Some(path) = grid {
        save_grid(path, &s.samples.images, size, s.columns)?;
        print(&format!("{}\n", path.display()))?;
    }
    if let Some(path) = output {
        write_npz(path, &s.samples, size)?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn report(s: &Sampled) {
    let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64;
    let what = if s.conditioned { "p(class|x)" } else { "max p(y|x)" };
    eprintln!(
        "{} images after {} steps, seed {}: mean log p(x) {:.2}, mean {what} {:.3}",
        s.samples.labels.len(),
        s.steps,
        s.seed,
        mean(&s.samples.log_density),
        mean(&s.samples.confidence)
    );
}
