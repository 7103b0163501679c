//! The options of the configuration that affect what a reader returns.

use crate::config::{Crop, DataConfig, LabelKind};
use crate::folder;
use jempp_formats::resize::Resize;
use jempp_formats::unpack::Unpack;

/// Options for the readers of published data sets.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub labels: LabelKind,
    pub extra: bool,
    pub crop: Crop,
    pub attribute: String,
    pub labels_csv: String,
    pub resize: Option<Resize>,
    pub unpack: Unpack,
}

impl Options {
    /// The options in a configuration.
    pub(crate) fn of(config: &DataConfig) -> Self {
        let (labels, extra, crop) = (config.labels, config.extra, config.crop);
        Self {
            labels,
            extra,
            crop,
            attribute: config.attribute.clone(),
            labels_csv: config.labels_csv.clone(),
            resize: config.resizing(),
            unpack: Unpack::mebibytes(config.unpack_limit as u64),
        }
    }

    /// Those of image folders.
    pub(crate) fn folder(&self) -> folder::Options {
        folder::Options { labels_csv: self.labels_csv.clone(), resize: self.resize, unpack: self.unpack }
    }

    /// A key that distinguishes cached versions of one data set; empty for the defaults.
    pub(crate) fn key(&self) -> String {
        let mut parts = Vec::new();
        if self.labels == LabelKind::Coarse {
            parts.push("coarse labels".to_owned());
        }
        if self.extra {
            parts.push("extra".into());
        }
        if self.crop == Crop::Compat39 {
            parts.push("39×32".into());
        }
        if !self.attribute.is_empty() {
            parts.push(format!("label {}", self.attribute));
        }
        if !self.labels_csv.is_empty() {
            parts.push(format!("labels of {}", self.labels_csv));
        }
        if let Some(r) = &self.resize {
            parts.push(format!("{r:?}"));
        }
        parts.join(", ")
    }
}
