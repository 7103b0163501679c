//! Examples of ops, from which tests and benchmarks are generated.

use crate::error::Result;
use crate::spec::DType;
use crate::tape::{Tape, Var};
use core::fmt;
use std::sync::Arc;

/// The values of a case's input.
#[derive(Clone, Debug, PartialEq)]
pub enum FillWith {
    /// Standard normals; gradients are checked.
    Normal,
    /// Uniform on (0.5, 1.5); gradients are checked.
    Positive,
    /// Standard normals; not differentiated.
    Fixed,
    /// Uniform int32 in 0 to this − 1.
    Below(i32),
    /// These int32 values.
    Ints(Vec<i32>),
    /// Uniform bytes.
    Bytes,
}

/// An example of an op's use, for tests and benchmarks.
#[derive(Clone)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Shape and content of each input.
    pub inputs: Vec<(Vec<usize>, FillWith)>,
    /// The inputs that can be bf16 (all of them at once); empty if the op does not take bf16.
    pub bf16: Vec<usize>,
    /// Records it on a tape, given its inputs, and returns its outputs.
    #[allow(clippy::type_complexity)]
    pub record: Arc<dyn Fn(&mut Tape, &[Var]) -> Result<Vec<Var>> + Send + Sync>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.inputs)
    }
}

impl Case {
    /// A case called `name` with inputs of these shapes and values, recorded by `record`.
    pub fn new(
        name: impl Into<String>,
        inputs: &[(&[usize], FillWith)],
        record: impl Fn(&mut Tape, &[Var]) -> Result<Vec<Var>> + Send + Sync + 'static,
    ) -> Self {
        let inputs = inputs.iter().map(|(s, f)| (s.to_vec(), f.clone())).collect();
        Self { name: name.into(), inputs, bf16: Vec::new(), record: Arc::new(record) }
    }

    /// Says which inputs can be bf16.
    #[must_use]
    pub fn bf16(self, inputs: &[usize]) -> Self {
        Self { bf16: inputs.to_vec(), ..self }
    }

    /// The element type of input `i` in a program of real type `real`; if that is bf16, real inputs that are not in
    /// [`Case::bf16`] are float32.
    pub fn dtype(&self, i: usize, real: DType) -> DType {
        match self.inputs.get(i).map(|(_, fill)| fill) {
            Some(FillWith::Below(_) | FillWith::Ints(_)) => DType::I32,
            Some(FillWith::Bytes) => DType::U8,
            _ if self.bf16.contains(&i) => real,
            _ => real.wide(),
        }
    }
}

/// The cases of an op.
#[derive(Clone, Debug, Default)]
pub struct Cases {
    /// Small, odd, unequal shapes, for tests.
    pub small: Vec<Case>,
    /// Inputs that the shape rule must refuse.
    pub invalid: Vec<Case>,
    /// Shapes of real networks, for benchmarks.
    pub bench: Vec<Case>,
}
