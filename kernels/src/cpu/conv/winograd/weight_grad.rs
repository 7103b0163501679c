//! The gradient of the filters: tiles of inputs and of output gradients are transformed, and their products summed over
//! the tiles.

use super::product::outer;
use super::tiles::{self, Slice};
use super::transforms::{FilterGradTransform, GradTransform, InputTransform, strided, transform_tile};
use super::{IN, OUT, POSITIONS, Shared};
use crate::conv_shape::ConvShape;
use crate::cpu::conv::prefetch::Prefetch;
use crate::cpu::conv::{ConvInput, Prologue, lanes};
use crate::cpu::vector::{Arithmetic, Quad};
use crate::cpu::{Cpu, GRAIN, Level, Simd, for_parts};
use core::ops::Range;

/// A prepared weight gradient of a convolution of stride 1 by 3×3 filters.
///
/// A task is a block of filters × input channels, whose 36 sums stay in the cache, and a shard of the tiles.
#[derive(Debug)]
pub(in crate::cpu::conv) struct WinogradGrad {
    shape: ConvShape,
    /// Channels in a block, multiples of [`UNIT`].
    cs: usize,
    ks: usize,
    /// Rows of tiles transformed at once.
    chunk: usize,
    shards: usize,
}

/// Channels in a unit, and the most units in a block.
const UNIT: usize = 16;
const UNITS: usize = 4;
/// Tiles × channels, of inputs and output gradients together, of a transformed chunk.
const CHUNK: usize = 2048;
/// The least tiles of a shard: with fewer, adding up the shards' sums takes noticeable time.
const TILES: usize = 64;
/// Tasks, if there are enough tiles.
const TASKS: usize = 32;

/// Channels of equal blocks.
fn block(channels: usize) -> usize {
    let units = channels.div_ceil(UNIT);
    units.div_ceil(units.div_ceil(UNITS)) * UNIT
}

impl WinogradGrad {
    pub(crate) fn new(shape: ConvShape) -> Self {
        let (cs, ks) = (block(shape.c), block(shape.k));
        let (down, across) = (shape.oh().div_ceil(OUT), shape.ow().div_ceil(OUT));
        let chunk = (CHUNK / (cs + ks)).max(32).div_ceil(across);
        let blocks = shape.c.div_ceil(cs) * shape.k.div_ceil(ks);
        // A fixed number of partial sums, so that the order of additions never depends on threads.
        let shards =
            (shape.n * down * across / TILES).clamp(1, TASKS.div_ceil(blocks)).min(shape.n * down).max(1);
        Self { shape, cs, ks, chunk, shards }
    }

    /// Elements of a thread's strips of inputs and output gradients, these transformed, and the sums.
    fn scratch(&self, lanes: usize) -> [usize; 5] {
        let across = self.shape.ow().div_ceil(OUT);
        let tiles = self.chunk * across;
        [
            tiles::strip_len(IN, across, self.cs),
            tiles::strip_len(OUT, across, self.ks),
            POSITIONS * (tiles * self.cs + lanes),
            POSITIONS * (tiles * self.ks + lanes),
            POSITIONS * (self.ks * self.cs + lanes),
        ]
    }

    fn partial_len(&self) -> usize {
        if self.shards > 1 { self.shards * self.shape.w_len() } else { 0 }
    }

    pub(crate) fn workspace(&self, cpu: &Cpu) -> usize {
        self.partial_len() + cpu.pool.threads() * self.scratch(lanes(cpu.simd)).iter().sum::<usize>()
    }

