//! A recorded-tape autodiff engine.
#![forbid(unsafe_code)]

pub mod rng;
