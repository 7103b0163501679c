//! State that outlives programs and is shared by them: weights, running statistics, optimiser, replay buffer.

use crate::error::{Error, Result};
use crate::spec::{DType, Spec};
use bytemuck::Pod;
use kernels::memory::Buffer;

/// A named place in a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub(crate) id: u32,
    /// What it holds.
    pub spec: Spec,
}

/// Rust types that tensors hold.
pub trait Element: Pod {
    /// Its element type.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for f64 {
    const DTYPE: DType = DType::F64;
}
impl Element for i32 {
    const DTYPE: DType = DType::I32;
}
impl Element for u8 {
    const DTYPE: DType = DType::U8;
}

/// All slots of a context.
#[derive(Clone, Debug, Default)]
pub struct State {
    names: Vec<(String, Spec)>,
    pub(crate) buffers: Vec<Buffer>,
}

impl State {
    /// No slots.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new slot, zeroed.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn add(&mut self, name: &str, spec: Spec) -> Result<Slot> {
        let id = self.buffers.len() as u32;
        self.buffers.push(Buffer::zeroed(spec.bytes())?);
        self.names.push((name.to_owned(), spec));
        Ok(Slot { id, spec })
    }

    /// A slot's content.
    ///
    /// # Errors
    /// If the slot is of another state or holds another type.
    pub fn get<T: Element>(&self, slot: Slot) -> Result<&[T]> {
        self.check::<T>(slot)?;
        Ok(bytemuck::cast_slice(self.buffers[slot.id as usize].bytes()))
    }

    /// A slot's content, mutable.
    ///
    /// # Errors
    /// As [`State::get`].
    pub fn get_mut<T: Element>(&mut self, slot: Slot) -> Result<&mut [T]> {
        self.check::<T>(slot)?;
        Ok(bytemuck::cast_slice_mut(self.buffers[slot.id as usize].bytes_mut()))
    }

    /// Replaces a slot's content.
    ///
    /// # Errors
    /// As [`State::get`], or if the length differs.
    pub fn set<T: Element>(&mut self, slot: Slot, data: &[T]) -> Result<()> {
        let name = self.name(slot).to_owned();
        let to = self.get_mut::<T>(slot)?;
        if to.len() != data.len() {
            return Err(Error::Bind(format!("{name} holds {} elements, got {}", to.len(), data.len())));
        }
        to.copy_from_slice(data);
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
        self.buffers.iter().map(Buffer::len).sum()
    }

    fn check<T: Element>(&self, slot: Slot) -> Result<()> {
        if !self.has(slot) || slot.spec.dtype != T::DTYPE {
            let what = format!("slot of {} accessed as {} (or of another state)", slot.spec, T::DTYPE);
            return Err(Error::Bind(what));
        }
        Ok(())
    }
}
