//! Checks that a device computes correctly: the project's own kernel, a captured graph, cuBLAS and cuDNN, each against
//! plain loops.
//!
//! Invariant: a check that cannot be run says why and counts as skipped; no panic leaves this module.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use kernels::gpu::cublas::Product;
use kernels::gpu::cudnn_graph::{ConvPass, ConvSpec, Convolution};
use kernels::gpu::nvrtc::Compiler;
use kernels::gpu::{Buffer, Float, Gpu, GpuError, NoCuda};
use kernels::ops::conv2d::ConvShape;
use kernels::ops::logsumexp::cuda::logsumexp;

use super::{Journal, reference};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The values agree.
    Ok,
    /// They do not, or running it failed.
    Failed,
    /// It could not be run.
    Skipped,
}

impl Outcome {
    /// The outcome in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What was checked.
    pub name: &'static str,
    /// How it ended.
    pub status: Outcome,
    /// The largest error and what was used, what went wrong, or why it was skipped.
    pub detail: String,
    /// How long it took in milliseconds, including compilation.
    pub ms: f64,
}

/// The outcome of a check: details of a success, or what went wrong.
type Checked = Result<String, Failure>;

type Check = fn(&Gpu) -> Checked;

/// Why a check failed.
enum Failure {
    /// The device's work returned an error.
    Error(GpuError),
    /// It returned wrong values.
    Values(String),
}

impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Self {
        Self::Error(error)
    }
}

impl From<NoCuda> for Failure {
    fn from(error: NoCuda) -> Self {
        Self::Error(GpuError::NoCuda(error))
    }
}

const CHECKS: &[(&str, Check)] = &[
    ("NVRTC kernel: row logsumexp", check_logsumexp),
    ("captured graph: replay = launches", check_graph),
    ("cuBLAS: sgemm", check_sgemm),
    ("cuDNN: convolution forward", check_conv_forward),
    ("cuDNN: convolution, input gradient", check_conv_backward_data),
    ("cuDNN: convolution, filter gradient", check_conv_backward_filter),
];

/// Runs every check on a device.
pub(super) fn checks(journal: &mut Journal, gpu: &Gpu) -> crate::Result<()> {
    for &(name, check) in CHECKS {
        journal.run("CUDA's libraries", name, || {
            let record = run_one(name, check, Ok(gpu));
            (record.status, record.detail, serde_json::Value::Null)
        })?;
    }
    Ok(())
}

/// Runs the checks that need only the driver and NVRTC: the project's own kernel and the captured graph.
#[must_use]
pub fn run_without_libraries(gpu: Result<&Gpu, &NoCuda>) -> Vec<Record> {
    CHECKS[..2].iter().map(|&(name, check)| run_one(name, check, gpu)).collect()
}

fn run_one(name: &'static str, check: Check, gpu: Result<&Gpu, &NoCuda>) -> Record {
    let start = Instant::now();
    // If a library lacks a symbol that was not checked for, only this check fails.
    let (status, detail) = match gpu.map(|gpu| catch_unwind(AssertUnwindSafe(|| check(gpu)))) {
        Err(_) => (Outcome::Skipped, "there is no GPU to use".to_owned()),
        Ok(Ok(Ok(detail))) => (Outcome::Ok, detail),
        Ok(Ok(Err(Failure::Error(GpuError::NoCuda(why))))) => (Outcome::Skipped, why.brief()),
        Ok(Ok(Err(Failure::Error(error)))) => (Outcome::Failed, error.to_string()),
        Ok(Ok(Err(Failure::Values(what)))) => (Outcome::Failed, what),
        Ok(Err(_)) => (Outcome::Failed, "it panicked".to_owned()),
    };
    Record { name, status, detail, ms: start.elapsed().as_secs_f64() * 1e3 }
}

/// The largest error of `got`, relative where the value is larger than `scale`; an error if it exceeds `allowed`.
fn compare(what: &str, got: &[f32], want: &[f64], scale: f64, allowed: f64) -> Result<f64, Failure> {
    if got.len() != want.len() {
        return Err(Failure::Values(format!("{what}: {} values in place of {}", got.len(), want.len())));
    }
    let mut largest = 0.0f64;
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let got = f64::from(got);
        let same = got == want || (got.is_nan() && want.is_nan());
        let error = if same { 0.0 } else { (got - want).abs() / want.abs().max(scale) };
        if error.is_nan() || error > allowed {
            return Err(Failure::Values(format!("{what}: value {i} is {got:e} and should be {want:e}")));
        }
        largest = largest.max(error);
    }
    Ok(largest)
}