    pub(crate) fn run(
        &self,
        cpu: &Cpu,
        x: ConvInput<'_, f32>,
        dy: &[f32],
        dw: &mut [f32],
        workspace: &mut [f32],
    ) {
        let s = &self.shape;
        assert_eq!((x.x.len(), dy.len(), dw.len()), (s.x_len(), s.y_len(), s.w_len()));
        let (partial, scratch) = workspace.split_at_mut(self.partial_len());
        let each = scratch.len() / cpu.pool.threads();
        let out = Shared(if self.shards > 1 { partial.as_mut_ptr() } else { dw.as_mut_ptr() });
        let scratch = Shared(scratch.as_mut_ptr());
        let (c_blocks, k_blocks) = (s.c.div_ceil(self.cs), s.k.div_ceil(self.ks));
        let blocks = c_blocks * k_blocks;
        cpu.pool.run(self.shards * blocks, &|t, worker| {
            let (shard, c, k) = (t / blocks, t % c_blocks * self.cs, t % blocks / c_blocks * self.ks);
            let all = s.n * s.oh().div_ceil(OUT);
            let rows = shard * all / self.shards..(shard + 1) * all / self.shards;
            // The task that this thread will probably take next.
            let next = ((t + cpu.pool.threads()) / blocks * all / self.shards).min(all);
            // SAFETY: each worker has a part of the scratch of its own; each task its own shard or its own channels
            // of one; the instruction set is present, since `simd` was detected.
            unsafe {
                let scratch = core::slice::from_raw_parts_mut(scratch.get().add(worker * each), each);
                let to = out.get().add(shard * s.w_len());
                let task = Task { plan: self, simd: cpu.simd, x, dy, c, k, next };
                match cpu.simd.level() {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => x86::task512(&task, rows, to, scratch),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => x86::task256(&task, rows, to, scratch),
                    _ => task.run::<Quad, 4, 4>(rows, to, scratch),
                }
            }
        });
        if self.shards > 1 {
            sum_shards(cpu, partial, dw);
        }
    }
}

/// Adds the partial sums of all shards, in order.
pub(in crate::cpu::conv) fn sum_shards(cpu: &Cpu, partial: &[f32], dw: &mut [f32]) {
    let len = dw.len();
    for_parts(cpu, dw, GRAIN, |t, dw| {
        let at = t * GRAIN;
        dw.copy_from_slice(&partial[at..at + dw.len()]);
        for shard in partial.chunks_exact(len).skip(1) {
            for (d, p) in dw.iter_mut().zip(&shard[at..]) {
                *d += p;
            }
        }
    });
}

struct Task<'a> {
    plan: &'a WinogradGrad,
    simd: Simd,
    x: ConvInput<'a, f32>,
    dy: &'a [f32],
    /// First input channel and first filter.
    c: usize,
    k: usize,
    /// First row of tiles of the thread's next task, for prefetching.
    next: usize,
}

