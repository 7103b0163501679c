//! The exported graph, interpreted by the definition of each operator, is compared with the model; a script does the
//! same with onnxruntime (`tests/interop`).

use super::messages::{Attribute, Extent, Graph, Node};
use super::*;
use crate::config::{Config, ModelConfig};
use crate::streams;
use engine::Device;
use engine::rng::Philox;
use std::collections::HashMap;

/// Largest error of a float32 network of 10 layers, relative to the largest value.
const TOLERANCE: f64 = 1e-5;

type Value = (Vec<usize>, Vec<f64>);

/// A model with weights and statistics far from their defaults.
fn model(change: impl Fn(&mut ModelConfig)) -> Model {
    let mut config = Config::preset("digits").unwrap().model;
    (config.image_size, config.classes) = ([9, 6, 3], 4);
    change(&mut config);
    let mut i = 0;
    Model::new(&Device::cpu(1), &config, |name, spec| {
        i += 1;
        let mut rng = Philox::new(5, streams::INIT, i);
        let scale = if name.ends_with("weight") && spec.shape().len() > 1 { 0.2 } else { 0.5 };
        let centre = if name.ends_with("var") || name.ends_with("scale") { 1.2 } else { 0.1 };
        Ok((0..spec.len()).map(|_| centre + scale * (2.0 * rng.uniform() - 1.0)).collect())
    })
    .unwrap()
}

fn attribute<'a>(node: &'a Node, name: &str) -> &'a Attribute {
    node.attribute.iter().find(|a| a.name == name).unwrap()
}

/// A convolution with square filters, strides and borders.
fn conv(n: &Node, (xs, x): &Value, (ws, w): &Value, b: &[f64]) -> Value {
    let (stride, pad) = (attribute(n, "strides").ints[0] as usize, attribute(n, "pads").ints[3] as usize);
    let [count, c, h, wd] = xs[..] else { panic!("{xs:?}") };
    let [k, i, r, s] = ws[..] else { panic!("{ws:?}") };
    assert_eq!((c, attribute(n, "kernel_shape").ints.as_slice()), (i, &[r as i64, s as i64][..]));
    let (oh, ow) = ((h + 2 * pad - r) / stride + 1, (wd + 2 * pad - s) / stride + 1);
    let mut out = Vec::new();
    for at in 0..count * k * oh * ow {
        let (m, o, y, z) = (at / (k * oh * ow), at / (oh * ow) % k, at / ow % oh, at % ow);
        let mut sum = b[o];
        for j in 0..c * r * s {
            let (ch, dy, dx) = (j / (r * s), j / s % r, j % s);
            let (py, px) = ((y * stride + dy).wrapping_sub(pad), (z * stride + dx).wrapping_sub(pad));
            if py < h && px < wd {
                sum += x[((m * c + ch) * h + py) * wd + px] * w[(o * c + ch) * r * s + dy * s + dx];
            }
        }
        out.push(sum);
    }
    (vec![count, k, oh, ow], out)
}

/// Applies `f(channel, value)` to every value of x.
fn by_channel((shape, x): &Value, f: impl Fn(usize, f64) -> f64) -> Value {
    let plane: usize = shape[2..].iter().product();
    (shape.clone(), x.iter().enumerate().map(|(i, v)| f(i / plane % shape[1], *v)).collect())
}

fn instance_norm(x: &Value, scale: &[f64], shift: &[f64]) -> Value {
    let plane: usize = x.0[2..].iter().product();
    let mut out = x.clone();
    for (i, p) in out.1.chunks_exact_mut(plane).enumerate() {
        let mean = p.iter().sum::<f64>() / plane as f64;
        let var = p.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / plane as f64;
        let c = i % x.0[1];
        p.iter_mut().for_each(|v| *v = (*v - mean) / (var + 1e-5).sqrt() * scale[c] + shift[c]);
    }
    out
}

fn apply(n: &Node, of: &dyn Fn(usize) -> Value) -> Value {
    let x = of(0);
    match n.op_type.as_str() {
        "Conv" => conv(n, &x, &of(1), &of(2).1),
        "LeakyRelu" => {
            let alpha = f64::from(attribute(n, "alpha").f.unwrap());
            by_channel(&x, |_, v| if v < 0.0 { alpha * v } else { v })
        }
        "Add" if of(1).0 == x.0 => (x.0, x.1.iter().zip(of(1).1).map(|(a, b)| a + b).collect()),
        "Add" => by_channel(&x, |c, v| v + of(1).1[c]),
        "Mul" => by_channel(&x, |c, v| v * of(1).1[c]),
        "BatchNormalization" => {
            let [g, b, mean, var] = [1, 2, 3, 4].map(|i| of(i).1);
            by_channel(&x, |c, v| (v - mean[c]) / (var[c] + 1e-5).sqrt() * g[c] + b[c])
        }
        "InstanceNormalization" => instance_norm(&x, &of(1).1, &of(2).1),
        "Reshape" => {
            let want: Vec<i64> = of(1).1.iter().map(|v| *v as i64).collect();
            let rest = x.1.len() / x.0[0];
            let shape = want.iter().map(|d| match d {
                0 => x.0[0],
                -1 => rest,
                d => *d as usize,
            });
            let shape = if want == [-1] { vec![x.1.len()] } else { shape.collect() };
            (shape, x.1)
        }
        "GlobalAveragePool" => {
            let plane: usize = x.0[2..].iter().product();
            let means = x.1.chunks_exact(plane).map(|p| p.iter().sum::<f64>() / plane as f64);
            (vec![x.0[0], x.0[1], 1, 1], means.collect())
        }
        "Flatten" => (vec![x.0[0], x.0[1]], x.1),
        "Gemm" => {
            assert_eq!(attribute(n, "transB").i, Some(1));
            let ((ws, w), b, inner) = (of(1), of(2).1, x.0[1]);
            let dot =
                |r: &[f64], k: usize| -> f64 { r.iter().zip(&w[k * inner..]).map(|(a, b)| a * b).sum() };
            let rows =
                x.1.chunks_exact(inner)
                    .flat_map(|r| (0..ws[0]).map(|k| dot(r, k) + b[k]).collect::<Vec<_>>());
            (vec![x.0[0], ws[0]], rows.collect())
        }
        "Sub" => (x.0.clone(), x.1.iter().enumerate().map(|(i, v)| v - of(1).1[i / x.0[1]]).collect()),
        "ReduceMax" | "ReduceLogSumExp" => {
            assert_eq!(attribute(n, "axes").ints, [1]);
            let reduce = |r: &[f64]| match n.op_type.as_str() {
                "ReduceMax" => r.iter().copied().fold(f64::MIN, f64::max),
                _ => r.iter().map(|v| v.exp()).sum::<f64>().ln(),
            };
            let shape = [vec![x.0[0]], vec![1; attribute(n, "keepdims").i.unwrap() as usize]].concat();
            (shape, x.1.chunks_exact(x.0[1]).map(reduce).collect())
        }
        other => panic!("{other}"),
    }
}

