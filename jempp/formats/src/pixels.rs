//! Pixels as bytes, 0 to 255, and as the values that networks take, [−1, 1].

pub use kernels::ops::augment::value;
