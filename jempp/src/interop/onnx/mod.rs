//! Writing a model as an ONNX file: input images, outputs logits and unnormalised log density.
//!
//! Invariants: the graph computes what [`Model::scores`] computes; tensors keep their published names and axis orders
//! (images N×C×H×W, filters O×I×H×W); the batch size is dynamic.

mod graph;
mod messages;

use crate::config::NormKind;
use crate::error::{Error, Result};
use crate::model::{Model, write_tensor};
use crate::network::{BN_EPS, ConvRef, Network, get};
use graph::{Builder, Constant, value};
use jempp_formats::files::write_atomic;
use messages::{Entry, Model as File, OperatorSet};
use prost::Message;
use std::path::Path;

/// Version of the ONNX operator set, and of the file format introduced with it.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// Name of the second output.
const DENSITY: &str = "log_density";

/// How batch norm is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchNorm {
    /// Folded: the one between a block's convolutions into the first of them, the others into a multiplication and an
    /// addition per channel, since the shortcut also uses their input.
    #[default]
    Fold,
    /// Kept as `BatchNormalization` with its four tensors.
    Keep,
}

/// Writes `model` to `path`, atomically replacing an existing file.
///
/// # Errors
/// [`Error::Data`] for a model larger than 2 GiB, the limit of ONNX's protobuf encoding; [`Error::Io`].
pub fn write(path: &Path, model: &Model, bn: BatchNorm) -> Result<()> {
    let bytes = to_bytes(model, bn)?;
    Ok(write_atomic(path, |w| w.write_all(&bytes))?)
}

/// The ONNX file of `model` as bytes; equal models give equal bytes.
///
/// # Errors
/// [`Error::Data`] for a model larger than 2 GiB.
pub fn to_bytes(model: &Model, bn: BatchNorm) -> Result<Vec<u8>> {
    let network = model.network();
    let mut e = Export { model, network, bn, b: Builder::default() };
    e.record()?;
    let (config, mut graph) = (&network.config, e.b.graph);
    let [h, w, c] = config.image_size;
    graph.name = format!("wrn-{}-{}", config.depth, config.widen_factor);
    graph.input = vec![value("images", &[c, h, w], "N×C×H×W in [-1, 1]: (u/255 - 0.5)/0.5")];
    graph.output =
        vec![value("logits", &[config.classes], "f(x)[y]"), value(DENSITY, &[], "log p(x), unnormalised")];
    let entry = |(k, v): (&String, &String)| Entry { key: k.clone(), value: v.clone() };
    let file = File {
        ir_version: IR_VERSION,
        producer_name: "jempp".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "A joint energy-based model: classifier and unnormalised log density".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata: model.metadata.iter().map(entry).collect(),
    };
    if i32::try_from(file.encoded_len()).is_err() {
        let bytes = file.encoded_len();
        return Err(Error::Data(format!(
            "as ONNX the model would be {bytes} bytes; the format allows at most 2 GiB"
        )));
    }
    Ok(file.encode_to_vec())
}

struct Export<'a> {
    model: &'a Model,
    network: &'a Network,
    bn: BatchNorm,
    b: Builder,
}

/// Scale and shift per channel.
type Affine = (Vec<f32>, Vec<f32>);

