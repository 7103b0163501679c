//! cuDNN's batch norm as the reference for the project's, forward and backward, both timed.

use super::speed::{refused, time};
use super::{Found, Journal, Size, largest};
use crate::{BenchProgram, Result};
use engine::Device;
use engine::ops::bn_coeffs::BnCoeffs;
use engine::ops::bn_stats::BnStats;
use engine::ops::elementwise::Mul;
use engine::ops::reduce::SumAll;
use engine::ops::scale_shift_leaky::ScaleShiftLeaky;
use engine::testing::{Case, FillWith};
use engine::{Tape, Var, grad};
use kernels::gpu::cudnn::batch_norm::{Backward, BatchNorm, Forward, Mode};
use kernels::gpu::{Gpu, GpuError};
use serde_json::json;

const EPS: f64 = 1e-5;
/// Largest |a − b| / max|b|: float32 sums over up to 65,536 pixels in a different order.
const TOLERANCE: f64 = 1e-4;
/// Ops that only form the sum Σ y·dy and its gradient; they are left out of the time.
const SCAFFOLD: [&str; 3] = ["mul", "sum_all", "spread"];
/// Profiled runs.
const RUNS: u32 = 20;

pub(super) fn checks(journal: &mut Journal, device: &Device, size: Size) -> Result<()> {
    let Some(gpu) = device.as_gpu() else { return Ok(()) };
    let shapes: &[[usize; 4]] = match size {
        Size::Real => &[[64, 32, 32, 160], [64, 16, 16, 320], [64, 8, 8, 640]],
        Size::Small => &[[3, 5, 4, 6], [2, 3, 3, 16]],
    };
    for &shape in shapes {
        for mode in [Mode::Persistent, Mode::Spatial] {
            let [n, h, w, c] = shape;
            let name = format!("{n}×{h}×{w}×{c}, cuDNN {mode:?}");
            journal.check("batch norm, ours and cuDNN's", name, || one(device, gpu, shape, mode))?;
        }
    }
    Ok(())
}

/// y, and the gradients of Σ y·dy with respect to x, γ and β.
fn ours(shape: [usize; 4]) -> Case {
    let c = shape[3];
    let inputs: [(&[usize], FillWith); 4] = [
        (&shape, FillWith::Normal),
        (&[c], FillWith::Positive),
        (&[c], FillWith::Normal),
        (&shape, FillWith::Normal),
    ];
    Case::new("batch norm", &inputs, move |t: &mut Tape, v: &[Var]| {
        let groups = vec![shape[0]];
        let s = t.record(BnStats { groups: groups.clone() }, &[v[0]])?;
        let scale = t.one(BnCoeffs { eps: EPS }, &[s[1], v[1]])?;
        let y = t.one(ScaleShiftLeaky { groups, leak: 1.0 }, &[v[0], s[0], scale, v[2]])?;
        let product = t.one(Mul, &[y, v[3]])?;
        let sum = t.one(SumAll { factor: 1.0 }, &[product])?;
        let mut out = vec![y];
        out.extend(grad(t, sum, &v[..3])?);
        Ok(out)
    })
}

