//! Batches divided into groups, which batch norm normalises independently of each other.

use crate::error::{Error, Result};
use crate::op::{Op, ensure};
use crate::spec::Spec;
use kernels::ops::bn_stats::Grouped;

/// The shape of an N×H×W×C batch whose images are divided into `groups` (images per group, in order). The groups must
/// not be empty and must add up to N.
pub(super) fn grouped(x: &Spec, groups: &[usize]) -> core::result::Result<Grouped, String> {
    ensure!(x.rank() == 4, "needs N×H×W×C, got {x}");
    ensure!(!groups.contains(&0), "a group is empty: {groups:?}");
    ensure!(
        groups.iter().sum::<usize>() == x.first(),
        "groups {groups:?} do not add up to {} images",
        x.first()
    );
    Ok(Grouped { groups: groups.to_vec(), pixels: x.row_len() / x.last(), c: x.last() })
}

/// [`grouped`] for CUDA kernels, whose shapes were checked when the op was recorded.
pub(super) fn grouped_or_unsupported(op: &dyn Op, x: &Spec, groups: &[usize]) -> Result<Grouped> {
    grouped(x, groups).map_err(|_| Error::Unsupported { op: op.name(), why: "its groups do not fit" })
}
