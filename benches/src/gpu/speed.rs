//! Bench cases on a GPU, run as replayed graphs, compared with copies on the device.

use super::{Allowed, Check, check};
use crate::{BenchProgram, Error, Result, cases};
use engine::{Device, Precision};
use kernels::gpu::{Gpu, GpuError};
use serde_json::json;
use std::time::Instant;

/// Runs between two synchronisations.
const RUNS: u32 = 50;
/// Size in bytes of the copy that measures the bandwidth: more than any cache holds.
pub(super) const COPIED: usize = 512 << 20;

pub(super) fn checks(device: &Device, allowed: Allowed) -> Vec<Check> {
    let Some(gpu) = device.as_gpu() else { return Vec::new() };
    let mut copy_rate = 0.0;
    let copy = check("speed", "copy on the device", || {
        copy_rate = copy_gb_per_s(gpu, COPIED)?;
        let text = format!("{copy_rate:.0} GB/s, read and written, {} MiB", COPIED >> 20);
        Ok(Ok((text, json!({ "gb_per_s": copy_rate, "bytes": COPIED }))))
    });
    let mut all = vec![copy];
    let name = allowed.name;
    for (stem, case) in cases(None) {
        let differs = match allowed.precision {
            Precision::F32 => true,
            Precision::Tf32 => ["conv2d", "linear"].contains(&stem),
            Precision::Bf16 => !case.bf16.is_empty(),
        };
        if !differs {
            continue;
        }
        all.push(check("speed", format!("{name} {stem}: {}", case.name), || {
            let mut program = BenchProgram::new(&case, device)?;
            program.fill()?;
            let seconds = time(gpu, || program.run())?;
            let (bytes, flops) = (program.cost.bytes as f64, program.cost.flops as f64);
            let (gb, gflop) = (bytes / seconds / 1e9, flops / seconds / 1e9);
            let share = if copy_rate > 0.0 { gb / copy_rate } else { 0.0 };
            let text = format!(
                "{:.1} µs; {gb:.0} GB/s, {:.0} % of a copy; {gflop:.0} GFLOP/s",
                seconds * 1e6,
                100.0 * share
            );
            let data = json!({
                "seconds": seconds,
                "gb_per_s": gb,
                "share_of_copy": share,
                "gflop_per_s": gflop,
                "bytes": program.cost.bytes,
                "flops": program.cost.flops,
            });
            Ok(Ok((text, data)))
        }));
    }
    all
}

/// The shortest of three means of [`RUNS`] runs, in seconds. The first runs compile, autotune and capture.
pub(super) fn time(gpu: &Gpu, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..3 {
        run()?;
    }
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        wait(gpu)?;
        let start = Instant::now();
        for _ in 0..RUNS {
            run()?;
        }
        wait(gpu)?;
        best = best.min(start.elapsed().as_secs_f64() / f64::from(RUNS));
    }
    Ok(best)
}

fn wait(gpu: &Gpu) -> Result<()> {
    gpu.synchronize().map_err(refused)
}

pub(super) fn refused(error: GpuError) -> Error {
    Error::Engine(error.into())
}

/// The bandwidth of a copy of `bytes` bytes, read and written, in 10⁹ bytes per second.
pub(super) fn copy_gb_per_s(gpu: &Gpu, bytes: usize) -> Result<f64> {
    let (from, to) = (gpu.zeros::<u8>(bytes).map_err(refused)?, gpu.zeros::<u8>(bytes).map_err(refused)?);
    let spans = (gpu.span(&from).map_err(refused)?, gpu.span(&to).map_err(refused)?);
    let seconds = time(gpu, || gpu.copy(spans.0, spans.1).map_err(refused))?;
    Ok(2.0 * bytes as f64 / seconds / 1e9)
}
