//! Fused patterns of cuDNN's graph API, timed against a plain convolution and the project's own kernels.
//!
//! Both sides compute the same; a program may use the faster one only once it has been measured.

use super::speed::{refused, time};
use super::whole::fresh;
use super::{Found, Journal, Size, largest};
use crate::{BenchProgram, Error, Result};
use engine::ops::bn_stats::BnStats;
use engine::ops::conv2d::{Conv2d, Conv2dInputGrad, Geometry};
use engine::ops::leaky_relu::LeakyReluGrad;
use engine::ops::scale_shift_leaky::ScaleShiftLeaky;
use engine::testing::{Case, FillWith};
use engine::{Device, Precision, Spec, Tape, Var};
use kernels::gpu::cudnn_graph::{Fused, PATTERNS, Pattern};
use kernels::gpu::{Buffer, Float, Gpu, GpuError};
use kernels::ops::conv2d::ConvShape;
use serde_json::{Value, json};

const LEAK: f64 = 0.2;
/// Number of cuDNN's plans that are timed; each takes up to a second to compile.
const PLANS: usize = 3;
/// Largest |a − b| / max|b| where both sides may round factors to TF32 (2⁻¹¹, over sums of up to 5,760 products).
const TOLERANCE: f64 = 5e-3;

pub(super) fn checks(journal: &mut Journal, device: &Device, size: Size) -> Result<()> {
    // cuDNN's graphs over float32 round products to TF32, so the other side may do so too.
    let device = fresh(device, Precision::Tf32)?;
    let Some(gpu) = device.as_gpu() else { return Ok(()) };
    // Images per pass and per group of it; pixels per side, and channels.
    let (batches, shapes) = match size {
        Size::Real => ([(64, 64), (192, 64)], vec![(32, 160), (16, 320), (8, 640)]),
        Size::Small => ([(2, 2), (4, 2)], vec![(3, 16)]),
    };
    for pattern in PATTERNS {
        for &(pixels, c) in &shapes {
            for (n, group) in batches {
                let shape = ConvShape { n, h: pixels, w: pixels, c, k: c, r: 3, s: 3, stride: 1, pad: 1 };
                let name = format!("{pattern:?}, {c}×{pixels}², {} × {group} images", n / group);
                journal.check("fusion by cuDNN", name, || one(&device, gpu, pattern, shape, group))?;
            }
        }
    }
    Ok(())
}

/// Whether each group of images needs a run of its own: cuDNN's sums and scales are shared by all images of a run.
fn by_group(pattern: Pattern) -> bool {
    matches!(pattern, Pattern::ConvSums | Pattern::LeakyConv)
}

fn one(device: &Device, gpu: &Gpu, pattern: Pattern, shape: ConvShape, group: usize) -> Result<Found> {
    let mut program = BenchProgram::new(&ours(pattern, shape, group), device)?;
    program.fill()?;
    let own = time(gpu, || program.run())?;
    let part = if by_group(pattern) { ConvShape { n: group, ..shape } } else { shape };
    let runs = shape.n / part.n;
    let fused = |dtype, values: Option<&[Vec<f32>]>| theirs(gpu, pattern, part, dtype, values, runs);
    let wanted = results(&program, pattern, part)?;
    let inputs = (0..pattern.tensors(part, Float::F32).len() - pattern.results())
        .map(|i| program.input(i))
        .collect::<Result<Vec<_>>>()?;
    let single = match fused(Float::F32, Some(&inputs))? {
        Ok(single) => single,
        // This is a result, not a failure: runtime-compiled engines differ by version and device.
        Err(why) => {
            let data = json!({ "pattern": format!("{pattern:?}"), "own_s": own, "none": why, "winner": "own kernels" });
            return Ok(Ok((format!("own kernels: {:.1} µs; cuDNN has none: {why}", own * 1e6), data)));
        }
    };
    let off = single.results.iter().zip(&wanted).map(|(g, w)| largest(g, w)).fold(0.0, f64::max);
    if off.is_nan() || off > TOLERANCE {
        return Ok(Err(format!("the largest difference is {off:.1e}, allowed {TOLERANCE:.0e}").into()));
    }
    let half = fused(Float::Bf16, None)?;
    let winner = if single.seconds < own { "cuDNN's graph" } else { "own kernels" };
    let half_text = match &half {
        Ok(half) => format!("{:.1} µs", half.seconds * 1e6),
        Err(why) => format!("none ({why})"),
    };
    let text = format!(
        "{winner}: {:.1} µs own, {:.1} µs fused, engine {}; fused in bf16 {half_text}; difference {off:.1e}",
        own * 1e6,
        single.seconds * 1e6,
        single.engine
    );
    let half = half.map_or_else(|why| json!({ "none": why }), |h| h.json());
    let data = json!({
        "pattern": format!("{pattern:?}"),
        "n": shape.n, "group": group, "pixels": shape.h, "channels": shape.c,
        "own_s": own, "fused": single.json(), "fused_bf16": half,
        "winner": winner, "largest_difference": off,
    });
    Ok(Ok((text, data)))
}

