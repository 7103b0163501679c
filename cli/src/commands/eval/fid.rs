//! `jempp-cli eval fid`.

use super::{part_of, text};
use crate::args::{Fid as Args, Global, ResizeName, Seeing, SplitName, StartName, VariantName};
use crate::commands::{json, print, sample};
use crate::progress::{Stages, note};
use jempp::config::Config;
use jempp::evaluation::Subject;
use jempp::model::Model;
use jempp::sampling::draw::SampleOptions;
use jempp::{Error, Result};
use jempp_eval::fid::{Against, Eye, Fid, Judged, fid};
use jempp_eval::inception::{Inception, Resize, Variant};
use jempp_formats::files::write_atomic;
use std::path::Path;

/// What is judged.
pub struct Drawn<'a> {
    /// Chains.
    pub n: usize,
    /// Their steps.
    pub steps: Option<u32>,
    /// Their start.
    pub start: StartName,
    /// An archive instead.
    pub samples: Option<&'a Path>,
}

/// Judges samples by Inception's features.
pub fn run(global: &Global, a: &Args) -> Result<()> {
    let model = Model::load(&global.device()?, &a.model)?;
    let load = || -> Result<Subject> {
        let subject = Subject::of_model(&model, a.data.as_deref(), global.seed)?;
        if let Some(warning) = &subject.warning {
            note(global, &format!("warning: {warning}"));
        }
        Ok(subject)
    };
    let subject = if a.seeing.reference.is_none() { Some(load()?) } else { None };
    let drawn = Drawn { n: a.n, steps: a.steps, start: a.start, samples: a.samples.as_deref() };
    let places = (a.model.as_path(), a.inception.as_path(), a.out.as_deref());
    let found = judge(global, (&model, subject.as_ref(), a.split), places, &a.seeing, &drawn)?;
    let value = json(&found)?;
    if let Some(out) = &a.out {
        write_atomic(&out.join("fid.json"), |w| w.write_all(format!("{value:#}\n").as_bytes()))?;
    }
    print(&if a.json { format!("{value}\n") } else { text::fid(&found) })
}

/// The same for other commands: `places` are the model, the weights, and where parts are kept.
pub fn judge(
    global: &Global,
    (model, subject, split): (&Model, Option<&Subject>, SplitName),
    (path, weights, out): (&Path, &Path, Option<&Path>),
    seeing: &Seeing,
    drawn: &Drawn<'_>,
) -> Result<Fid> {
    let against = match (&seeing.reference, subject) {
        (Some(file), _) => Against::File(file),
        (None, Some(subject)) => Against::Data(subject, part_of(split), seeing.reference_n),
        (None, None) => {
            return Err(Error::Config("nothing to compare with: name a data set (--data)".into()));
        }
    };
    if drawn.n < 2 {
        return Err(Error::Config(format!(
            "{} chains have no covariance; take at least 2, better 10000",
            drawn.n
        )));
    }
    let variant = seeing.variant.map(|v| match v {
        VariantName::Fid => Variant::Fid,
        VariantName::Torchvision => Variant::Torchvision,
    });
    let resize = if seeing.resize == ResizeName::Pil { Resize::Pil } else { Resize::Torch };
    let mut inception = Inception::open(model.device(), weights, variant)?;
    let mut config = model.config()?.map_or_else(|| Config::preset("jempp"), Ok)?;
    config.seed = global.seed.unwrap_or(config.seed);
    let images = match drawn.samples {
        None => sample::pool(drawn.start, (model, path), &config, (drawn.n, None))?,
        Some(_) => Vec::new(),
    };
    let start = sample::start(drawn.start, &images);
    let mut options = SampleOptions { n: drawn.n, start, ..SampleOptions::new(&config) };
    options.steps = drawn.steps.unwrap_or(options.steps);
    let judged = drawn.samples.map_or_else(|| Judged::Chains(&options, drawn.start.words()), Judged::File);
    let mut stages = Stages::new(global);
    let mut watch = |what: &str, done, all| stages.tell(what, done, all);
    fid(
        model,
        (&judged, against),
        config.seed,
        &mut Eye { inception: &mut inception, resize },
        out,
        &mut watch,
    )
}
