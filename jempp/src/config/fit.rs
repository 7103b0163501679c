//! Whether a data set fits the configured model.

use super::Config;
use crate::error::{Error, Result};
use jempp_data::Dataset;

impl Config {
    /// Checks that a data set has the image size and the number of classes of the model.
    ///
    /// # Errors
    /// [`Error::Config`] saying which key to change.
    pub fn check_fit(&self, set: &Dataset) -> Result<()> {
        let m = &self.model;
        let name = set.name();
        if set.size() != m.image_size {
            let (got, want) = (set.size(), m.image_size);
            return Err(Error::Config(format!(
                "data set `{name}` has images of {got:?}, model.image_size is {want:?}; set model.image_size={got:?}"
            )));
        }
        if set.classes() != m.classes {
            let got = set.classes();
            return Err(Error::Config(format!(
                "data set `{name}` has {got} classes, model.classes is {}; set model.classes={got}",
                m.classes
            )));
        }
        Ok(())
    }
}
