//! Buffers, and checked access to their parts for kernels.
//!
//! Invariant: an [`Access`] exists only if the byte ranges that a kernel writes are disjoint from each other and
//! from everything it reads, except for declared aliases, which are whole and equal. That is checked once, when a
//! program is planned; [`Io`] then checks bounds only. An aliased input cannot be read through `input`.

use bytemuck::Pod;
use core::marker::PhantomData;

/// Bytes to which every tensor is aligned: a cache line and an AVX-512 vector.
pub const ALIGN: usize = 64;

/// Bytes to which tensors and workspaces on a GPU are aligned, as an allocation there is: kernels of libraries may assume
/// it.
pub const GPU_ALIGN: usize = 256;

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// Host memory, zeroed, aligned to [`ALIGN`] bytes.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// [`MemoryError::OutOfMemory`] if the allocation fails.
    pub fn zeroed(len: usize) -> Result<Self, MemoryError> {
        let n = len.div_ceil(ALIGN);
        let mut lines = Vec::new();
        lines.try_reserve_exact(n).map_err(|_| MemoryError::OutOfMemory { bytes: len })?;
        lines.resize(n, Line([0; ALIGN]));
        Ok(Self { lines, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether its length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its content.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// Its content, mutable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// The buffer that a [`View`] is a range of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// The program's own memory, for activations and workspaces.
    Arena,
    /// A slot of the state.
    Slot(u32),
}

/// A byte range of a buffer; `offset` is a multiple of [`ALIGN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The buffer.
    pub space: Space,
    /// First byte.
    pub offset: usize,
    /// Number of bytes.
    pub len: usize,
}

impl View {
    fn overlaps(&self, o: &Self) -> bool {
        self.space == o.space
            && self.len > 0
            && o.len > 0
            && self.offset < o.offset + o.len
            && o.offset < self.offset + self.len
    }
}

/// Why memory cannot be accessed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The system refused an allocation.
    #[error("out of memory: {bytes} bytes could not be allocated")]
    OutOfMemory {
        /// The requested size.
        bytes: usize,
    },
    /// Ranges that must not overlap do: an error in the planner.
    #[error("memory plan is wrong: {0}")]
    Overlap(String),
    /// A kernel requested memory that its [`Access`] does not contain: an error in the kernel.
    #[error("kernel access is wrong: {0}")]
    Access(&'static str),
}

/// The memory of one node: its inputs, outputs and workspace.
#[derive(Clone, Debug)]
pub struct Access {
    inputs: Vec<View>,
    outputs: Vec<View>,
    workspace: View,
    /// For each output the input it shares memory with.
    alias: Vec<Option<usize>>,
}

impl Access {
    /// Checks the ranges. `aliases` lists the (output, input) pairs that may share memory.
    ///
    /// # Errors
    /// If a written range overlaps another range of the node, unless both are equal and a declared alias.
    pub fn new(
        inputs: Vec<View>,
        outputs: Vec<View>,
        workspace: View,
        aliases: &[(usize, usize)],
    ) -> Result<Self, MemoryError> {
        let mut alias = vec![None; outputs.len()];
        for (o, out) in outputs.iter().enumerate() {
            for (i, input) in inputs.iter().enumerate().filter(|(_, v)| v.overlaps(out)) {
                if out != input || !aliases.contains(&(o, i)) || alias[o].is_some() {
                    return Err(MemoryError::Overlap(format!("output {o} overlaps input {i}")));
                }
                alias[o] = Some(i);
            }
            if outputs[..o].iter().any(|v| v.overlaps(out)) || workspace.overlaps(out) {
                return Err(MemoryError::Overlap(format!("output {o} overlaps another or the workspace")));
            }
        }
        if inputs.iter().any(|v| v.overlaps(&workspace)) {
            return Err(MemoryError::Overlap("the workspace overlaps an input".into()));
        }
        if inputs.iter().chain(&outputs).chain([&workspace]).any(|v| v.offset % ALIGN != 0) {
            return Err(MemoryError::Overlap("a range is not aligned".into()));
        }
        Ok(Self { inputs, outputs, workspace, alias })
    }

    /// Whether the node writes a slot of the state.
    pub fn writes_slots(&self) -> bool {
        self.outputs.iter().any(|v| matches!(v.space, Space::Slot(_)))
    }
}

/// Bytes on a GPU, borrowed for one launch: an address that the host never dereferences.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    pub(crate) address: u64,
    pub(crate) len: usize,
    pub(crate) life: PhantomData<&'a ()>,
}

