//! Eigenvalues and eigenvectors of symmetric matrices, and products of matrices, in float64 on one thread.
//!
//! Matrices are row-major slices. Sums are formed in a fixed order without fused multiply-add, so results are the same on
//! every CPU.
//!
//! Not by a linear algebra crate: of the 2048×2048 matrices that FID has, nalgebra 0.35 took 32 s for the pairs and 17 s for the
//! eigenvalues where this took 10 s and 2 s (one thread each, on a busy machine), and faer 160 of 845 s of the whole build.
//!
//! Sources: Householder's reduction to tridiagonal form and the implicit QL algorithm, Martin, Reinsch and Wilkinson
//! (1968) and Dubrulle, Martin and Wilkinson (1968), as in EISPACK's `tred1`, `tred2`, `imtql1` and `imtql2`.

use jempp::{Error, Result};

/// Side of the tile of a product that is accumulated in registers.
const TILE: usize = 4;
/// Depth of a panel: summands of an entry that are accumulated in registers.
const DEPTH: usize = 256;
/// Columns of the eigenvector matrix that are rotated together, so that this part of it stays in the L2 cache.
const STRIP: usize = 32;
/// QL iterations for one eigenvalue; two suffice on average.
const MAX_ITERATIONS: usize = 64;

/// Adds AᵀB to the m×n matrix `c`; `a` is k×m and `b` is k×n. With `lower`, which needs m = n, only the lower triangle is
/// valid afterwards.
pub(super) fn add_product(c: &mut [f64], a: &[f64], m: usize, b: &[f64], n: usize, lower: bool) {
    if m == 0 || n == 0 {
        return;
    }
    for (a, b) in a.chunks(DEPTH * m).zip(b.chunks(DEPTH * n)) {
        let (left, right) = (packed(a, m), packed(b, n));
        for (i, left) in left.iter().enumerate() {
            let most = if lower { i + 1 } else { right.len() };
            for (j, right) in right[..most].iter().enumerate() {
                let mut tile = [[0.0; TILE]; TILE];
                for (x, y) in left.iter().zip(right) {
                    for (row, x) in tile.iter_mut().zip(x) {
                        row.iter_mut().zip(y).for_each(|(t, y)| *t += x * y);
                    }
                }
                let width = TILE.min(n - j * TILE);
                for (row, k) in tile.iter().zip(i * TILE..m) {
                    let out = &mut c[k * n + j * TILE..][..width];
                    out.iter_mut().zip(row).for_each(|(c, t)| *c += t);
                }
            }
        }
    }
}

/// The columns of `rows` packed into panels of [`TILE`], the last one padded with zeros.
fn packed(rows: &[f64], width: usize) -> Vec<Vec<[f64; TILE]>> {
    let panel = |at: usize| {
        let taken = TILE.min(width - at);
        let part = rows.chunks_exact(width).map(|row| {
            let mut out = [0.0; TILE];
            out[..taken].copy_from_slice(&row[at..at + taken]);
            out
        });
        part.collect()
    };
    (0..width).step_by(TILE).map(panel).collect()
}

/// Eigenvalues, unsorted, of the symmetric n×n matrix `a`. Only the lower triangle is read.
///
/// # Errors
/// [`Error::Internal`] if the iteration does not converge, as for values that are not finite.
pub(super) fn eigenvalues(mut a: Vec<f64>, n: usize) -> Result<Vec<f64>> {
    let mut t = tridiagonalise(&mut a, n);
    t.diagonalise(|_| ())?;
    Ok(t.diagonal)
}