fn check_logsumexp(gpu: &Gpu) -> Checked {
    let version = Compiler::new()?.version();
    let mut largest = 0.0f64;
    let shapes = [(1, 1), (7, 10), (33, 100), (5, 1000), (3, 4099), (2000, 3)];
    for (rows, cols) in shapes {
        let x = reference::uniform(rows * cols, 8.0, (rows + cols) as u64);
        largest = largest.max(logsumexp_once(gpu, &x, rows, cols)?);
    }
    let special = reference::awkward_rows();
    let rows = special.len() / reference::AWKWARD_COLS;
    largest = largest.max(logsumexp_once(gpu, &special, rows, reference::AWKWARD_COLS)?);
    Ok(format!(
        "{} shapes and rows of infinities, NaN and ±3e38; largest error {largest:.1e}; NVRTC {version}",
        shapes.len(),
    ))
}

fn logsumexp_once(gpu: &Gpu, x: &[f32], rows: usize, cols: usize) -> Result<f64, Failure> {
    let (x_device, out) = (gpu.upload(x)?, gpu.zeros::<f32>(rows)?);
    logsumexp(gpu, rows, cols)?.run(gpu, &[Some(gpu.span(&x_device)?), Some(gpu.span(&out)?)])?;
    let got = gpu.read(&out)?;
    compare(&format!("{rows} × {cols}"), &got, &reference::logsumexp(x, rows, cols), 1.0, 2e-6)
}

/// Three launches, each on the result of the previous one.
fn check_graph(gpu: &Gpu) -> Checked {
    const ROWS: [usize; 3] = [1024, 32, 1];
    const COLS: usize = 32;
    const REPLAYS: usize = 3;
    let kernels = [(ROWS[0], COLS), (ROWS[1], COLS), (ROWS[2], COLS)];
    let kernels = kernels.map(|(rows, cols)| logsumexp(gpu, rows, cols));
    let x = gpu.upload(&reference::uniform(ROWS[0] * COLS, 8.0, 7))?;
    let chain = |out: &[Buffer<f32>; 3]| {
        let mut from = gpu.span(&x)?;
        for (kernel, out) in kernels.iter().zip(out) {
            let to = gpu.span(out)?;
            kernel.as_ref().map_err(Clone::clone)?.run(gpu, &[Some(from), Some(to)])?;
            from = to;
        }
        Ok(())
    };
    let buffers = || Ok::<_, GpuError>([gpu.zeros(ROWS[0])?, gpu.zeros(ROWS[1])?, gpu.zeros(ROWS[2])?]);

    let launched = buffers()?;
    chain(&launched)?;
    let mut replayed = buffers()?;
    let graph = gpu.capture(|| chain(&replayed))?;
    let untouched = gpu.read(&replayed[0])?.iter().all(|&v| v == 0.0);
    if !untouched {
        return Err(Failure::Values("launches ran while they were being captured".to_owned()));
    }
    for replay in 0..REPLAYS {
        for (buffer, &rows) in replayed.iter_mut().zip(&ROWS) {
            gpu.write(buffer, &vec![0.0; rows])?;
        }
        graph.replay(gpu)?;
        for (stage, (a, b)) in launched.iter().zip(&replayed).enumerate() {
            let (a, b) = (gpu.read(a)?, gpu.read(b)?);
            let differ = a.iter().zip(&b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            if differ > 0 {
                let what =
                    format!("replay {replay}: {differ} of {} values differ after launch {stage}", a.len());
                return Err(Failure::Values(what));
            }
        }
    }
    Ok(format!("{} launches, {REPLAYS} replays, every bit the same", ROWS.len()))
}

fn check_sgemm(gpu: &Gpu) -> Checked {
    let mut largest = 0.0f64;
    let sizes = [(1, 1, 1), (37, 53, 29), (128, 256, 64)];
    let transposed = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
        (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect()
    };
    for (rows, inner, cols) in sizes {
        let (a, b) = (reference::uniform(rows * inner, 1.0, 1), reference::uniform(inner * cols, 1.0, 2));
        let want = reference::matmul(&a, &b, (rows, inner, cols));
        for (a_transposed, b_transposed) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = if a_transposed { transposed(&a, rows, inner) } else { a.clone() };
            let b = if b_transposed { transposed(&b, inner, cols) } else { b.clone() };
            let (a, b, c) = (gpu.upload(&a)?, gpu.upload(&b)?, gpu.zeros::<f32>(rows * cols)?);
            let product = Product { rows, inner, cols, a_transposed, b_transposed };
            let spans = (gpu.span(&a)?, gpu.span(&b)?);
            gpu.product(product, spans, false, gpu.span(&c)?)?;
            let what = format!("{product:?}");
            largest = largest.max(compare(&what, &gpu.read(&c)?, &want, 1.0, 1e-5)?);
        }
    }
    Ok(format!("{} sizes, 4 layouts; largest error {largest:.1e}", sizes.len()))
}

