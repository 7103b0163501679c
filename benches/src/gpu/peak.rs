//! The peak rate of a device, measured with products of large matrices.

use kernels::gpu::{Float, Gpu, GpuError};

/// Runs between two events.
const RUNS: u32 = 5;
/// Number of measurements; the shortest time counts.
const TRIES: usize = 5;

/// The rate, in floating-point operations per second, at which cuBLAS multiplies `n × n` matrices with sums in float32:
/// of bf16 values, or of float32 values in the device's precision.
///
/// # Errors
/// Why cuBLAS cannot be used, or its error; [`GpuError::OutOfMemory`]; [`GpuError::Capturing`].
pub(super) fn product_rate(gpu: &Gpu, n: usize, float: Float) -> Result<f64, GpuError> {
    // Bit patterns that are small numbers in either type. No zeros: multiplying them takes less power.
    let pattern: Vec<u32> =
        (0..n * n * float.size() / 4).map(|i| 0x3f80_3f80 ^ (i as u32 % 97) << 16).collect();
    let (a, b) = (gpu.upload(&pattern)?, gpu.upload(&pattern)?);
    drop(pattern);
    let out = gpu.zeros::<u8>(n * n * float.size())?;
    let (a, b, out) = (gpu.span(&a)?, gpu.span(&b)?, gpu.span(&out)?);
    let run = || gpu.square_product(float, n, (a, b), out);
    run()?;
    let mut seconds = f64::INFINITY;
    for _ in 0..TRIES {
        seconds = seconds.min(gpu.seconds(|| (0..RUNS).try_for_each(|_| run()))?);
    }
    Ok(2.0 * (n as f64).powi(3) * f64::from(RUNS) / seconds)
}