impl Task<'_> {
    fn slice<'a, V: Arithmetic>(
        &self,
        src: &'a [f32],
        prologue: Option<&'a Prologue<'a, f32>>,
        (h, w, c): (usize, usize, usize),
        (first, most): (usize, usize),
    ) -> Slice<'a> {
        let len = (c - first).min(most);
        Slice { src, prologue, simd: self.simd, h, w, c, first, len, room: len.next_multiple_of(V::LANES) }
    }

    /// The pixels under rows of tiles, if this task needs all of their channels.
    fn rows<'a>(&self, of: &Slice<'a>, rows: &Range<usize>) -> &'a [f32] {
        let down = self.plan.shape.oh().div_ceil(OUT);
        let first = |row: usize| ((row / down * of.h + row % down * OUT) * of.w * of.c).min(of.src.len());
        if of.len == of.c { &of.src[first(rows.start)..first(rows.end)] } else { &[] }
    }

    /// # Safety
    /// The instruction set of `V` is present; `to` is the filters' gradient, and no other task writes these channels.
    #[inline(always)]
    unsafe fn run<V: Arithmetic, const MR: usize, const MR1: usize>(
        &self,
        rows: Range<usize>,
        to: *mut f32,
        scratch: &mut [f32],
    ) {
        let (p, s) = (self.plan, &self.plan.shape);
        let [x_strip, y_strip, x_positions, y_positions, _] = p.scratch(V::LANES);
        let (x_strip, rest) = scratch.split_at_mut(x_strip);
        let (y_strip, rest) = rest.split_at_mut(y_strip);
        let (x_positions, rest) = rest.split_at_mut(x_positions);
        let (y_positions, sums) = rest.split_at_mut(y_positions);
        let xs = self.slice::<V>(self.x.x, self.x.prologue.as_ref(), (s.h, s.w, s.c), (self.c, p.cs));
        let ys = self.slice::<V>(self.dy, None, (s.oh(), s.ow(), s.k), (self.k, p.ks));
        let (down, across) = (s.oh().div_ceil(OUT), s.ow().div_ceil(OUT));
        let mut row = rows.start;
        while row < rows.end {
            let end = (row + p.chunk).min(rows.end);
            let tiles = (end - row) * across;
            let (x_stride, y_stride) = (tiles * xs.room + V::LANES, tiles * ys.room + V::LANES);
            // SAFETY: scratch has the sizes that `scratch` says, for a chunk's tiles or fewer.
            unsafe {
                for (i, row) in (row..end).enumerate() {
                    let (image, top) = (row / down, (row % down * OUT) as isize);
                    let to = (x_positions.as_mut_ptr().add(i * across * xs.room), x_stride);
                    tiles::row::<V, InputTransform, IN>(
                        &xs,
                        image,
                        (top - s.pad as isize, s.pad),
                        across,
                        x_strip,
                        to,
                    );
                    let to = (y_positions.as_mut_ptr().add(i * across * ys.room), y_stride);
                    tiles::row::<V, GradTransform, OUT>(&ys, image, (top, 0), across, y_strip, to);
                }
                let begin = row == rows.start;
                let next = if end < rows.end { end } else { self.next };
                let next = next..(next + p.chunk).min(s.n * down);
                let mut prefetch =
                    Prefetch::new([self.rows(&xs, &next), self.rows(&ys, &next), &[], &[]], POSITIONS);
                for position in 0..POSITIONS {
                    prefetch.fetch();
                    let x = x_positions.as_ptr().add(position * x_stride);
                    let y = y_positions.as_ptr().add(position * y_stride);
                    let sum = sums.as_mut_ptr().add(position * (ys.room * xs.room + V::LANES));
                    outer::<V, MR, MR1>((y, ys.room), (x, xs.room), tiles, begin, sum);
                }
            }
            row = end;
        }
        // SAFETY: as the caller guarantees.
        unsafe { self.finish::<V>(&xs, &ys, sums, to) };
    }

    /// Transforms the sums back.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn finish<V: Arithmetic>(&self, xs: &Slice<'_>, ys: &Slice<'_>, sums: &[f32], to: *mut f32) {
        let position = ys.room * xs.room + V::LANES;
        for k in 0..ys.len {
            for c in (0..xs.room).step_by(V::LANES) {
                let lanes = (xs.len - c).min(V::LANES);
                // SAFETY: filter k and these channels are of the gradient; the sums were written.
                unsafe {
                    let from = sums.as_ptr().add(k * xs.room + c);
                    let taps =
                        transform_tile::<V, FilterGradTransform, 6, 3>(strided(from, 6 * position, position));
                    for (tap, y) in taps.as_flattened().iter().enumerate() {
                        let to = to.add(((self.k + k) * 9 + tap) * xs.c + self.c + c);
                        if lanes == V::LANES {
                            y.store(to);
                        } else {
                            let mut row = [0.0f32; 16];
                            y.store(row.as_mut_ptr());
                            core::ptr::copy_nonoverlapping(row.as_ptr(), to, lanes);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Task;
    use core::arch::x86_64::{__m256, __m512};
    use core::ops::Range;

    /// # Safety
    /// As `Task::run`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn task512(t: &Task<'_>, rows: Range<usize>, to: *mut f32, scratch: &mut [f32]) {
        // SAFETY: passed on.
        unsafe { t.run::<__m512, 8, 16>(rows, to, scratch) }
    }

    /// # Safety
    /// As `Task::run`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn task256(t: &Task<'_>, rows: Range<usize>, to: *mut f32, scratch: &mut [f32]) {
        // SAFETY: passed on.
        unsafe { t.run::<__m256, 4, 8>(rows, to, scratch) }
    }
}
