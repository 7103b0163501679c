//! Bench cases on a GPU, run as replayed graphs, compared with copies on the device.

use super::peak::sizes;
use super::{Allowed, Journal, Size};
use crate::{BenchProgram, Error, Result, cases};
use engine::ops::registry;
use engine::testing::Case;
use engine::{Device, Precision};
use kernels::gpu::{Gpu, GpuError};
use serde_json::json;
use std::time::Instant;

/// Runs between two synchronisations.
const RUNS: u32 = 50;
/// Size in bytes of the copy that measures the bandwidth: more than any cache holds.
pub(super) const COPIED: usize = 512 << 20;

/// Ops that have a stage of their own.
const ELSEWHERE: [&str; 4] = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad", "fused_conv2d"];

pub(super) fn checks(journal: &mut Journal, device: &Device, allowed: Allowed, size: Size) -> Result<()> {
    let Some(gpu) = device.as_gpu() else { return Ok(()) };
    let (_, bytes) = sizes(size);
    let copy_rate = copy_gb_per_s(gpu, bytes)?;
    let wanted = |(stem, case): &(&'static str, Case)| match allowed.precision {
        _ if ELSEWHERE.contains(stem) => false,
        Precision::F32 => true,
        Precision::Tf32 => *stem == "linear",
        Precision::Bf16 => !case.bf16.is_empty(),
    };
    let cases: Vec<(&'static str, Case)> = match size {
        Size::Real => cases(None).into_iter().filter(wanted).collect(),
        // Bench cases are of real sizes.
        Size::Small => {
            let all =
                registry().into_iter().flat_map(|(s, c)| c.small.into_iter().map(move |case| (s, case)));
            all.filter(wanted).take(2).collect()
        }
    };
    for (stem, case) in cases {
        journal.check("our kernels", format!("{stem}: {}", case.name), || {
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
        })?;
    }
    Ok(())
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
