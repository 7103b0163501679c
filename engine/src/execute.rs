//! Running a plan: copy inputs in, run the kernels in order, copy what could not be written in place.

use crate::arena::Arena;
use crate::capture::{CaptureKey, Launches};
use crate::error::{Error, Result};
use crate::op::Kernel;
use crate::plan::Plan;
use crate::program::{Program, Step};
use crate::spec::DType;
use crate::state::{Element, State, Store};
use crate::tape::Var;
use bytemuck::cast_slice;
use kernels::dtype::bf16;
use kernels::gpu::{Gpu, GpuError};
use kernels::memory::{Memory, Space, Span, View};
use std::time::Instant;

/// Data in the host's memory that is given to an input, in row-major order.
#[derive(Clone, Copy, Debug)]
pub enum HostTensor<'a> {
    /// Float32.
    F32(&'a [f32]),
    /// Float64.
    F64(&'a [f64]),
    /// bf16.
    BF16(&'a [bf16]),
    /// Int32.
    I32(&'a [i32]),
    /// Bytes.
    U8(&'a [u8]),
}

impl<'a> HostTensor<'a> {
    fn parts(self) -> (DType, usize, &'a [u8]) {
        match self {
            Self::F32(x) => (DType::F32, x.len(), cast_slice(x)),
            Self::F64(x) => (DType::F64, x.len(), cast_slice(x)),
            Self::BF16(x) => (DType::BF16, x.len(), cast_slice(x)),
            Self::I32(x) => (DType::I32, x.len(), cast_slice(x)),
            Self::U8(x) => (DType::U8, x.len(), x),
        }
    }
}

macro_rules! from_slice {
    ($t:ty, $v:ident) => {
        impl<'a> From<&'a [$t]> for HostTensor<'a> {
            fn from(x: &'a [$t]) -> Self {
                Self::$v(x)
            }
        }
        impl<'a> From<&'a Vec<$t>> for HostTensor<'a> {
            fn from(x: &'a Vec<$t>) -> Self {
                Self::$v(x)
            }
        }
    };
}
from_slice!(f32, F32);
from_slice!(f64, F64);
from_slice!(bf16, BF16);
from_slice!(i32, I32);
from_slice!(u8, U8);

impl Plan {
    /// Runs on `state`, which it may change.
    ///
    /// # Errors
    /// If inputs are missing or do not fit, the state lacks a slot or lives on another device, or (debug mode `nan`) a
    /// value is not finite.
    pub fn run(&mut self, state: &mut State, inputs: &[(Var, HostTensor<'_>)]) -> Result<()> {
        if let Some(gpu) = self.gpu() {
            return self.run_gpu(&gpu, state, inputs);
        }
        self.begin(state, inputs)?;
        self.run_nodes(state)
    }

    /// Runs a program that assigns no slot; several plans may run on one state at once.
    ///
    /// # Errors
    /// Those of [`Plan::run`]; also if the program assigns a slot.
    pub fn run_shared(&mut self, state: &State, inputs: &[(Var, HostTensor<'_>)]) -> Result<()> {
        if self.program.writes_state {
            return Err(Error::Bind("a program that assigns slots needs the state for itself".into()));
        }
        if let Some(gpu) = self.gpu() {
            return self.run_gpu(&gpu, state, inputs);
        }
        self.begin(state, inputs)?;
        for i in 0..self.program.steps.len() {
            {
                let (Arena::Host(arena), Store::Host(slots)) = (&mut self.arena, &state.store) else {
                    return Err(Error::different_devices());
                };
                let memory = &mut Memory::shared(arena, slots);
                run_profiled(&self.program, i, &mut self.kernels[i], memory)?;
            }
            self.check_finite(i, state)?;
        }
        Ok(())
    }

    fn run_gpu(&mut self, gpu: &Gpu, state: &State, inputs: &[(Var, HostTensor<'_>)]) -> Result<()> {
        let _turn = gpu.turn();
        self.begin(state, inputs)?;
        let slots = device_slots(gpu, state)?;
        let key = CaptureKey {
            slots: slots.iter().map(Span::address).collect(),
            programs: vec![(self.arena_address(gpu)?, 1)],
        };
        let mut graph = core::mem::take(&mut self.graph);
        let debugged = self.program.device.debug.nan;
        let done =
            graph.run(gpu, key, debugged, |how| self.launch(gpu, &slots, how == Launches::Plain, state));
        self.graph = graph;
        done
    }

    /// On the CPU: every node, then the copies to slots.
    pub(crate) fn run_nodes(&mut self, state: &mut State) -> Result<()> {
        for i in 0..self.program.steps.len() {
            {
                let (Arena::Host(arena), Store::Host(slots)) = (&mut self.arena, &mut state.store) else {
                    return Err(Error::different_devices());
                };
                let memory = &mut Memory::exclusive(arena, slots);
                run_profiled(&self.program, i, &mut self.kernels[i], memory)?;
            }
            self.check_finite(i, state)?;
        }
        self.copy_to_slots(state)
    }

    fn copy_to_slots(&self, state: &mut State) -> Result<()> {
        let (Arena::Host(arena), Store::Host(slots)) = (&self.arena, &mut state.store) else {
            return Err(Error::different_devices());
        };
        for (from, to) in &self.program.copies {
            let range = from.offset..from.offset + from.len;
            let Space::Slot(id) = to.space else { continue };
            let target = to.offset..to.offset + to.len;
            match from.space {
                Space::Arena => slots[id as usize].bytes_mut()[target].copy_from_slice(&arena.bytes()[range]),
                Space::Slot(source) if source == id => {
                    slots[id as usize].bytes_mut().copy_within(range, to.offset)
                }
                Space::Slot(source) => {
                    if let Ok([source, slot]) = slots.get_disjoint_mut([source as usize, id as usize]) {
                        slot.bytes_mut()[target].copy_from_slice(&source.bytes()[range]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts every node, then the copies to slots, onto the GPU's stream.
    pub(crate) fn launch(&mut self, gpu: &Gpu, slots: &[Span<'_>], check: bool, state: &State) -> Result<()> {
        for i in 0..self.program.steps.len() {
            {
                let Arena::Gpu(_, arena) = &self.arena else { return Err(Error::different_devices()) };
                let mut memory = Memory::gpu(gpu.span(arena)?, slots);
                let (step, kernel) = (&self.program.steps[i], &mut self.kernels[i]);
                if gpu.profile().is_on() {
                    let seconds = gpu.seconds_on_device(|| run_step(step, kernel, &mut memory))?;
                    gpu.profile().add(step.name, seconds, step.cost.flops, step.cost.bytes);
                } else {
                    run_step(step, kernel, &mut memory)?;
                }
            }
            if check {
                self.check_finite(i, state)?;
            }
        }
        let Arena::Gpu(_, arena) = &self.arena else { return Err(Error::different_devices()) };
        let memory = Memory::gpu(gpu.span(arena)?, slots);
        for (from, to) in &self.program.copies {
            gpu.copy(memory.gpu_span(*from)?, memory.gpu_span(*to)?)?;
        }
        Ok(())
    }

    /// The device address of the program's memory.
    pub(crate) fn arena_address(&self, gpu: &Gpu) -> Result<u64> {
        match &self.arena {
            Arena::Gpu(_, arena) => Ok(gpu.span(arena)?.address()),
            Arena::Host(_) => Err(Error::different_devices()),
        }
    }

    /// An output of the last run, in the host's memory.
    ///
    /// # Errors
    /// If `v` is not an output of this plan, has another element type, or lives on a GPU (see [`Plan::fetch`]). An
    /// output that lives in a slot must be read from the state.
    pub fn read<T: Element>(&self, v: Var) -> Result<&[T]> {
        let view = self.output::<T>(v)?;
        match &self.arena {
            Arena::Host(arena) => Ok(cast_slice(&arena.bytes()[view.offset..view.offset + view.len])),
            Arena::Gpu(..) => Err(Error::Bind("the output lives on a GPU and must be fetched".into())),
        }
    }

    /// A copy of an output of the last run, wherever it lives.
    ///
    /// # Errors
    /// Those of [`Plan::read`]; also if copying from a GPU fails.
    pub fn fetch<T: Element>(&self, v: Var) -> Result<Vec<T>> {
        let view = self.output::<T>(v)?;
        match &self.arena {
            Arena::Host(_) => Ok(self.read(v)?.to_vec()),
            Arena::Gpu(gpu, arena) => {
                let _turn = gpu.turn();
                let mut values = vec![T::zeroed(); view.len / size_of::<T>()];
                gpu.read_at(arena, view.offset, bytemuck::cast_slice_mut(&mut values))?;
                Ok(values)
            }
        }
    }

    /// An output of one value, float32 or float64, as float64.
    ///
    /// # Errors
    /// Those of [`Plan::fetch`].
    pub fn scalar(&self, v: Var) -> Result<f64> {
        match self.fetch::<f32>(v) {
            Ok(x) => Ok(f64::from(x[0])),
            Err(_) => Ok(self.fetch::<f64>(v)?[0]),
        }
    }

    /// Starts copying an output of the run just started back to the host, to be collected by
    /// [`Plan::finish_readback`]. Does not wait.
    ///
    /// # Errors
    /// Those of [`Plan::fetch`].
    pub fn start_readback<T: Element>(&mut self, v: Var) -> Result<()> {
        let view = self.output::<T>(v)?;
        self.readback.start(v, &self.arena, view)
    }

    /// Puts the values of the readback that was started first into `values`, waiting for them if need be.
    ///
    /// # Errors
    /// If that readback is of another output, or none was started; if copying from a GPU fails.
    pub fn finish_readback<T: Element>(&mut self, v: Var, values: &mut Vec<T>) -> Result<()> {
        self.readback.finish(v, values)
    }

    fn output<T: Element>(&self, v: Var) -> Result<View> {
        let Some(output) = self.program.outputs.iter().find(|o| o.var == v) else {
            return Err(Error::Bind("not an output of this plan".into()));
        };
        if output.spec.dtype != T::DTYPE || output.view.space != Space::Arena {
            return Err(Error::Bind(format!(
                "an output of {} read as {} (or it lives in a slot)",
                output.spec,
                T::DTYPE
            )));
        }
        Ok(output.view)
    }

    /// Checks state and inputs, and copies the inputs in.
    pub(crate) fn begin(&mut self, state: &State, inputs: &[(Var, HostTensor<'_>)]) -> Result<()> {
        let program = &self.program;
        for s in &program.slots {
            if !state.has(*s) {
                return Err(Error::Bind(format!("the state lacks slot {} of {}", s.id, s.spec)));
            }
        }
        if let (true, Arena::Host(arena)) = (program.device.debug.validate, &mut self.arena) {
            // A quiet NaN in every float type.
            arena.bytes_mut().fill(0xFF);
        }
        if let Some((v, _)) = inputs.iter().find(|(v, _)| v.tape != program.tag) {
            return Err(Error::Bind(format!("variable {} belongs to another tape", v.id)));
        }
        let given = |var: Var| inputs.iter().find(|(v, _)| *v == var).map(|(_, data)| data.parts());
        for input in &program.inputs {
            let (name, spec) = (&input.name, input.spec);
            let Some((dtype, len, _)) = given(input.var) else {
                return Err(Error::Bind(format!("input `{name}` of {spec} is missing")));
            };
            if dtype != spec.dtype || len != spec.len() {
                return Err(Error::Bind(format!("input `{name}` is {spec}, got {len} elements of {dtype}")));
            }
        }
        let put = |to: &mut [u8]| {
            for input in &program.inputs {
                if let Some((_, _, data)) = given(input.var) {
                    to[input.view.offset..input.view.offset + data.len()].copy_from_slice(data);
                }
            }
        };
        match (&mut self.arena, &mut self.staging) {
            (Arena::Host(a), _) => put(a.bytes_mut()),
            (Arena::Gpu(gpu, a), Some(staging)) => staging.send(gpu, a, put)?,
            (Arena::Gpu(..), None) => {}
        }
        Ok(())
    }

    /// In debug mode `nan`: an error for the first value of step `i` that is not finite.
    fn check_finite(&self, i: usize, state: &State) -> Result<()> {
        if !self.program.device.debug.nan {
            return Ok(());
        }
        let step = &self.program.steps[i];
        for (output, (_, spec, view)) in step.outputs.iter().enumerate() {
            if let Some((index, value)) = first_not_finite(spec.dtype, &self.content(state, *view)?) {
                let (op, site, spec) = (step.name, step.site, *spec);
                return Err(Error::NonFinite { op, site, output, spec, index, value });
            }
        }
        Ok(())
    }

    /// A copy of the bytes of a view.
    fn content(&self, state: &State, v: View) -> Result<Vec<u8>> {
        let range = v.offset..v.offset + v.len;
        let mut data = vec![0; v.len];
        match (v.space, &self.arena, &state.store) {
            (Space::Arena, Arena::Host(a), _) => data.copy_from_slice(&a.bytes()[range]),
            (Space::Arena, Arena::Gpu(gpu, a), _) => gpu.read_at(a, v.offset, &mut data)?,
            (Space::Slot(id), _, Store::Host(s)) => data.copy_from_slice(&s[id as usize].bytes()[range]),
            (Space::Slot(id), _, Store::Gpu(gpu, s)) => gpu.read_at(&s[id as usize], v.offset, &mut data)?,
        }
        Ok(data)
    }
}

/// The slots of a state on a GPU.
pub(crate) fn device_slots<'a>(gpu: &'a Gpu, state: &'a State) -> Result<Vec<Span<'a>>> {
    let Store::Gpu(_, slots) = &state.store else { return Err(Error::different_devices()) };
    Ok(slots.iter().map(|b| gpu.span(b)).collect::<core::result::Result<_, GpuError>>()?)
}

/// On the CPU: one node, timed while the device is profiled.
fn run_profiled(
    program: &Program,
    i: usize,
    kernel: &mut Box<dyn Kernel>,
    memory: &mut Memory<'_>,
) -> Result<()> {
    let (step, profile) = (&program.steps[i], program.device.profile());
    if !profile.is_on() {
        return run_step(step, kernel, memory);
    }
    let start = Instant::now();
    run_step(step, kernel, memory)?;
    profile.add(step.name, start.elapsed().as_secs_f64(), step.cost.flops, step.cost.bytes);
    Ok(())
}

fn run_step(step: &Step, kernel: &mut Box<dyn Kernel>, memory: &mut Memory<'_>) -> Result<()> {
    let mut io = memory.io(&step.access);
    kernel.run(&mut io).map_err(|source| Error::Kernel { op: step.name, site: step.site, source })
}

fn first_not_finite(dtype: DType, data: &[u8]) -> Option<(usize, f64)> {
    let values: Vec<f64> = match dtype {
        DType::F32 => {
            data.chunks_exact(4).map(|b| f64::from(bytemuck::pod_read_unaligned::<f32>(b))).collect()
        }
        DType::BF16 => {
            data.chunks_exact(2).map(|b| f64::from(bytemuck::pod_read_unaligned::<bf16>(b))).collect()
        }
        DType::F64 => data.chunks_exact(8).map(bytemuck::pod_read_unaligned::<f64>).collect(),
        _ => return None,
    };
    values.into_iter().enumerate().find(|(_, v)| !v.is_finite())
}
