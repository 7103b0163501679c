//! `jempp-cli sample`.

use super::{check_output, print};
use crate::args::{Global, Sample, StartName};
use crate::progress::Steps;
use jempp::config::Config;
use jempp::model::Model;
use jempp::sampling::draw::{
    Film, SampleOptions, Samples, Start, draws_from_data, replay_buffer, sample_filmed,
};
use jempp::{Error, Result};
use jempp_formats::grid::{save_animation, save_grid};
use jempp_formats::npz::{self, Array};
use std::path::{Path, PathBuf};

/// Images in a row of a grid that is not by class.
const COLUMNS: usize = 10;
/// Frames of an animation after its first, at most, unless more are asked for.
const FRAMES: u32 = 50;
/// Chains in an animation, at most: all frames are kept until the end.
const MOST_FILMED: usize = 1000;

/// Samples, and writes what came of it.
pub fn run(global: &Global, a: &Sample) -> Result<()> {
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
        return Err(Error::Data(format!("images of {c} channels are no picture; use --output FILE.npz")));
    }
    let (labels, columns) = labels(a, model.network().config.classes)?;
    let n = labels.as_ref().map_or(a.n, Vec::len);
    let config = constants(global, a, &model)?;
    let images = pool(a.start, (&model, &a.model), &config, (n, labels.as_deref()))?;
    let start = start(a.start, &images);
    let mut options = SampleOptions { n, labels, start, ..SampleOptions::new(&config) };
    options.steps = a.steps.unwrap_or(options.steps);
    let mut film = film(a, &options)?;
    let mut bar = Steps::new(global, "sampling");
    let samples = sample_filmed(&model, &options, film.as_mut(), &mut |done, total| {
        bar.step(done, total);
        true
    })?;
    if let (Some(path), Some(film)) = (&a.gif, &film) {
        save_animation(path, &film.frames, size, columns)?;
        print(&format!("{}\n", path.display()))?;
    }
    write(&samples, size, columns, grid.as_deref(), a.output.as_deref())?;
    if !global.quiet {
        report(&samples, &options);
    }
    Ok(())
}

/// The images that a start of this name needs.
pub fn pool(
    name: StartName,
    (model, path): (&Model, &Path),
    config: &Config,
    (n, labels): (usize, Option<&[i32]>),
) -> Result<Vec<f32>> {
    match name {
        StartName::Buffer => replay_buffer(path, model),
        StartName::Data => draws_from_data(model, config, n, labels, config.seed),
        StartName::Bank | StartName::Noise => Ok(Vec::new()),
    }
}

/// The start of this name, given them.
pub fn start(name: StartName, images: &[f32]) -> Start<'_> {
    match name {
        StartName::Bank => Start::Bank,
        StartName::Noise => Start::Noise,
        StartName::Buffer => Start::Pool(images),
        StartName::Data => Start::Images(images),
    }
}

/// What takes the frames of the animation, if one is wanted.
fn film(a: &Sample, o: &SampleOptions<'_>) -> Result<Option<Film>> {
    if a.gif.is_none() {
        return Ok(None);
    }
    if o.n > MOST_FILMED {
        return Err(Error::Config(format!("--gif: {} chains; it shows at most {MOST_FILMED}", o.n)));
    }
    match a.gif_every {
        Some(0) => Err(Error::Config("--gif-every 0: at least one step lies between frames".into())),
        every => Ok(Some(Film::new(every.unwrap_or_else(|| o.steps.div_ceil(FRAMES))))),
    }
}

/// The sampler's constants and the seed: the model's, then the command line's.
fn constants(global: &Global, a: &Sample, model: &Model) -> Result<Config> {
    let mut config = model.config()?.map_or_else(|| Config::preset("jempp"), Ok)?;
    let s = &mut config.sampler;
    s.step_size = a.step_size.unwrap_or(s.step_size);
    s.inner_steps = a.inner.unwrap_or(s.inner_steps);
    s.clip = a.clip.unwrap_or(s.clip);
    s.noise = a.noise.unwrap_or(s.noise);
    config.seed = global.seed.unwrap_or(config.seed);
    config.validate()?;
    if a.n == 0 {
        return Err(Error::Config("--n 0: at least one image must be sampled".into()));
    }
    Ok(config)
}

/// Classes of the chains, and columns of the grid.
fn labels(a: &Sample, classes: usize) -> Result<(Option<Vec<i32>>, usize)> {
    if a.by_class {
        let each = a.n.div_ceil(classes);
        return Ok((Some((0..each * classes).map(|i| (i / each) as i32).collect()), each));
    }
    match a.class {
        Some(k) if usize::try_from(k).map_or(true, |k| k >= classes) => {
            Err(Error::Config(format!("--class {k}: the model has the classes 0 to {}", classes - 1)))
        }
        class => Ok((class.map(|k| vec![k; a.n]), COLUMNS)),
    }
}

/// The first of `samples-001.png`, `samples-002.png`, … that is not there.
fn next_free() -> Result<PathBuf> {
    let names = (1..=u32::MAX).map(|i| PathBuf::from(format!("samples-{i:03}.png")));
    let free = names.into_iter().find(|p| p.symlink_metadata().is_err());
    free.ok_or_else(|| Error::Internal("no free number for samples".into()))
}

fn write(
    s: &Samples,
    size: [usize; 3],
    columns: usize,
    grid: Option<&Path>,
    output: Option<&Path>,
) -> Result<()> {
    if let Some(path) = grid {
        save_grid(path, &s.images, size, columns)?;
        print(&format!("{}\n", path.display()))?;
    }
    if let Some(path) = output {
        let (n, [h, w, c]) = (s.labels.len(), size);
        let labels: Vec<i64> = s.labels.iter().map(|l| i64::from(*l)).collect();
        let arrays = [
            ("images", Array::F32(&[n, h, w, c], &s.images)),
            ("labels", Array::I64(&[n], &labels)),
            ("log_density", Array::F32(&[n], &s.log_density)),
            ("confidence", Array::F32(&[n], &s.confidence)),
        ];
        npz::write(path, &arrays)?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn report(s: &Samples, o: &SampleOptions<'_>) {
    let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64;
    let what = if o.labels.is_some() { "p(class)" } else { "max p(y|x)" };
    eprintln!(
        "{} images after {} steps, seed {}: mean log p(x) {:.2}, mean {what} {:.3}",
        o.n,
        o.steps,
        o.seed,
        mean(&s.log_density),
        mean(&s.confidence)
    );
}
