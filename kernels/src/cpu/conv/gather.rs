//! Gather tables: which source pixels contribute to which output pixels.
//!
//! Invariants: tables depend on the layer's shape only, never on the batch; a block is a prefix-closed list of
//! pixels, so a short block at the end is a prefix of the table.

use super::prefetch::Prefetch;
use super::{Add, Prologue};
use crate::conv_shape::ConvShape;
use crate::cpu::Simd;
use core::ops::Range;

/// Output pixels with the same filter taps: all of them in a forward pass, one residue class in the input gradient of a
/// strided convolution.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub src_off: Vec<u32>,
    pub dst_off: Vec<u32>,
    /// Pixels of one output row block, for one image.
    pub per_row: usize,
    pub runs: Vec<usize>,
    pub run_len: usize,
    /// The filter tap (row, columns in run order) that each run multiplies.
    pub taps: Vec<(usize, Vec<usize>)>,
    /// Where this phase's weights start in the packed buffer, in elements.
    pub weights_at: usize,
}

/// A gather convolution: windows of a zero-padded source, outputs through tables.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    /// Source image: height, width, channels.
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Output image: elements, channels, rows.
    pub out_len: usize,
    pub out_row: usize,
    pub out_rows: usize,
    pub k: usize,
    /// Padding before the first row and column of the window, and the window's size.
    pub top: usize,
    pub left: usize,
    pub win_h: usize,
    pub win_w: usize,
    /// Images in a block, or output rows in a block when a block is part of an image.
    pub images: usize,
    pub rows: usize,
    /// Source rows between the windows of successive output rows.
    pub row_step: usize,
    /// Whether the source is read in place.
    pub direct: bool,
    pub phases: Vec<Phase>,
}

/// The most elements of a window, so that it stays in the second-level cache.
const WINDOW: usize = 64 * 1024;
/// The least output pixels of a block, so that tiles are full and a task is worth scheduling.
const PIXELS: usize = 256;
/// Pixels of a tile of the widest level.
const TILE: usize = 8;

impl Gather {
    /// The forward pass. `in_place`: whether the source may be read without copying, if the shape allows.
    pub(super) fn forward(s: &ConvShape, in_place: bool) -> Self {
        let direct = in_place && s.r == 1 && s.s == 1 && s.pad == 0;
        Self::windows(s, (s.pad, s.pad), (s.oh(), s.ow()), direct)
    }

    /// The windows that the weight gradient reads: those of the forward pass, always copied.
    pub(super) fn weight_grad(s: &ConvShape) -> Self {
        Self::windows(s, (s.pad, s.pad), (s.oh(), s.ow()), false)
    }

    /// Windows with the given padding (the input gradient at stride 1 is a flipped forward pass).
    fn windows(
        s: &ConvShape,
        (pad_h, pad_w): (usize, usize),
        (oh, ow): (usize, usize),
        direct: bool,
    ) -> Self {
        let win_w = if direct { s.w } else { (ow - 1) * s.stride + s.s };
        let mut rows = oh;
        let mut images = 1;
        if oh * ow < PIXELS {
            images = PIXELS.div_ceil(oh * ow);
        } else if !direct {
            // The largest divisor of the height whose window fits, so that all blocks are equal.
            let fits =
                |rows: &usize| ((rows - 1) * s.stride + s.r) * win_w * s.c <= WINDOW || rows * ow <= PIXELS;
            rows = (1..=oh).rev().filter(|d| oh.is_multiple_of(*d)).find(fits).unwrap_or(1);
        }
        let win_h = if direct { s.h } else { (rows - 1) * s.stride + s.r };
        let image = win_h * win_w * s.c;
        let mut src_off = Vec::new();
        let mut dst_off = Vec::new();
        for i in 0..images {
            for y in 0..rows {
                for x in 0..ow {
                    src_off.push((i * image + (y * win_w + x) * s.stride * s.c) as u32);
                    dst_off.push(((i * oh + y) * ow * s.k + x * s.k) as u32);
                }
            }
        }
        let phase = Phase {
            src_off,
            dst_off,
            per_row: ow,
            runs: (0..s.r).map(|r| r * win_w * s.c).collect(),
            run_len: s.s * s.c,
            taps: (0..s.r).map(|r| (r, (0..s.s).collect())).collect(),
            weights_at: 0,
        };
        Self {
            h: s.h,
            w: s.w,
            c: s.c,
            out_len: oh * ow * s.k,
            out_row: ow * s.k,
            out_rows: oh,
            k: s.k,
            top: pad_h,
            left: pad_w,
            win_h,
            win_w,
            images,
            rows,
            row_step: s.stride,
            direct,
            phases: vec![phase],
        }
    }

