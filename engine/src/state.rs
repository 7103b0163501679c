//! State that outlives programs and is shared by them: weights, running statistics, optimiser, replay buffer.

use crate::device::Device;
use crate::error::{Error, Result, explain_out_of_memory};
use crate::out_of_memory::largest;
use crate::spec::{DType, Spec};
use bytemuck::Pod;
use kernels::dtype::bf16;
use kernels::gpu::{self, Gpu};
use kernels::memory::Buffer;
use std::borrow::Cow;
use std::sync::Arc;

/// A tensor of a [`State`]: weights, a running statistic, the replay buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub(crate) id: u32,
    /// Its shape and element type.
    pub spec: Spec,
}

/// Rust types of tensor elements.
pub trait Element: Pod {
    /// The element type that it stands for.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for f64 {
    const DTYPE: DType = DType::F64;
}
impl Element for bf16 {
    const DTYPE: DType = DType::BF16;
}
impl Element for i32 {
    const DTYPE: DType = DType::I32;
}
impl Element for u8 {
    const DTYPE: DType = DType::U8;
}

/// Where the slots' bytes are.
#[derive(Debug)]
pub(crate) enum Store {
    Host(Vec<Buffer>),
    Gpu(Arc<Gpu>, Vec<gpu::Buffer<u8>>),
}

/// Tensors that live from run to run. Programs read and assign them ([`Tape::read`](crate::Tape::read),
/// [`Tape::assign`](crate::Tape::assign)), and several programs can share them.
#[derive(Debug)]
pub struct State {
    names: Vec<(String, Spec)>,
    pub(crate) store: Store,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// An empty state in the host's memory.
    pub fn new() -> Self {
        Self { names: Vec::new(), store: Store::Host(Vec::new()) }
    }

    /// An empty state in the memory of `device`, where programs for that device need it.
    pub fn on(device: &Device) -> Self {
        match device.as_gpu() {
            None => Self::new(),
            Some(gpu) => Self { names: Vec::new(), store: Store::Gpu(Arc::clone(gpu), Vec::new()) },
        }
    }

    /// Whether its slots live on a GPU.
    pub fn on_gpu(&self) -> bool {
        matches!(self.store, Store::Gpu(..))
    }

