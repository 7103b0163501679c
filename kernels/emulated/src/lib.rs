//! The project's CUDA kernels on a CPU, for tests: every thread of a block is a fiber, and blocks run one at a time.
//!
//! Invariant: the kernels are compiled from the very files that a GPU gets. Every buffer has guards full of NaN on both
//! sides, so that a read out of bounds shows in the result and a write out of bounds is an error. No other crate
//! depends on this one.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_void};
use core::marker::PhantomData;
use core::ptr;
use std::sync::Mutex;

use bytemuck::Pod;

/// Why no kernel can be run here, if so.
pub fn why_not() -> Option<&'static str> {
    (!cfg!(emulated)).then_some(env!("JEMPP_NOT_EMULATED"))
}

/// The order in which threads and blocks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From 0 up, each thread until it waits.
    Ascending,
    /// From the last down, each warp as far as it gets without the others.
    Descending,
    /// Warp by warp in random order, determined by a seed.
    Random(u64),
}

const GUARD: usize = 16;

#[derive(Debug)]
#[repr(C, align(16))]
struct Block(UnsafeCell<[u8; 16]>);

/// Bytes that kernels read and write, between two guards.
#[derive(Debug)]
pub struct Memory {
    blocks: Vec<Block>,
    bytes: usize,
}

impl Memory {
    fn new(bytes: usize) -> Self {
        let count = 2 * GUARD + bytes.div_ceil(16);
        let blocks = (0..count).map(|_| Block(UnsafeCell::new([0xff; 16]))).collect();
        Self { blocks, bytes }
    }

    fn start(&self) -> *mut u8 {
        // The pointer comes from the whole vector, so it may reach all of it; the guards make it begin inside.
        self.blocks.as_ptr().cast::<u8>().cast_mut().wrapping_add(GUARD * 16)
    }

    fn guards_hold(&self) -> bool {
        let all = self.blocks.len() * 16;
        // SAFETY: the range is the vector's own memory, in cells, and no kernel runs while this borrows it.
        let bytes = unsafe { core::slice::from_raw_parts(self.blocks.as_ptr().cast::<u8>(), all) };
        bytes[..GUARD * 16].iter().chain(&bytes[GUARD * 16 + self.bytes..]).all(|&b| b == 0xff)
    }
}

/// Values that kernels read and write. It begins at a multiple of 16 bytes.
#[derive(Debug)]
pub struct Buffer<T> {
    memory: Memory,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// A buffer of these values.
    pub fn from(values: &[T]) -> Self {
        let buffer = Self::unwritten(values.len());
        // SAFETY: there is room for as many values, and nothing else refers to the new memory.
        unsafe {
            ptr::copy_nonoverlapping(
                values.as_ptr().cast::<u8>(),
                buffer.memory.start(),
                size_of_val(values),
            );
        };
        buffer
    }

    /// `len` values with all bits set: NaN, or −1.
    pub fn unwritten(len: usize) -> Self {
        assert!(align_of::<T>() <= 16);
        Self { memory: Memory::new(len * size_of::<T>()), len, element: PhantomData }
    }

    /// The values.
    pub fn read(&self) -> Vec<T> {
        let mut out = vec![T::zeroed(); self.len];
        // SAFETY: as many values lie there, any bits are a value, and no kernel runs while this borrows it.
        unsafe {
            ptr::copy_nonoverlapping(self.memory.start(), out.as_mut_ptr().cast::<u8>(), self.memory.bytes);
        };
        out
    }

    /// The buffer as an argument of a launch.
    pub fn arg(&self) -> Arg<'_> {
        Arg::Memory(&self.memory)
    }

    /// Its memory, for [`Arg::Pointers`].
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// The address of a buffer.
    Memory(&'a Memory),
    /// A null pointer.
    Null,
    /// `int`.
    I32(i32),
    /// `unsigned`.
    U32(u32),
    /// `long long`.
    I64(i64),
    /// `float`.
    F32(f32),
    /// `double`.
    F64(f64),
    /// The addresses of buffers, or null, by value: `Pointers` of `cuda/common.cuh`.
    Pointers(&'a [Option<&'a Memory>]),
}

/// Number of addresses in `Pointers`.
const POINTERS: usize = 384;

impl Arg<'_> {
    /// Its bits, and how many of their bytes count.
    fn bits(&self) -> (Vec<u64>, u32) {
        let (bits, bytes) = match *self {
            Self::Memory(m) => (m.start() as u64, 8),
            Self::Null => (0, 8),
            Self::I32(v) => (u64::from(v as u32), 4),
            Self::U32(v) => (u64::from(v), 4),
            Self::I64(v) => (v as u64, 8),
            Self::F32(v) => (u64::from(v.to_bits()), 4),
            Self::F64(v) => (v.to_bits(), 8),
            Self::Pointers(list) => {
                assert!(list.len() <= POINTERS);
                let mut all: Vec<u64> = list.iter().map(|m| m.map_or(0, |m| m.start() as u64)).collect();
                all.resize(POINTERS, 0);
                return (all, 8 * POINTERS as u32);
            }
        };
        (vec![bits], bytes)
    }

    /// The buffers that it names.
    fn memory(&self) -> Vec<&Memory> {
        match self {
            Self::Memory(m) => vec![*m],
            Self::Pointers(list) => list.iter().flatten().copied().collect(),
            _ => Vec::new(),
        }
    }
}