impl Span<'_> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether its length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its device address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The `len` bytes from `offset` on, if they are inside.
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        inside.then(|| Self { address: self.address + offset as u64, len, life: PhantomData })
    }

    /// Number of values of type `T` that it holds.
    pub fn count<T>(&self) -> usize {
        self.len / size_of::<T>()
    }
}

enum Slots<'a> {
    Shared(&'a [Buffer]),
    Exclusive(*mut Buffer, usize, PhantomData<&'a mut [Buffer]>),
    Gpu(&'a [Span<'a>]),
}

/// The memory of a running program: its arena and the state's slots.
pub struct Memory<'a> {
    arena: (*mut u8, usize),
    slots: Slots<'a>,
    life: PhantomData<&'a mut Buffer>,
}

impl<'a> Memory<'a> {
    /// Memory whose slots may be written.
    pub fn exclusive(arena: &'a mut Buffer, slots: &'a mut [Buffer]) -> Self {
        let slots = Slots::Exclusive(slots.as_mut_ptr(), slots.len(), PhantomData);
        Self { arena: (arena.bytes_mut().as_mut_ptr(), arena.len()), slots, life: PhantomData }
    }

    /// Memory for programs that only read slots: several may run on one state at once.
    pub fn shared(arena: &'a mut Buffer, slots: &'a [Buffer]) -> Self {
        let slots = Slots::Shared(slots);
        Self { arena: (arena.bytes_mut().as_mut_ptr(), arena.len()), slots, life: PhantomData }
    }

    /// Memory made of another node's workspace: for a kernel that runs another kernel.
    ///
    /// # Errors
    /// If the bytes are not aligned to [`ALIGN`].
    pub fn within(bytes: &'a mut [u8]) -> Result<Self, MemoryError> {
        if !bytes.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(MemoryError::Access("the memory is not aligned"));
        }
        Ok(Self { arena: (bytes.as_mut_ptr(), bytes.len()), slots: Slots::Shared(&[]), life: PhantomData })
    }

    /// Memory on a GPU. Work goes to one stream, in order, so slots need no lock; kernels get addresses instead of
    /// slices.
    pub fn gpu(arena: Span<'a>, slots: &'a [Span<'a>]) -> Self {
        let arena = (core::ptr::without_provenance_mut(arena.address as usize), arena.len);
        Self { arena, slots: Slots::Gpu(slots), life: PhantomData }
    }

    /// The memory of one node, borrowed until the `Io` is dropped.
    pub fn io<'m>(&'m mut self, access: &'m Access) -> Io<'m> {
        Io { memory: self, access, taken: [0; TAKEN / 64] }
    }

    fn host_only(&self) -> Result<(), MemoryError> {
        match self.slots {
            Slots::Gpu(_) => Err(MemoryError::Access("memory on a GPU has no slices")),
            _ => Ok(()),
        }
    }

    /// A view on a GPU.
    ///
    /// # Errors
    /// If it lies outside its buffer, or memory is the host's.
    pub fn gpu_span(&self, v: View) -> Result<Span<'_>, MemoryError> {
        if !matches!(self.slots, Slots::Gpu(_)) {
            return Err(MemoryError::Access("memory on the host has no GPU address"));
        }
        let start = self.start(v, true)?;
        Ok(Span { address: start.addr() as u64, len: v.len, life: PhantomData })
    }

    fn start(&self, v: View, write: bool) -> Result<*mut u8, MemoryError> {
        let (ptr, len) = match (v.space, &self.slots) {
            (Space::Arena, _) => self.arena,
            (Space::Slot(i), Slots::Shared(slots)) => {
                if write {
                    return Err(MemoryError::Access("a shared state cannot be written"));
                }
                let b = slots.get(i as usize).ok_or(MemoryError::Access("no such slot"))?;
                (b.bytes().as_ptr().cast_mut(), b.len())
            }
            (Space::Slot(i), Slots::Gpu(slots)) => {
                let s = slots.get(i as usize).ok_or(MemoryError::Access("no such slot"))?;
                (core::ptr::without_provenance_mut(s.address as usize), s.len)
            }
            (Space::Slot(i), Slots::Exclusive(slots, n, _)) => {
                if i as usize >= *n {
                    return Err(MemoryError::Access("no such slot"));
                }
                // SAFETY: index in bounds of the exclusively borrowed slice. The reference to the `Buffer` itself
                // lives for this statement only; the bytes lie in their own allocation.
                let b = unsafe { &mut *slots.add(i as usize) };
                (b.bytes_mut().as_mut_ptr(), b.len())
            }
        };
        if v.offset.checked_add(v.len).is_none_or(|end| end > len) {
            return Err(MemoryError::Access("range outside its buffer"));
        }
        Ok(ptr.wrapping_add(v.offset))
    }
}

