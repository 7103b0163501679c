//! Convolutions of float32 tensors whose factors are rounded to bf16, two products per lane.
//!
//! Invariants: factors are rounded once, to nearest, ties to even, after the prologue if there is one; sums are
//! float32. Two factors share a 32-bit lane, so that tables, windows and loops are those of float32 with a pair in
//! place of an element: a pair of neighbouring channels where outputs are sums over channels (an odd last one is paired
//! with zero), of two images where they are sums over images. Blocks are those of float32.

mod pairs;
#[cfg(test)]
mod tests;
mod vector;

use super::direct::{DirectGrad, block_channels};
use super::gather::{Gather, Phase};
use super::microkernel::{self, Forward, Quad, Residual, WeightGrad};
use super::prefetch::Prefetch;
use super::winograd::sum_shards;
use super::{Add, ConvInput, Epilogue, Prologue, lanes};
use crate::conv_shape::ConvShape;
use crate::cpu::{Cpu, Level, Simd, for_parts, for_parts_scratch, for_parts2_scratch};
use pairs::{interleave, narrow, narrow_one};
use vector::Split;

/// (first image, images, first row, rows), as [`Gather::block`] says.
type Block = (usize, usize, usize, usize);

/// The tables of `gather` over pixels of pairs of channels, the last one with half a pair if channels are odd. Nothing
/// is read in place.
fn paired(gather: &Gather) -> Gather {
    let (c, pairs) = (gather.c, gather.c.div_ceil(2));
    let mut weights_at = 0;
    let phases = gather.phases.iter().map(|phase| {
        let at = weights_at;
        let run_len = phase.run_len / c * pairs;
        weights_at += phase.runs.len() * run_len;
        Phase {
            src_off: phase.src_off.iter().map(|o| o / c as u32 * pairs as u32).collect(),
            runs: phase.runs.iter().map(|r| r / c * pairs).collect(),
            run_len,
            weights_at: at,
            ..phase.clone()
        }
    });
    Gather { c: pairs, direct: false, phases: phases.collect(), ..gather.clone() }
}

/// Normalised pixels of one image's row, in `scratch` if there is a prologue.
fn normed<'a>(
    simd: Simd,
    prologue: Option<&Prologue<'_, f32>>,
    image: usize,
    pixels: &'a [f32],
    scratch: &'a mut [f32],
) -> &'a [f32] {
    let Some(prologue) = prologue else { return pixels };
    let scratch = &mut scratch[..pixels.len()];
    scratch.copy_from_slice(pixels);
    prologue.apply(simd, image, 0..prologue.shift.len(), scratch);
    scratch
}

impl Gather {
    /// Fills the window of a block: `row(image, source row, columns, to)` gives pixels of the image, the rest is zero.
    fn fill_rows(
        &self,
        (i0, images, r0, _): Block,
        window: &mut [u32],
        mut row: impl FnMut(usize, usize, usize, &mut [u32]),
    ) {
        let len = self.win_w * self.c;
        let first = (r0 * self.row_step) as isize - self.top as isize;
        let (left, columns) = (self.left * self.c, self.w.min(self.win_w - self.left));
        for i in 0..images {
            for y in 0..self.win_h {
                let to = &mut window[(i * self.win_h + y) * len..][..len];
                let from = first + y as isize;
                if from < 0 || from >= self.h as isize {
                    to.fill(0);
                    continue;
                }
                to[..left].fill(0);
                row(i0 + i, from as usize, columns, &mut to[left..left + columns * self.c]);
                to[left + columns * self.c..].fill(0);
            }
        }
    }
}

/// A prepared direct convolution, the forward pass or the input gradient, over pairs of channels.
#[derive(Debug)]
pub(super) struct Bf16Conv {
    shape: ConvShape,
    pub gather: Gather,
    backward: bool,
}

/// A prepared weight gradient over pairs of images.
#[derive(Debug)]
pub(super) struct Bf16WeightGrad(pub DirectGrad);