    /// The input gradient of `s`: source is the output gradient, output the input gradient.
    pub(super) fn input_grad(s: &ConvShape) -> Self {
        if s.stride == 1 && s.pad < s.r && s.pad < s.s {
            let flipped = ConvShape { h: s.oh(), w: s.ow(), c: s.k, k: s.c, pad: 0, ..*s };
            let direct = s.r == 1 && s.s == 1;
            let mut g = Self::windows(&flipped, (s.r - 1 - s.pad, s.s - 1 - s.pad), (s.h, s.w), direct);
            for t in &mut g.phases[0].taps {
                t.0 = s.r - 1 - t.0;
                t.1.reverse();
            }
            return g;
        }
        Self::strided_input_grad(s)
    }

    /// dx[h, w] = Σ dy[(h+pad−r)/stride, (w+pad−s)/stride]·w[r, s] over the taps that divide: the output pixels
    /// of one residue class have the same taps.
    fn strided_input_grad(s: &ConvShape) -> Self {
        let (oh, ow, st) = (s.oh(), s.ow(), s.stride);
        // Base index of output row h: q = (h + pad − phase) / stride; taps read rows q, q−1, …
        let (top, left) = ((s.r - 1) / st, (s.s - 1) / st);
        let q_max = |len: usize| (len - 1 + s.pad) / st;
        let win_h = top + oh.max(q_max(s.h) + 1);
        let win_w = left + ow.max(q_max(s.w) + 1);
        let images = if s.h * s.w < PIXELS * st * st { (PIXELS * st * st).div_ceil(s.h * s.w) } else { 1 };
        let mut g = Self {
            h: oh,
            w: ow,
            c: s.k,
            out_len: s.h * s.w * s.c,
            out_row: s.h * s.w * s.c,
            out_rows: 1,
            k: s.c,
            top,
            left,
            win_h,
            win_w,
            images,
            rows: 1,
            row_step: 0,
            direct: false,
            phases: Vec::new(),
        };
        let mut weights_at = 0;
        for residue in (0..st).flat_map(|h| (0..st).map(move |w| (h, w))) {
            let phase = g.residue_class(s, residue, weights_at);
            weights_at += phase.runs.len() * phase.run_len; // in filters' rows; scaled when packed
            g.phases.push(phase);
        }
        g
    }

    /// The output pixels (h, w) with (h + pad, w + pad) ≡ (ph, pw) modulo the stride, which have the same taps.
    fn residue_class(&self, s: &ConvShape, (ph, pw): (usize, usize), weights_at: usize) -> Phase {
        let (st, win_h, win_w) = (s.stride, self.win_h, self.win_w);
        let rs: Vec<usize> = (ph..s.r).step_by(st).collect();
        let ss: Vec<usize> = (pw..s.s).step_by(st).rev().collect();
        let (mut src_off, mut dst_off) = (Vec::new(), Vec::new());
        let pixels = |len: usize, phase: usize| (0..len).filter(move |h| (h + s.pad) % st == phase);
        for i in 0..self.images {
            for h in pixels(s.h, ph) {
                for w in pixels(s.w, pw) {
                    let (qh, qw) = ((h + s.pad) / st, (w + s.pad) / st);
                    // The leftmost tap of the run is column qw − (number of taps − 1).
                    let col = self.left + qw - (ss.len().max(1) - 1);
                    src_off.push((((i * win_h + self.top + qh) * win_w + col) * s.k) as u32);
                    dst_off.push((((i * s.h + h) * s.w + w) * s.c) as u32);
                }
            }
        }
        // Row taps r = ph, ph + stride, … read rows qh, qh − 1, …: table offsets start at the last row.
        let back = rs.len().saturating_sub(1);
        for o in &mut src_off {
            *o -= (back * win_w * s.k) as u32;
        }
        let (run_len, per_row) = (ss.len() * s.k, pixels(s.h, ph).count() * pixels(s.w, pw).count());
        let (runs, taps) = match ss.is_empty() {
            true => (Vec::new(), Vec::new()),
            false => (
                (0..rs.len()).map(|i| (back - i) * win_w * s.k).collect(),
                rs.iter().map(|&r| (r, ss.clone())).collect(),
            ),
        };
        Phase { src_off, dst_off, per_row, run_len, taps, runs, weights_at }
    }

