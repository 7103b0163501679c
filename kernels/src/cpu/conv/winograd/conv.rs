//! The forward pass and the input gradient.

use super::block::Block;
use super::filters::{self, GROUP, Layout};
use super::many_channels::ManyChannels;
use super::tiles::{self, Slice};
use super::transforms::{OutputTransform, strided, transform_tile};
use super::{IN, OUT, POSITIONS, Shared};
use crate::conv_shape::ConvShape;
use crate::cpu::conv::{Add, ConvInput, Epilogue, lanes};
use crate::cpu::vector::{Arithmetic, Quad};
use crate::cpu::{Cpu, Level, for_parts2_scratch};
use core::ops::Range;

/// A prepared convolution of stride 1 by 3×3 filters.
#[derive(Debug)]
pub(in crate::cpu::conv) struct Winograd {
    pub(super) n: usize,
    /// Source image; output image; padding before the first row and column.
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
    pub(super) oh: usize,
    pub(super) ow: usize,
    pub(super) k: usize,
    pub(super) pad: usize,
    /// Whether filters are rotated by 180° and their channels exchanged, for the input gradient.
    pub(super) backward: bool,
    /// Images in a block, or output rows in a block when a block is part of an image.
    pub(super) images: usize,
    pub(super) rows: usize,
    /// Rows of tiles transformed at once.
    pub(super) chunk: usize,
}

/// Tiles × channels of a transformed chunk, so that it and its products stay in the second-level cache.
const CHUNK: usize = 4096;
/// The least and the most tiles of a chunk, if the shape allows.
const TILES: (usize, usize) = (16, 32);

impl Winograd {
    pub(crate) fn forward(s: &ConvShape) -> Self {
        Self::new(s.n, (s.h, s.w, s.c), (s.oh(), s.ow(), s.k), s.pad, false)
    }

    pub(crate) fn input_grad(s: &ConvShape) -> Self {
        Self::new(s.n, (s.oh(), s.ow(), s.k), (s.h, s.w, s.c), 2 - s.pad, true)
    }

    fn new(
        n: usize,
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
        Self { n, h, w, c, oh, ow, k, pad, backward, images, rows, chunk }
    }

    pub(crate) fn block_len(&self) -> usize {
        self.images * self.rows * self.ow * self.k
    }

    pub(crate) fn blocks(&self) -> usize {
        self.n.div_ceil(self.images) * (self.oh / self.rows)
    }

    pub(super) fn layout(&self, lanes: usize) -> Layout {
        Layout { lanes, depth: self.c, k: self.k }
    }

    /// Elements of a thread's strip, transformed chunk, and products.
    pub(super) fn scratch(&self, lanes: usize) -> [usize; 3] {
        let room = self.c.next_multiple_of(lanes);
        let tiles = self.chunk * self.ow.div_ceil(OUT);
        [
            tiles::strip_len(IN, self.ow.div_ceil(OUT), room),
            POSITIONS * (tiles * room + lanes),
            POSITIONS * (tiles * self.layout(lanes).vectors(0) + 1) * lanes,
        ]
    }

    pub(crate) fn workspace(&self, cpu: &Cpu) -> usize {
        let lanes = lanes(cpu.simd);
        let bias = self.k.next_multiple_of(2 * lanes);
        if let Some(wide) = ManyChannels::new(self) {
            return bias + wide.workspace(lanes, cpu.pool.threads());
        }
        self.layout(lanes).len() + bias + cpu.pool.threads() * self.scratch(lanes).iter().sum::<usize>()
    }

    pub(crate) fn run(
        &self,
        cpu: &Cpu,
        src: ConvInput<'_, f32>,
        w: &[f32],
        bias: Option<&[f32]>,
        add: &Add<'_, f32>,
        dst: &mut [f32],
        epilogue: Epilogue<'_, f32>,
        workspace: &mut [f32],
    ) {
        assert_eq!(
            (src.x.len(), dst.len()),
            (self.n * self.h * self.w * self.c, self.n * self.oh * self.ow * self.k)
        );
        assert_eq!(w.len(), self.k * 9 * self.c);
        let layout = self.layout(lanes(cpu.simd));
        let (packed_bias, workspace) = workspace.split_at_mut(self.k.next_multiple_of(2 * layout.lanes));
        packed_bias.fill(0.0);
        if let Some(b) = bias {
            packed_bias[..self.k].copy_from_slice(b);
        }
        let call = Call { plan: self, cpu, src, w, bias: packed_bias, add, layout };
        match ManyChannels::new(self) {
            Some(wide) => wide.run(&call, dst, epilogue, workspace),
            None => call.run(dst, epilogue, workspace),
        }
    }
}

/// The arguments of a run.
pub(super) struct Call<'a> {
    pub plan: &'a Winograd,
    pub cpu: &'a Cpu,
    pub src: ConvInput<'a, f32>,
    pub w: &'a [f32],
    /// Padded to whole blocks.
    pub bias: &'a [f32],
    pub add: &'a Add<'a, f32>,
    pub layout: Layout,
}