impl Bf16Conv {
    /// From the tables of the float32 convolution.
    pub(super) fn new(shape: ConvShape, gather: &Gather, backward: bool) -> Self {
        Self { shape, gather: paired(gather), backward }
    }

    fn source_channels(&self) -> usize {
        if self.backward { self.shape.k } else { self.shape.c }
    }

    /// Pairs in the packed filters, in the windows of one thread, and elements of a row of its source.
    fn sizes(&self, kb: usize) -> (usize, usize, usize) {
        let g = &self.gather;
        let rows: usize = g.phases.iter().map(|p| p.runs.len() * p.run_len).sum();
        (rows * g.k.next_multiple_of(kb), g.window_len(), g.w * self.source_channels())
    }

    /// Elements of workspace that `run` needs.
    pub(super) fn workspace(&self, cpu: &Cpu) -> usize {
        let kb = block_channels(cpu.simd, self.gather.k);
        let (packed, window, row) = self.sizes(kb);
        packed + self.gather.k.next_multiple_of(kb) + cpu.pool.threads() * (window + row)
    }

    pub(super) fn run(
        &self,
        cpu: &Cpu,
        ConvInput { x: src, prologue }: ConvInput<'_, f32>,
        w: &[f32],
        bias: Option<&[f32]>,
        add: Add<'_, f32>,
        dst: &mut [f32],
        Epilogue { parts, part_len, also_read, run }: Epilogue<'_, f32>,
        workspace: &mut [f32],
    ) {
        let (g, n, c) = (&self.gather, self.shape.n, self.source_channels());
        assert_eq!(src.len(), n * g.h * g.w * c);
        assert_eq!((dst.len(), w.len()), (n * g.out_len, self.shape.w_len()));
        let kb = block_channels(cpu.simd, g.k);
        let (packed_len, window_len, _) = self.sizes(kb);
        let (packed, rest) = workspace.split_at_mut(packed_len);
        let (packed_bias, scratch) = rest.split_at_mut(g.k.next_multiple_of(kb));
        let packed: &mut [u32] = bytemuck::cast_slice_mut(packed);
        self.pack(cpu, w, kb, packed);
        packed_bias.fill(0.0);
        if let Some(b) = bias {
            packed_bias[..g.k].copy_from_slice(b);
        }
        let (packed, packed_bias) = (&*packed, &*packed_bias);
        let size = g.block_len();
        for_parts2_scratch(cpu, dst, size, parts, part_len, scratch, |task, dst, part, scratch| {
            let block = g.block(task, n);
            let (window, row) = scratch.split_at_mut(window_len);
            let window: &mut [u32] = bytemuck::cast_slice_mut(window);
            let touched = (&*dst, &add, also_read);
            let mut prefetch = g.prefetch((task, cpu.pool.threads(), n), (src, g.w * c), touched, kb);
            g.fill_rows(block, window, |image, y, columns, to| {
                let from = &src[(image * g.h + y) * g.w * c..][..columns * c];
                narrow(cpu.simd, normed(cpu.simd, prologue.as_ref(), image, from, row), c, to);
            });
            let residual = Residual::new(&add, task * size);
            for phase in &g.phases {
                self.block(
                    cpu.simd,
                    phase,
                    block,
                    window,
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
        (_, images, _, rows): Block,
        window: &[u32],
        (packed, bias): (&[u32], &[f32]),
        residual: Residual,
        dst: &mut [f32],
        prefetch: &mut Prefetch,
    ) {
        let pixels = images * rows * phase.per_row;
        let mut f = Forward {
            src: window.as_ptr().cast(),
            src_off: &phase.src_off[..pixels],
            dst_off: &phase.dst_off[..pixels],
            runs: &phase.runs,
            run_len: phase.run_len,
            weights: packed[phase.weights_at * bias.len()..].as_ptr().cast(),
            bias: bias.as_ptr(),
            k: self.gather.k,
            dst: dst.as_mut_ptr(),
            residual,
            prefetch,
        };
        let one = f.k <= lanes(simd);
        // SAFETY: the tables address the window and the block's outputs by construction of `Gather` and `paired`, whose
        // sizes `run` checked; the packed buffers have the lengths of `sizes`; a pair is as large as a float32;
        // and the instruction set is present, since `simd` was detected.
        unsafe {
            match (simd.level(), one) {
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, true) if simd.bf16() => vector::x86::forward_bf16::<16, 1>(&mut f),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, false) if simd.bf16() => vector::x86::forward_bf16::<8, 2>(&mut f),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, true) => vector::x86::forward512::<1>(&mut f),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, false) => vector::x86::forward512::<2>(&mut f),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, true) => vector::x86::forward256::<1>(&mut f),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, false) => vector::x86::forward256::<2>(&mut f),
                (_, true) => microkernel::forward::<Split<Quad>, 4, 1>(&mut f),
                (_, false) => microkernel::forward::<Split<Quad>, 4, 2>(&mut f),
            }
        }
    }

    /// Packs filters into blocks of `kb` output channels, each `rows × kb` pairs, in the order in which runs read the
    /// window.
    fn pack(&self, cpu: &Cpu, w: &[f32], kb: usize, packed: &mut [u32]) {
        let (g, s, c) = (&self.gather, &self.shape, self.source_channels());
        let filter = s.r * s.s * s.c;
        let mut packed = packed;
        for phase in &g.phases {
            let rows = phase.runs.len() * phase.run_len;
            let (mine, rest) = packed.split_at_mut(rows * g.k.next_multiple_of(kb));
            packed = rest;
            for_parts(cpu, mine, (rows * kb).max(1), |b, block| {
                let (k0, ks) = (b * kb, (g.k - b * kb).min(kb));
                if ks < kb {
                    block.fill(0);
                }
                let taps =
                    phase.taps.iter().flat_map(|(r, columns)| columns.iter().map(move |q| r * s.s + q));
                for (tap, to) in taps.zip(block.chunks_exact_mut(g.c * kb)) {
                    if self.backward {
                        for (j, to) in to.chunks_exact_mut(kb).enumerate() {
                            let row = |k: usize| &w[k * filter + tap * s.c + k0..][..ks];
                            let second = if 2 * j + 1 < c { Some(row(2 * j + 1)) } else { None };
                            interleave(cpu.simd, row(2 * j), second, &mut to[..ks]);
                        }
                    } else {
                        for o in 0..ks {
                            let from = &w[(k0 + o) * filter + tap * c..][..c];
                            for (pair, to) in from.chunks(2).zip(to[o..].iter_mut().step_by(kb)) {
                                *to = narrow_one(pair);
                            }
                        }
                    }
                }
            });
        }
    }
}