/// The pattern as the project's ops; inputs in the order of the pattern's tensors.
fn ours(pattern: Pattern, s: ConvShape, group: usize) -> Case {
    let (x, w, y) = ([s.n, s.h, s.w, s.c], [s.k, s.r, s.s, s.c], [s.n, s.oh(), s.ow(), s.k]);
    let geometry = Geometry { stride: s.stride, pad: s.pad };
    let groups = vec![group; s.n / group];
    let conv = move |residual| Conv2d { geometry, bias: false, residual };
    let f = FillWith::Normal;
    match pattern {
        Pattern::ConvAdd => {
            let inputs: [(&[usize], FillWith); 3] = [(&x, f.clone()), (&w, f.clone()), (&y, f)];
            Case::new("conv + residual", &inputs, move |t: &mut Tape, v: &[Var]| t.record(conv(true), v))
        }
        Pattern::ConvSums => {
            let inputs: [(&[usize], FillWith); 2] = [(&x, f.clone()), (&w, f)];
            Case::new("conv + sums", &inputs, move |t: &mut Tape, v: &[Var]| {
                let y = t.one(conv(false), v)?;
                let s = t.record(BnStats { groups: groups.clone() }, &[y])?;
                Ok(vec![y, s[0], s[1]])
            })
        }
        Pattern::LeakyConv => {
            let c: &[usize] = &[s.c];
            let inputs = [(&x[..], f.clone()), (c, FillWith::Positive), (c, f.clone()), (&w[..], f)];
            Case::new("leaky + conv", &inputs, move |t: &mut Tape, v: &[Var]| {
                // cuDNN's pattern subtracts no mean.
                let zero = t.one(engine::ops::elementwise::Axpby { a: 0.0, b: 0.0 }, &[v[2], v[2]])?;
                let op = ScaleShiftLeaky { groups: groups.clone(), leak: LEAK };
                let a = t.one(op, &[v[0], zero, v[1], v[2]])?;
                t.record(conv(false), &[a, v[3]])
            })
        }
        Pattern::InputGradLeaky => {
            let inputs: [(&[usize], FillWith); 3] = [(&y, f.clone()), (&w, f.clone()), (&x, f)];
            Case::new("input gradient + leaky", &inputs, move |t: &mut Tape, v: &[Var]| {
                let da = t.one(Conv2dInputGrad { geometry, x: Spec::f32(&x) }, &v[..2])?;
                t.record(LeakyReluGrad { leak: LEAK }, &[v[2], da])
            })
        }
    }
}