impl Export<'_> {
    fn record(&mut self) -> Result<()> {
        let network = self.network;
        let [mut h, mut w, _] = network.config.image_size;
        let mut x = self.conv("images", network.conv1, None)?;
        for block in &network.blocks {
            let n = self.norm(&x, block.bn1, [h, w])?;
            // Only bn2 uses the output of conv1, so it can be folded into conv1.
            let folded = self.folded(block.bn2)?;
            let mut n = self.conv(&n, block.conv1, folded.as_ref())?;
            n = match folded {
                Some(_) => self.leaky(&n),
                None => self.norm(&n, block.bn2, [h, w])?,
            };
            let short = match block.shortcut {
                Some(c) => self.conv(&x, c, None)?,
                None => x,
            };
            let n = self.conv(&n, block.conv2, None)?;
            x = self.b.node("Add", &format!("{n}.sum"), &[&n, &short], &[]);
            [h, w] = [h, w].map(|s| s.div_ceil(block.conv2.stride));
        }
        let x = self.norm(&x, network.last_bn, [h, w])?;
        let x = self.b.node("GlobalAveragePool", "pooled", &[&x], &[]);
        let x = self.b.node("Flatten", "features", &[&x], &[("axis", Constant::Int(1))]);
        let logits = self.linear(&x, network.head, "logits")?;
        match network.energy {
            Some(head) => {
                let energy = self.linear(&x, head, "energy")?;
                let line = self.b.ints("energy.as_line", &[-1]);
                self.b.node("Reshape", DENSITY, &[&energy, &line], &[]);
            }
            None => self.log_sum_exp(&logits),
        }
        Ok(())
    }

    /// Subtracts the largest logit before the exponentials and adds it afterwards, as e¹⁰⁰ overflows and not every
    /// runtime does so itself.
    fn log_sum_exp(&mut self, logits: &str) {
        let along = |keep| [("axes", Constant::Ints(&[1])), ("keepdims", Constant::Int(keep))];
        let wide = self.b.node("ReduceMax", "largest.wide", &[logits], &along(1));
        let largest = self.b.node("ReduceMax", "largest", &[logits], &along(0));
        let rest = self.b.node("Sub", "logits.rest", &[logits, &wide], &[]);
        let rest = self.b.node("ReduceLogSumExp", "logits.rest.sum", &[&rest], &along(0));
        self.b.node("Add", DENSITY, &[&rest, &largest], &[]);
    }

    /// Name, shape and values of parameter `i`, in the axis order of files.
    fn parameter(&self, i: usize) -> Result<(String, Vec<usize>, Vec<f32>)> {
        let p = &self.network.parameters[i];
        let t = write_tensor(&p.name, &p.slot.spec, &get(self.model.state(), p.slot)?)?;
        match t.data {
            jempp_formats::container::TensorData::F32(values) => Ok((t.name, t.shape, values)),
            _ => Err(Error::Internal(format!("{} is not float32", p.name))),
        }
    }

    /// Adds parameter `i` as an initializer, and returns its name.
    fn weights(&mut self, i: usize) -> Result<String> {
        let (name, shape, values) = self.parameter(i)?;
        Ok(self.b.floats(&name, &shape, &values))
    }

    /// Adds a convolution, with `affine` folded into it if given.
    fn conv(&mut self, x: &str, c: ConvRef, affine: Option<&Affine>) -> Result<String> {
        let (weight, shape, mut w) = self.parameter(c.weight)?;
        let (bias, channels, mut b) = self.parameter(c.bias)?;
        if let Some((scale, shift)) = affine {
            let each = w.len() / shape[0].max(1);
            for (k, row) in w.chunks_exact_mut(each.max(1)).enumerate() {
                row.iter_mut().for_each(|v| *v *= scale[k]);
                b[k] = (f64::from(b[k]) * f64::from(scale[k]) + f64::from(shift[k])) as f32;
            }
        }
        let (side, stride, pad) = (shape[2] as i64, c.stride as i64, c.pad as i64);
        let (w, b) = (self.b.floats(&weight, &shape, &w), self.b.floats(&bias, &channels, &b));
        let constants = [
            ("kernel_shape", Constant::Ints(&[side, side])),
            ("strides", Constant::Ints(&[stride, stride])),
            ("pads", Constant::Ints(&[pad; 4])),
        ];
        Ok(self.b.node("Conv", layer_name(&weight), &[x, &w, &b], &constants))
    }

    fn linear(&mut self, x: &str, (weight, bias): (usize, usize), name: &str) -> Result<String> {
        let (w, b) = (self.weights(weight)?, self.weights(bias)?);
        Ok(self.b.node("Gemm", name, &[x, &w, &b], &[("transB", Constant::Int(1))]))
    }

    fn leaky(&mut self, x: &str) -> String {
        let leak = self.network.config.leak as f32;
        self.b.node("LeakyRelu", &format!("{x}.leaky"), &[x], &[("alpha", Constant::Float(leak))])
    }

    /// Batch norm `i` as scale and shift per channel, if it is to be folded.
    fn folded(&self, i: usize) -> Result<Option<Affine>> {
        let fold = self.bn == BatchNorm::Fold && self.network.config.norm == NormKind::Batch;
        let Some([gamma, beta]) = self.network.affine[i].filter(|_| fold) else { return Ok(None) };
        let norm = &self.network.norms[i];
        let (gamma, beta) = (self.parameter(gamma)?.2, self.parameter(beta)?.2);
        let [mean, var] = [norm.mean, norm.var].map(|s| get(self.model.state(), s));
        let (mean, var) = (mean?, var?);
        let scale: Vec<f64> =
            var.iter().zip(&gamma).map(|(v, g)| f64::from(*g) / (f64::from(*v) + BN_EPS).sqrt()).collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| f64::from(*b) - f64::from(*m) * s);
        Ok(Some((scale.iter().map(|s| *s as f32).collect(), shift.map(|s| s as f32).collect())))
    }

    /// Adds normalisation `i` of feature maps of height and width `side`, and the leaky ReLU after it.
    fn norm(&mut self, x: &str, i: usize, side: [usize; 2]) -> Result<String> {
        let Some([first, second]) = self.network.affine[i] else { return Ok(self.leaky(x)) };
        let name = layer_name(&self.network.parameters[first].name).to_owned();
        let y = match self.network.config.norm {
            NormKind::Batch => self.batch_norm(x, &name, i, [first, second])?,
            NormKind::Instance => {
                let (w, b) = (self.weights(first)?, self.weights(second)?);
                self.b.node("InstanceNormalization", &name, &[x, &w, &b], &[("epsilon", EPS)])
            }
            NormKind::Layer => {
                let merged = self.layer_norm(x, &name, self.network.parameters[first].slot.spec.len(), side);
                self.affine(&merged, &name, [first, second], ["Mul", "Add"])?
            }
            NormKind::Act => self.affine(x, &name, [first, second], ["Add", "Mul"])?,
            NormKind::None => x.to_owned(),
        };
        Ok(self.leaky(&y))
    }

    fn batch_norm(&mut self, x: &str, name: &str, i: usize, [gamma, beta]: [usize; 2]) -> Result<String> {
        if let Some((scale, shift)) = self.folded(i)? {
            let shape = [scale.len(), 1, 1];
            let scale = self.b.floats(&format!("{name}.scale"), &shape, &scale);
            let shift = self.b.floats(&format!("{name}.shift"), &shape, &shift);
            let y = self.b.node("Mul", &format!("{name}.scaled"), &[x, &scale], &[]);
            return Ok(self.b.node("Add", name, &[&y, &shift], &[]));
        }
        let norm = &self.network.norms[i];
        let (gamma, beta) = (self.weights(gamma)?, self.weights(beta)?);
        let mut statistic = |what: &str, slot| -> Result<String> {
            let values = get(self.model.state(), slot)?;
            Ok(self.b.floats(&format!("{name}.{what}"), &[values.len()], &values))
        };
        let (mean, var) = (statistic("running_mean", norm.mean)?, statistic("running_var", norm.var)?);
        Ok(self.b.node("BatchNormalization", name, &[x, &gamma, &beta, &mean, &var], &[("epsilon", EPS)]))
    }

    /// Adds normalisation to mean 0 and variance 1 over each image: instance norm of the image reshaped to one channel.
    fn layer_norm(&mut self, x: &str, name: &str, channels: usize, [h, w]: [usize; 2]) -> String {
        let one = self.b.floats(&format!("{name}.one"), &[1], &[1.0]);
        let zero = self.b.floats(&format!("{name}.zero"), &[1], &[0.0]);
        // 0 copies the extent of the input, here the number of images.
        let line = self.b.ints(&format!("{name}.as_line"), &[0, 1, -1]);
        let maps = self.b.ints(&format!("{name}.as_maps"), &[0, channels as i64, h as i64, w as i64]);
        let x = self.b.node("Reshape", &format!("{name}.line"), &[x, &line], &[]);
        let norm = format!("{name}.normal");
        let x = self.b.node("InstanceNormalization", &norm, &[&x, &one, &zero], &[("epsilon", EPS)]);
        self.b.node("Reshape", &format!("{name}.maps"), &[&x, &maps], &[])
    }

    /// Adds one elementwise operation per channel with each of two parameters.
    fn affine(&mut self, x: &str, name: &str, params: [usize; 2], ops: [&str; 2]) -> Result<String> {
        let mut y = x.to_owned();
        for ((i, op), out) in params.into_iter().zip(ops).zip([format!("{name}.half"), name.to_owned()]) {
            let (parameter, shape, values) = self.parameter(i)?;
            let p = self.b.floats(&parameter, &[shape[0], 1, 1], &values);
            y = self.b.node(op, &out, &[&y, &p], &[]);
        }
        Ok(y)
    }
}

const EPS: Constant<'static> = Constant::Float(BN_EPS as f32);

/// The name of the layer that a parameter belongs to.
fn layer_name(parameter: &str) -> &str {
    parameter.rsplit_once('.').map_or(parameter, |(layer, _)| layer)
}

#[cfg(test)]
mod tests;
