//! Transforming tiles of images.

use super::OUT;
use super::transforms::{TileTransform, strided, transform_tile_to};
use crate::cpu::Simd;
use crate::cpu::conv::Prologue;
use crate::cpu::vector::Arithmetic;

/// Images and a slice of their channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'a> {
    pub src: &'a [f32],
    pub prologue: Option<&'a Prologue<'a, f32>>,
    pub simd: Simd,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// The first channel, the number of channels, and the number that buffers have room for.
    pub first: usize,
    pub len: usize,
    pub room: usize,
}

impl Slice<'_> {
    /// Copies a strip `columns` wide, whose top left corner is at `(top, −pad)`, to fill `to`: normalised if there is a
    /// prologue, zeros outside the image and beyond the channels.
    ///
    /// # Safety
    /// The instruction set of `V` is present.
    #[inline(always)]
    unsafe fn strip<V: Arithmetic>(
        &self,
        image: usize,
        (top, pad): (isize, usize),
        columns: usize,
        to: &mut [f32],
    ) {
        let size = self.h * self.w * self.c;
        let src = &self.src[image * size..(image + 1) * size];
        let used = self.w.min(columns - pad);
        for (y, to) in to.chunks_exact_mut(columns * self.room).enumerate() {
            let y = top + y as isize;
            if y < 0 || y >= self.h as isize {
                to.fill(0.0);
                continue;
            }
            let from = &src[y as usize * self.w * self.c..][..used * self.c];
            let (zeros, rest) = to.split_at_mut(pad * self.room);
            let (to, after) = rest.split_at_mut(used * self.room);
            zeros.fill(0.0);
            after.fill(0.0);
            match self.prologue {
                // SAFETY: as the caller guarantees.
                Some(prologue) if self.room == self.len => unsafe {
                    self.normalised::<V>(prologue, image, from, to)
                },
                _ => self.copy(image, from, to),
            }
        }
    }

    fn copy(&self, image: usize, from: &[f32], to: &mut [f32]) {
        for (to, from) in to.chunks_exact_mut(self.room).zip(from.chunks_exact(self.c)) {
            let (to, after) = to.split_at_mut(self.len);
            to.copy_from_slice(&from[self.first..][..self.len]);
            if let Some(prologue) = self.prologue {
                prologue.apply(self.simd, image, self.first..self.first + self.len, to);
            }
            after.fill(0.0);
        }
    }

    /// Copies and normalises like [`Prologue::apply`], with operations in the same order, for whole vectors of
    /// channels.
    ///
    /// # Safety
    /// The instruction set of `V` is present.
    #[inline(always)]
    unsafe fn normalised<V: Arithmetic>(
        &self,
        prologue: &Prologue<'_, f32>,
        image: usize,
        from: &[f32],
        to: &mut [f32],
    ) {
        let (mean, scale, shift) = prologue.of(image);
        let channels = self.first..self.first + self.len;
        let (mean, scale, shift) = (&mean[channels.clone()], &scale[channels.clone()], &shift[channels]);
        let pixels = (from.len() / self.c).min(to.len() / self.len);
        for c in (0..self.len).step_by(V::LANES) {
            // SAFETY: both slices have this many pixels, of `c` and of `len` channels, and `len` is a multiple of the
            // lanes.
            unsafe {
                let leak = V::splat(&prologue.leak);
                let at = |v: &[f32]| v.as_ptr().wrapping_add(c);
                let (mean, scale, shift) = (V::load(at(mean)), V::load(at(scale)), V::load(at(shift)));
                for p in 0..pixels {
                    let x = V::load(from.as_ptr().add(p * self.c + self.first + c));
                    let z = x.sub(mean).mul(scale).add(shift);
                    z.leaky(leak).store(to.as_mut_ptr().add(p * self.len + c));
                }
            }
        }
    }
}

/// Elements of a strip that is large enough for a row of tiles.
pub(super) fn strip_len(size: usize, across: usize, room: usize) -> usize {
    size * (across * OUT + size - OUT) * room
}

/// Transforms a row of tiles of `I × I` pixels from row `top` on, the first of which begins `pad` columns left of the
/// image, to `[across, room]` at each of 36 positions. Pixels are read in place if they are not normalised.
///
/// # Safety
/// The instruction set of `V` is present; `strip` has the length that `strip_len` says, and `to` is writable as described.
#[inline(always)]
pub(super) unsafe fn row<V: Arithmetic, M: TileTransform<I, 6>, const I: usize>(
    slice: &Slice<'_>,
    image: usize,
    (top, pad): (isize, usize),
    across: usize,
    strip: &mut [f32],
    (to, position): (*mut f32, usize),
) {
    let room = slice.room;
    if slice.prologue.is_some() || room != slice.len {
        let columns = across * OUT + I - OUT;
        // SAFETY: as the caller guarantees; tile t reads columns up to 4·t + I − 1 < columns of the strip.
        unsafe {
            slice.strip::<V>(image, (top, pad), columns, &mut strip[..I * columns * room]);
            for t in 0..across {
                for c in (0..room).step_by(V::LANES) {
                    let from = strided(strip.as_ptr().add(t * OUT * room + c), columns * room, room);
                    transform_tile_to::<V, M, I, 6>(from, to.add(t * room + c), position);
                }
            }
        }
        return;
    }
    let zeros = &mut strip[..room];
    zeros.fill(0.0);
    let src = slice.src[image * slice.h * slice.w * slice.c..][..slice.h * slice.w * slice.c].as_ptr();
    for t in 0..across {
        let mut table = [[zeros.as_ptr(); I]; I];
        for (i, table) in table.iter_mut().enumerate() {
            let y = top + i as isize;
            if y < 0 || y >= slice.h as isize {
                continue;
            }
            for (j, at) in table.iter_mut().enumerate() {
                let x = (t * OUT + j).wrapping_sub(pad);
                if x < slice.w {
                    *at = src.wrapping_add((y as usize * slice.w + x) * slice.c + slice.first);
                }
            }
        }
        for c in (0..room).step_by(V::LANES) {
            // SAFETY: all of the table points at pixels of the image or at zeros.
            unsafe {
                transform_tile_to::<V, M, I, 6>(
                    |i, j| table[i][j].wrapping_add(c),
                    to.add(t * room + c),
                    position,
                );
            }
        }
    }
}
