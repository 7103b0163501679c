//! The section `eval`: how models are evaluated.

use jempp_data::config::rows::{self, Range};

rows::choice! {
    /// Which batch-normalisation statistics evaluation uses.
    pub enum EvalBn {
        /// Recomputed over the training images at the end.
        Recalibrated = "recalibrated",
        /// The running ones, as published.
        Running = "running",
    }
}

rows::section! {
    /// Evaluation.
    pub struct EvalConfig, "eval." {
        /// BatchNorm statistics: recomputed over the training set, or the running ones (published code); with
        /// train.bn = "frozen" always the latter.
        bn: EvalBn = EvalBn::Recalibrated;
        /// Number of batches over which BatchNorm statistics are recomputed; 0: the whole training set.
        recalibration_batches: usize = 0, in Range::Whole(0, u64::MAX), unit "batches of train.batch_size";
        /// Number of bins of the expected calibration error (ECE).
        ece_bins: usize = 20, in Range::Whole(1, 10_000), unit "bins";
    }
}
