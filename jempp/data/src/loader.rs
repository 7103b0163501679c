//! The order in which images are visited: shuffled epochs of full batches.
//!
//! Invariant: the order of an epoch depends on (images, seed, stream, epoch) only, and a process's share of its batches
//! on the rank only, so that a loader restored from a [`Cursor`] continues exactly as the saved one. Only indices are
//! shuffled and nothing is prefetched: the images are in the device's state, where an op gathers them.

use crate::dataset::Dataset;
use engine::rng::{Philox, Stream};
use jempp_formats::{Error, Result};
use serde::{Deserialize, Serialize};

/// The position of a [`Loader`]. At the end of an epoch `batch` is the number of its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, counted from 0.
    pub epoch: u32,
    /// Batches of the epoch returned so far.
    pub batch: u32,
}

/// An infinite sequence of batches of image indices.
#[derive(Clone, Debug)]
pub struct Loader {
    images: Vec<u32>,
    order: Vec<u32>,
    batch: usize,
    seed: u64,
    stream: Stream,
    next: Cursor,
    /// Rank of this process, and number of processes.
    share: (usize, usize),
}

impl Loader {
    /// A loader of batches of `batch` of the given images. Each epoch is shuffled anew; an incomplete last batch is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Config`] when `batch` is 0 or larger than the number of images.
    pub fn new(images: Vec<u32>, batch: usize, seed: u64, stream: Stream) -> Result<Self> {
        if batch == 0 || batch > images.len() {
            let n = images.len();
            return Err(Error::Config(format!("a batch of {batch} cannot be drawn from {n} images")));
        }
        let order = images.clone();
        let mut loader = Self { images, order, batch, seed, stream, next: Cursor::default(), share: (0, 1) };
        loader.shuffle();
        Ok(loader)
    }

    /// Restricts the loader to process `rank` of `world` in data-parallel training: of every `world` consecutive batches
    /// it returns the one of its rank. Together the processes visit the same batches in the same order as a single one.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such rank, or an epoch has fewer batches than there are processes.
    pub fn share(mut self, rank: usize, world: usize) -> Result<Self> {
        let batches = self.images.len() / self.batch;
        if rank >= world || world > batches {
            return Err(Error::Config(format!(
                "{batches} batches per epoch cannot be shared by rank {rank} of {world}"
            )));
        }
        self.share = (rank, world);
        Ok(self)
    }

    /// Batches per epoch, at least 1.
    pub fn batches_per_epoch(&self) -> usize {
        self.images.len() / self.batch / self.share.1
    }

    /// Images per batch.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// The position of the loader, for a checkpoint.
    pub fn cursor(&self) -> Cursor {
        self.next
    }

    /// Moves to the position of a loader with the same images, batch size, seed and stream.
    ///
    /// # Errors
    /// [`Error::Data`] when an epoch has fewer batches; the loader is then unchanged.
    pub fn restore(&mut self, cursor: Cursor) -> Result<()> {
        let n = self.batches_per_epoch();
        if cursor.batch as usize > n {
            let why =
                format!("{} batches into an epoch of {n}: the data or the batch size differ", cursor.batch);
            return Err(Error::Data(why));
        }
        self.next = cursor;
        self.shuffle();
        Ok(())
    }

    /// The next batch. After the last batch of an epoch the next epoch starts. Does not allocate.
    pub fn next_batch(&mut self) -> &[u32] {
        if self.next.batch as usize == self.batches_per_epoch() {
            self.next = Cursor { epoch: self.next.epoch.wrapping_add(1), batch: 0 };
            self.shuffle();
        }
        let (rank, world) = self.share;
        let start = (self.next.batch as usize * world + rank) * self.batch;
        self.next.batch += 1;
        &self.order[start..start + self.batch]
    }

    fn shuffle(&mut self) {
        self.order.copy_from_slice(&self.images);
        Philox::new(self.seed, self.stream, self.next.epoch).shuffle(&mut self.order);
    }
}

/// Selects the first `k` of `images` of each class, in the given order, or fewer if there are not as many; all if `k`
/// is 0.
///
/// # Errors
/// [`Error::Data`] when an index is out of range.
pub fn first_per_class(set: &Dataset, images: &[u32], k: usize) -> Result<Vec<u32>> {
    let mut kept = vec![0usize; set.classes()];
    let mut out = Vec::new();
    for i in images {
        let label = set.labels().get(*i as usize).ok_or_else(|| set.no_image(*i))?;
        let count = &mut kept[usize::from(*label)];
        *count += 1;
        if k == 0 || *count <= k {
            out.push(*i);
        }
    }
    Ok(out)
}