/// Eigenvalues, unsorted, and orthonormal eigenvectors of the symmetric n×n matrix `a`, of which only the lower triangle is
/// read. Row i of the second result, n×n, is the eigenvector of eigenvalue i.
///
/// # Errors
/// Those of [`eigenvalues`].
pub(super) fn eigenvectors(mut a: Vec<f64>, n: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut t = tridiagonalise(&mut a, n);
    let mut vectors = reflections(&a, n, &t.half_norms);
    drop(a);
    let mut rotations = Vec::new();
    t.diagonalise(|r| rotations.push(r))?;
    // All rotations are applied to one strip of columns before the next, for the sake of the cache.
    let mut strip = vec![[0.0; STRIP]; n];
    for at in (0..n).step_by(STRIP) {
        let width = STRIP.min(n - at);
        for (to, from) in strip.iter_mut().zip(vectors.chunks_exact(n)) {
            to[..width].copy_from_slice(&from[at..at + width]);
        }
        for r in &rotations {
            r.apply(&mut strip);
        }
        for (from, to) in strip.iter().zip(vectors.chunks_exact_mut(n)) {
            to[at..at + width].copy_from_slice(&from[..width]);
        }
    }
    Ok((t.diagonal, vectors))
}

/// A symmetric tridiagonal matrix, and the scales of the reflections that led to it.
struct Tridiagonal {
    diagonal: Vec<f64>,
    /// Entry i couples rows i and i + 1; the last one is 0.
    off_diagonal: Vec<f64>,
    /// Half the squared norm of each Householder vector; 0 where no reflection was needed.
    half_norms: Vec<f64>,
}

/// Householder reduction of the lower triangle of `a`, from the last row to the first. Row i then holds, left of the
/// diagonal, the vector v of the reflection I − vvᵀ/h of the first i coordinates.
fn tridiagonalise(a: &mut [f64], n: usize) -> Tridiagonal {
    let (mut diagonal, mut off_diagonal, mut half_norms) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let mut p = vec![0.0; n];
    for i in (1..n).rev() {
        let (above, row) = a.split_at_mut(i * n);
        diagonal[i] = row[i];
        let v = &mut row[..i];
        let scale = v.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if v[..i - 1].iter().all(|v| *v == 0.0) {
            off_diagonal[i - 1] = v[i - 1];
            continue;
        }
        v.iter_mut().for_each(|v| *v /= scale);
        let square = dot(v, v);
        let length = -square.sqrt().copysign(v[i - 1]);
        off_diagonal[i - 1] = scale * length;
        let h = square - v[i - 1] * length;
        v[i - 1] -= length;
        half_norms[i] = h;
        // p = Av/h and w = p − v·(vᵀp/2h); then A becomes A − vwᵀ − wvᵀ.
        let p = &mut p[..i];
        p.fill(0.0);
        for (k, row) in above.chunks_exact(n).enumerate() {
            let (row, factor) = (&row[..=k], v[k]);
            p[k] += dot(&row[..k], &v[..k]) + row[k] * factor;
            p[..k].iter_mut().zip(row).for_each(|(p, a)| *p += factor * a);
        }
        p.iter_mut().for_each(|p| *p /= h);
        let half = dot(v, p) / (h + h);
        p.iter_mut().zip(v.iter()).for_each(|(p, v)| *p -= half * v);
        for (k, row) in above.chunks_exact_mut(n).enumerate() {
            let (x, y) = (v[k], p[k]);
            for ((a, v), p) in row[..=k].iter_mut().zip(v.iter()).zip(p.iter()) {
                *a -= x * p + y * v;
            }
        }
    }
    if n > 0 {
        diagonal[0] = a[0];
    }
    Tridiagonal { diagonal, off_diagonal, half_norms }
}

/// The product Q of the reflections in the rows of `a`: the original matrix is QᵀTQ with the tridiagonal T.
fn reflections(a: &[f64], n: usize, half_norms: &[f64]) -> Vec<f64> {
    let mut q = vec![0.0; n * n];
    (0..n).for_each(|i| q[i * (n + 1)] = 1.0);
    let mut p = vec![0.0; n];
    for i in (1..n).filter(|i| half_norms[*i] != 0.0) {
        let (v, h, p) = (&a[i * n..][..i], half_norms[i], &mut p[..i]);
        // Q becomes Q(I − vvᵀ/h). So far it differs from the identity only in its first i − 1 rows and columns.
        for (row, p) in q.chunks_exact(n).zip(p.iter_mut()) {
            *p = dot(&row[..i], v) / h;
        }
        for (row, p) in q.chunks_exact_mut(n).zip(p.iter()) {
            row[..i].iter_mut().zip(v).for_each(|(q, v)| *q -= p * v);
        }
    }
    q
}