/// Even and odd sizes; channel counts of a network's layers, and the three of an image; strides; no padding.
const CONVS: [ConvShape; 6] = [
    ConvShape { n: 2, h: 9, w: 11, c: 8, k: 16, r: 3, s: 3, stride: 1, pad: 1 },
    ConvShape { n: 3, h: 8, w: 8, c: 32, k: 24, r: 3, s: 3, stride: 1, pad: 1 },
    ConvShape { n: 2, h: 10, w: 6, c: 3, k: 16, r: 3, s: 3, stride: 1, pad: 1 },
    ConvShape { n: 2, h: 9, w: 8, c: 16, k: 32, r: 3, s: 3, stride: 2, pad: 1 },
    ConvShape { n: 2, h: 8, w: 8, c: 16, k: 32, r: 1, s: 1, stride: 2, pad: 0 },
    ConvShape { n: 2, h: 7, w: 9, c: 5, k: 6, r: 2, s: 3, stride: 1, pad: 0 },
];

/// Runs one pass of a convolution by cuDNN for every shape.
fn each_conv(gpu: &Gpu, pass: ConvPass, want: impl Fn(ConvShape, &[f32], &[f32]) -> Vec<f64>) -> Checked {
    let (mut largest, mut used) = (0.0f64, Vec::new());
    for shape in CONVS {
        let lengths = match pass {
            ConvPass::Forward => (shape.x_len(), shape.w_len()),
            ConvPass::InputGrad => (shape.y_len(), shape.w_len()),
            ConvPass::WeightGrad => (shape.x_len(), shape.y_len()),
        };
        let (a, b) = (reference::uniform(lengths.0, 1.0, 1), reference::uniform(lengths.1, 1.0, 2));
        let want = want(shape, &a, &b);
        let conv = Convolution::new(gpu, ConvSpec { pass, float: Float::F32, shape, accumulate: false })?;
        let (a, b, out) = (gpu.upload(&a)?, gpu.upload(&b)?, gpu.zeros::<f32>(want.len())?);
        let space = gpu.zeros::<u8>(conv.workspace())?;
        conv.run(gpu, (gpu.span(&a)?, gpu.span(&b)?), gpu.span(&out)?, gpu.span(&space)?)?;
        largest = largest.max(compare(&format!("{shape:?}"), &gpu.read(&out)?, &want, 1.0, 2e-5)?);
        if !used.contains(&conv.algorithm()) {
            used.push(conv.algorithm());
        }
    }
    Ok(format!("{} shapes, NHWC float32; largest error {largest:.1e}; {}", CONVS.len(), used.join(", ")))
}

fn check_conv_forward(gpu: &Gpu) -> Checked {
    each_conv(gpu, ConvPass::Forward, reference::conv)
}

fn check_conv_backward_data(gpu: &Gpu) -> Checked {
    each_conv(gpu, ConvPass::InputGrad, |shape, dy, w| reference::conv_input_grad(shape, w, dy))
}

fn check_conv_backward_filter(gpu: &Gpu) -> Checked {
    each_conv(gpu, ConvPass::WeightGrad, reference::conv_weight_grad)
}

#[cfg(test)]
mod tests;
