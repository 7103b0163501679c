//! Building an ONNX graph, in execution order.
//!
//! Invariant: a node's inputs are inputs of the graph, initializers or outputs of earlier nodes.

use super::messages::{Attribute, Dim, Extent, Graph, Node, Shape, Tensor, TensorType, Type, ValueInfo};

/// `TensorProto.FLOAT`.
pub(super) const FLOAT: i32 = 1;
/// `TensorProto.INT64`.
pub(super) const INT64: i32 = 7;

/// The value of a node's attribute.
pub(super) enum Constant<'a> {
    Float(f32),
    Int(i64),
    Ints(&'a [i64]),
}

#[derive(Default)]
pub(super) struct Builder {
    pub graph: Graph,
}

impl Builder {
    /// Adds a node with one output, which has the node's name; returns that name.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        constants: &[(&str, Constant<'_>)],
    ) -> String {
        let attribute = constants.iter().map(|(name, c)| attribute(name, c)).collect();
        self.graph.node.push(Node {
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: op.to_owned(),
            attribute,
        });
        name.to_owned()
    }

    /// Adds an initializer of float32 `values` in row-major order; returns its name.
    pub(super) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, dims.iter().map(|d| *d as i64).collect(), FLOAT, raw)
    }

    /// Adds an initializer, a list of int64; returns its name.
    pub(super) fn ints(&mut self, name: &str, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, vec![values.len() as i64], INT64, raw)
    }

    fn initializer(&mut self, name: &str, dims: Vec<i64>, data_type: i32, raw_data: Vec<u8>) -> String {
        self.graph.initializer.push(Tensor { dims, data_type, name: name.to_owned(), raw_data });
        name.to_owned()
    }
}

fn attribute(name: &str, c: &Constant<'_>) -> Attribute {
    let (name, empty) = (name.to_owned(), Attribute::default());
    match c {
        Constant::Float(f) => Attribute { name, f: Some(*f), kind: 1, ..empty },
        Constant::Int(i) => Attribute { name, i: Some(*i), kind: 2, ..empty },
        Constant::Ints(v) => Attribute { name, ints: v.to_vec(), kind: 7, ..empty },
    }
}

/// An input or output: float32 with a dynamic batch axis followed by `dims`.
pub(super) fn value(name: &str, dims: &[usize], doc: &str) -> ValueInfo {
    let batch = Dim { extent: Some(Extent::Name("n".into())) };
    let fixed = dims.iter().map(|d| Dim { extent: Some(Extent::Value(*d as i64)) });
    let shape = Shape { dim: std::iter::once(batch).chain(fixed).collect() };
    let tensor = TensorType { elem_type: FLOAT, shape: Some(shape) };
    ValueInfo { name: name.into(), kind: Some(Type { tensor: Some(tensor) }), doc_string: doc.into() }
}
