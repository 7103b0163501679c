//! The tests of jempp as a whole are in `tests/tests`; this library holds what they share.

mod fixture;

pub use fixture::{Fixture, FixtureError, Tensor};
