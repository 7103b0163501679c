//! The forward pass and the input gradient.

use super::filters::{self, GROUP, Layout};
use super::points::{Input, ToFour, tile};
use super::product::product;
use super::tiles::{self, Slice};
use super::{IN, OUT, PLACES, Shared};
use crate::cpu::conv::micro::{Quad, Residual, Vector};
use crate::cpu::conv::{Add, After, ConvShape, Source, lanes};
use crate::cpu::{Cpu, Level, Simd, for_parts2_scratch};

/// A prepared convolution of stride 1 by 3×3 filters.
#[derive(Debug)]
pub(in crate::cpu::conv) struct Winograd {
    /// Source image, output image, zeros before the first row and column.
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    k: usize,
    pad: usize,
    /// Filters are turned, and their channels exchanged.
    backward: bool,
    /// Images in a block, or output rows in a block when a block is part of an image.
    images: usize,
    rows: usize,
    /// Rows of tiles transformed at once.
    chunk: usize,
}

/// Tiles × channels of a transformed chunk, so that it and its products stay in the second-level cache.
const CHUNK: usize = 4096;
/// Tiles that a chunk should have at least and at most.
const TILES: (usize, usize) = (16, 32);

impl Winograd {
    pub fn forward(s: &ConvShape) -> Self {
        Self::new((s.h, s.w, s.c), (s.oh(), s.ow(), s.k), s.pad, false)
    }

    pub fn input_grad(s: &ConvShape) -> Self {
        Self::new((s.oh(), s.ow(), s.k), (s.h, s.w, s.c), 2 - s.pad, true)
    }

    fn new(
        (h, w, c): (usize, usize, usize),
        (oh, ow, k): (usize, usize, usize),
        pad: usize,
        backward: bool,
    ) -> Self {
        let across = ow.div_ceil(OUT);
        let tiles = (CHUNK / c).clamp(TILES.0, TILES.1);
        let chunk = (tiles / across).max(1);
        let down = oh.div_ceil(OUT);
        let images = (chunk / down).max(1);
        // Blocks must be equal: whole rows of tiles that divide the image, or whole images.
        let rows = |n: &usize| oh.is_multiple_of(*n * OUT);
        let rows = (1..=chunk.min(down)).rev().find(rows).map_or(oh, |n| n * OUT);
        let rows = if images > 1 { oh } else { rows };
        Self { h, w, c, oh, ow, k, pad, backward, images, rows, chunk }
    }

    pub fn block_len(&self) -> usize {
        self.images * self.rows * self.ow * self.k
    }

    pub fn blocks(&self, n: usize) -> usize {
        n.div_ceil(self.images) * self.oh.div_ceil(self.rows)
    }

    fn layout(&self, lanes: usize) -> Layout {
        Layout { lanes, depth: self.c, k: self.k }
    }

    /// Elements of a thread's strip, transformed chunk, and products.
    fn scratch(&self, lanes: usize) -> [usize; 3] {
        let room = self.c.next_multiple_of(lanes);
        let tiles = self.chunk * self.ow.div_ceil(OUT);
        [
            tiles::strip_len(IN, self.ow.div_ceil(OUT), room),
            PLACES * (tiles * room + lanes),
            PLACES * (tiles * self.layout(lanes).vectors(0) + 1) * lanes,
        ]
    }

    pub fn workspace(&self, cpu: &Cpu) -> usize {
        let lanes = lanes(cpu.simd);
        let bias = self.k.next_multiple_of(2 * lanes);
        self.layout(lanes).len() + bias + cpu.pool.threads() * self.scratch(lanes).iter().sum::<usize>()
    }

