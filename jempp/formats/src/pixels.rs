//! Scaling of pixels from bytes, 0 to 255, to the inputs of networks, [−1, 1].

pub use kernels::ops::augment::value;
