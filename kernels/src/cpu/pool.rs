//! A thread pool with low latency: a training iteration of a small network is a thousand short jobs.
//!
//! Invariants: `run` returns only after every worker has left the job, so borrowed data outlives its use;
//! results do not depend on which thread takes which task, because tasks write disjoint outputs.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::cell::UnsafeCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How long an idle worker spins before it sleeps, in spin hints (about 50 µs).
const SPINS: u32 = 4000;

type Job = *const (dyn Fn(usize, usize) + Sync);

struct Shared {
    /// Number of the open job, 0 while none is open. Workers may enter only an open job.
    open: AtomicU64,
    /// Workers inside the open job (or checking whether it is open).
    inside: AtomicUsize,
    next: AtomicUsize,
    tasks: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    /// Jobs published so far; sleeping workers wait for it to grow.
    published: Mutex<u64>,
    wake: Condvar,
    sleepers: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `job` is written only while `open` is 0 and `inside` is 0, and read only by workers that saw the
// job open after counting themselves in; all other fields are synchronised types.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to a `Sync` closure and is never used after the job's `run` returned.
unsafe impl Send for Shared {}

/// A pool of `threads − 1` workers beside the calling thread.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Locked by the caller whose job is open; a caller that finds it locked runs its tasks alone.
    caller: Mutex<u64>,
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool of `threads` threads, the caller included; 0 means one per core. If the system refuses a thread,
    /// the pool is smaller: results do not depend on it.
    pub fn new(threads: usize) -> Self {
        let threads =
            if threads == 0 { std::thread::available_parallelism().map_or(1, |n| n.get()) } else { threads };
        let shared = Arc::new(Shared {
            open: AtomicU64::new(0),
            inside: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            published: Mutex::new(0),
            wake: Condvar::new(),
            sleepers: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|worker| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("jempp-{worker}"))
                    .spawn(move || work(&shared, worker))
                    .ok()
            })
            .collect();
        Self { shared, workers, caller: Mutex::new(0) }
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(task, worker)` once for each task in `0..tasks`; `worker < self.threads()`, and no two calls at the
    /// same time within this job have the same worker number. Nested and concurrent calls run all their tasks on the
    /// calling thread.
    ///
    /// # Panics
    /// If a task panicked.
    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        let alone = tasks <= 1 || self.workers.is_empty();
        let Some(mut number) = (if alone { None } else { self.caller.try_lock().ok() }) else {
            for task in 0..tasks {
                f(task, 0);
            }
            return;
        };
        *number += 1;
        let s = &*self.shared;
        // SAFETY: no job is open and no worker is inside (the previous `run` waited for that under `caller`),
        // so nobody reads `job`. The lifetime is erased; the wait below keeps `f` borrowed while it is used.
        unsafe {
            *s.job.get() = Some(core::mem::transmute::<*const (dyn Fn(usize, usize) + Sync + '_), Job>(f))
        };
        s.next.store(0, Ordering::Relaxed);
        s.tasks.store(tasks, Ordering::Relaxed);
        s.open.store(*number, Ordering::SeqCst);
        if s.sleepers.load(Ordering::SeqCst) > 0 {
            *locked(&s.published) = *number;
            s.wake.notify_all();
        }
        let close = Close(s);
        take_tasks(s, f, 0);
        drop(close);
        assert!(!s.panicked.swap(false, Ordering::SeqCst), "a task of the thread pool panicked");
    }
}

/// Closes the job and waits for all workers to leave it, also when the caller's own task panics.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.open.store(0, Ordering::SeqCst);
        let mut spins = 0u32;
        while self.0.inside.load(Ordering::SeqCst) != 0 {
            spins += 1;
            if spins > SPINS { std::thread::yield_now() } else { core::hint::spin_loop() }
        }
    }
}

fn take_tasks(s: &Shared, f: &(dyn Fn(usize, usize) + Sync), worker: usize) {
    let tasks = s.tasks.load(Ordering::Relaxed);
    loop {
        let task = s.next.fetch_add(1, Ordering::Relaxed);
        if task >= tasks {
            return;
        }
        f(task, worker);
    }
}

fn work(s: &Shared, worker: usize) {
    let mut last = 0u64;
    let mut spins = 0u32;
    while !s.stop.load(Ordering::Relaxed) {
        let open = s.open.load(Ordering::SeqCst);
        if open != 0 && open != last {
            s.inside.fetch_add(1, Ordering::SeqCst);
            // The job may have closed, or another opened, in between: only the value read now counts.
            let open = s.open.load(Ordering::SeqCst);
            if open != 0 {
                last = open;
                // SAFETY: this worker counted itself in before it saw the job open, so the caller's `run`
                // cannot return, nor `job` change, before it counts itself out.
                let job = unsafe { *s.job.get() };
                if let Some(job) = job {
                    let call = || {
                        // SAFETY: as above, the closure is alive until this worker counts itself out.
                        take_tasks(s, unsafe { &*job }, worker);
                    };
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err() {
                        s.panicked.store(true, Ordering::SeqCst);
                    }
                }
            }
            s.inside.fetch_sub(1, Ordering::SeqCst);
            spins = 0;
        } else if spins < SPINS {
            spins += 1;
            core::hint::spin_loop();
        } else {
            sleep(s, last);
            spins = 0;
        }
    }
}

fn sleep(s: &Shared, last: u64) {
    let mut published = locked(&s.published);
    s.sleepers.fetch_add(1, Ordering::SeqCst);
    // Either the caller sees this sleeper and publishes, or this check sees the caller's job.
    loop {
        let open = s.open.load(Ordering::SeqCst);
        if s.stop.load(Ordering::Relaxed) || *published > last || (open != 0 && open != last) {
            break;
        }
        published = s.wake.wait(published).unwrap_or_else(PoisonError::into_inner);
    }
    *published = 0;
    s.sleepers.fetch_sub(1, Ordering::SeqCst);
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _guard = locked(&self.shared.published);
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.shared.wake.notify_all();
        for w in self.workers.drain(..) {
            let _ = w.join();
        }
    }
}

#[cfg(test)]
mod tests;