    pub fn run(
        &self,
        cpu: &Cpu,
        src: Source<'_, f32>,
        w: &[f32],
        bias: Option<&[f32]>,
        add: &Add<'_, f32>,
        dst: &mut [f32],
        after: After<'_, f32>,
        workspace: &mut [f32],
    ) {
        let n = dst.len() / (self.oh * self.ow * self.k).max(1);
        assert_eq!(src.x.len(), n * self.h * self.w * self.c);
        assert_eq!(w.len(), self.k * 9 * self.c);
        let layout = self.layout(lanes(cpu.simd));
        let (filters, rest) = workspace.split_at_mut(layout.len());
        let (packed_bias, scratch) = rest.split_at_mut(self.k.next_multiple_of(2 * layout.lanes));
        packed_bias.fill(0.0);
        if let Some(b) = bias {
            packed_bias[..self.k].copy_from_slice(b);
        }
        let groups = self.c.div_ceil(GROUP);
        let to = Shared(filters.as_mut_ptr());
        cpu.pool.run(layout.blocks() * groups, &|t, _| {
            transform(cpu.simd, &layout, w, self.backward, (t / groups, t % groups), to);
        });
        let (filters, bias) = (&*filters, &*packed_bias);
        let size = self.block_len();
        let per_image = self.oh / self.rows;
        let After { parts, each, run } = after;
        for_parts2_scratch(cpu, dst, size, parts, each, scratch, |task, dst, part, scratch| {
            let residual = match add {
                Add::None => Residual::None,
                Add::From(r) => Residual::From(r[task * size..][..dst.len()].as_ptr()),
                Add::InPlace => Residual::InPlace,
            };
            let first = (task / per_image * self.images, task % per_image * self.rows);
            let images = dst.len() / (self.rows * self.ow * self.k);
            let block =
                Block { plan: self, simd: cpu.simd, src, layout, filters, bias, residual, first, images };
            block.run(dst, scratch);
            run(task * size, dst, part);
        });
    }
}

/// A block of outputs.
struct Block<'a> {
    plan: &'a Winograd,
    simd: Simd,
    src: Source<'a, f32>,
    layout: Layout,
    filters: &'a [f32],
    bias: &'a [f32],
    residual: Residual,
    /// First image and its first row.
    first: (usize, usize),
    images: usize,
}

