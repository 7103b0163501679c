//! What files may unpack to.
//!
//! Invariant: whatever the files claim, memory stays within a multiple of their length plus a number of bytes that the caller
//! chose.

/// Ratio of unpacked to packed length that is allowed beyond the absolute bound. Photographs reach 1 to 2, digits on white 5,
/// drawings, masks and shapes 100 and more.
pub const RATIO: u64 = 16;

/// What files may unpack to: a number of bytes, however short the file is, plus a multiple of its length. It bounds the
/// memory that a hostile file can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpack(u64);

impl Default for Unpack {
    /// 64 MiB.
    fn default() -> Self {
        Self::mebibytes(64)
    }
}

impl Unpack {
    /// Any file may unpack to `n` MiB.
    pub fn mebibytes(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// Any file may unpack to `n` bytes.
    pub fn bytes(n: u64) -> Self {
        Self(n)
    }

    /// The number of bytes that a file of `packed` bytes may unpack to.
    pub fn allowed(self, packed: u64, ratio: u64) -> u64 {
        packed.saturating_mul(ratio).saturating_add(self.0)
    }

    /// Why a file of `packed` bytes is refused that unpacks to `bytes`, and what lets it in.
    pub fn refusal(self, packed: u64, ratio: u64, bytes: u64) -> String {
        let (own, need) =
            (self.0 >> 20, bytes.saturating_sub(packed.saturating_mul(ratio)).div_ceil(1 << 20));
        format!(
            "the {packed} bytes on disk unpack to {bytes}, more than {ratio} times as many plus {own} MiB, as malicious files \
             do; if it is genuine, data.unpack_limit={need} lets it in (for predict --unpack-limit {need})"
        )
    }
}

/// The error of a reader that has reached its bound.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "it unpacks to more than {ratio} times its length plus {more} MiB, as malicious files do; if it is genuine, a larger \
     data.unpack_limit lets it in"
)]
pub struct Unbounded {
    ratio: u64,
    more: u64,
}

impl From<Unpack> for Unbounded {
    fn from(unpack: Unpack) -> Self {
        Self { ratio: RATIO, more: unpack.0 >> 20 }
    }
}