/// `images` with those of smaller classes repeated, in turn, until every class that occurs has as many as the largest one.
///
/// # Errors
/// [`Error::Data`] when an index is out of range.
pub fn balanced(set: &Dataset, images: &[u32]) -> Result<Vec<u32>> {
    let mut of = vec![Vec::new(); set.classes()];
    for i in images {
        let label = set.labels().get(*i as usize).ok_or_else(|| set.no_image(*i))?;
        of[usize::from(*label)].push(*i);
    }
    let most = of.iter().map(Vec::len).max().unwrap_or(0);
    Ok(of
        .iter()
        .flat_map(|class| class.iter().cycle().take(if class.is_empty() { 0 } else { most }))
        .copied()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams;

    fn loader(n: u32, batch: usize, seed: u64) -> Loader {
        Loader::new((100..100 + n).collect(), batch, seed, streams::SHUFFLE_LABELLED).unwrap()
    }

    #[test]
    fn an_epoch_shows_each_image_at_most_once() {
        let mut l = loader(50, 8, 1);
        assert_eq!(l.batches_per_epoch(), 6);
        let mut epochs = Vec::new();
        for epoch in 0..3 {
            let mut seen = Vec::new();
            for _ in 0..6 {
                seen.extend_from_slice(l.next_batch());
                assert_eq!(l.cursor().epoch, epoch);
            }
            let mut sorted = seen.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 48);
            assert!(sorted.iter().all(|i| (100..150).contains(i)));
            epochs.push(seen);
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(loader(50, 8, 2).next_batch(), &epochs[0][..8]);
    }

    #[test]
    fn restored_loaders_continue_alike() {
        let mut a = loader(37, 5, 9);
        for _ in 0..30 {
            let mut b = loader(37, 5, 9);
            b.restore(a.cursor()).unwrap();
            for _ in 0..9 {
                let mut c = a.clone();
                c.restore(c.cursor()).unwrap();
                assert_eq!(a.next_batch(), b.next_batch());
                assert_eq!(a.cursor(), b.cursor());
            }
        }
    }

    #[test]
    fn processes_share_the_batches_of_one() {
        let mut one = loader(50, 4, 3);
        let mut three = [0, 1, 2].map(|rank| loader(50, 4, 3).share(rank, 3).unwrap());
        assert_eq!((one.batches_per_epoch(), three[0].batches_per_epoch()), (12, 4));
        for _ in 0..3 * 12 {
            for l in &mut three {
                assert_eq!(l.next_batch(), one.next_batch());
            }
        }
        assert_eq!(three[2].cursor(), Cursor { epoch: 8, batch: 4 });
        assert!(loader(50, 4, 3).share(3, 3).is_err());
        assert!(loader(50, 4, 3).share(0, 13).unwrap_err().to_string().contains("12 batches"));
    }

    #[test]
    fn impossible_batches_are_refused() {
        let new = |n, b| Loader::new((0..n).collect(), b, 0, Stream::TEST);
        assert_eq!(new(10, 11).unwrap_err().to_string(), "a batch of 11 cannot be drawn from 10 images");
        assert!(new(10, 0).is_err());
        let mut l = new(10, 10).unwrap();
        l.next_batch();
        l.next_batch();
        assert!(l.restore(Cursor { epoch: 0, batch: 2 }).is_err());
    }

    #[test]
    fn balanced_classes_are_equally_frequent() {
        let set = Dataset::new("x", [1, 1, 1], 4, vec![0; 7], vec![0, 1, 0, 2, 1, 0, 0]).unwrap();
        let all = balanced(&set, &[0, 1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(all, [0, 2, 5, 6, 1, 4, 1, 4, 3, 3, 3, 3]);
        assert!(balanced(&set, &[]).unwrap().is_empty());
        assert!(balanced(&set, &[7]).is_err());
    }

    #[test]
    fn first_of_each_class_in_order() {
        let set = Dataset::new("x", [1, 1, 1], 3, vec![0; 7], vec![0, 1, 0, 2, 1, 0, 1]).unwrap();
        let order = [6, 5, 4, 3, 2, 1, 0];
        assert_eq!(first_per_class(&set, &order, 1).unwrap(), [6, 5, 3]);
        assert_eq!(first_per_class(&set, &order, 2).unwrap(), [6, 5, 4, 3, 2]);
        assert_eq!(first_per_class(&set, &order, 0).unwrap(), order);
        assert!(first_per_class(&set, &[7], 1).is_err());
    }
}
