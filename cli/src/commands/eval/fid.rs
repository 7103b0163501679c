//! `jempp-cli eval fid`.

use super::fid_job::{FeatureExtractor, FidJob, SampleSource};
use super::{part_of, text};
use crate::args::{Fid as Args, Global, InceptionOptions, ResizeName, VariantName};
use crate::commands::{json, print};
use crate::progress::{StageProgress, note};
use jempp::evaluation::{Part, Subject};
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::fid::Against;
use jempp_eval::inception::{Resize, Variant};
use jempp_formats::files::write_atomic;
use std::path::Path;

/// Evaluates samples by FID and Inception score.
pub fn run(global: &Global, a: &Args) -> Result<()> {
    let model = Model::load(&global.device()?, &a.model)?;
    let load = || -> Result<Subject> {
        let subject = Subject::of_model(&model, a.data.as_deref(), global.seed)?;
        if let Some(warning) = &subject.warning {
            note(global, &format!("warning: {warning}"));
        }
        Ok(subject)
    };
    let options = &a.inception_options;
    let subject = if options.reference.is_none() { Some(load()?) } else { None };
    let chains = SampleSource::Chains(a.n, a.start.into(), a.steps);
    let job = FidJob {
        model: (&model, &a.model),
        source: a.samples.as_deref().map_or(chains, SampleSource::Archive),
        reference: reference(options, subject.as_ref(), part_of(a.split))?,
        extractor: extractor(&a.inception, options),
        seed: global.seed,
        folder: a.out.as_deref(),
    };
    let mut stages = StageProgress::new(global);
    let found = job.run(&mut |what, done, total| stages.report(what, done, total))?;
    let value = json(&found)?;
    if let Some(out) = &a.out {
        write_atomic(&out.join("fid.json"), |w| w.write_all(format!("{value:#}\n").as_bytes()))?;
    }
    print(&if a.json { format!("{value}\n") } else { text::fid(&found) })
}

/// What samples are compared with: the statistics named, or images of a data set.
pub fn reference<'a>(
    options: &'a InceptionOptions,
    subject: Option<&'a Subject>,
    part: Part,
) -> Result<Against<'a>> {
    match (&options.reference, subject) {
        (Some(file), _) => Ok(Against::File(file)),
        (None, Some(subject)) => Ok(Against::Data(subject, part, options.reference_n)),
        (None, None) => Err(Error::Config("there is no reference: name a data set (--data)".into())),
    }
}

/// The feature extractor that the options describe.
pub fn extractor<'a>(weights: &'a Path, options: &InceptionOptions) -> FeatureExtractor<'a> {
    let variant = options.variant.map(|v| match v {
        VariantName::Fid => Variant::Fid,
        VariantName::Torchvision => Variant::Torchvision,
    });
    let resize = if options.resize == ResizeName::Pil { Resize::Pil } else { Resize::Torch };
    FeatureExtractor { weights, variant, resize }
}
