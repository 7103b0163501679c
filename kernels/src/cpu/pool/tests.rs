use super::*;

#[test]
fn every_task_runs_once_at_any_thread_count() {
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        for tasks in [0usize, 1, 2, 7, 100] {
            for round in 0..50 {
                let hits: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|t, w| {
                    assert!(w < threads);
                    hits[t].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1), "{threads} {tasks} {round}");
            }
        }
    }
}

#[test]
fn sleeping_workers_wake_and_nested_calls_do_not_hang() {
    let pool = Pool::new(3);
    let n = AtomicUsize::new(0);
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        pool.run(10, &|_, _| {
            pool.run(3, &|_, _| {
                n.fetch_add(1, Ordering::Relaxed);
            })
        });
    }
    assert_eq!(n.load(Ordering::Relaxed), 150);
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(2);
    let bad = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.run(64, &|t, _| assert!(t != 33, "task 33"));
    }));
    assert!(bad.is_err());
    let n = AtomicUsize::new(0);
    pool.run(64, &|_, _| {
        n.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(n.load(Ordering::Relaxed), 64);
}