/// A Givens rotation of coordinates `first` and `first + 1`.
struct Rotation {
    first: u32,
    cosine: f64,
    sine: f64,
}

impl Rotation {
    fn apply(&self, rows: &mut [[f64; STRIP]]) {
        let at = self.first as usize;
        let (one, two) = rows.split_at_mut(at + 1);
        for (a, b) in one[at].iter_mut().zip(&mut two[0]) {
            let (x, y) = (*a, *b);
            *b = self.sine * x + self.cosine * y;
            *a = self.cosine * x - self.sine * y;
        }
    }
}

impl Tridiagonal {
    /// Implicit QL: leaves the eigenvalues on the diagonal and calls `each` with every rotation.
    fn diagonalise(&mut self, mut each: impl FnMut(Rotation)) -> Result<()> {
        let (d, e) = (&mut self.diagonal, &mut self.off_diagonal);
        let norm = d.iter().zip(e.iter()).fold(0.0f64, |m, (d, e)| m.max(d.abs() + e.abs()));
        // Smaller off-diagonal entries are below the rounding error of the reduction.
        let least = norm * f64::EPSILON;
        for first in 0..d.len() {
            let mut iterations = 0;
            loop {
                let last = (first..d.len()).find(|m| e[*m].abs() <= least).unwrap_or(d.len() - 1);
                if last == first {
                    break;
                }
                iterations += 1;
                if iterations > MAX_ITERATIONS {
                    return Err(Error::Internal(
                        "the eigenvalues of a covariance matrix do not converge".into(),
                    ));
                }
                iterate(d, e, first, last, &mut each);
            }
        }
        Ok(())
    }
}

/// One implicit QL iteration on rows `first` to `last`.
fn iterate(d: &mut [f64], e: &mut [f64], first: usize, last: usize, each: &mut impl FnMut(Rotation)) {
    let half = (d[first + 1] - d[first]) / (2.0 * e[first]);
    let mut g = d[last] - d[first] + e[first] / (half + half.hypot(1.0).copysign(half));
    let (mut sine, mut cosine, mut shift) = (1.0, 1.0, 0.0);
    for i in (first..last).rev() {
        let (f, b) = (sine * e[i], cosine * e[i]);
        let r = f.hypot(g);
        e[i + 1] = r;
        if r == 0.0 {
            // The matrix splits here.
            d[i + 1] -= shift;
            e[last] = 0.0;
            return;
        }
        (sine, cosine) = (f / r, g / r);
        g = d[i + 1] - shift;
        let r = (d[i] - g) * sine + 2.0 * cosine * b;
        shift = sine * r;
        d[i + 1] = g + shift;
        g = cosine * r - b;
        each(Rotation { first: i as u32, cosine, sine });
    }
    d[first] -= shift;
    e[first] = g;
    e[last] = 0.0;
}

