//! What a CPU can reach at most: multiply-adds in registers and copies of memory, to compare kernels with.

use crate::device::Device;
use kernels::cpu::peak;

/// Runs `rounds` rounds of independent multiply-adds in registers (float32, or bf16 if the device is set to bf16
/// products and has the instructions) on all threads of the CPU; returns how many floating-point operations these were.
/// Does nothing on a GPU.
pub fn multiply_add(device: &Device, rounds: usize) -> u64 {
    device.as_cpu().map_or(0, |cpu| peak::multiply_add(cpu, rounds))
}

/// Copies `from` to `to`, which must be of the same length, with all threads of the CPU. Does nothing on a GPU.
pub fn copy(device: &Device, from: &[f32], to: &mut [f32]) {
    if let Some(cpu) = device.as_cpu() {
        peak::copy(cpu, from, to);
    }
}