#[repr(C)]
struct Kernel {
    name: *const c_char,
    call: *const c_void,
    sizes: *const u32,
    arguments: u32,
}

#[repr(C)]
struct File {
    stem: *const c_char,
    kernels: *const Kernel,
    count: u64,
}

#[cfg(emulated)]
unsafe extern "C" {
    static jempp_emulated_files: [File; 0];
    fn jempp_emulate(
        kernel: *const Kernel,
        grid: *const u32,
        block: *const u32,
        shared: u32,
        order: i32,
        seed: u64,
        arguments: *mut *mut c_void,
    ) -> *const c_char;
}

#[cfg(not(emulated))]
static NO_FILES: [u64; 3] = [0; 3];

fn files() -> *const File {
    #[cfg(emulated)]
    return (&raw const jempp_emulated_files).cast();
    #[cfg(not(emulated))]
    return (&raw const NO_FILES).cast();
}

/// # Safety
/// `text` is a string of the table, which lives forever.
unsafe fn text(text: *const c_char) -> &'static str {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("")
}

/// Calls `f` with every kernel and the name of its file, without extension.
fn each(mut f: impl FnMut(&'static str, &'static Kernel)) {
    let mut file = files();
    // SAFETY: the table is constant, ends with a null name, and each file has as many kernels as it says.
    unsafe {
        while !(*file).stem.is_null() {
            for i in 0..(*file).count as usize {
                f(text((*file).stem), &*(*file).kernels.add(i));
            }
            file = file.add(1);
        }
    }
}

/// File name without extension, and name, of every kernel.
pub fn kernels() -> Vec<(&'static str, &'static str)> {
    let mut all = Vec::new();
    // SAFETY: the names are strings of the table.
    each(|stem, k| all.push((stem, unsafe { text(k.name) })));
    all
}

/// Shared memory is static in the emulation, so one launch runs at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Runs a kernel. `grid` and `block` are x, y, z.
///
/// The kernel is trusted to stay within its buffers, except for what the guards detect.
///
/// # Errors
/// What is wrong: an unknown kernel, arguments that do not match, a deadlock, a misaligned access, or a write outside a
/// buffer.
pub fn launch(
    name: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    order: Order,
    args: &[Arg<'_>],
) -> Result<(), String> {
    let mut kernel = None;
    // SAFETY: the names are strings of the table.
    each(|_, k| kernel = kernel.or((unsafe { text(k.name) } == name).then_some(k)));
    let kernel = kernel.ok_or_else(|| format!("there is no kernel {name}"))?;
    // SAFETY: the table has one size for each argument.
    let sizes = unsafe { core::slice::from_raw_parts(kernel.sizes, kernel.arguments as usize) };
    let (mut bits, given): (Vec<Vec<u64>>, Vec<u32>) = args.iter().map(Arg::bits).unzip();
    if sizes != given {
        return Err(format!("{name} takes arguments of {sizes:?} bytes, not {given:?}"));
    }
    let mut pointers: Vec<*mut c_void> = bits.iter_mut().map(|b| b.as_mut_ptr().cast()).collect();
    let (order, seed) = match order {
        Order::Ascending => (0, 0),
        Order::Descending => (1, 0),
        Order::Random(seed) => (2, seed),
    };
    call(kernel, grid, block, shared, order, seed, &mut pointers)?;
    for (i, arg) in args.iter().enumerate() {
        if !arg.memory().iter().all(|m| m.guards_hold()) {
            return Err(format!("{name} wrote outside of argument {i}"));
        }
    }
    Ok(())
}

#[cfg(emulated)]
fn call(
    kernel: &Kernel,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    order: i32,
    seed: u64,
    args: &mut [*mut c_void],
) -> Result<(), String> {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: the arguments are as many and as large as the kernel's; the lock keeps other launches out; the memory
    // that they point to is borrowed by the caller for the whole call, in cells.
    let wrong = unsafe {
        jempp_emulate(kernel, grid.as_ptr(), block.as_ptr(), shared, order, seed, args.as_mut_ptr())
    };
    if wrong.is_null() {
        return Ok(());
    }
    // SAFETY: a message that lives until the next launch, which the lock still keeps out.
    Err(unsafe { CStr::from_ptr(wrong) }.to_string_lossy().into_owned())
}

#[cfg(not(emulated))]
fn call(
    _: &Kernel,
    _: [u32; 3],
    _: [u32; 3],
    _: u32,
    _: i32,
    _: u64,
    _: &mut [*mut c_void],
) -> Result<(), String> {
    let _ = &ONE;
    Err(env!("JEMPP_NOT_EMULATED").to_owned())
}
