//! Direct convolutions: windows of the input are copied with their zero padding, then register-blocked loops run over
//! them.

use super::gather::{Gather, Phase};
use super::microkernel::{self, Forward, Quad, Residual, WeightGrad};
use super::prefetch::Prefetch;
use super::winograd::sum_shards;
use super::{Add, ConvInput, Epilogue, lanes};
use crate::conv_shape::ConvShape;
use crate::cpu::{Cpu, Level, Simd, for_parts, for_parts_scratch, for_parts2_scratch};

/// Output channels in a packed block of weights: one vector if that is enough, else two.
pub(super) fn block_channels(simd: Simd, k: usize) -> usize {
    if k <= lanes(simd) { lanes(simd) } else { 2 * lanes(simd) }
}

/// A prepared direct convolution: the forward pass or the input gradient.
#[derive(Debug)]
pub(super) struct Direct {
    pub shape: ConvShape,
    pub gather: Gather,
    pub backward: bool,
}

impl Direct {
    fn rows(&self) -> usize {
        self.gather.phases.iter().map(|p| p.runs.len() * p.run_len).sum()
    }

    fn packed_len(&self, kb: usize) -> usize {
        self.rows() * self.gather.k.next_multiple_of(kb)
    }

    /// Elements of workspace that `run` needs.
    pub(super) fn workspace(&self, cpu: &Cpu) -> usize {
        let kb = block_channels(cpu.simd, self.gather.k);
        self.packed_len(kb)
            + self.gather.k.next_multiple_of(kb)
            + cpu.pool.threads() * self.gather.window_len()
    }

    pub(super) fn run(
        &self,
        cpu: &Cpu,
        ConvInput { x: src, prologue }: ConvInput<'_, f32>,
        w: &[f32],
        bias: Option<&[f32]>,
        add: Add<'_, f32>,
        dst: &mut [f32],
        epilogue: Epilogue<'_, f32>,
        workspace: &mut [f32],
    ) {
        let g = &self.gather;
        let n = self.shape.n;
        assert!(
            prologue.is_none() || !(g.direct || self.backward),
            "this convolution was not prepared for a prologue"
        );
        assert_eq!(src.len(), n * g.h * g.w * g.c);
        assert_eq!(dst.len(), n * g.out_len);
        assert_eq!(w.len(), self.shape.w_len());
        let kb = block_channels(cpu.simd, g.k);
        let (packed, rest) = workspace.split_at_mut(self.packed_len(kb));
        let (packed_bias, windows) = rest.split_at_mut(g.k.next_multiple_of(kb));
        self.pack(cpu, w, kb, packed);
        packed_bias.fill(0.0);
        if let Some(b) = bias {
            packed_bias[..g.k].copy_from_slice(b);
        }
        let (packed, packed_bias) = (&*packed, &*packed_bias);
        let size = g.block_len();
        let Epilogue { parts, part_len, also_read, run } = epilogue;
        for_parts2_scratch(cpu, dst, size, parts, part_len, windows, |task, dst, part, window| {
            let block = g.block(task, n);
            let touched = (&*dst, &add, also_read);
            let mut prefetch = g.prefetch((task, cpu.pool.threads(), n), (src, g.w * g.c), touched, kb);
            let source = if g.direct {
                &src[block.0 * g.h * g.w * g.c..]
            } else {
                g.fill(cpu.simd, src, prologue.as_ref(), block, window);
                &*window
            };
            let residual = Residual::new(&add, task * size);
            for phase in &g.phases {
                self.block(
                    cpu.simd,
                    phase,
                    block,
                    source,
                    (packed, packed_bias),
                    residual,
                    dst,
                    &mut prefetch,
                );
            }
            run(task * size, dst, part);
        });
    }

    fn block(
        &self,
        simd: Simd,
        phase: &Phase,
        (_, images, _, rows): (usize, usize, usize, usize),
        source: &[f32],
        (packed, bias): (&[f32], &[f32]),
        residual: Residual,
        dst: &mut [f32],
        prefetch: &mut Prefetch,
    ) {
        let pixels = images * rows * phase.per_row;
        let kpad = bias.len();
        let mut f = Forward {
            src: source.as_ptr(),
            src_off: &phase.src_off[..pixels],
            dst_off: &phase.dst_off[..pixels],
            runs: &phase.runs,
            run_len: phase.run_len,
            weights: packed[phase.weights_at * kpad..].as_ptr(),
            bias: bias.as_ptr(),
            k: self.gather.k,
            dst: dst.as_mut_ptr(),
            residual,
            prefetch,
        };
        let one = f.k <= lanes(simd);
        // SAFETY: the tables address the window (or the image) and the block's outputs by construction of
        // `Gather`, whose sizes `run` checked; the packed buffers have the length `packed_len`; and the
        // instruction set is present, since `simd` was detected.
        unsafe {
            match (simd.level(), one) {
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, true) => x86::forward512::<1>(&mut f),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, false) => x86::forward512::<2>(&mut f),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, true) => x86::forward256::<1>(&mut f),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, false) => x86::forward256::<2>(&mut f),
                (_, true) => microkernel::forward::<Quad, 4, 1>(&mut f),
                (_, false) => microkernel::forward::<Quad, 4, 2>(&mut f),
            }
        }
    }

    /// Packs filters into blocks of `kb` output channels, each `rows × kb`, in the order in which runs read the source.
    fn pack(&self, cpu: &Cpu, w: &[f32], kb: usize, packed: &mut [f32]) {
        let g = &self.gather;
        let s = &self.shape;
        let kpad = g.k.next_multiple_of(kb);
        // Strides of the filters by (output channel, source channel) of this pass.
        let (so, si) = if self.backward { (1, s.r * s.s * s.c) } else { (s.r * s.s * s.c, 1) };
        let mut packed = packed;
        for phase in &g.phases {
            let rows = phase.runs.len() * phase.run_len;
            let (mine, rest) = packed.split_at_mut(rows * kpad);
            packed = rest;
            for_parts(cpu, mine, (rows * kb).max(1), |b, block| {
                let ks = (g.k - b * kb).min(kb);
                let mut at = block.chunks_exact_mut(kb);
                for (r, columns) in &phase.taps {
                    for q in columns {
                        let tap = (r * s.s + q) * s.c + b * kb * so;
                        for (c, to) in (0..g.c).zip(&mut at) {
                            for (o, v) in to[..ks].iter_mut().enumerate() {
                                *v = w[tap + c * si + o * so];
                            }
                            to[ks..].fill(0.0);
                        }
                    }
                }
            });
        }
    }
}

