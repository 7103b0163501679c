//! cuDNN's batch norm: a call for each group, with own kernels around it (the second half of `cuda/batch_norm.cu`).
//!
//! What must hold: what cuDNN is given begins at 16 bytes, so values per channel are kept in padded rows, one per group.

use super::cuda::{Affine, Inputs, Outputs};
use super::{Constants, Grouped};
use crate::gpu::cudnn_graph::{Norm, NormForward, NormGradient, NormSpec};
use crate::gpu::launch::{Float, Launch, Rows, f32, i32, int, kernel, span_of, threads};
use crate::gpu::{BatchNormBy, Gpu, GpuError};
use crate::memory::{GPU_ALIGN, Span};
use crate::ops::{elementwise, leaky_relu};

/// Bytes at which cuDNN's tensors begin.
const BEGIN: usize = 16;

/// Whether cuDNN computes batch norm of this shape on a device.
pub(super) fn takes(gpu: &Gpu, float: Float, shape: &Grouped) -> bool {
    let image = shape.pixels * shape.c * float.size();
    let mut first = 0;
    let aligned = shape.groups.iter().all(|n| {
        let at = first * image;
        first += n;
        at.is_multiple_of(BEGIN)
    });
    gpu.batch_norm() == BatchNormBy::Cudnn && aligned
}

/// The calls for all groups, and how their memory is laid out.
#[derive(Debug)]
struct Groups {
    /// One for each different number of images.
    norms: Vec<(usize, Norm)>,
    shape: Grouped,
    float: Float,
}

impl Groups {
    fn new(gpu: &Gpu, gradient: bool, float: Float, shape: &Grouped, k: Constants) -> Result<Self, GpuError> {
        let mut norms: Vec<(usize, Norm)> = Vec::new();
        for &n in &shape.groups {
            if norms.iter().all(|(other, _)| *other != n) {
                let spec = NormSpec { gradient, float, dims: [n, shape.pixels, 1, shape.c] };
                norms.push((n, Norm::new(gpu, spec, k.eps)?));
            }
        }
        Ok(Self { norms, shape: shape.clone(), float })
    }

    /// Bytes from the values per channel of one group to those of the next.
    fn step(&self) -> usize {
        (self.shape.c * size_of::<f32>()).next_multiple_of(GPU_ALIGN)
    }

    /// Bytes of values per channel for all groups.
    fn per_channel(&self) -> usize {
        self.shape.groups.len() * self.step()
    }

    /// Bytes of a tensor of images.
    fn images(&self) -> usize {
        self.shape.len() * self.float.size()
    }

    /// Bytes of workspace of the calls.
    fn workspace(&self) -> usize {
        let most = self.norms.iter().map(|(_, norm)| norm.workspace()).max();
        most.unwrap_or(0).next_multiple_of(GPU_ALIGN)
    }

    /// Channels, groups and floats from one group to the next.
    fn sizes(&self) -> Result<[i32; 3], GpuError> {
        let size = |n| int("batch_norm", n);
        Ok([size(self.shape.c)?, size(self.shape.groups.len())?, size(self.step() / size_of::<f32>())?])
    }

    /// Calls `run` for each group with its norm and where its images and its values per channel begin, in bytes.
    fn each(&self, mut run: impl FnMut(&Norm, Part) -> Result<(), GpuError>) -> Result<(), GpuError> {
        let image = self.shape.pixels * self.shape.c * self.float.size();
        let mut at = 0;
        for (g, n) in self.shape.groups.iter().enumerate() {
            let norm = self.norms.iter().find(|(images, _)| images == n);
            let (_, norm) = norm.ok_or_else(|| GpuError::shape("batch_norm", "a group without a call"))?;
            let part = Part {
                images: (at, n * image),
                channels: (g * self.step(), self.shape.c * size_of::<f32>()),
            };
            run(norm, part)?;
            at += n * image;
        }
        Ok(())
    }
}