fn one(device: &Device, gpu: &Gpu, shape: [usize; 4], mode: Mode) -> Result<Found> {
    let mut program = BenchProgram::new(&ours(shape), device)?;
    program.fill()?;
    program.run()?;
    let want = (0..4).map(|i| program.output(i)).collect::<Result<Vec<_>>>()?;
    let inputs = (0..4).map(|i| program.input(i)).collect::<Result<Vec<_>>>()?;
    let theirs = Theirs::run(gpu, shape, mode, &inputs)?;
    let mut worst = 0.0f64;
    for ((got, want), name) in theirs.results.iter().zip(&want).zip(["y", "dx", "dγ", "dβ"]) {
        let off = largest(got, want);
        if off.is_nan() || off > TOLERANCE {
            return Ok(Err(format!("{name} differs by {off:.1e}, allowed {TOLERANCE:.0e}").into()));
        }
        worst = worst.max(off);
    }
    gpu.profile().begin();
    let ran = (0..RUNS).try_for_each(|_| program.run());
    let nodes = gpu.profile().end();
    ran?;
    let forward = |name: &str| ["bn_stats", "bn_coeffs", "scale_shift_leaky"].contains(&name);
    let seconds = |wanted: &dyn Fn(&str) -> bool| {
        let some = nodes.iter().filter(|(name, _)| wanted(name) && !SCAFFOLD.contains(name));
        some.map(|(_, s)| s.seconds).sum::<f64>() / f64::from(RUNS)
    };
    let own = [seconds(&forward), seconds(&|name| !forward(name))];
    let text = format!(
        "largest difference {worst:.1e}; forward {:.1} µs ours, {:.1} µs cuDNN; backward {:.1} µs ours, {:.1} µs cuDNN",
        own[0] * 1e6,
        theirs.seconds[0] * 1e6,
        own[1] * 1e6,
        theirs.seconds[1] * 1e6
    );
    let data = json!({
        "largest_difference": worst,
        "ours": { "forward_s": own[0], "backward_s": own[1] },
        "cudnn": { "forward_s": theirs.seconds[0], "backward_s": theirs.seconds[1] },
    });
    Ok(Ok((text, data)))
}

/// y, dx, dγ and dβ from cuDNN, and the seconds that its two passes take.
struct Theirs {
    results: [Vec<f32>; 4],
    seconds: [f64; 2],
}

impl Theirs {
    fn run(gpu: &Gpu, shape: [usize; 4], mode: Mode, inputs: &[Vec<f32>]) -> Result<Self> {
        Self::try_run(gpu, shape, mode, inputs).map_err(refused)?
    }

    fn try_run(
        gpu: &Gpu,
        shape: [usize; 4],
        mode: Mode,
        inputs: &[Vec<f32>],
    ) -> Result<Result<Self>, GpuError> {
        let norm = BatchNorm::new(gpu, shape, EPS, mode)?;
        let (len, c) = (shape.iter().product::<usize>(), shape[3]);
        let given = inputs.iter().map(|v| gpu.upload(v)).collect::<Result<Vec<_>, _>>()?;
        let made = [len, c, c, len, c, c].map(|n| gpu.zeros::<f32>(n));
        let [y, mean, inverse, dx, dgamma, dbeta] = made;
        let (y, mean, inverse, dx, dgamma, dbeta) = (y?, mean?, inverse?, dx?, dgamma?, dbeta?);
        let (space, kept) = norm.spaces();
        let (space, kept) = (gpu.zeros::<u8>(space)?, gpu.zeros::<u8>(kept)?);
        let spaces = [gpu.span(&space)?, gpu.span(&kept)?];
        let forward = Forward {
            x: gpu.span(&given[0])?,
            gamma: gpu.span(&given[1])?,
            beta: gpu.span(&given[2])?,
            y: gpu.span(&y)?,
            mean: gpu.span(&mean)?,
            inverse: gpu.span(&inverse)?,
        };
        let backward = Backward {
            dy: gpu.span(&given[3])?,
            dx: gpu.span(&dx)?,
            dgamma: gpu.span(&dgamma)?,
            dbeta: gpu.span(&dbeta)?,
        };
        norm.forward(gpu, forward, spaces)?;
        norm.backward(gpu, forward, backward, spaces)?;
        let results = [gpu.read(&y)?, gpu.read(&dx)?, gpu.read(&dgamma)?, gpu.read(&dbeta)?];
        let timed = || {
            let ahead = time(gpu, || norm.forward(gpu, forward, spaces).map_err(refused))?;
            let back = time(gpu, || norm.backward(gpu, forward, backward, spaces).map_err(refused))?;
            Ok([ahead, back])
        };
        Ok(timed().map(|seconds| Self { results, seconds }))
    }
}
