//! Evaluation of trained joint energy-based models.
//!
//! | module | what is in it |
//! |---|---|
//! | `evaluator` | [`Evaluator`]: a model and images, with one method per evaluation |
//! | [`summary`] | all evaluations into one folder, as `jempp-cli eval all` runs them |
//! | [`calibration`] | accuracy, ECE, MCE, NLL, Brier score, temperature scaling |
//! | [`ood`] | out-of-distribution detection: AUROC, FPR95, AUPR |
//! | [`attack`] | accuracy under PGD attack, and an audit for gradient masking |
//! | [`fid`], [`inception`] | Fréchet Inception distance and Inception score, on our own InceptionV3 |
//! | [`sampling`] | drawing samples with settings that override those of training |
//! | [`samples`] | diagnostics of samples and of the replay buffer |
//! | [`figures`], [`report`] | SVG charts, and the HTML page |
//! | [`scores`] | a model's scores of many images |
//! | `cache` | finished parts of an evaluation, kept as files |
//! | `subset` | the choice of images where not all are evaluated |
//! | `estimate`, `protocol`, `progress` | [`Estimate`]: confidence intervals, [`Protocol`]: measurement conditions, [`ProgressFn`] |
//!
//! Invariants: every number comes with its [`Protocol`]; everything random depends only on (seed, use, image), so that an
//! evaluation that is resumed, or computed in batches of another size, gives the same numbers; a bounded number of images is
//! in memory at a time.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod attack;
mod cache;
pub mod calibration;
mod estimate;
mod evaluator;
pub mod fid;
pub mod figures;
pub mod inception;
pub mod ood;
mod progress;
mod protocol;
pub mod report;
pub mod samples;
pub mod sampling;
pub mod scores;
mod subset;
pub mod summary;

pub use estimate::Estimate;
pub use evaluator::Evaluator;
pub use progress::ProgressFn;
pub use protocol::Protocol;