impl Call<'_> {
    fn run(&self, dst: &mut [f32], epilogue: Epilogue<'_, f32>, workspace: &mut [f32]) {
        let (p, cpu, layout) = (self.plan, self.cpu, &self.layout);
        let (filters, scratch) = workspace.split_at_mut(layout.len());
        let groups = p.c.div_ceil(GROUP);
        let to = Shared(filters.as_mut_ptr());
        cpu.pool.run(layout.blocks() * groups, &|t, _| {
            let (b, group) = (t / groups, t % groups);
            let vectors = layout.vectors(b);
            let at = layout.at(b) + group * GROUP * vectors * layout.lanes;
            // SAFETY: filters have this layout; each task has its own channels, and the instruction set was detected.
            unsafe { transform(self, (b, group), (to.get().add(at), layout.position_len(vectors))) };
        });
        let filters = &*filters;
        let size = p.block_len();
        let Epilogue { parts, part_len, also_read, run } = epilogue;
        for_parts2_scratch(cpu, dst, size, parts, part_len, scratch, |task, dst, part, scratch| {
            let block =
                Block { call: self, filters, task, images: dst.len() / (p.rows * p.ow * p.k), also_read };
            block.run(dst, scratch);
            run(task * size, dst, part);
        });
    }

    /// First image of a block and its first row.
    pub(super) fn first(&self, task: usize) -> (usize, usize) {
        let per_image = self.plan.oh / self.plan.rows;
        (task / per_image * self.plan.images, task % per_image * self.plan.rows)
    }

    pub(super) fn slice(&self, first: usize, len: usize) -> Slice<'_> {
        let (p, room) = (self.plan, len.next_multiple_of(self.layout.lanes));
        let (src, prologue, simd) = (self.src.x, self.src.prologue.as_ref(), self.cpu.simd);
        Slice { src, prologue, simd, h: p.h, w: p.w, c: p.c, first, len, room }
    }

    /// Transforms the products of rows of tiles and a block of channels back, and adds bias and addend. Positions of
    /// `products` are `position` elements apart.
    ///
    /// # Safety
    /// The instruction set of `V` is present; `products` has these tiles, and `dst` is block `task` of the result.
    #[inline(always)]
    pub(super) unsafe fn outputs<V: Arithmetic>(
        &self,
        task: usize,
        rows: Range<usize>,
        b: usize,
        (products, position): (*const f32, usize),
        dst: *mut f32,
    ) {
        let p = self.plan;
        let (down, across, vectors) = (p.rows.div_ceil(OUT), p.ow.div_ceil(OUT), self.layout.vectors(b));
        let residual = match self.add {
            Add::None => None,
            Add::From(r) => Some(r.as_ptr().wrapping_add(task * p.block_len())),
            Add::InPlace => Some(dst.cast_const()),
        };
        let mut from = products;
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
                        let y = transform_tile::<V, OutputTransform, 6, 4>(strided(
                            from.add(v * V::LANES),
                            6 * position,
                            position,
                        ));
                        for (i, y) in y.iter().enumerate().take(height) {
                            for (j, y) in y.iter().enumerate().take(breadth) {
                                let at = (pixel + i * p.ow + j) * p.k + k0;
                                store_output::<V>(
                                    residual.map(|r| r.add(at)),
                                    dst.add(at),
                                    lanes,
                                    y.add(bias),
                                );
                            }
                        }
                    }
                }
                from = from.wrapping_add(vectors * V::LANES);
            }
        }
    }
}

/// Stores `lanes` lanes of y plus the residual.
///
/// # Safety
/// The instruction set of `V` is present; `lanes` elements are readable and writable.
#[inline(always)]
unsafe fn store_output<V: Arithmetic>(residual: Option<*const f32>, to: *mut f32, lanes: usize, y: V) {
    // SAFETY: as the caller guarantees.
    unsafe {
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

/// [`filters::transform`] for the call's filters.
///
/// # Safety
/// As [`filters::transform`], with the lanes of the call's instruction set.
unsafe fn transform(call: &Call<'_>, part: (usize, usize), to: (*mut f32, usize)) {
    let (layout, w, flipped) = (&call.layout, call.w, call.plan.backward);
    // SAFETY: as the caller guarantees; the instruction set is present, since `simd` was detected.
    unsafe {
        match call.cpu.simd.level() {
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
    use super::{Layout, filters};
    use core::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// As `filters::transform`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn filters512(
        l: &Layout,
        w: &[f32],
        flipped: bool,
        part: (usize, usize),
        to: (*mut f32, usize),
    ) {
        // SAFETY: passed on.
        unsafe { filters::transform::<__m512>(l, w, flipped, part, to) }
    }

    /// # Safety
    /// As `filters::transform`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn filters256(
        l: &Layout,
        w: &[f32],
        flipped: bool,
        part: (usize, usize),
        to: (*mut f32, usize),
    ) {
        // SAFETY: passed on.
        unsafe { filters::transform::<__m256>(l, w, flipped, part, to) }
    }
}