/// Dot product with eight partial sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (s, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *s += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Largest error per row, relative to the largest eigenvalue (residuals) or to 1 (orthonormality).
    const TOLERANCE: f64 = 8.0 * f64::EPSILON;

    /// Values in [−1, 1).
    fn noise(n: usize, mut state: u64) -> Vec<f64> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn symmetric(n: usize, state: u64) -> Vec<f64> {
        let x = noise(n * n, state);
        (0..n * n).map(|at| x[(at / n).max(at % n) * n + (at / n).min(at % n)]).collect()
    }

    /// ‖Av − λv‖ of every pair, ‖VVᵀ − I‖, and the values without vectors.
    fn check(a: &[f64], n: usize) {
        let (values, vectors) = eigenvectors(a.to_vec(), n).unwrap();
        assert_eq!(eigenvalues(a.to_vec(), n).unwrap(), values);
        let norm = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let most = TOLERANCE * n as f64;
        for (i, (value, v)) in values.iter().zip(vectors.chunks_exact(n)).enumerate() {
            for (k, row) in a.chunks_exact(n).enumerate() {
                let error = dot(row, v) - value * v[k];
                assert!(error.abs() <= most * norm, "{n}: {error:e} in vector {i}");
            }
            for (k, w) in vectors.chunks_exact(n).enumerate() {
                let want = f64::from(u8::from(i == k));
                assert!((dot(v, w) - want).abs() <= most, "{n}: {i} and {k}");
            }
        }
    }

    #[test]
    fn pairs_solve_the_equation() {
        for n in [1, 2, 3, 7, 33, 70] {
            check(&symmetric(n, n as u64), n);
            check(&vec![0.0; n * n], n);
            check(&vec![1.0; n * n], n);
        }
        // Rank-deficient, graded, and diagonal matrices.
        let (n, rows) = (40, noise(3 * 40, 9));
        let mut low = vec![0.0; n * n];
        add_product(&mut low, &rows, n, &rows, n, false);
        check(&low, n);
        let graded: Vec<f64> = symmetric(n, 4)
            .iter()
            .enumerate()
            .map(|(at, v)| v * 10f64.powi(-(((at / n) + (at % n)) as i32) / 4))
            .collect();
        check(&graded, n);
        check(&(0..n * n).map(|at| if at % (n + 1) == 0 { at as f64 } else { 0.0 }).collect::<Vec<_>>(), n);
    }

    /// The second difference has the eigenvalues 2 − 2cos(kπ/(n + 1)).
    #[test]
    fn known_eigenvalues() {
        let n = 50;
        let entry = |at: usize| match (at / n).abs_diff(at % n) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        };
        let mut values = eigenvalues((0..n * n).map(entry).collect(), n).unwrap();
        values.sort_by(f64::total_cmp);
        for (k, v) in values.iter().enumerate() {
            let want = 2.0 - 2.0 * ((k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64).cos();
            assert!((v - want).abs() < 1e-14, "{v} {want}");
        }
        assert!(eigenvalues(vec![f64::NAN; 9], 3).is_err());
        assert!(eigenvalues(vec![f64::INFINITY; 9], 3).is_err());
    }

    proptest! {
        #[test]
        fn products_are_sums(k in 0usize..9, m in 0usize..11, n in 0usize..11, deep in any::<bool>()) {
            let k = if deep { k + DEPTH } else { k };
            let (a, b) = (noise(k * m, 1), noise(k * n, 2));
            let mut c = vec![1.0; m * n];
            add_product(&mut c, &a, m, &b, n, false);
            for (at, c) in c.iter().enumerate() {
                let want: f64 = (0..k).map(|t| a[t * m + at / n] * b[t * n + at % n]).sum();
                prop_assert!((c - 1.0 - want).abs() < 1e-12);
            }
            let mut lower = vec![1.0; m * m];
            let mut whole = lower.clone();
            add_product(&mut lower, &a, m, &a, m, true);
            add_product(&mut whole, &a, m, &a, m, false);
            prop_assert!((0..m * m).all(|at| at % m > at / m || lower[at] == whole[at]));
        }
    }

    /// The size of InceptionV3's covariances. Prints the times; run it in release with `--ignored --nocapture`.
    #[test]
    #[ignore = "half a minute"]
    fn pairs_of_2048_rows() {
        let n = 2048;
        let a = symmetric(n, 3);
        let start = std::time::Instant::now();
        let (values, vectors) = eigenvectors(a.clone(), n).unwrap();
        println!("with vectors {:?}", start.elapsed());
        let start = std::time::Instant::now();
        assert_eq!(eigenvalues(a.clone(), n).unwrap(), values);
        println!("values alone {:?}", start.elapsed());
        let start = std::time::Instant::now();
        let mut product = vec![0.0; n * n];
        add_product(&mut product, &a, n, &vectors, n, false);
        println!("a product {:?}", start.elapsed());
        let error = (0..n).map(|i| (dot(&a[..n], &vectors[i * n..][..n]) - values[i] * vectors[i * n]).abs());
        let error = error.fold(0.0, f64::max);
        assert!(error < 1e-10, "{error:e}");
    }
}
