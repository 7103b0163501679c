//! A block of outputs of the forward pass or the input gradient: its inputs transformed, multiplied and transformed
//! back in chunks.

use super::conv::Call;
use super::product::product;
use super::transforms::InputTransform;
use super::{IN, OUT, POSITIONS, tiles};
use crate::cpu::Level;
use crate::cpu::conv::Add;
use crate::cpu::conv::prefetch::Prefetch;
use crate::cpu::vector::{Arithmetic, Quad};
use core::ops::Range;

/// A block of outputs.
pub(super) struct Block<'a> {
    pub call: &'a Call<'a>,
    pub filters: &'a [f32],
    pub task: usize,
    pub images: usize,
    /// What the epilogue reads with the result.
    pub also_read: &'a [f32],
}

impl Block<'_> {
    pub(super) fn run(&self, dst: &mut [f32], scratch: &mut [f32]) {
        // SAFETY: the instruction set is present, since `simd` was detected.
        unsafe {
            match self.call.cpu.simd.level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::block512(self, dst, scratch),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => x86::block256(self, dst, scratch),
                _ => self.chunks::<Quad, 4, 4>(dst, scratch),
            }
        }
    }

    /// Prefetches what is accessed after the products of `rows`: their outputs, the addend and the tensor that the
    /// epilogue reads, and the inputs of the thread's next rows of tiles.
    fn prefetch(&self, rows: &Range<usize>, dst: &[f32]) -> Prefetch {
        let p = self.call.plan;
        let (down, line) = (p.rows.div_ceil(OUT), p.ow * p.k);
        let first = |row: usize| (row / down * p.rows + row % down * OUT).min(self.images * p.rows) * line;
        let outputs = first(rows.start)..first(rows.end);
        let at = self.task * p.block_len();
        let range = at + outputs.start..at + outputs.end;
        let added = if let Add::From(r) = self.call.add { &r[range.clone()] } else { &[] };
        let also_read = self.also_read.get(range).unwrap_or_default();
        let (task, row) = if rows.end < self.images * down {
            (self.task, rows.end)
        } else {
            (self.task + self.call.cpu.pool.threads(), 0)
        };
        let (image, y) = self.call.first(task);
        let start = ((image + row / down) * p.h + y + row % down * OUT) * p.w * p.c;
        let src = self.call.src.x;
        let inputs = start.min(src.len())..(start + rows.len() * OUT * p.w * p.c).min(src.len());
        Prefetch::new([&dst[outputs.clone()], added, also_read, &src[inputs]], POSITIONS)
    }

    /// # Safety
    /// The instruction set of `V` is present.
    #[inline(always)]
    unsafe fn chunks<V: Arithmetic, const MR: usize, const MR1: usize>(
        &self,
        dst: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (p, layout) = (self.call.plan, &self.call.layout);
        let (down, across) = (p.rows.div_ceil(OUT), p.ow.div_ceil(OUT));
        let total = self.images * down;
        let [strip, positions, _] = p.scratch(V::LANES);
        let (strip, rest) = scratch.split_at_mut(strip);
        let (positions, products) = rest.split_at_mut(positions);
        let (slice, first) = (self.call.slice(0, p.c), self.call.first(self.task));
        let mut row = 0;
        while row < total {
            let rows = row..(row + p.chunk).min(total);
            let tiles = rows.len() * across;
            let position = tiles * slice.room + V::LANES;
            // SAFETY: scratch has the sizes that `scratch` says, for a chunk's tiles or fewer.
            unsafe {
                for (i, row) in rows.clone().enumerate() {
                    let (image, y) = (first.0 + row / down, first.1 + row % down * OUT);
                    let corner = (y as isize - p.pad as isize, p.pad);
                    let to = positions.as_mut_ptr().add(i * across * slice.room);
                    tiles::row::<V, InputTransform, IN>(&slice, image, corner, across, strip, (to, position));
                }
                let mut prefetch = self.prefetch(&rows, dst);
                for b in 0..layout.blocks() {
                    let v = (positions.as_ptr(), position, slice.room);
                    if layout.vectors(b) == 1 {
                        self.multiply::<V, MR1, 1>(tiles, b, v, &mut prefetch, products);
                    } else {
                        self.multiply::<V, MR, 2>(tiles, b, v, &mut prefetch, products);
                    }
                    let m = (products.as_ptr(), (tiles * layout.vectors(b) + 1) * V::LANES);
                    self.call.outputs::<V>(self.task, rows.clone(), b, m, dst.as_mut_ptr());
                }
            }
            row += p.chunk;
        }
    }

    /// # Safety
    /// As [`Self::chunks`]; buffers hold `tiles` tiles.
    #[inline(always)]
    unsafe fn multiply<V: Arithmetic, const MR: usize, const KV: usize>(
        &self,
        tiles: usize,
        b: usize,
        (positions, v_stride, room): (*const f32, usize, usize),
        prefetch: &mut Prefetch,
        products: &mut [f32],
    ) {
        let layout = &self.call.layout;
        for position in 0..POSITIONS {
            prefetch.fetch();
            // SAFETY: as the caller guarantees; filters are laid out so.
            unsafe {
                let u = self.filters.as_ptr().add(layout.at(b) + position * layout.position_len(KV));
                let m = products.as_mut_ptr().add(position * (tiles * KV + 1) * V::LANES);
                product::<V, MR, KV>(
                    positions.add(position * v_stride),
                    room,
                    (tiles, layout.depth),
                    u,
                    true,
                    m,
                );
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Block;
    use core::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// As `Block::chunks`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn block512(b: &Block<'_>, dst: &mut [f32], scratch: &mut [f32]) {
        // SAFETY: passed on.
        unsafe { b.chunks::<__m512, 8, 16>(dst, scratch) }
    }

    /// # Safety
    /// As `Block::chunks`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn block256(b: &Block<'_>, dst: &mut [f32], scratch: &mut [f32]) {
        // SAFETY: passed on.
        unsafe { b.chunks::<__m256, 6, 8>(dst, scratch) }
    }
}