impl Bf16WeightGrad {
    /// Number of pairs of images.
    fn pairs(&self) -> usize {
        self.0.shape.n.div_ceil(2)
    }

    fn shards(&self) -> usize {
        self.0.shards.min(self.0.gather.blocks(self.pairs())).max(1)
    }

    /// Elements of a thread's window, of its output gradients, and of two rows of its source.
    fn sizes(&self) -> (usize, usize, usize) {
        let (g, s) = (&self.0.gather, &self.0.shape);
        (g.window_len(), g.block_len().next_multiple_of(16), 2 * s.w * s.c)
    }

    /// Elements of workspace that `run` needs.
    pub(super) fn workspace(&self, cpu: &Cpu) -> usize {
        let (window, dy, rows) = self.sizes();
        self.shards() * self.0.shape.w_len() + cpu.pool.threads() * (window + dy + rows)
    }

    pub(super) fn run(
        &self,
        cpu: &Cpu,
        x: ConvInput<'_, f32>,
        dy: &[f32],
        dw: &mut [f32],
        workspace: &mut [f32],
    ) {
        let (g, s) = (&self.0.gather, &self.0.shape);
        assert_eq!((x.x.len(), dy.len(), dw.len()), (s.x_len(), s.y_len(), s.w_len()));
        let shards = self.shards();
        let (partial, scratch) = workspace.split_at_mut(shards * s.w_len());
        let blocks = g.blocks(self.pairs());
        let (window_len, dy_len, _) = self.sizes();
        for_parts_scratch(cpu, partial, s.w_len(), scratch, |shard, dw, scratch| {
            dw.fill(0.0);
            let (window, rest) = scratch.split_at_mut(window_len);
            let (low_dy, rows) = rest.split_at_mut(dy_len);
            let window: &mut [u32] = bytemuck::cast_slice_mut(window);
            let low_dy: &mut [u32] = bytemuck::cast_slice_mut(low_dy);
            window[window_len - 64..].fill(0);
            for b in shard * blocks / shards..(shard + 1) * blocks / shards {
                let block = g.block(b, self.pairs());
                self.fill(cpu.simd, x, block, window, rows);
                self.gradients(cpu.simd, dy, block, low_dy);
                self.block(cpu.simd, block, window, low_dy, dw);
            }
        });
        sum_shards(cpu, partial, dw);
    }

