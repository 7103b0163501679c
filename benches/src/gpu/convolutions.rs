//! Every convolution of WRN-28-10 and both of its gradients: the engine that runs it, its rate and its workspace.

use super::data::random;
use super::speed::refused;
use super::{Found, Journal, Size};
use crate::Result;
use engine::{Device, Precision};
use kernels::gpu::cudnn_graph::{ConvPass, ConvSpec, Convolution};
use kernels::gpu::{Float, Gpu, GpuError};
use kernels::ops::conv2d::ConvShape;
use serde_json::json;

/// Runs between two events.
const RUNS: u32 = 10;
/// Number of measurements; the shortest time counts.
const TRIES: usize = 3;

const PASSES: [(ConvPass, &str); 3] = [
    (ConvPass::Forward, "forward"),
    (ConvPass::InputGrad, "input gradient"),
    (ConvPass::WeightGrad, "filter gradient"),
];

/// Side of the image, channels in and out, side of the filter, stride.
const REAL: [[usize; 5]; 12] = [
    [32, 3, 16, 3, 1],
    [32, 16, 160, 3, 1],
    [32, 160, 160, 3, 1],
    [32, 16, 160, 1, 1],
    [32, 160, 320, 3, 1],
    [32, 320, 320, 3, 2],
    [32, 160, 320, 1, 2],
    [16, 320, 320, 3, 1],
    [16, 320, 640, 3, 1],
    [16, 640, 640, 3, 2],
    [16, 320, 640, 1, 2],
    [8, 640, 640, 3, 1],
];
const SMALL: [[usize; 5]; 2] = [[5, 8, 16, 3, 1], [4, 16, 8, 1, 2]];

pub(super) fn checks(journal: &mut Journal, device: &Device, size: Size) -> Result<()> {
    let Some(gpu) = device.as_gpu() else { return Ok(()) };
    let (batches, shapes): (&[usize], &[_]) = match size {
        Size::Real => (&[64, 192], &REAL),
        Size::Small => (&[2], &SMALL),
    };
    for &n in batches {
        for &[side, c, k, r, stride] in shapes {
            for (pass, pass_name) in PASSES {
                let shape = ConvShape { n, h: side, w: side, c, k, r, s: r, stride, pad: r / 2 };
                let name = format!("{n} × {side}², {c}→{k}, {r}×{r}/{stride}, {pass_name}");
                journal.check("convolutions", name, || one(gpu, pass, pass_name, shape))?;
            }
        }
    }
    Ok(())
}

/// How a convolution is run, and how long that takes.
struct Choice {
    engine: String,
    seconds: f64,
    workspace: usize,
}

fn one(gpu: &Gpu, pass: ConvPass, pass_name: &str, shape: ConvShape) -> Result<Found> {
    let float = if gpu.precision() == Precision::Bf16 { Float::Bf16 } else { Float::F32 };
    let choice = match choice(gpu, pass, float, shape) {
        Ok(choice) => choice,
        Err(GpuError::OutOfMemory { wanted, .. }) => {
            return Ok(Err(format!("there is no room for {wanted} bytes").into()));
        }
        Err(why) => return Err(refused(why)),
    };
    let products = shape.y_len() * shape.c * shape.r * shape.s;
    let rate = 2.0 * products as f64 / choice.seconds / 1e12;
    let mib = choice.workspace as f64 / f64::from(1 << 20);
    let text = format!("{}: {:.1} µs, {rate:.1} TFLOP/s, {mib:.1} MiB", choice.engine, choice.seconds * 1e6);
    let ConvShape { n, h, c, k, r, stride, .. } = shape;
    let data = json!({
        "pass": pass_name, "n": n, "side": h, "c": c, "k": k, "filter": r, "stride": stride,
        "engine": choice.engine, "seconds": choice.seconds, "tflops": rate, "workspace_bytes": choice.workspace,
    });
    Ok(Ok((text, data)))
}

/// What is chosen for a convolution: the only place here that knows how that is done.
fn choice(gpu: &Gpu, pass: ConvPass, float: Float, shape: ConvShape) -> Result<Choice, GpuError> {
    let conv = Convolution::new(gpu, ConvSpec { pass, float, shape, accumulate: false })?;
    let (x, w, y) = (shape.x_len(), shape.w_len(), shape.y_len());
    let (a, b, out) = match pass {
        ConvPass::Forward => (x, w, y),
        ConvPass::InputGrad => (y, w, x),
        ConvPass::WeightGrad => (x, y, w),
    };
    let (a, b) = (random(gpu, float, a, 1)?, random(gpu, float, b, 2)?);
    let (out, space) = (gpu.zeros::<u8>(out * float.size())?, gpu.zeros::<u8>(conv.workspace())?);
    let (a, b, out, space) = (gpu.span(&a)?, gpu.span(&b)?, gpu.span(&out)?, gpu.span(&space)?);
    let run = || conv.run(gpu, (a, b), out, space);
    run()?;
    let mut seconds = f64::INFINITY;
    for _ in 0..TRIES {
        let all = gpu.seconds_on_device(|| (0..RUNS).try_for_each(|_| run()))?;
        seconds = seconds.min(all / f64::from(RUNS));
    }
    Ok(Choice { engine: conv.algorithm(), seconds, workspace: conv.workspace() })
}