/// Every value of the graph.
fn run(graph: &Graph, images: Value) -> HashMap<String, Value> {
    let mut values = HashMap::from([("images".to_owned(), images)]);
    for t in &graph.initializer {
        let data: Vec<f64> = match t.data_type {
            1 => t.raw_data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            7 => t.raw_data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            other => panic!("{other}"),
        };
        let shape: Vec<usize> = t.dims.iter().map(|d| *d as usize).collect();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{}", t.name);
        assert!(values.insert(t.name.clone(), (shape, data)).is_none(), "{} occurs twice", t.name);
    }
    for n in &graph.node {
        let y = apply(n, &|i| values[&n.input[i]].clone());
        assert!(values.insert(n.output[0].clone(), y).is_none(), "{} occurs twice", n.name);
    }
    values
}

fn close(got: &[f64], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let error = got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max((a - f64::from(*b)).abs())) / scale;
    assert!(error < TOLERANCE, "{what}: {error:e}");
}

fn graph_of(model: &Model, bn: BatchNorm) -> Graph {
    let file = File::decode(to_bytes(model, bn).unwrap().as_slice()).unwrap();
    assert_eq!((file.ir_version, file.opset_import[0].version), (8, 17));
    file.graph.unwrap()
}

#[test]
fn the_graph_computes_what_the_model_does() {
    use NormKind::{Act, Batch, Instance, Layer, None};
    for (norm, head) in
        [(Batch, false), (Batch, true), (Instance, false), (Layer, false), (Act, true), (None, false)]
    {
        let model = model(|c| (c.norm, c.energy_head) = (norm, head));
        let (n, px) = (3, 9 * 6);
        // The same images for the model, N×H×W×C, and the graph, N×C×H×W.
        let value = |i: usize, c: usize, p: usize| ((i * 31 + c * 17 + p * 7) % 23) as f32 / 11.5 - 1.0;
        let ours: Vec<f32> = (0..n).flat_map(|i| (0..px * 3).map(move |j| value(i, j % 3, j / 3))).collect();
        let theirs: Vec<f64> =
            (0..n).flat_map(|i| (0..px * 3).map(move |j| f64::from(value(i, j / px, j % px)))).collect();
        let want = model.scores(&ours).unwrap();
        for bn in [BatchNorm::Fold, BatchNorm::Keep] {
            let got = run(&graph_of(&model, bn), (vec![n, 3, 9, 6], theirs.clone()));
            let what = format!("{norm:?} {bn:?}, energy head {head}");
            close(&got["logits"].1, &want.logits, &what);
            close(&got["log_density"].1, &want.log_density, &what);
        }
    }
}

#[test]
fn batch_norm_is_folded_or_kept_and_the_batch_is_open() {
    let model = model(|_| ());
    let count = |g: &Graph, op: &str| g.node.iter().filter(|n| n.op_type == op).count();
    let (fold, keep) = (graph_of(&model, BatchNorm::Fold), graph_of(&model, BatchNorm::Keep));
    assert_eq!((count(&keep, "BatchNormalization"), count(&keep, "Mul")), (7, 0));
    // Three of seven, each between a block's convolutions, are gone.
    assert_eq!((count(&fold, "BatchNormalization"), count(&fold, "Mul")), (0, 4));
    assert!(keep.initializer.iter().any(|t| t.name == "f.layer1.0.bn2.running_var"));
    let shape = |v: &messages::ValueInfo| {
        v.kind
            .clone()
            .unwrap()
            .tensor
            .unwrap()
            .shape
            .unwrap()
            .dim
            .into_iter()
            .map(|d| d.extent.unwrap())
            .collect::<Vec<_>>()
    };
    let (batch, of) = (Extent::Name("n".into()), Extent::Value);
    assert_eq!(shape(&fold.input[0]), [batch.clone(), of(3), of(9), of(6)]);
    let outputs: Vec<(&str, usize)> = fold.output.iter().map(|o| (o.name.as_str(), shape(o).len())).collect();
    assert_eq!(outputs, [("logits", 2), ("log_density", 1)]);
    assert_eq!(shape(&fold.output[1]), [batch]);
}
