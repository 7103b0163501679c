//! Convolutions of many channels: filters are transformed a part at a time and used at once for many tiles, because all
//! the transformed filters together are four times as large and would be read from memory again for each chunk of
//! tiles.

use super::conv::{Call, Winograd};
use super::filters::{self, GROUP};
use super::product::product;
use super::transforms::InputTransform;
use super::{IN, OUT, POSITIONS, Shared, tiles};
use crate::cpu::conv::Epilogue;
use crate::cpu::vector::{Arithmetic, Quad};
use crate::cpu::{Level, for_parts2};

/// How tiles and channels are partitioned.
pub(super) struct ManyChannels<'a> {
    conv: &'a Winograd,
    /// Blocks of outputs transformed at once, and their tiles.
    blocks: usize,
    tiles: usize,
}

/// The largest product of input and output channels whose transformed filters fit in part of the third-level cache.
const NARROW: usize = 200 * 200;
/// Tiles transformed at once.
const TILES: usize = 128;
/// Input channels whose filters are transformed at once: a multiple of `GROUP`.
const DEPTH: usize = 64;

impl<'a> ManyChannels<'a> {
    /// `None` if the filters are small enough to be transformed all at once. Both ways give the same bits.
    pub(super) fn new(conv: &'a Winograd) -> Option<Self> {
        let tiles = conv.images * conv.rows.div_ceil(OUT) * conv.ow.div_ceil(OUT);
        let blocks = (TILES / tiles).clamp(1, conv.blocks().max(1));
        (conv.c * conv.k > NARROW && tiles <= 2 * TILES).then_some(Self {
            conv,
            blocks,
            tiles: blocks * tiles,
        })
    }

    fn groups(&self) -> usize {
        self.conv.c.div_ceil(DEPTH)
    }

    /// Elements between positions of tiles, and between groups of channels of them.
    fn strides(&self, lanes: usize) -> (usize, usize) {
        let position = self.tiles * DEPTH + lanes;
        (position, POSITIONS * position)
    }

    /// Elements of a thread's strip, filters and products.
    fn scratch(&self, lanes: usize) -> [usize; 3] {
        [
            tiles::strip_len(IN, self.conv.ow.div_ceil(OUT), DEPTH),
            POSITIONS * (2 * DEPTH + 1) * lanes,
            POSITIONS * (2 * self.tiles + 1) * lanes,
        ]
    }

    pub(super) fn workspace(&self, lanes: usize, threads: usize) -> usize {
        self.groups() * self.strides(lanes).1 + threads * self.scratch(lanes).iter().sum::<usize>()
    }

    pub(super) fn run(
        &self,
        call: &Call<'_>,
        dst: &mut [f32],
        epilogue: Epilogue<'_, f32>,
        workspace: &mut [f32],
    ) {
        let (p, cpu, lanes) = (self.conv, call.cpu, call.layout.lanes);
        let (positions, scratch) = workspace.split_at_mut(self.groups() * self.strides(lanes).1);
        let each = scratch.len() / cpu.pool.threads();
        let scratch = Shared(scratch.as_mut_ptr());
        let (groups, down) = (self.groups(), p.rows.div_ceil(OUT));
        let size = p.block_len();
        let Epilogue { parts, part_len, run, .. } = epilogue;
        for first in (0..p.blocks()).step_by(self.blocks) {
            let end = ((first + self.blocks) * size).min(dst.len());
            let dst = &mut dst[first * size..end];
            let rows = dst.len() / (p.rows * p.ow * p.k) * down;
            let work = Work { plan: self, call, first, rows };
            let (to, out) = (Shared(positions.as_mut_ptr()), Shared(dst.as_mut_ptr()));
            // SAFETY: each worker has scratch of its own; tasks write their own tiles and channels of them.
            cpu.pool.run(rows * groups, &|t, worker| unsafe {
                let scratch = core::slice::from_raw_parts_mut(scratch.get().add(worker * each), each);
                work.inputs_by_level((t / groups, t % groups), to.get(), scratch);
            });
            // SAFETY: as above; tasks write their own channels of the result.
            cpu.pool.run(call.layout.blocks(), &|b, worker| unsafe {
                let scratch = core::slice::from_raw_parts_mut(scratch.get().add(worker * each), each);
                work.outputs_by_level(b, to.get(), out.get(), scratch);
            });
            let parts = parts.get_mut(first * part_len..).unwrap_or_default();
            for_parts2(cpu, dst, size, parts, part_len, |t, dst, part| run((first + t) * size, dst, part));
        }
    }
}

/// Some consecutive blocks of outputs.
struct Work<'a> {
    plan: &'a ManyChannels<'a>,
    call: &'a Call<'a>,
    first: usize,
    rows: usize,
}

