//! The tensors that the file of a network must contain, listed without building the network, so that no memory is
//! allocated for an architecture that a file merely claims.
//!
//! Invariant: names and shapes are those of [`super::Network::tensors`], shapes in the axis order of files.

use crate::config::{Config, ModelConfig, NormKind};
use crate::error::Result;

/// Checks an architecture read from a file.
///
/// # Errors
/// [`crate::Error::Config`] naming the key.
pub(crate) fn check(model: &ModelConfig) -> Result<()> {
    let mut config = Config::preset("jempp")?;
    config.model = model.clone();
    config.data.pad = 0;
    config.validate()
}

/// Calls `each` with the name and shape of every tensor, filters O×I×H×W; stops at the first error.
///
/// # Errors
/// Those of `each`.
pub(crate) fn tensors(
    config: &ModelConfig,
    mut each: impl FnMut(String, &[usize]) -> Result<()>,
) -> Result<()> {
    let [_, _, channels] = config.image_size;
    let mut list = Lister { norm: config.norm, each: &mut each };
    list.conv("f.conv1", channels, 16, 3)?;
    let mut c = 16;
    for (layer, base) in [16, 32, 64].into_iter().enumerate() {
        let (k, widened) = (base * config.widen_factor, layer > 0);
        for i in 0..config.depth.saturating_sub(4) / 6 {
            let name = format!("f.layer{}.{i}", layer + 1);
            list.normal(&format!("{name}.bn1"), c)?;
            list.conv(&format!("{name}.conv1"), c, k, 3)?;
            list.normal(&format!("{name}.bn2"), k)?;
            list.conv(&format!("{name}.conv2"), k, k, 3)?;
            if (widened && i == 0) || c != k {
                list.conv(&format!("{name}.shortcut.0"), c, k, 1)?;
            }
            c = k;
        }
    }
    list.normal("f.bn1", c)?;
    if config.energy_head {
        list.linear("energy_output", c, 1)?;
    }
    list.linear("class_output", c, config.classes)
}

struct Lister<'a> {
    norm: NormKind,
    each: &'a mut dyn FnMut(String, &[usize]) -> Result<()>,
}

impl Lister<'_> {
    fn conv(&mut self, name: &str, c: usize, k: usize, r: usize) -> Result<()> {
        (self.each)(format!("{name}.weight"), &[k, c, r, r])?;
        (self.each)(format!("{name}.bias"), &[k])
    }

    fn linear(&mut self, name: &str, c: usize, k: usize) -> Result<()> {
        (self.each)(format!("{name}.weight"), &[k, c])?;
        (self.each)(format!("{name}.bias"), &[k])
    }

    fn normal(&mut self, name: &str, c: usize) -> Result<()> {
        let parts: &[&str] = match self.norm {
            NormKind::Batch => &["weight", "bias", "running_mean", "running_var"],
            NormKind::Instance | NormKind::Layer => &["weight", "bias"],
            NormKind::Act => &["loc", "scale"],
            NormKind::None => &[],
        };
        parts.iter().try_for_each(|part| (self.each)(format!("{name}.{part}"), &[c]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use engine::State;
    use std::collections::BTreeMap;

    #[test]
    fn the_list_is_that_of_the_network() {
        use NormKind::{Act, Batch, Instance, Layer, None};
        let base = Config::preset("digits").unwrap().model;
        for (norm, depth, width) in
            [(Batch, 10, 1), (Batch, 16, 2), (Instance, 10, 3), (Layer, 10, 1), (Act, 16, 1), (None, 10, 2)]
        {
            let head = norm != Batch;
            let config = ModelConfig { norm, depth, widen_factor: width, energy_head: head, ..base.clone() };
            let network = Network::new(&mut State::new(), &config).unwrap();
            let want: BTreeMap<String, Vec<usize>> = network
                .tensors()
                .map(|(name, slot)| match *slot.spec.shape() {
                    [k, r, s, c] => (name, vec![k, c, r, s]),
                    _ => (name, slot.spec.shape().to_vec()),
                })
                .collect();
            let mut got = BTreeMap::new();
            tensors(&config, |name, shape| {
                assert!(got.insert(name, shape.to_vec()).is_none());
                Ok(())
            })
            .unwrap();
            assert_eq!(got, want);
        }
        assert!(check(&base).is_ok());
        assert!(check(&ModelConfig { widen_factor: usize::MAX, ..base }).is_err());
    }
}
