//! Only tests, in `tests/`: those that take minutes, so that `cargo test` does not.
