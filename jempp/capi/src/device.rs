//! The compute devices of this machine.

use crate::args::{Sized32, check_size, out};
use crate::call::call;
use crate::status::{Fault, jempp_status};
use core::ffi::c_char;
use jempp::engine::gpu::{Device, probe};

/// Description of a compute device.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_device_info {
    /// sizeof(jempp_device_info), set by the caller.
    pub struct_size: u32,
    /// N of "cuda:N"; 0 for the CPU.
    pub ordinal: u32,
    /// Name, NUL-terminated, truncated if necessary.
    pub name: [c_char; 128],
    /// Total memory in bytes; 0: unknown.
    pub memory_total: u64,
    /// Free memory in bytes; 0: unknown. Always 0 for a GPU, as this call does not open it.
    pub memory_free: u64,
    /// 1 for a GPU, 0 for the CPU.
    pub is_cuda: i32,
    /// Compute capability of a GPU, 90 for 9.0; 0 for the CPU.
    pub compute_capability: i32,
}

// SAFETY: repr(C), starts with its size, and every bit pattern is valid.
unsafe impl Sized32 for jempp_device_info {
    const NAME: &'static str = "jempp_device_info";
}

/// Number of devices: the CPU, which has index 0, and the GPUs that the driver reports.
///
/// out: receives the number. Any thread. Errors: INVALID_ARGUMENT if out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_device_count(out: *mut u32) -> jempp_status {
    call(|_| {
        let to = self::out(out, "out")?;
        let count = 1 + gpus().len() as u32;
        // SAFETY: not NULL and aligned; the caller provides space for a number.
        unsafe { to.write(count) };
        Ok(())
    })
}

/// Describes device `index`.
///
/// index: less than the number from jempp_device_count. info: receives the description; set its struct_size first. Any
/// thread.
///
/// Errors: INVALID_ARGUMENT if there is no such device or struct_size is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_device_get_info(index: u32, info: *mut jempp_device_info) -> jempp_status {
    call(|_| {
        // SAFETY: the caller passes NULL or a struct of `struct_size` bytes.
        let struct_size = unsafe { check_size(info, "info")? };
        let found = if index == 0 { cpu(struct_size) } else { gpu(struct_size, index)? };
        // SAFETY: checked above.
        unsafe { info.write(found) };
        Ok(())
    })
}

fn gpus() -> Vec<Device> {
    probe().devices.unwrap_or_default()
}

fn gpu(struct_size: u32, index: u32) -> Result<jempp_device_info, Fault> {
    let gpus = gpus();
    let Some(d) = gpus.get(index as usize - 1) else {
        let n = gpus.len() + 1;
        return Err(Fault::argument(format!("there is no device {index}; there are {n}, counted from 0")));
    };
    let (major, minor) = d.compute_capability;
    Ok(jempp_device_info {
        struct_size,
        ordinal: d.ordinal as u32,
        name: name(&d.name),
        memory_total: d.memory,
        memory_free: 0,
        is_cuda: 1,
        compute_capability: (10 * major + minor) as i32,
    })
}

fn cpu(struct_size: u32) -> jempp_device_info {
    let [memory_total, memory_free] = memory();
    jempp_device_info {
        struct_size,
        ordinal: 0,
        name: name(jempp::devices::model_name().as_deref().unwrap_or("CPU")),
        memory_total,
        memory_free,
        is_cuda: 0,
        compute_capability: 0,
    }
}

/// At most 127 bytes of a name, cut between characters, padded with zeros.
fn name(full: &str) -> [c_char; 128] {
    let mut name = [0; 128];
    let end = (0..=full.len().min(127)).rev().find(|i| full.is_char_boundary(*i)).unwrap_or(0);
    full[..end].bytes().zip(&mut name).for_each(|(b, to)| *to = b as c_char);
    name
}

/// Total and available bytes of memory, from Linux's `/proc/meminfo`.
fn memory() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    ["MemTotal:", "MemAvailable:"].map(|key| {
        let line = text.lines().find_map(|l| l.strip_prefix(key));
        let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.map_or(0, |k| k * 1024)
    })
}