    /// Fills the window of a block of pairs of images.
    fn fill(
        &self,
        simd: Simd,
        ConvInput { x, prologue }: ConvInput<'_, f32>,
        block: Block,
        window: &mut [u32],
        rows: &mut [f32],
    ) {
        let ConvShape { n, h, w, c, .. } = self.0.shape;
        let (row_a, row_b) = rows.split_at_mut(w * c);
        self.0.gather.fill_rows(block, window, |pair, y, columns, to| {
            let from = |image: usize| &x[(image * h + y) * w * c..][..columns * c];
            let (a, b) = (2 * pair, 2 * pair + 1);
            let second = if b < n { Some(normed(simd, prologue.as_ref(), b, from(b), row_b)) } else { None };
            interleave(simd, normed(simd, prologue.as_ref(), a, from(a), row_a), second, to);
        });
    }

    /// Interleaves the output gradients of a block of pairs of images.
    fn gradients(&self, simd: Simd, dy: &[f32], (p0, pairs, r0, rows): Block, low: &mut [u32]) {
        let (n, image) = (self.0.shape.n, self.0.gather.out_len);
        let (first, len) = (r0 * self.0.gather.out_row, rows * self.0.gather.out_row);
        for (i, to) in low.chunks_mut(len).take(pairs).enumerate() {
            let of = |image_of: usize| &dy[image_of * image + first..][..len];
            let (a, b) = (2 * (p0 + i), 2 * (p0 + i) + 1);
            let second = if b < n { Some(of(b)) } else { None };
            interleave(simd, of(a), second, to);
        }
    }

    fn block(&self, simd: Simd, (_, pairs, _, rows): Block, window: &[u32], dy: &[u32], dw: &mut [f32]) {
        let prefetch = &mut Prefetch::default();
        let phase = &self.0.gather.phases[0];
        let mut g = WeightGrad {
            src: window.as_ptr().cast(),
            src_off: &phase.src_off[..pairs * rows * phase.per_row],
            dy: dy.as_ptr().cast(),
            runs: &phase.runs,
            run_len: phase.run_len,
            k: self.0.shape.k,
            dw: dw.as_mut_ptr(),
            prefetch,
        };
        // SAFETY: as in `Bf16Conv::block`; the window ends in 64 elements of slack for whole-vector loads.
        unsafe {
            match simd.level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if simd.bf16() => vector::x86::weight_grad_bf16(&mut g),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => vector::x86::weight_grad512(&mut g),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => vector::x86::weight_grad256(&mut g),
                _ => microkernel::weight_grad::<Split<Quad>, 4, 3>(&mut g),
            }
        }
    }
}
