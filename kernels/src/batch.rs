//! Rows of a batch: cutting out, putting back among zeros, and joining.

/// Puts `x` at row `start` of `out` (rows of `row` elements) and zeros elsewhere.
pub fn embed<T: Copy + Default>(row: usize, start: usize, x: &[T], out: &mut [T]) {
    let at = start * row;
    out[..at].fill(T::default());
    out[at..at + x.len()].copy_from_slice(x);
    out[at + x.len()..].fill(T::default());
}

/// Joins `parts` one after the other.
pub fn concat<T: Copy>(parts: &[&[T]], out: &mut [T]) {
    let mut at = 0;
    for p in parts {
        out[at..at + p.len()].copy_from_slice(p);
        at += p.len();
    }
}
