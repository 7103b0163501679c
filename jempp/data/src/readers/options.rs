//! The options of the configuration that affect what a reader returns.

use crate::config::{Crop, DataConfig, LabelKind};

/// What a configuration says of how to read.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub labels: LabelKind,
    pub extra: bool,
    pub crop: Crop,
    pub attribute: String,
}

impl Options {
    /// Those of a configuration.
    pub fn of(config: &DataConfig) -> Self {
        let (labels, extra, crop) = (config.labels, config.extra, config.crop);
        Self { labels, extra, crop, attribute: config.attribute.clone() }
    }

    /// What tells cached data sets of one path apart; empty for the defaults.
    pub fn key(&self) -> String {
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