/// Outputs that can be handed out, and the workspace.
const TAKEN: usize = 1024;

/// What a kernel may access: inputs to read, outputs and a workspace to write.
pub struct Io<'m> {
    memory: &'m Memory<'m>,
    access: &'m Access,
    /// Outputs handed out (bit o) and the workspace (the last bit).
    taken: [u64; TAKEN / 64],
}

impl<'m> Io<'m> {
    /// Input `i` as a slice.
    ///
    /// # Errors
    /// If it shares its memory with an output (see [`Io::in_place`]) or does not exist.
    pub fn input<T: Pod>(&self, i: usize) -> Result<&'m [T], MemoryError> {
        if self.access.alias.contains(&Some(i)) {
            return Err(MemoryError::Access("the input shares memory with an output"));
        }
        self.memory.host_only()?;
        let v = *self.access.inputs.get(i).ok_or(MemoryError::Access("no such input"))?;
        let ptr = self.memory.start(v, false)?;
        // SAFETY: in bounds; aligned for any Pod up to 64 bytes; no output or workspace of this node overlaps it
        // (checked by `Access::new`), and `Memory` is borrowed exclusively by this `Io`.
        Ok(unsafe { core::slice::from_raw_parts(ptr.cast::<T>(), v.len / size_of::<T>()) })
    }

    /// Whether output `o` already holds input `i`.
    pub fn in_place(&self, o: usize, i: usize) -> bool {
        self.access.alias.get(o).is_some_and(|a| *a == Some(i))
    }

    /// Input `i`, or `None` if output `o` already holds it.
    ///
    /// # Errors
    /// If the input does not exist or lies in another output.
    pub fn input_or_place<T: Pod>(&self, i: usize, o: usize) -> Result<Option<&'m [T]>, MemoryError> {
        if self.in_place(o, i) { Ok(None) } else { self.input(i).map(Some) }
    }

    /// Output `o` as a mutable slice; each may be taken once.
    ///
    /// # Errors
    /// If it was taken or does not exist.
    pub fn output<T: Pod>(&mut self, o: usize) -> Result<&'m mut [T], MemoryError> {
        let v = *self.access.outputs.get(o).ok_or(MemoryError::Access("no such output"))?;
        self.take(o, v)
    }

    /// The workspace as a mutable slice; may be taken once.
    ///
    /// # Errors
    /// If it was taken.
    pub fn workspace<T: Pod>(&mut self) -> Result<&'m mut [T], MemoryError> {
        self.take(TAKEN - 1, self.access.workspace)
    }

    /// Input `i` on a GPU; an aliased input has the address of its output.
    ///
    /// # Errors
    /// If it does not exist, or memory is the host's.
    pub fn gpu_input(&self, i: usize) -> Result<Span<'m>, MemoryError> {
        self.memory.gpu_span(*self.access.inputs.get(i).ok_or(MemoryError::Access("no such input"))?)
    }

    /// Output `o` on a GPU.
    ///
    /// # Errors
    /// If it does not exist, or memory is the host's.
    pub fn gpu_output(&self, o: usize) -> Result<Span<'m>, MemoryError> {
        self.memory.gpu_span(*self.access.outputs.get(o).ok_or(MemoryError::Access("no such output"))?)
    }

    /// The workspace on a GPU.
    ///
    /// # Errors
    /// If memory is the host's.
    pub fn gpu_workspace(&self) -> Result<Span<'m>, MemoryError> {
        self.memory.gpu_span(self.access.workspace)
    }

    fn take<T: Pod>(&mut self, bit: usize, v: View) -> Result<&'m mut [T], MemoryError> {
        self.memory.host_only()?;
        let Some(word) = self.taken.get_mut(bit / 64) else {
            return Err(MemoryError::Access("a node has too many outputs"));
        };
        if *word & (1 << (bit % 64)) != 0 {
            return Err(MemoryError::Access("taken twice"));
        }
        *word |= 1 << (bit % 64);
        let ptr = self.memory.start(v, true)?;
        // SAFETY: in bounds and aligned; `Access::new` checked that nothing else of this node overlaps it but an
        // alias that `input` refuses; `taken` excludes a second reference; `Memory` is borrowed exclusively.
        Ok(unsafe { core::slice::from_raw_parts_mut(ptr.cast::<T>(), v.len / size_of::<T>()) })
    }
}

#[cfg(test)]
mod tests;
