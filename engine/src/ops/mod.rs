//! The ops, one stem a file: shape rule and gradient here, arithmetic in `kernels`.
//!
//! The list at the end is the registry: a stem named in it must give its test cases, and with them gets its tests
//! (shape errors, float64 gradient check, SIMD levels against the plain form) and its benchmark.

use crate::error::Result;
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
        Self { name: name.into(), inputs, record: Arc::new(record) }
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

macro_rules! stems {
    ($($stem:ident),* $(,)?) => {
        $(pub mod $stem;)*

        /// Every stem with its cases.
        pub fn registry() -> Vec<(&'static str, Cases)> {
            vec![$((stringify!($stem), $stem::cases())),*]
        }
    };
}

stems![
    adam,
    augment,
    batch,
    bn_coeffs,
    bn_running_update,
    bn_stats,
    conv2d,
    counter,
    dropout,
    elementwise,
    global_avg_pool,
    label,
    layer_stats,
    leaky_relu,
    linear,
    logsumexp,
    noise,
    pyld_step,
    reduce,
    replay,
    scale_shift_leaky,
    sgd,
    softmax_cross_entropy,
];
