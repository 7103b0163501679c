//! The options of the configuration that affect what a reader returns.

use crate::config::{Crop, DataConfig, LabelKind};

/// Options for the readers of published data sets.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub labels: LabelKind,
    pub extra: bool,
    pub crop: Crop,
    pub attribute: String,
}

impl Options {
    /// The options in a configuration.
    pub(crate) fn of(config: &DataConfig) -> Self {
        let (labels, extra, crop) = (config.labels, config.extra, config.crop);
        Self { labels, extra, crop, attribute: config.attribute.clone() }
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
        parts.join(", ")
    }
}
