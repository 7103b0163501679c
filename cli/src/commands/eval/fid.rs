//! `jempp-cli eval fid`.

use super::{eval_data, split_part, text};
use crate::args::{Fid as Args, Global, InceptionOptions, ResizeName, VariantName};
use crate::commands::{json, print};
use crate::progress::StageProgress;
use jempp::evaluation::{EvalData, SplitPart};
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::fid::{FidJob, InceptionFile, ReferenceSource, SampleSource};
use jempp_eval::inception::{Resize, Variant};
use jempp_eval::sampling::ChainStart;
use jempp_formats::files::write_atomic;
use std::path::Path;

/// Evaluates samples by FID and Inception score.
pub(super) fn run(global: &Global, a: &Args) -> Result<()> {
    let model = Model::load(&global.device()?, &a.model)?;
    let options = &a.inception_options;
    let data = match options.reference {
        None => Some(eval_data(global, &model, a.data.as_deref())?),
        Some(_) => None,
    };
    let chains = SampleSource::Chains {
        n: a.n,
        start: a.start.map_or(ChainStart::Trained, Into::into),
        steps: a.steps,
    };
    let job = FidJob {
        model: (&model, &a.model),
        source: a.samples.as_deref().map_or(chains, SampleSource::Archive),
        reference: reference(options, data.as_ref(), split_part(a.split))?,
        inception: inception_file(&a.inception, options),
        seed: global.seed,
        folder: a.out.as_deref(),
    };
    let mut stages = StageProgress::new(global);
    let found = job.run(&mut |stage, done, total| stages.report(stage, done, total))?;
    let value = json(&found)?;
    if let Some(out) = &a.out {
        write_atomic(&out.join("fid.json"), |w| w.write_all(format!("{value:#}\n").as_bytes()))?;
    }
    print(&if a.json { format!("{value}\n") } else { text::fid(&found) })
}

/// What samples are compared with: the statistics named, or images of a data set.
pub(super) fn reference<'a>(
    options: &'a InceptionOptions,
    data: Option<&'a EvalData>,
    part: SplitPart,
) -> Result<ReferenceSource<'a>> {
    match (&options.reference, data) {
        (Some(file), _) => Ok(ReferenceSource::Statistics(file)),
        (None, Some(data)) => Ok(ReferenceSource::Images(data, part, options.reference_n)),
        (None, None) => Err(Error::Config("there is no reference: name a data set (--data)".into())),
    }
}

/// The weights, and the settings of the options.
pub(super) fn inception_file<'a>(weights: &'a Path, options: &InceptionOptions) -> InceptionFile<'a> {
    let variant = options.variant.map(|v| match v {
        VariantName::Fid => Variant::Fid,
        VariantName::Torchvision => Variant::Torchvision,
    });
    let resize = if options.resize == ResizeName::Pil { Resize::Pil } else { Resize::Torch };
    InceptionFile { weights, variant, resize }
}