impl Block<'_> {
    fn run(&self, dst: &mut [f32], scratch: &mut [f32]) {
        // SAFETY: the instruction set is there, else `simd` would not say so.
        unsafe {
            match self.simd.level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::block512(self, dst, scratch),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => x86::block256(self, dst, scratch),
                _ => self.chunks::<Quad, 4, 4>(dst, scratch),
            }
        }
    }

    /// # Safety
    /// The instruction set of `V` is present.
    #[inline(always)]
    unsafe fn chunks<V: Vector, const MR: usize, const MR1: usize>(
        &self,
        dst: &mut [f32],
        scratch: &mut [f32],
    ) {
        let p = self.plan;
        let down = p.rows.div_ceil(OUT);
        let total = self.images * down;
        let [strip, places, _] = p.scratch(V::LANES);
        let (strip, rest) = scratch.split_at_mut(strip);
        let (places, products) = rest.split_at_mut(places);
        let mut row = 0;
        while row < total {
            let rows = row..(row + p.chunk).min(total);
            let tiles = rows.len() * p.ow.div_ceil(OUT);
            // SAFETY: scratch has the sizes that `scratch` says, for a chunk's tiles or fewer.
            unsafe {
                self.inputs::<V>(rows.clone(), tiles, strip, places);
                for b in 0..self.layout.blocks() {
                    if self.layout.vectors(b) == 1 {
                        self.multiply::<V, MR1, 1>(tiles, b, places, products);
                    } else {
                        self.multiply::<V, MR, 2>(tiles, b, places, products);
                    }
                    self.outputs::<V>(rows.clone(), tiles, b, products, dst);
                }
            }
            row += p.chunk;
        }
    }

    /// Transforms the inputs of rows of tiles to `[36, tiles, room]`.
    ///
    /// # Safety
    /// The instruction set of `V` is present; buffers have the sizes that `scratch` says.
    #[inline(always)]
    unsafe fn inputs<V: Vector>(
        &self,
        rows: core::ops::Range<usize>,
        tiles: usize,
        strip: &mut [f32],
        places: &mut [f32],
    ) {
        let p = self.plan;
        let room = p.c.next_multiple_of(V::LANES);
        let (down, across) = (p.rows.div_ceil(OUT), p.ow.div_ceil(OUT));
        let (src, norm, simd) = (self.src.x, self.src.norm.as_ref(), self.simd);
        let slice = Slice { src, norm, simd, h: p.h, w: p.w, c: p.c, first: 0, len: p.c, room };
        for (i, row) in rows.enumerate() {
            let (image, y) = (self.first.0 + row / down, self.first.1 + row % down * OUT);
            let corner = (y as isize - p.pad as isize, p.pad);
            // SAFETY: as promised by the caller.
            unsafe {
                let to = (places.as_mut_ptr().add(i * across * room), tiles * room + V::LANES);
                tiles::row::<V, Input, IN>(&slice, image, corner, across, strip, to);
            }
        }
    }

    /// # Safety
    /// As [`Self::inputs`].
    #[inline(always)]
    unsafe fn multiply<V: Vector, const MR: usize, const KV: usize>(
        &self,
        tiles: usize,
        b: usize,
        places: &[f32],
        products: &mut [f32],
    ) {
        let room = self.plan.c.next_multiple_of(V::LANES);
        let (v_place, m_place) = (tiles * room + V::LANES, (tiles * KV + 1) * V::LANES);
        let (at, u_place) = (self.layout.at(b), self.layout.place(KV));
        for place in 0..PLACES {
            // SAFETY: as promised by the caller; filters are laid out so.
            unsafe {
                let u = self.filters.as_ptr().add(at + place * u_place);
                let v = places.as_ptr().add(place * v_place);
                let m = products.as_mut_ptr().add(place * m_place);
                product::<V, MR, KV>(v, room, (tiles, self.plan.c), u, m);
            }
        }
    }

    /// Transforms the products of a block of channels back, and adds what is to be added.
    ///
    /// # Safety
    /// As [`Self::inputs`].
    #[inline(always)]
    unsafe fn outputs<V: Vector>(
        &self,
        rows: core::ops::Range<usize>,
        tiles: usize,
        b: usize,
        products: &[f32],
        dst: &mut [f32],
    ) {
        let p = self.plan;
        let (down, across, vectors) = (p.rows.div_ceil(OUT), p.ow.div_ceil(OUT), self.layout.vectors(b));
        let (width, place) = (vectors * V::LANES, (tiles * vectors + 1) * V::LANES);
        let mut from = products.as_ptr();
        for row in rows {
            let (image, y0) = (row / down, row % down * OUT);
            for x0 in (0..across).map(|x| x * OUT) {
                let (height, breadth) = ((p.rows - y0).min(OUT), (p.ow - x0).min(OUT));
                let pixel = (image * p.rows + y0) * p.ow + x0;
                for v in 0..vectors {
                    let k0 = (b * 2 + v) * V::LANES;
                    let lanes = (p.k - k0).min(V::LANES);
                    // SAFETY: the tile's pixels inside the image lie in the block, and so do its lanes.
                    unsafe {
                        let bias = V::load(self.bias.as_ptr().add(k0));
                        let y = tile::<V, ToFour, 6, 4>(from.add(v * V::LANES), 6 * place, place);
                        for (i, y) in y.iter().enumerate().take(height) {
                            for (j, y) in y.iter().enumerate().take(breadth) {
                                let at = (pixel + i * p.ow + j) * p.k + k0;
                                self.put::<V>(dst.as_mut_ptr(), at, lanes, y.add(bias));
                            }
                        }
                    }
                }
                from = from.wrapping_add(width);
            }
        }
    }

    /// # Safety
    /// The instruction set of `V` is present; `lanes` elements at `at` are in bounds of `dst` and the residual.
    #[inline(always)]
    unsafe fn put<V: Vector>(&self, dst: *mut f32, at: usize, lanes: usize, y: V) {
        // SAFETY: as promised by the caller.
        unsafe {
            let to = dst.add(at);
            let residual = match self.residual {
                Residual::None => None,
                Residual::From(r) => Some(r.add(at)),
                Residual::InPlace => Some(to.cast_const()),
            };
            if lanes == V::LANES {
                residual.map_or(y, |r| y.add(V::load(r))).store(to);
                return;
            }
            let mut row = [0.0f32; 16];
            y.store(row.as_mut_ptr());
            for (c, &y) in row.iter().enumerate().take(lanes) {
                *to.add(c) = residual.map_or(y, |r| y + *r.add(c));
            }
        }
    }
}

fn transform(simd: Simd, layout: &Layout, w: &[f32], flipped: bool, part: (usize, usize), to: Shared) {
    // SAFETY: the instruction set is there, else `simd` would not say so; each part is another task's.
    unsafe {
        match simd.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::filters512(layout, w, flipped, part, to),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::filters256(layout, w, flipped, part, to),
            _ => filters::transform::<Quad>(layout, w, flipped, part, to),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, Layout, Shared, filters};
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

    /// # Safety
    /// As `filters::transform`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn filters512(l: &Layout, w: &[f32], flipped: bool, part: (usize, usize), to: Shared) {
        // SAFETY: passed on.
        unsafe { filters::transform::<__m512>(l, w, flipped, part, to) }
    }

    /// # Safety
    /// As `filters::transform`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn filters256(l: &Layout, w: &[f32], flipped: bool, part: (usize, usize), to: Shared) {
        // SAFETY: passed on.
        unsafe { filters::transform::<__m256>(l, w, flipped, part, to) }
    }
}
