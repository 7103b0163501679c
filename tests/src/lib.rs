//! Whole-system tests of jempp live in `tests/tests`; this library holds what they share.

mod fixture;

pub use fixture::{Fixture, FixtureError, Tensor};
