//! The peak rate of a device: products of large matrices.

use kernels::gpu::{Float, Gpu, GpuError};

/// Runs between two events.
const RUNS: u32 = 5;
/// How often that is measured; the shortest time counts.
const TRIES: usize = 5;

/// The peak rate, in floating-point operations per second, of a product of `n × n` matrices by cuBLAS, summed in
/// float32: of bf16 values, or of float32 values with the products that the device's precision has.
///
/// # Errors
/// Why cuBLAS cannot be used, or its error; [`GpuError::OutOfMemory`]; [`GpuError::Capturing`].
pub(super) fn product_rate(gpu: &Gpu, n: usize, float: Float) -> Result<f64, GpuError> {
    // Bit patterns that are small numbers in either type, and no zeros, which devices multiply at less power.
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
