//! Independent tasks on several threads.
//!
//! Invariant: results and errors are those of sequential execution.

use core::sync::atomic::{AtomicUsize, Ordering};
use jempp_formats::{Error, Result};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Computes `work` of 0..n on `threads` threads (0: one per core) and returns the results in order. `done` is called on
/// this thread with the number of finished tasks.
///
/// # Errors
/// The error of `work` with the lowest index; later tasks may then not be executed.
pub(crate) fn spread<T: Send>(
    threads: usize,
    n: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<T>> {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { cores() } else { threads };
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let worker = |results: Sender<(usize, Result<T>)>| {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            // Tasks are started in order, so all before a failed one have been started and will finish.
            if i >= n || i > failed.load(Ordering::Relaxed) {
                return;
            }
            let result = work(i);
            if result.is_err() {
                failed.fetch_min(i, Ordering::Relaxed);
            }
            if results.send((i, result)).is_err() {
                return;
            }
        }
    };
    let mut all = Vec::with_capacity(n);
    thread::scope(|scope| {
        let (sender, results) = channel();
        for _ in 0..threads.min(n) {
            let (sender, worker) = (sender.clone(), &worker);
            let started = thread::Builder::new().spawn_scoped(scope, move || worker(sender));
            started.map_err(|e| Error::io("a thread", e))?;
        }
        drop(sender);
        for result in results {
            all.push(result);
            done(all.len());
        }
        Ok::<(), Error>(())
    })?;
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_error_wins() {
        for threads in [1, 2, 7] {
            let mut seen = Vec::new();
            let squares = spread(threads, 50, |i| Ok(i * i), &mut |n| seen.push(n)).unwrap();
            assert!(squares.into_iter().eq((0..50).map(|i| i * i)));
            assert!(seen.into_iter().eq(1..=50));
            for _ in 0..50 {
                let odd = |i: usize| if i % 7 == 6 { Err(Error::Data(i.to_string())) } else { Ok(()) };
                assert_eq!(spread(threads, 50, odd, &mut |_| {}).unwrap_err().to_string(), "6");
            }
        }
        assert!(spread(3, 0, |_| Ok(()), &mut |_| {}).unwrap().is_empty());
    }
}
