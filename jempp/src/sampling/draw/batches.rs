//! Which chains run together.
//!
//! Invariants: every chain that was asked for is in one batch; with the statistics of the batch, all batches are full, and
//! classes are mixed in them as in training.

use super::{CHUNK, ChainBn, SampleOptions};
use crate::config::NormKind;
use crate::model::Model;

/// Chains that run together: their numbers. Those from the number asked for onwards are companions, whose images are dropped.
pub(super) type Batch = Vec<usize>;

/// The chains of all batches, and the classes of all chains, companions included.
pub(super) struct Batches {
    /// The batches.
    pub(super) batches: Vec<Batch>,
    /// Number of chains with the companions.
    pub(super) n: usize,
    /// A class for each of these, if they follow classes.
    pub(super) labels: Option<Vec<i32>>,
}

/// Whether chains see the statistics of their batch.
pub(super) fn are_coupled(model: &Model, options: &SampleOptions<'_>) -> bool {
    options.bn == ChainBn::Batch && model.network().config.norm == NormKind::Batch
}

impl Batches {
    /// The batches of all chains of `options`.
    pub(super) fn new(options: &SampleOptions<'_>, classes: usize, coupled: bool) -> Self {
        let n = options.n;
        let in_order = |n: usize| (0..n).collect::<Vec<_>>().chunks(CHUNK).map(<[_]>::to_vec).collect();
        match &options.labels {
            labels if !coupled => Self { batches: in_order(n), n, labels: labels.clone() },
            None => {
                let n = n.next_multiple_of(CHUNK);
                Self { batches: in_order(n), n, labels: None }
            }
            Some(labels) => Self::mixed(labels, classes),
        }
    }

    /// Spreads chains of classes over batches, each with as many chains of a class as there are places per class, and fills
    /// them up with companions of the classes that have the fewest.
    fn mixed(labels: &[i32], classes: usize) -> Self {
        let places = CHUNK.div_ceil(classes.max(1));
        let class = |l: i32| usize::try_from(l).unwrap_or(0).min(classes - 1);
        let (mut batches, mut counts) = (Vec::<Batch>::new(), Vec::<Vec<usize>>::new());
        for (i, l) in labels.iter().enumerate() {
            let free = |b: usize| batches[b].len() < CHUNK && counts[b][class(*l)] < places;
            let b = (0..batches.len()).find(|b| free(*b)).unwrap_or(batches.len());
            if b == batches.len() {
                batches.push(Batch::new());
                counts.push(vec![0; classes]);
            }
            batches[b].push(i);
            counts[b][class(*l)] += 1;
        }
        let mut all = labels.to_vec();
        for (batch, count) in batches.iter_mut().zip(&mut counts) {
            while batch.len() < CHUNK {
                let rarest = (0..classes).min_by_key(|k| count[*k]).unwrap_or(0);
                count[rarest] += 1;
                batch.push(all.len());
                all.push(rarest as i32);
            }
        }
        Self { batches, n: all.len(), labels: Some(all) }
    }
}