/// A group's part of tensors: first byte and length.
#[derive(Clone, Copy)]
struct Part {
    images: (usize, usize),
    channels: (usize, usize),
}

fn part((at, len): (usize, usize), of: Span<'_>) -> Result<Span<'_>, GpuError> {
    of.part(at, len).ok_or_else(|| GpuError::shape("batch_norm", "a tensor or the workspace is too small"))
}

/// The prepared forward pass.
#[derive(Debug)]
pub(super) struct Forward {
    groups: Groups,
    sum: Option<Launch>,
    leaky: Launch,
    saved: Launch,
}

impl Forward {
    pub(super) fn new(
        gpu: &Gpu,
        float: Float,
        shape: &Grouped,
        residual: bool,
        k: Constants,
    ) -> Result<Self, GpuError> {
        let groups = Groups::new(gpu, false, float, shape, k)?;
        let n = shape.len();
        let sum = residual.then(|| elementwise::cuda::axpby(gpu, float, 1.0, 1.0, n)).transpose()?;
        let leaky = leaky_relu::cuda::forward(gpu, float, k.leak, n)?;
        let ([c, count, step], stats) = (groups.sizes()?, shape.groups.len() * shape.c);
        let kept = |what| span_of::<u8>(what, groups.per_channel());
        let params = vec![
            kept("means"),
            kept("inverses"),
            span_of::<f32>("gamma", shape.c),
            i32(c),
            i32(count),
            i32(step),
            f32(k.eps),
            span_of::<f32>("mean", stats),
            span_of::<f32>("var", stats),
            span_of::<f32>("scale", stats),
        ];
        // SAFETY: the kernel reads c values of each of the padded rows and c gammas, and writes groups × c statistics.
        let saved = unsafe { Launch::new(gpu, "batch_norm", "batch_norm_saved", threads(stats), params)? };
        Ok(Self { groups, sum, leaky, saved })
    }

    pub(super) fn workspace(&self) -> usize {
        self.groups.workspace() + 2 * self.groups.per_channel()
    }

    pub(super) fn run(
        &self,
        gpu: &Gpu,
        x: Span<'_>,
        sum: Option<(Span<'_>, Span<'_>)>,
        affine: Affine<'_>,
        out: Outputs<'_>,
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let (Outputs { h, mean, var, scale }, Affine { gamma, beta }) = (out, affine);
        let x = match (sum, &self.sum) {
            (Some((add, y)), Some(launch)) => {
                launch.run(gpu, &[x, add, y].map(Some))?;
                y
            }
            (None, None) => x,
            _ => return Err(GpuError::shape("batch_norm", "it was prepared with a sum, or without one")),
        };
        let (of_calls, kept) = (self.groups.workspace(), self.groups.per_channel());
        let [means, inverses] = [of_calls, of_calls + kept].map(|at| part((at, kept), workspace));
        let (means, inverses, space) = (means?, inverses?, part((0, of_calls), workspace)?);
        self.groups.each(|norm, p| {
            let at = NormForward {
                x: part(p.images, x)?,
                gamma,
                beta,
                y: part(p.images, h)?,
                mean: part(p.channels, means)?,
                inverse: part(p.channels, inverses)?,
            };
            norm.forward(gpu, at, space)
        })?;
        self.leaky.run(gpu, &[h, h].map(Some))?;
        self.saved.run(gpu, &[means, inverses, gamma, mean, var, scale].map(Some))
    }
}

/// The prepared gradient.
#[derive(Debug)]
pub(super) struct Gradient {
    groups: Groups,
    kept: Launch,
    rectified: Launch,
    add_groups: Launch,
    add: Launch,
}

impl Gradient {
    pub(super) fn new(gpu: &Gpu, float: Float, shape: &Grouped, k: Constants) -> Result<Self, GpuError> {
        let groups = Groups::new(gpu, true, float, shape, k)?;
        let (n, stats) = (shape.len(), shape.groups.len() * shape.c);
        let ([c, count, step], rows) =
            (groups.sizes()?, Rows::new(gpu, float, &shape.rows_per_group(), shape.c)?);
        let padded = |what| span_of::<u8>(what, groups.per_channel());
        let stat = |what| span_of::<f32>(what, stats);
        let per_channel = |what| span_of::<f32>(what, shape.c);
        let sizes = [i32(c), i32(count), i32(step)];
        let mut params = vec![stat("mean"), stat("var")];
        params.extend(sizes.clone());
        params.extend([f32(k.eps), padded("means"), padded("inverses")]);
        // SAFETY: the kernel reads groups × c statistics and writes c values of each of the padded rows.
        let kept = unsafe { Launch::new(gpu, "batch_norm", "batch_norm_kept", threads(stats), params)? };
        let mut params = vec![padded("dgammas"), padded("dbetas")];
        params.extend(sizes);
        params.extend([per_channel("dgamma"), per_channel("dbeta")]);
        let size = threads(shape.c);
        // SAFETY: the kernel reads c values of each of the padded rows and writes two vectors of c.
        let add_groups = unsafe { Launch::new(gpu, "batch_norm", "batch_norm_add_groups", size, params)? };
        let params = vec![
            float.span_of("x", n),
            float.span_of("dh", n),
            stat("mean"),
            stat("scale"),
            per_channel("beta"),
            rows.bounds.clone(),
            i32(c),
            f32(k.leak),
            float.span_of("dz", n),
        ];
        let (name, size) = (kernel!(float, "batch_norm_rectified"), rows.fill_device(gpu));
        // SAFETY: the kernel reads the rows that the bounds name, which are all of x and dh, and the coefficients of each
        // group; it writes as many rows.
        let rectified = unsafe { Launch::new(gpu, "batch_norm", name, size, params)? };
        let add = elementwise::cuda::axpby(gpu, float, 1.0, 1.0, n)?;
        Ok(Self { groups, kept, rectified, add_groups, add })
    }

    pub(super) fn workspace(&self) -> usize {
        let dz = self.groups.images().next_multiple_of(GPU_ALIGN);
        self.groups.workspace() + 4 * self.groups.per_channel() + dz
    }

    pub(super) fn run(
        &self,
        gpu: &Gpu,
        from: Inputs<'_>,
        [dx, dgamma, dbeta]: [Span<'_>; 3],
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let Inputs { x, dh, mean, var, scale, gamma, beta, add } = from;
        let (of_calls, kept) = (self.groups.workspace(), self.groups.per_channel());
        let space = part((0, of_calls), workspace)?;
        let padded = |i: usize| part((of_calls + i * kept, kept), workspace);
        let (means, inverses, dgammas, dbetas) = (padded(0)?, padded(1)?, padded(2)?, padded(3)?);
        let dz = part((of_calls + 4 * kept, self.groups.images()), workspace)?;
        self.kept.run(gpu, &[mean, var, means, inverses].map(Some))?;
        self.rectified.run(gpu, &[x, dh, mean, scale, beta, dz].map(Some))?;
        self.groups.each(|norm, p| {
            let at = NormGradient {
                x: part(p.images, x)?,
                dy: part(p.images, dz)?,
                gamma,
                mean: part(p.channels, means)?,
                inverse: part(p.channels, inverses)?,
                dx: part(p.images, dx)?,
                dgamma: part(p.channels, dgammas)?,
                dbeta: part(p.channels, dbetas)?,
            };
            norm.gradient(gpu, at, space)
        })?;
        self.add_groups.run(gpu, &[dgammas, dbetas, dgamma, dbeta].map(Some))?;
        match add {
            Some(add) => self.add.run(gpu, &[dx, add, dx].map(Some)),
            None => Ok(()),
        }
    }
}