    /// Elements of a block's window, with slack for whole-vector loads at its end.
    pub(super) fn window_len(&self) -> usize {
        if self.direct { 0 } else { self.images * self.win_h * self.win_w * self.c + 64 }
    }

    /// Output elements of a whole block.
    pub(super) fn block_len(&self) -> usize {
        if self.images > 1 { self.images * self.out_len } else { self.rows * self.out_row }
    }

    /// Block `task` of a batch of `n` images: (first image, images, first row, rows).
    pub(super) fn block(&self, task: usize, n: usize) -> (usize, usize, usize, usize) {
        let per_image = self.out_rows.div_ceil(self.rows);
        let i0 = (task / per_image) * self.images;
        let r0 = (task % per_image) * self.rows;
        (i0, self.images.min(n - i0), r0, self.rows.min(self.out_rows - r0))
    }

    /// Number of blocks of a batch of `n` images.
    pub(super) fn blocks(&self, n: usize) -> usize {
        n.div_ceil(self.images) * self.out_rows.div_ceil(self.rows)
    }

    /// The rows of all images that a block reads; empty if there is no such block.
    pub(super) fn reads(&self, task: usize, n: usize) -> Range<usize> {
        if task >= self.blocks(n) {
            return 0..0;
        }
        let (image, images, r0, rows) = self.block(task, n);
        let (first, last) = if self.images > 1 || self.rows == self.out_rows {
            (0, images * self.h)
        } else {
            let first = (r0 * self.row_step).saturating_sub(self.top).min(self.h);
            (first, ((r0 + rows) * self.row_step).min(self.h).max(first))
        };
        image * self.h + first..image * self.h + last
    }

    /// Prefetches what block `task` will access: `dst` of the result and the same range of the addend and of the tensor
    /// that the epilogue reads; and the source rows, of `row` elements, that the thread reads next.
    pub(super) fn prefetch(
        &self,
        (task, threads, n): (usize, usize, usize),
        (src, row): (&[f32], usize),
        (dst, add, also_read): (&[f32], &Add<'_, f32>, &[f32]),
        lanes: usize,
    ) -> Prefetch {
        let own = task * self.block_len()..task * self.block_len() + dst.len();
        let added = if let Add::From(r) = add { &r[own.clone()] } else { &[] };
        let next = self.reads(task + threads, n);
        let next = &src[next.start * row..next.end * row];
        let steps = (dst.len() / self.k).div_ceil(TILE) * self.k.div_ceil(lanes);
        Prefetch::new([dst, added, also_read.get(own).unwrap_or_default(), next], steps)
    }

    /// Copies the window of a block, normalised if there is a prologue; zeros outside the image.
    pub(super) fn fill(
        &self,
        simd: Simd,
        src: &[f32],
        prologue: Option<&Prologue<'_, f32>>,
        (i0, images, r0, _): (usize, usize, usize, usize),
        window: &mut [f32],
    ) {
        let row = self.win_w * self.c;
        let first = (r0 * self.row_step) as isize - self.top as isize;
        for i in 0..images {
            for y in 0..self.win_h {
                let to = &mut window[(i * self.win_h + y) * row..][..row];
                let from = first + y as isize;
                if from < 0 || from >= self.h as isize {
                    to.fill(0.0);
                    continue;
                }
                let from = &src[((i0 + i) * self.h + from as usize) * self.w * self.c..][..self.w * self.c];
                let (l, cols) = (self.left * self.c, self.w.min(self.win_w - self.left) * self.c);
                to[..l].fill(0.0);
                to[l..l + cols].copy_from_slice(&from[..cols]);
                if let Some(prologue) = prologue {
                    prologue.apply(simd, i0 + i, 0..self.c, &mut to[l..l + cols]);
                }
                to[l + cols..].fill(0.0);
            }
        }
    }
}
