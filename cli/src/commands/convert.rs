//! `jempp-cli convert`.

use super::{bytes, check_output, print};
use crate::args::{BatchNormForm, Convert, FileFormat, Global, NormName};
use jempp::config::NormKind;
use jempp::interop::convert::{Kind, add_bank, add_buffer, read, recalibrate, write};
use jempp::interop::onnx::BatchNorm;
use jempp::interop::torch::Hints;
use jempp::{Error, Result};

/// Reads a model and writes it in another format.
pub fn run(global: &Global, a: &Convert) -> Result<()> {
    let kind = match a.to {
        Some(FileFormat::Safetensors) => Kind::Safetensors,
        Some(FileFormat::Pt) => Kind::Torch,
        Some(FileFormat::Onnx) => Kind::Onnx,
        None => Kind::of(&a.output)?,
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
    if kind == Kind::Torch {
        add_buffer(&mut model, &a.input)?;
    }
    if let Some(data) = &a.recalibrate {
        let images = recalibrate(&mut model, &device, data)?;
        if !global.quiet {
            eprintln!("batch norm statistics recomputed on {images} training images of {data}");
        }
    }
    if let (Some(mean), Some(cov)) = (&a.mean, &a.cov) {
        add_bank(&mut model, mean, cov, global.seed.unwrap_or(1))?;
    }
    let bn = match a.onnx_bn {
        BatchNormForm::Fold => BatchNorm::Fold,
        BatchNormForm::Keep => BatchNorm::Keep,
    };
    write(&model, &a.output, kind, bn, &device)?;
    let size = std::fs::metadata(&a.output).map_err(|e| Error::io(&a.output, e))?.len();
    print(&format!("{}  {}\n", a.output.display(), bytes(size)))
}
