//! The names of a model's classes, from its metadata.

use super::Model;

impl Model {
    /// Names of the classes, those of the data set that the model was trained on; empty if they are only numbered.
    pub fn class_names(&self) -> Vec<String> {
        let text = self.metadata.get("class_names");
        let names: Vec<String> = text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
        if names.len() == self.network().config.classes { names } else { Vec::new() }
    }
}
