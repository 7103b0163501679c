//! Only comparisons, in `tests/`: the kernels timed against other libraries, which are built for this crate only.
