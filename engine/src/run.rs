//! Running a plan: copy inputs in, run nodes in order, copy what could not be written in place.

use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::spec::DType;
use crate::state::{Element, State};
use crate::tape::Var;
use bytemuck::cast_slice;
use kernels::memory::{Buffer, Memory, Space, View};

/// Data of the host, given to an input.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// Float32.
    F32(&'a [f32]),
    /// Float64.
    F64(&'a [f64]),
    /// Int32.
    I32(&'a [i32]),
    /// Bytes.
    U8(&'a [u8]),
}

impl<'a> Host<'a> {
    fn parts(self) -> (DType, usize, &'a [u8]) {
        match self {
            Self::F32(x) => (DType::F32, x.len(), cast_slice(x)),
            Self::F64(x) => (DType::F64, x.len(), cast_slice(x)),
            Self::I32(x) => (DType::I32, x.len(), cast_slice(x)),
            Self::U8(x) => (DType::U8, x.len(), x),
        }
    }
}

macro_rules! from_slice {
    ($t:ty, $v:ident) => {
        impl<'a> From<&'a [$t]> for Host<'a> {
            fn from(x: &'a [$t]) -> Self {
                Self::$v(x)
            }
        }
        impl<'a> From<&'a Vec<$t>> for Host<'a> {
            fn from(x: &'a Vec<$t>) -> Self {
                Self::$v(x)
            }
        }
    };
}
from_slice!(f32, F32);
from_slice!(f64, F64);
from_slice!(i32, I32);
from_slice!(u8, U8);

impl Plan {
    /// Runs on `state`, which it may change.
    ///
    /// # Errors
    /// If inputs are missing or do not fit, the state lacks a slot, or (debug mode `nan`) a value is not finite.
    pub fn run(&mut self, state: &mut State, inputs: &[(Var, Host<'_>)]) -> Result<()> {
        self.begin(state, inputs)?;
        for i in 0..self.steps.len() {
            let mut memory = Memory::exclusive(&mut self.arena, &mut state.buffers);
            run_step(&mut self.steps[i], &mut memory)?;
            if self.device.debug.nan {
                check_finite(&self.steps[i], &self.arena, state)?;
            }
        }
        for (from, to) in &self.copies {
            let data = bytes(&self.arena, state, *from).to_vec();
            if let Space::Slot(id) = to.space {
                state.buffers[id as usize].bytes_mut()[to.offset..to.offset + to.len].copy_from_slice(&data);
            }
        }
        Ok(())
    }

    /// Runs a program that assigns no slot; several plans may run on one state at once.
    ///
    /// # Errors
    /// As [`Plan::run`], or if the program assigns a slot.
    pub fn run_shared(&mut self, state: &State, inputs: &[(Var, Host<'_>)]) -> Result<()> {
        if self.writes_state {
            return Err(Error::Bind("a program that assigns slots needs the state for itself".into()));
        }
        self.begin(state, inputs)?;
        for i in 0..self.steps.len() {
            let mut memory = Memory::shared(&mut self.arena, &state.buffers);
            run_step(&mut self.steps[i], &mut memory)?;
            if self.device.debug.nan {
                check_finite(&self.steps[i], &self.arena, state)?;
            }
        }
        Ok(())
    }

    /// An output of the last run.
    ///
    /// # Errors
    /// If `v` is no output of this plan or holds another type. An output that lives in a slot must be read from the
    /// state.
    pub fn read<T: Element>(&self, v: Var) -> Result<&[T]> {
        let Some((_, spec, view)) = self.outputs.iter().find(|(o, ..)| *o == v) else {
            return Err(Error::Bind("not an output of this plan".into()));
        };
        if spec.dtype != T::DTYPE || view.space != Space::Arena {
            return Err(Error::Bind(format!(
                "an output of {spec} read as {} (or it lives in a slot)",
                T::DTYPE
            )));
        }
        Ok(cast_slice(&self.arena.bytes()[view.offset..view.offset + view.len]))
    }

    /// An output of one value, as float64.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn scalar(&self, v: Var) -> Result<f64> {
        match self.read::<f32>(v) {
            Ok(x) => Ok(f64::from(x[0])),
            Err(_) => Ok(self.read::<f64>(v)?[0]),
        }
    }

    fn begin(&mut self, state: &State, inputs: &[(Var, Host<'_>)]) -> Result<()> {
        for s in &self.slots {
            if !state.has(*s) {
                return Err(Error::Bind(format!("the state lacks slot {} of {}", s.id, s.spec)));
            }
        }
        if self.device.debug.validate {
            // A quiet NaN in every float type.
            self.arena.bytes_mut().fill(0xFF);
        }
        if let Some((v, _)) = inputs.iter().find(|(v, _)| v.tape != self.tag) {
            return Err(Error::Bind(format!("variable {} belongs to another tape", v.id)));
        }
        for (var, name, spec, view) in &self.binds {
            let Some((_, data)) = inputs.iter().find(|(v, _)| v == var) else {
                return Err(Error::Bind(format!("input `{name}` of {spec} is missing")));
            };
            let (dtype, len, data) = data.parts();
            if dtype != spec.dtype || len != spec.len() {
                return Err(Error::Bind(format!("input `{name}` is {spec}, got {len} elements of {dtype}")));
            }
            self.arena.bytes_mut()[view.offset..view.offset + view.len].copy_from_slice(data);
        }
        Ok(())
    }
}

fn run_step(step: &mut Step, memory: &mut Memory<'_>) -> Result<()> {
    let mut io = memory.io(&step.access);
    step.kernel.run(&mut io).map_err(|source| Error::Kernel { op: step.name, site: step.site, source })
}

fn bytes<'a>(arena: &'a Buffer, state: &'a State, v: View) -> &'a [u8] {
    let all = match v.space {
        Space::Arena => arena.bytes(),
        Space::Slot(id) => state.buffers[id as usize].bytes(),
    };
    &all[v.offset..v.offset + v.len]
}

fn check_finite(step: &Step, arena: &Buffer, state: &State) -> Result<()> {
    for (output, ((_, spec), view)) in step.outputs.iter().zip(&step.views.1).enumerate() {
        let data = bytes(arena, state, *view);
        let bad = match spec.dtype {
            DType::F32 => cast_slice::<u8, f32>(data)
                .iter()
                .position(|x| !x.is_finite())
                .map(|i| (i, f64::from(cast_slice::<u8, f32>(data)[i]))),
            DType::F64 => cast_slice::<u8, f64>(data)
                .iter()
                .position(|x| !x.is_finite())
                .map(|i| (i, cast_slice::<u8, f64>(data)[i])),
            _ => None,
        };
        if let Some((index, value)) = bad {
            let (op, site, spec) = (step.name, step.site, *spec);
            return Err(Error::NonFinite { op, site, output, spec, index, value });
        }
    }
    Ok(())
}