/// A prepared weight gradient.
#[derive(Debug)]
pub(super) struct DirectGrad {
    pub shape: ConvShape,
    pub gather: Gather,
    pub shards: usize,
}

impl DirectGrad {
    pub(super) fn new(shape: ConvShape) -> Self {
        let gather = Gather::weight_grad(&shape);
        // A fixed number of partial sums, so that the order of additions never depends on threads: enough to
        // feed many cores, few enough to stay small beside the activations.
        let shards = (4 * 1024 * 1024 / shape.w_len().max(1)).clamp(4, 32).min(gather.blocks(shape.n)).max(1);
        Self { shape, gather, shards }
    }

    pub(super) fn workspace(&self, cpu: &Cpu) -> usize {
        self.shards * self.shape.w_len() + cpu.pool.threads() * self.gather.window_len()
    }

    pub(super) fn run(
        &self,
        cpu: &Cpu,
        ConvInput { x, prologue }: ConvInput<'_, f32>,
        dy: &[f32],
        dw: &mut [f32],
        workspace: &mut [f32],
    ) {
        let (g, s) = (&self.gather, &self.shape);
        assert_eq!((x.len(), dy.len(), dw.len()), (s.x_len(), s.y_len(), s.w_len()));
        let (partial, windows) = workspace.split_at_mut(self.shards * s.w_len());
        let blocks = g.blocks(s.n);
        for_parts_scratch(cpu, partial, s.w_len(), windows, |shard, dw, window| {
            dw.fill(0.0);
            let end = window.len();
            window[end - 64..].fill(0.0);
            for b in shard * blocks / self.shards..(shard + 1) * blocks / self.shards {
                let block = g.block(b, s.n);
                g.fill(cpu.simd, x, prologue.as_ref(), block, window);
                // The block that this thread will probably take next.
                let end = (shard + 1) * blocks / self.shards;
                let after = (shard + cpu.pool.threads()) * blocks / self.shards;
                let mut prefetch = self.prefetch(x, dy, if b + 1 < end { b + 1 } else { after });
                self.block(cpu.simd, block, window, &dy[b * g.block_len()..], dw, &mut prefetch);
            }
        });
        sum_shards(cpu, partial, dw);
    }

    /// The data that block `next` reads, to be prefetched during the filter tiles of the block before it.
    fn prefetch(&self, x: &[f32], dy: &[f32], next: usize) -> Prefetch {
        let (g, len) = (&self.gather, self.gather.block_len());
        let (rows, row) = (g.reads(next, self.shape.n), g.w * g.c);
        let dy = &dy[(next * len).min(dy.len())..((next + 1) * len).min(dy.len())];
        let tiles = self.shape.r * g.phases[0].run_len.div_ceil(48) * self.shape.k.div_ceil(8);
        Prefetch::new([&x[rows.start * row..rows.end * row], dy, &[], &[]], tiles)
    }

    fn block(
        &self,
        simd: Simd,
        (_, images, _, rows): (usize, usize, usize, usize),
        window: &[f32],
        dy: &[f32],
        dw: &mut [f32],
        prefetch: &mut Prefetch,
    ) {
        let phase = &self.gather.phases[0];
        let mut g = WeightGrad {
            src: window.as_ptr(),
            src_off: &phase.src_off[..images * rows * phase.per_row],
            dy: dy.as_ptr(),
            runs: &phase.runs,
            run_len: phase.run_len,
            k: self.shape.k,
            dw: dw.as_mut_ptr(),
            prefetch,
        };
        // SAFETY: as in `Conv::block`; the window ends in 64 elements of slack for whole-vector loads.
        unsafe {
            match simd.level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::weight_grad512(&mut g),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => x86::weight_grad256(&mut g),
                _ => microkernel::weight_grad::<Quad, 4, 3>(&mut g),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::microkernel::{self, Forward, WeightGrad};
    use core::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// As [`microkernel::forward`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn forward512<const KV: usize>(f: &mut Forward<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::forward::<__m512, 8, KV>(f) }
    }

    /// # Safety
    /// As [`microkernel::forward`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn forward256<const KV: usize>(f: &mut Forward<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::forward::<__m256, 6, KV>(f) }
    }

    /// # Safety
    /// As [`microkernel::weight_grad`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn weight_grad512(g: &mut WeightGrad<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::weight_grad::<__m512, 8, 3>(g) }
    }

    /// # Safety
    /// As [`microkernel::weight_grad`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn weight_grad256(g: &mut WeightGrad<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::weight_grad::<__m256, 4, 3>(g) }
    }
}
