//! The ops, one stem a file: shape rule and gradient here, arithmetic in `kernels`.
//!
//! The list at the end is the registry: a stem named in it must give its test cases, and with them gets its tests
//! (shape errors, float64 gradient check, SIMD levels against the plain form) and its benchmark.

pub mod adam;
pub mod augment;
pub mod avg_pool2d;
pub mod batch;
pub mod bn_coeffs;
pub mod bn_running_update;
pub mod bn_stats;
pub mod cast;
pub mod concat;
pub mod conv2d;
pub mod counter;
pub mod dropout;
pub mod elementwise;
pub mod fused_conv2d;
pub mod global_avg_pool;
pub mod label;
pub mod layer_stats;
pub mod leaky_relu;
pub mod linear;
pub mod logsumexp;
pub mod max_pool2d;
pub mod noise;
pub mod pyld_step;
pub mod reduce;
pub mod replay;
pub mod scale_shift_leaky;
pub mod sgd;
pub mod softmax_cross_entropy;

use crate::error::Result;
use crate::spec::DType;
use crate::tape::{Tape, Var};
use core::fmt;
use std::sync::Arc;

/// How a case's input is filled.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Standard normals, differentiated.
    Normal,
    /// 0.5 + uniform, differentiated.
    Positive,
    /// Standard normals, not differentiated.
    Fixed,
    /// Uniform integers below this.
    Below(i32),
    /// These integers.
    Ints(Vec<i32>),
    /// Random bytes.
    Bytes,
}

/// One way to use an op: what its tests and its benchmark run.
#[derive(Clone)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// Shape and content of each input.
    pub inputs: Vec<(Vec<usize>, Fill)>,
    /// Inputs that may be bf16, all together, the others staying as they are; none if the op refuses bf16.
    pub low: Vec<usize>,
    /// Records it.
    #[allow(clippy::type_complexity)]
    pub record: Arc<dyn Fn(&mut Tape, &[Var]) -> Result<Vec<Var>> + Send + Sync>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.inputs)
    }
}

impl Case {
    /// A case from its parts.
    pub fn new(
        name: impl Into<String>,
        inputs: &[(&[usize], Fill)],
        record: impl Fn(&mut Tape, &[Var]) -> Result<Vec<Var>> + Send + Sync + 'static,
    ) -> Self {
        let inputs = inputs.iter().map(|(s, f)| (s.to_vec(), f.clone())).collect();
        Self { name: name.into(), inputs, low: Vec::new(), record: Arc::new(record) }
    }

    /// The same, also with these inputs in bf16.
    #[must_use]
    pub fn low(self, inputs: &[usize]) -> Self {
        Self { low: inputs.to_vec(), ..self }
    }

    /// The element type of input `i` in a program of real type `real`: if that is bf16, float32 for all but the inputs of
    /// [`Case::low`].
    pub fn dtype(&self, i: usize, real: DType) -> DType {
        match self.inputs.get(i).map(|(_, fill)| fill) {
            Some(Fill::Below(_) | Fill::Ints(_)) => DType::I32,
            Some(Fill::Bytes) => DType::U8,
            _ if self.low.contains(&i) => real,
            _ => real.wide(),
        }
    }
}

/// The cases of a stem.
#[derive(Clone, Debug, Default)]
pub struct Cases {
    /// Small odd shapes: gradients in float64, SIMD levels against the plain form.
    pub small: Vec<Case>,
    /// Inputs that must be refused.
    pub misfits: Vec<Case>,
    /// Shapes of real networks, to be timed.
    pub bench: Vec<Case>,
}

macro_rules! registry {
    ($($op:ident),* $(,)?) => {
        vec![$((stringify!($op), $op::cases())),*]
    };
}

/// The name of every file of this folder that defines ops, with its cases.
pub fn registry() -> Vec<(&'static str, Cases)> {
    registry![
        adam,
        augment,
        avg_pool2d,
        batch,
        bn_coeffs,
        bn_running_update,
        bn_stats,
        cast,
        concat,
        conv2d,
        counter,
        dropout,
        elementwise,
        fused_conv2d,
        global_avg_pool,
        label,
        layer_stats,
        leaky_relu,
        linear,
        logsumexp,
        max_pool2d,
        noise,
        pyld_step,
        reduce,
        replay,
        scale_shift_leaky,
        sgd,
        softmax_cross_entropy,
    ]
}
