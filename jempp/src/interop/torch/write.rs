//! Writing a model as a checkpoint like the published ones: `{"model_state_dict": …, "replay_buffer": …}` in a zip
//! archive as `torch.save` writes it, which `torch.load` reads with `weights_only=True`.
//!
//! Invariants: the state dict has every name of the network class that it is for, aliases included, so that
//! `load_state_dict(strict=True)` accepts it; an alias is the same tensor, stored once; equal models give equal bytes.

use crate::config::{ModelConfig, NormKind};
use crate::error::{Error, Result};
use crate::model::published::Variant;
use crate::model::{REPLAY_BUFFER, VARIANT, architecture};
use crate::network::listing;
use jempp_formats::container::{Container, Tensor, TensorData};
use jempp_formats::files::{Sink, write_atomic};
use std::io::{self, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Alignment of storages in the file, in bytes, as in PyTorch.
const ALIGNMENT: u16 = 64;
/// The folder in the archive: PyTorch's default name.
const FOLDER: &str = "archive";
/// Entries of at least this size use 64-bit sizes (zip64).
const LARGE: usize = u32::MAX as usize / 2;

/// Writes the content of a model file, with its replay buffer if it has one, to `path`, atomically replacing an
/// existing file. It is for the network class `variant`, by default that which the model came from, or JEM++'s. What that class has
/// and the model has not, an energy head or JEM's linear layer, is zeros: it is loaded but not used.
///
/// # Errors
/// [`Error::Format`] when `container` is not a complete model; [`Error::Io`].
pub fn write(path: &Path, container: &Container, variant: Option<Variant>) -> Result<()> {
    let config = architecture(container)?;
    let came_from = container.meta.get(VARIANT).and_then(|name| Variant::of(name));
    let variant = variant.or(came_from).unwrap_or(Variant::JemppYopo);
    let state = state_dict(container, &config, variant)?;
    let buffer = container.get(REPLAY_BUFFER);
    let pickle = pickled(&state, buffer, variant)?;
    Ok(write_atomic(path, |out| archive(out, &pickle, state.iter().chain(buffer)))?)
}

/// The tensors of the state dict, in the published order.
fn state_dict(c: &Container, config: &ModelConfig, variant: Variant) -> Result<Vec<Tensor>> {
    let mut out = Vec::new();
    let steps = c.meta.get("step").and_then(|s| s.parse().ok()).unwrap_or(0);
    listing::tensors(config, |name, shape| {
        // This also checks type and shape.
        let values = c.f32(&name, shape)?.to_vec();
        let tracked = name.strip_suffix("running_var").map(|norm| format!("{norm}num_batches_tracked"));
        if config.norm == NormKind::Act && (name.ends_with(".loc") || name.ends_with(".scale")) {
            let flag = name.strip_suffix("scale").map(|norm| format!("{norm}initialized"));
            out.push(Tensor::f32(name, [1, values.len(), 1, 1], values));
            // Or the class would compute both anew from the first images that it sees.
            out.extend(flag.map(|flag| Tensor::u8(flag, [], vec![1])));
            return Ok(());
        }
        out.push(Tensor::f32(name, shape, values));
        out.extend(tracked.map(|name| match c.get(&name) {
            Some(t) => t.clone(),
            None => Tensor::i64(name, [], vec![steps]),
        }));
        Ok(())
    })?;
    let features = 64 * config.widen_factor;
    let mut unused = Vec::new();
    if variant == Variant::Jem {
        // With JEM's default number of classes, whatever that of the model.
        unused.extend([("f.linear.weight", vec![10, features]), ("f.linear.bias", vec![10])]);
    }
    if !config.energy_head {
        unused.extend([("energy_output.weight", vec![1, features]), ("energy_output.bias", vec![1])]);
    }
    for (name, shape) in unused {
        let zeros = || Tensor::f32(name, shape.clone(), vec![0.0; shape.iter().product()]);
        out.push(c.get(name).cloned().unwrap_or_else(zeros));
    }
    Ok(out)
}

/// The alias of a tensor in the published network.
fn alias(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("f.conv1.") {
        return Some(format!("f.layer_one.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("f.bn1.") {
        return Some(format!("f.other_layers.3.{rest}"));
    }
    let (layer, rest) = name.strip_prefix("f.layer")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    Some(format!("f.other_layers.{}.{rest}", layer.checked_sub(1)?))
}

/// Writes the archive: the pickle, then the values of each tensor in order.
fn archive<'a>(
    out: &mut dyn Sink,
    pickle: &[u8],
    tensors: impl Iterator<Item = &'a Tensor>,
) -> io::Result<()> {
    let mut zip = ZipWriter::new(out);
    let options = |size: usize| {
        SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(size >= LARGE)
            .with_alignment(ALIGNMENT)
    };
    let mut entry = |name: &str, size: usize, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>| {
        zip.start_file(format!("{FOLDER}/{name}"), options(size))?;
        fill(&mut zip)
    };
    entry("data.pkl", pickle.len(), &mut |w| w.write_all(pickle))?;
    entry("byteorder", 6, &mut |w| w.write_all(b"little"))?;
    for (i, t) in tensors.enumerate() {
        let put = &mut |w: &mut dyn Write| values(w, &t.data);
        entry(&format!("data/{i}"), 8 * t.data.len(), put)?;
    }
    entry("version", 2, &mut |w| w.write_all(b"3\n"))?;
    zip.finish()?;
    Ok(())
}

fn values(w: &mut dyn Write, data: &TensorData) -> io::Result<()> {
    const CHUNK: usize = 8192;
    fn put<T: Copy, const N: usize>(w: &mut dyn Write, all: &[T], f: fn(T) -> [u8; N]) -> io::Result<()> {
        all.chunks(CHUNK)
            .try_for_each(|c| w.write_all(c.iter().map(|v| f(*v)).collect::<Vec<_>>().as_flattened()))
    }
    match data {
        TensorData::F32(v) => put(w, v, f32::to_le_bytes),
        TensorData::I32(v) => put(w, v, i32::to_le_bytes),
        TensorData::I64(v) => put(w, v, i64::to_le_bytes),
        TensorData::U8(v) => w.write_all(v),
    }
}

/// The checkpoint's object as a pickle of protocol 2.
fn pickled(state: &[Tensor], buffer: Option<&Tensor>, variant: Variant) -> Result<Vec<u8>> {
    let mut p = Pickler { out: b"\x80\x02}(".to_vec(), memo_size: 0 };
    p.text("model_state_dict");
    p.out.extend(b"ccollections\nOrderedDict\n)R(");
    for (i, t) in state.iter().enumerate() {
        p.text(&t.name);
        let memo = p.tensor(i, t)?;
        if let Some(other) = alias(&t.name).filter(|_| variant == Variant::JemppYopo) {
            p.text(&other);
            p.out.push(b'j');
            p.out.extend(memo.to_le_bytes());
        }
    }
    p.out.push(b'u');
    if let Some(t) = buffer {
        p.text(REPLAY_BUFFER);
        p.tensor(state.len(), t)?;
    }
    p.out.extend(b"u.");
    Ok(p.out)
}

/// A pickle being written.
struct Pickler {
    out: Vec<u8>,
    /// Number of objects in the pickle's memo.
    memo_size: u32,
}

impl Pickler {
    /// Writes a string.
    fn text(&mut self, s: &str) {
        self.out.push(b'X');
        self.out.extend((s.len() as u32).to_le_bytes());
        self.out.extend(s.bytes());
    }

    /// Writes an integer, in 32 bits if it fits.
    fn int(&mut self, n: usize) {
        match i32::try_from(n) {
            Ok(n) => {
                self.out.push(b'J');
                self.out.extend(n.to_le_bytes());
            }
            Err(_) => {
                self.out.extend([0x8a, 9]);
                self.out.extend((n as u64).to_le_bytes());
                self.out.push(0);
            }
        }
    }

    fn tuple(&mut self, values: &[usize]) {
        self.out.push(b'(');
        values.iter().for_each(|v| self.int(*v));
        self.out.push(b't');
    }

    /// Writes a tensor whose values are storage `key`, and returns its index in the memo.
    fn tensor(&mut self, key: usize, t: &Tensor) -> Result<u32> {
        let class = match t.data {
            TensorData::F32(_) => "FloatStorage",
            TensorData::I32(_) => "IntStorage",
            TensorData::I64(_) => "LongStorage",
            TensorData::U8(_) => "ByteStorage",
        };
        if t.shape.iter().product::<usize>() != t.data.len() {
            return Err(Error::Internal(format!("tensor `{}` does not fill its shape", t.name)));
        }
        self.out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.out.extend(format!("ctorch\n{class}\n").bytes());
        self.text(&key.to_string());
        self.text("cpu");
        self.int(t.data.len());
        self.out.extend(b"tQ");
        self.int(0);
        self.tuple(&t.shape);
        let mut strides = vec![1; t.shape.len()];
        for i in (1..t.shape.len()).rev() {
            strides[i - 1] = strides[i] * t.shape[i].max(1);
        }
        self.tuple(&strides);
        // requires_grad=False, no backward hooks.
        self.out.extend(b"\x89ccollections\nOrderedDict\n)RtRr");
        self.out.extend(self.memo_size.to_le_bytes());
        self.memo_size += 1;
        Ok(self.memo_size - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_those_of_the_published_network() {
        let all = [
            ("f.conv1.weight", Some("f.layer_one.weight")),
            ("f.layer2.0.shortcut.0.bias", Some("f.other_layers.1.0.shortcut.0.bias")),
            ("f.bn1.running_var", Some("f.other_layers.3.running_var")),
            ("class_output.weight", None),
            ("energy_output.bias", None),
        ];
        for (name, other) in all {
            assert_eq!(alias(name).as_deref(), other);
        }
    }
}
