//! The highest rates of a device: products of large matrices, and copies.

use super::data::random;
use super::speed::{COPIED, copy_gb_per_s, refused};
use super::whole::fresh;
use super::{Found, Journal, Size};
use crate::Result;
use engine::{Device, Precision};
use kernels::gpu::{Float, Gpu, GpuError};
use serde_json::json;

/// Runs between two events.
const RUNS: u32 = 5;
/// Number of measurements; the shortest time counts.
const TRIES: usize = 5;

/// Side of the matrices, and bytes of the copy.
pub(super) fn sizes(size: Size) -> (usize, usize) {
    if size == Size::Real { (8192, COPIED) } else { (32, 1 << 20) }
}

pub(super) fn checks(journal: &mut Journal, device: &Device, size: Size) -> Result<()> {
    let (n, bytes) = sizes(size);
    journal.check("most that the device can", "copy on the device", || copy(device, bytes))?;
    for (name, precision, float) in [
        ("bf16", Precision::F32, Float::Bf16),
        ("TF32", Precision::Tf32, Float::F32),
        ("float32", Precision::F32, Float::F32),
    ] {
        journal.check("most that the device can", format!("products of {n}², {name}"), || {
            let device = fresh(device, precision)?;
            let Some(gpu) = device.as_gpu() else { return Ok(Err("this is no GPU".into())) };
            let rate = product_rate(gpu, n, float).map_err(refused)? / 1e12;
            let data = json!({ "tflops": rate, "n": n, "dtype": name });
            Ok(Ok((format!("{rate:.1} TFLOP/s, random values"), data)))
        })?;
    }
    Ok(())
}

fn copy(device: &Device, bytes: usize) -> Result<Found> {
    let Some(gpu) = device.as_gpu() else { return Ok(Err("this is no GPU".into())) };
    let rate = copy_gb_per_s(gpu, bytes)?;
    let text = format!("{rate:.0} GB/s, read and written, {} MiB", bytes >> 20);
    Ok(Ok((text, json!({ "gb_per_s": rate, "bytes": bytes }))))
}

/// The rate, in floating-point operations per second, at which cuBLAS multiplies `n × n` matrices of random values with sums
/// in float32: of bf16 values, or of float32 values in the device's precision. Values with few different bits would take
/// less power and give a higher rate.
///
/// # Errors
/// Why cuBLAS cannot be used, or its error; [`GpuError::OutOfMemory`]; [`GpuError::Capturing`].
pub(super) fn product_rate(gpu: &Gpu, n: usize, float: Float) -> Result<f64, GpuError> {
    let (a, b) = (random(gpu, float, n * n, 1)?, random(gpu, float, n * n, 2)?);
    let out = gpu.zeros::<u8>(n * n * float.size())?;
    let (a, b, out) = (gpu.span(&a)?, gpu.span(&b)?, gpu.span(&out)?);
    let run = || gpu.square_product(float, n, (a, b), out);
    run()?;
    let mut seconds = f64::INFINITY;
    for _ in 0..TRIES {
        seconds = seconds.min(gpu.seconds_on_device(|| (0..RUNS).try_for_each(|_| run()))?);
    }
    Ok(2.0 * (n as f64).powi(3) * f64::from(RUNS) / seconds)
}