impl Work<'_> {
    /// Transforms a row of tiles of a group of channels.
    ///
    /// # Safety
    /// The instruction set of `V` is present; `to` is as large as `strides` says, `scratch` as `scratch` says.
    #[inline(always)]
    unsafe fn inputs<V: Arithmetic>(&self, (row, group): (usize, usize), to: *mut f32, scratch: &mut [f32]) {
        let p = self.plan.conv;
        let (down, across) = (p.rows.div_ceil(OUT), p.ow.div_ceil(OUT));
        let (position, stride) = self.plan.strides(V::LANES);
        let first = group * DEPTH;
        let slice = self.call.slice(first, (p.c - first).min(DEPTH));
        let per_block = p.images * down;
        let (image, y) = self.call.first(self.first + row / per_block);
        let (image, y) = (image + row % per_block / down, y + row % down * OUT);
        let corner = (y as isize - p.pad as isize, p.pad);
        // SAFETY: as the caller guarantees.
        unsafe {
            let to = to.add(group * stride + row * across * slice.room);
            tiles::row::<V, InputTransform, IN>(&slice, image, corner, across, scratch, (to, position));
        }
    }

    /// Computes the outputs of a block of channels.
    ///
    /// # Safety
    /// As [`Self::inputs`], which has been called for all rows and groups; `dst` are the blocks.
    #[inline(always)]
    unsafe fn outputs<V: Arithmetic, const MR: usize, const MR1: usize>(
        &self,
        b: usize,
        positions: *const f32,
        dst: *mut f32,
        scratch: &mut [f32],
    ) {
        let (p, layout) = (self.plan.conv, &self.call.layout);
        let (down, across) = (p.rows.div_ceil(OUT), p.ow.div_ceil(OUT));
        let [strip, filters, _] = self.plan.scratch(V::LANES);
        let (filters, products) = scratch[strip..].split_at_mut(filters);
        let (tiles, width) = (self.rows * across, layout.vectors(b) * V::LANES);
        let (u_stride, m_stride) = (DEPTH * width + V::LANES, tiles * width + V::LANES);
        let (v_stride, stride) = self.plan.strides(V::LANES);
        for group in 0..self.plan.groups() {
            let depth = (p.c - group * DEPTH).min(DEPTH);
            // SAFETY: as the caller guarantees; buffers have the sizes that `scratch` says.
            unsafe {
                for part in 0..depth.div_ceil(GROUP) {
                    let to = filters.as_mut_ptr().add(part * GROUP * width);
                    let part = (b, group * (DEPTH / GROUP) + part);
                    filters::transform::<V>(layout, self.call.w, p.backward, part, (to, u_stride));
                }
                for position in 0..POSITIONS {
                    let v = positions.add(group * stride + position * v_stride);
                    let u = filters.as_ptr().add(position * u_stride);
                    let m = products.as_mut_ptr().add(position * m_stride);
                    let (room, size, begin) = (depth.next_multiple_of(V::LANES), (tiles, depth), group == 0);
                    if layout.vectors(b) == 1 {
                        product::<V, MR1, 1>(v, room, size, u, begin, m);
                    } else {
                        product::<V, MR, 2>(v, room, size, u, begin, m);
                    }
                }
            }
        }
        let per_block = p.images * down;
        for (i, row) in (0..self.rows).step_by(per_block).enumerate() {
            let rows = 0..(self.rows - row).min(per_block);
            // SAFETY: as the caller guarantees.
            unsafe {
                let from = products.as_ptr().add(row * across * width);
                let dst = dst.add(i * p.block_len());
                self.call.outputs::<V>(self.first + i, rows, b, (from, m_stride), dst);
            }
        }
    }

    /// # Safety
    /// As [`Self::inputs`], with the lanes of the call's instruction set.
    unsafe fn inputs_by_level(&self, part: (usize, usize), to: *mut f32, scratch: &mut [f32]) {
        // SAFETY: passed on; the instruction set is present, since `simd` was detected.
        unsafe {
            match self.call.cpu.simd.level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::inputs512(self, part, to, scratch),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => x86::inputs256(self, part, to, scratch),
                _ => self.inputs::<Quad>(part, to, scratch),
            }
        }
    }

    /// # Safety
    /// As [`Self::outputs`], with the lanes of the call's instruction set.
    unsafe fn outputs_by_level(&self, b: usize, positions: *const f32, dst: *mut f32, scratch: &mut [f32]) {
        // SAFETY: passed on; the instruction set is present, since `simd` was detected.
        unsafe {
            match self.call.cpu.simd.level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::outputs512(self, b, positions, dst, scratch),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => x86::outputs256(self, b, positions, dst, scratch),
                _ => self.outputs::<Quad, 4, 4>(b, positions, dst, scratch),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Work;
    use core::arch::x86_64::{__m256, __m512};

    macro_rules! level {
        ($features:literal, $v:ty, $mr:literal, $mr1:literal, $inputs:ident, $outputs:ident) => {
            /// # Safety
            /// As `Work::inputs`.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $inputs(
                w: &Work<'_>,
                part: (usize, usize),
                to: *mut f32,
                scratch: &mut [f32],
            ) {
                // SAFETY: passed on.
                unsafe { w.inputs::<$v>(part, to, scratch) }
            }

            /// # Safety
            /// As `Work::outputs`.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $outputs(
                w: &Work<'_>,
                b: usize,
                positions: *const f32,
                dst: *mut f32,
                scratch: &mut [f32],
            ) {
                // SAFETY: passed on.
                unsafe { w.outputs::<$v, $mr, $mr1>(b, positions, dst, scratch) }
            }
        };
    }
    level!("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma", __m512, 8, 16, inputs512, outputs512);
    level!("avx2,fma", __m256, 6, 8, inputs256, outputs256);
}