/// What cuDNN should return for the first `part` images.
fn results(program: &BenchProgram, pattern: Pattern, part: ConvShape) -> Result<Vec<Vec<f32>>> {
    let mut out = vec![program.output(0)?];
    let (_, len, _) =
        pattern.tensors(part, Float::F32)[pattern.tensors(part, Float::F32).len() - pattern.results()];
    out[0].truncate(len);
    if pattern == Pattern::ConvSums {
        let rows = (part.n * part.oh() * part.ow()) as f64;
        let (mean, var) = (program.output(1)?, program.output(2)?);
        let pairs = || mean[..part.k].iter().zip(&var).map(|(m, v)| (f64::from(*m), f64::from(*v)));
        out.push(pairs().map(|(m, _)| (m * rows) as f32).collect());
        out.push(pairs().map(|(m, v)| ((v + m * m) * rows) as f32).collect());
    }
    Ok(out)
}

/// Results, time and workspace of cuDNN's fastest plan.
struct Theirs {
    seconds: f64,
    engine: String,
    compile_s: f64,
    workspace: usize,
    results: Vec<Vec<f32>>,
}

impl Theirs {
    fn json(&self) -> Value {
        json!({
            "seconds": self.seconds, "engine": self.engine, "compile_s": self.compile_s,
            "workspace_bytes": self.workspace,
        })
    }
}

/// The inner `Err`: no engine supports the pattern.
fn theirs(
    gpu: &Gpu,
    pattern: Pattern,
    shape: ConvShape,
    dtype: Float,
    values: Option<&[Vec<f32>]>,
    runs: usize,
) -> Result<Result<Theirs, String>> {
    let start = std::time::Instant::now();
    let fused = match Fused::new(gpu, pattern, shape, dtype, LEAK, PLANS) {
        Ok(fused) => fused,
        Err(why) => return Ok(Err(why.to_string())),
    };
    let compile_s = start.elapsed().as_secs_f64() / fused.len().max(1) as f64;
    let tensors = pattern.tensors(shape, dtype);
    let buffers = tensors.iter().enumerate().map(|(i, (_, n, t))| {
        let values = values.and_then(|v| v.get(i)).map(|v| &v[..*n]);
        let mut buffer = gpu.zeros::<u8>(n * t.size())?;
        match values {
            Some(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                gpu.write(&mut buffer, &bytes)?;
            }
            // The bytes of numbers near one in either type.
            None => gpu.write(&mut buffer, &[0x80, 0x3f].repeat(n * t.size() / 2))?,
        }
        Ok(buffer)
    });
    let buffers = buffers.collect::<Result<Vec<Buffer<u8>>, GpuError>>().map_err(refused)?;
    let spans = buffers.iter().map(|b| gpu.span(b)).collect::<Result<Vec<_>, _>>().map_err(refused)?;
    let (mut best, mut refusal) = (None, None);
    for i in 0..fused.len() {
        let space = gpu.zeros::<u8>(fused.workspace(i)).map_err(refused)?;
        let space = gpu.span(&space).map_err(refused)?;
        let seconds =
            time(gpu, || (0..runs).try_for_each(|_| fused.run(gpu, i, &spans, space)).map_err(refused));
        match seconds {
            Ok(seconds) if best.is_none_or(|(least, _)| seconds < least) => best = Some((seconds, i)),
            Ok(_) => {}
            Err(why) => refusal = Some(why),
        }
    }
    let Some((seconds, i)) = best else {
        return Err(refusal.unwrap_or_else(|| Error::Device("cuDNN gave no plan".into())));
    };
    let space = gpu.zeros::<u8>(fused.workspace(i)).map_err(refused)?;
    fused.run(gpu, i, &spans, gpu.span(&space).map_err(refused)?).map_err(refused)?;
    let read = |b: &Buffer<u8>| {
        let bytes = gpu.read(b).map_err(refused)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    let first = buffers.len() - pattern.results();
    let results = match values {
        Some(_) => buffers[first..].iter().map(read).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    let engine = fused.engine(i).map_or_else(|| "?".to_owned(), |e| e.to_string());
    Ok(Ok(Theirs { seconds, engine, compile_s, workspace: fused.workspace(i), results }))
}
