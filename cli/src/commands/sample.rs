//! `jempp-cli sample`.

use super::{check_ending, check_output, print};
use crate::args::{BnName, Global, Sample, StartName};
use crate::progress::StepProgress;
use jempp::model::Model;
use jempp::sampling::draw::ChainBn;
use jempp::{Error, Result};
use jempp_eval::sampling::{
    Animation, ChainStart, Conditioning, SampleJob, Sampled, SamplerOverrides, write_images, write_npz,
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

impl From<BnName> for ChainBn {
    fn from(name: BnName) -> Self {
        match name {
            BnName::Batch => Self::Batch,
            BnName::Running => Self::Running,
        }
    }
}

/// Samples, and writes the images.
pub(crate) fn run(global: &Global, a: &Sample) -> Result<()> {
    check(a)?;
    let model = Model::load(&global.device()?, &a.model)?;
    let size = model.network().config.image_size;
    let grid = match (&a.grid, &a.output, &a.gif, &a.images) {
        (None, None, None, None) => Some(next_free()?),
        (grid, ..) => grid.clone(),
    };
    if (grid.is_some() || a.gif.is_some() || a.images.is_some()) && size[2] != 1 && size[2] != 3 {
        let c = size[2];
        return Err(Error::Data(format!(
            "images of {c} channels cannot be drawn; write arrays with --output FILE.npz"
        )));
    }
    let names = model.class_names();
    let job = SampleJob {
        model: (&model, &a.model),
        n: a.n,
        conditioning: conditioning(a, &names, model.network().config.classes)?,
        start: a.start.map_or(ChainStart::Trained, Into::into),
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
    if let Some(folder) = &a.images {
        let n = write_images(folder, &sampled.samples, size, &names)?;
        print(&format!("{}  ({n} images)\n", folder.display()))?;
    }
    if !global.quiet {
        report(&sampled);
    }
    Ok(())
}

/// Refuses outputs that cannot be written before any work is done.
fn check(a: &Sample) -> Result<()> {
    for (path, ending) in [(&a.grid, "png"), (&a.output, "npz"), (&a.gif, "gif")] {
        let Some(path) = path else { continue };
        check_ending(path, &[ending])?;
        check_output(path)?;
    }
    a.images.iter().try_for_each(|folder| check_output(folder))?;
    if a.gif_every == Some(0) {
        return Err(Error::Config("--gif-every 0: there must be at least one step between frames".into()));
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
        bn: Some(a.bn.into()),
        seed: global.seed,
    }
}

fn conditioning(a: &Sample, names: &[String], classes: usize) -> Result<Conditioning> {
    match &a.class {
        _ if a.by_class => Ok(Conditioning::EveryClass),
        None => Ok(Conditioning::None),
        Some(text) => {
            let named = names.iter().position(|n| n == text);
            let class = named.or_else(|| text.parse().ok().filter(|k| *k < classes));
            class.map(|k| Conditioning::Class(k as i32)).ok_or_else(|| {
                let known = match names {
                    [] => String::new(),
                    names => format!(": {}", names.join(", ")),
                };
                let last = classes - 1;
                Error::Config(format!("--class {text}: the model's classes are 0 to {last}{known}"))
            })
        }
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
        "{} images after {} steps of size {:.3}, seed {}: mean log p(x) {:.2}, mean {what} {:.3}",
        s.samples.labels.len(),
        s.steps,
        s.step_size,
        s.seed,
        mean(&s.samples.log_density),
        mean(&s.samples.confidence)
    );
}
