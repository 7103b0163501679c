//! `jempp-cli convert`.

use super::{bytes, check_output, print};
use crate::args::{BatchNormForm, Convert, FileFormat, Global, NetworkClass, NormName};
use jempp::config::NormKind;
use jempp::interop::convert::{ModelFormat, add_replay_buffer, add_start_samples, read, recalibrate, write};
use jempp::interop::onnx::BatchNorm;
use jempp::model::published::{Hints, Variant};
use jempp::{Error, Result};

/// Reads a model and writes it in another format.
pub(crate) fn run(global: &Global, a: &Convert) -> Result<()> {
    let format = match a.to {
        Some(FileFormat::Safetensors) => ModelFormat::Safetensors,
        Some(FileFormat::Pt) => ModelFormat::Torch,
        Some(FileFormat::Onnx) => ModelFormat::Onnx,
        None => ModelFormat::of(&a.output)?,
    };
    if !a.force {
        check_output(&a.output).map_err(|e| match e {
            Error::Exists(path) => Error::Data(format!(
                "{} exists already; choose another path, or replace it with --force",
                path.display()
            )),
            other => other,
        })?;
    } else if a.output.is_dir() {
        return Err(Error::Exists(a.output.clone()));
    }
    let norm = a.norm.map(|n| match n {
        NormName::Instance => NormKind::Instance,
        NormName::Layer => NormKind::Layer,
    });
    let image_size = a.image_size.as_deref().and_then(|s| <[usize; 2]>::try_from(s).ok());
    let mut model = read(&a.input, Hints { norm, image_size })?;
    let device = global.device()?;
    if format == ModelFormat::Torch {
        add_replay_buffer(&mut model, &a.input)?;
    }
    if let Some(data) = &a.recalibrate {
        let images = recalibrate(&mut model, &device, data)?;
        if !global.quiet {
            eprintln!("batch norm statistics recomputed on {images} training images of {data}");
        }
    }
    if let (Some(mean), Some(cov)) = (&a.mean, &a.cov) {
        add_start_samples(&mut model, mean, cov, global.seed.unwrap_or(1))?;
    }
    let bn = match a.onnx_bn {
        BatchNormForm::Fold => BatchNorm::Fold,
        BatchNormForm::Keep => BatchNorm::Keep,
    };
    let variant = a.target.map(|class| match class {
        NetworkClass::Jem => Variant::Jem,
        NetworkClass::JemppYopo => Variant::JemppYopo,
        NetworkClass::JemppWrn | NetworkClass::SadaJem => Variant::JemppWrn,
    });
    write(&model, &a.output, format, (bn, variant), &device)?;
    let size = std::fs::metadata(&a.output).map_err(|e| Error::io(&a.output, e))?.len();
    print(&format!("{}  {}\n", a.output.display(), bytes(size)))
}