    /// A copy of all slots on the same device. The slots of this state are valid for the copy.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn duplicate(&self) -> Result<Self> {
        let store = match &self.store {
            Store::Host(buffers) => Store::Host(buffers.clone()),
            Store::Gpu(gpu, buffers) => {
                let _turn = gpu.turn();
                let copy = |from: &gpu::Buffer<u8>| {
                    let to = gpu.zeros::<u8>(from.len())?;
                    gpu.copy(gpu.span(from)?, gpu.span(&to)?)?;
                    Ok(to)
                };
                Store::Gpu(Arc::clone(gpu), buffers.iter().map(copy).collect::<Result<_>>()?)
            }
        };
        Ok(Self { names: self.names.clone(), store })
    }

    /// Adds a slot, filled with zeros. `name` is for messages and need not be unique.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn add(&mut self, name: &str, spec: Spec) -> Result<Slot> {
        let id = self.names.len() as u32;
        let made = self.bytes();
        let slots = || {
            let old = self.names.iter().map(|(name, s)| (name.as_str(), *s));
            largest(old.chain([(name, spec)]).map(|(n, s)| (format!("slot {n}"), Some(s), s.bytes() as u64)))
        };
        match &mut self.store {
            Store::Host(buffers) => {
                let buffer = Buffer::zeroed(spec.bytes()).map_err(Error::from);
                buffers.push(explain_out_of_memory(buffer, "the CPU", (0, made), slots)?);
            }
            Store::Gpu(gpu, buffers) => {
                let _turn = gpu.turn();
                let buffer = gpu.zeros(spec.bytes()).map_err(Error::from);
                buffers.push(explain_out_of_memory(buffer, &gpu.device().name, (0, made), slots)?);
            }
        }
        self.names.push((name.to_owned(), spec));
        Ok(Slot { id, spec })
    }

    /// A slot's content, in the host's memory.
    ///
    /// # Errors
    /// If the slot is of another state, holds another type, or lives on a GPU (see [`State::fetch`]).
    pub fn get<T: Element>(&self, slot: Slot) -> Result<&[T]> {
        self.check::<T>(slot)?;
        match &self.store {
            Store::Host(buffers) => Ok(bytemuck::cast_slice(buffers[slot.id as usize].bytes())),
            Store::Gpu(..) => Err(Error::Bind("the slot lives on a GPU and must be fetched".into())),
        }
    }

    /// A copy of a slot's content, wherever it lives.
    ///
    /// # Errors
    /// If the slot is of another state or holds another type, or copying from a GPU fails.
    pub fn fetch<T: Element>(&self, slot: Slot) -> Result<Vec<T>> {
        self.check::<T>(slot)?;
        match &self.store {
            Store::Host(_) => Ok(self.get(slot)?.to_vec()),
            Store::Gpu(gpu, buffers) => {
                let _turn = gpu.turn();
                let mut values = vec![T::zeroed(); slot.spec.len()];
                gpu.read_at(&buffers[slot.id as usize], 0, bytemuck::cast_slice_mut(&mut values))?;
                Ok(values)
            }
        }
    }

    /// A slot's content, borrowed where it is in the host's memory, and a copy where it lives on a GPU.
    ///
    /// # Errors
    /// Those of [`State::fetch`].
    pub fn view<T: Element>(&self, slot: Slot) -> Result<Cow<'_, [T]>> {
        match &self.store {
            Store::Host(_) => self.get(slot).map(Cow::Borrowed),
            Store::Gpu(..) => self.fetch(slot).map(Cow::Owned),
        }
    }

    /// A slot's content, mutable, in the host's memory.
    ///
    /// # Errors
    /// Those of [`State::get`].
    pub fn get_mut<T: Element>(&mut self, slot: Slot) -> Result<&mut [T]> {
        self.check::<T>(slot)?;
        match &mut self.store {
            Store::Host(buffers) => Ok(bytemuck::cast_slice_mut(buffers[slot.id as usize].bytes_mut())),
            Store::Gpu(..) => Err(Error::Bind("the slot lives on a GPU and must be set".into())),
        }
    }

    /// Replaces a slot's content.
    ///
    /// # Errors
    /// Those of [`State::fetch`]; also if the length differs.
    pub fn set<T: Element>(&mut self, slot: Slot, data: &[T]) -> Result<()> {
        if data.len() != slot.spec.len() {
            let (name, want) = (self.name(slot), slot.spec.len());
            return Err(Error::Bind(format!("{name} holds {want} elements, got {}", data.len())));
        }
        self.set_at(slot, 0, data)
    }

    /// Replaces elements of a slot from `start` on.
    ///
    /// # Errors
    /// Those of [`State::fetch`]; also if they do not fit.
    pub fn set_at<T: Element>(&mut self, slot: Slot, start: usize, data: &[T]) -> Result<()> {
        self.check::<T>(slot)?;
        if start.checked_add(data.len()).is_none_or(|end| end > slot.spec.len()) {
            let (name, got) = (self.name(slot), data.len());
            return Err(Error::Bind(format!("{got} elements at {start} do not fit {name}, {}", slot.spec)));
        }
        match &mut self.store {
            Store::Host(buffers) => {
                let to: &mut [T] = bytemuck::cast_slice_mut(buffers[slot.id as usize].bytes_mut());
                to[start..start + data.len()].copy_from_slice(data);
            }
            Store::Gpu(gpu, buffers) => {
                let at = start * size_of::<T>();
                let _turn = gpu.turn();
                gpu.write_at(&mut buffers[slot.id as usize], at, bytemuck::cast_slice(data))?;
            }
        }
        Ok(())
    }

    /// A slot's name.
    pub fn name(&self, slot: Slot) -> &str {
        self.names.get(slot.id as usize).map_or("?", |n| &n.0)
    }

    /// Whether this state has the slot, with the same spec.
    pub fn has(&self, slot: Slot) -> bool {
        self.names.get(slot.id as usize).is_some_and(|n| n.1 == slot.spec)
    }

    /// All slots with their names, in the order in which they were added.
    pub fn slots(&self) -> impl Iterator<Item = (&str, Slot)> {
        self.names
            .iter()
            .enumerate()
            .map(|(id, (name, spec))| (name.as_str(), Slot { id: id as u32, spec: *spec }))
    }

    /// Bytes of all slots.
    pub fn bytes(&self) -> usize {
        self.names.iter().map(|(_, spec)| spec.bytes()).sum()
    }

    fn check<T: Element>(&self, slot: Slot) -> Result<()> {
        if !self.has(slot) || slot.spec.dtype != T::DTYPE {
            let what = format!("slot of {} accessed as {} (or of another state)", slot.spec, T::DTYPE);
            return Err(Error::Bind(what));
        }
        Ok(())
    }
}
