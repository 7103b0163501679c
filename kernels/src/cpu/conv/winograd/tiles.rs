//! Tiles of images, transformed.

use super::OUT;
use super::points::{Map, spread};
use crate::cpu::Simd;
use crate::cpu::conv::Norm;
use crate::cpu::conv::micro::Vector;

/// Images and a slice of their channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'a> {
    pub src: &'a [f32],
    pub norm: Option<&'a Norm<'a, f32>>,
    pub simd: Simd,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// The first channel, how many, and how many there is room for.
    pub first: usize,
    pub len: usize,
    pub room: usize,
}

impl Slice<'_> {
    /// Copies a window `columns` wide, whose top left corner is at `(top, left)`, to fill `to`: normalised if there is a
    /// norm, zeros outside the image and beyond the channels.
    fn window(&self, image: usize, (top, left): (isize, isize), columns: usize, to: &mut [f32]) {
        let size = self.h * self.w * self.c;
        let src = &self.src[image * size..(image + 1) * size];
        let before = (-left).clamp(0, columns as isize) as usize;
        let start = left.max(0) as usize;
        let used = self.w.saturating_sub(start).min(columns - before);
        for (y, to) in to.chunks_exact_mut(columns * self.room).enumerate() {
            let y = top + y as isize;
            if y < 0 || y >= self.h as isize {
                to.fill(0.0);
                continue;
            }
            let from = &src[(y as usize * self.w + start) * self.c..][..used * self.c];
            let (zeros, rest) = to.split_at_mut(before * self.room);
            let (to, after) = rest.split_at_mut(used * self.room);
            zeros.fill(0.0);
            after.fill(0.0);
            if self.room == self.c {
                to.copy_from_slice(from);
                self.normalise(image, to);
                continue;
            }
            for (to, from) in to.chunks_exact_mut(self.room).zip(from.chunks_exact(self.c)) {
                let (to, after) = to.split_at_mut(self.len);
                to.copy_from_slice(&from[self.first..][..self.len]);
                self.normalise(image, to);
                after.fill(0.0);
            }
        }
    }

    fn normalise(&self, image: usize, pixels: &mut [f32]) {
        if let Some(norm) = self.norm {
            norm.apply(self.simd, image, self.first..self.first + self.len, pixels);
        }
    }
}

/// Elements of a strip that a row of tiles may need.
pub(super) fn strip_len(size: usize, across: usize, room: usize) -> usize {
    size * (across * OUT + size - OUT) * room
}

/// Transforms a row of tiles of `I × I` pixels from row `top` on, the first of which begins `pad` columns left of the image,
/// to `[across, room]` at each of 36 places. Pixels are read where they lie if nothing is to be done to them.
///
/// # Safety
/// The instruction set of `V` is present; `strip` has the length that `strip_len` says, and `to` is writable as described.
#[inline(always)]
pub(super) unsafe fn row<V: Vector, M: Map<I, 6>, const I: usize>(
    slice: &Slice<'_>,
    image: usize,
    (top, pad): (isize, usize),
    across: usize,
    strip: &mut [f32],
    (to, place): (*mut f32, usize),
) {
    let room = slice.room;
    let inside = |first: isize, end: usize| first >= 0 && first + I as isize <= end as isize;
    let as_is = slice.norm.is_none() && room == slice.len && inside(top, slice.h);
    let columns = across * OUT + I - OUT;
    if !as_is {
        slice.window(image, (top, -(pad as isize)), columns, &mut strip[..I * columns * room]);
    }
    for t in 0..across {
        let left = (t * OUT) as isize - pad as isize;
        let (from, row, column) = if !as_is {
            (strip[t * OUT * room..].as_ptr(), columns * room, room)
        } else if inside(left, slice.w) {
            let pixel = (image * slice.h + top as usize) * slice.w + left as usize;
            (slice.src[pixel * slice.c + slice.first..].as_ptr(), slice.w * slice.c, slice.c)
        } else {
            slice.window(image, (top, left), I, &mut strip[..I * I * room]);
            (strip.as_ptr(), I * room, room)
        };
        for c in (0..room).step_by(V::LANES) {
            // SAFETY: the tile lies in the strip, or inside the image.
            unsafe { spread::<V, M, I, 6>((from.add(c), row, column), to.add(t * room + c), place) };
        }
    }
}
