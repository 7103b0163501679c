//! Minima and medians of repeated runs.

use std::time::{Duration, Instant};

/// How long one measurement may take, unless a few runs take longer.
const BUDGET: Duration = Duration::from_millis(250);
/// The shortest time, in seconds, that the clock measures precisely enough.
const STRETCH: f64 = 200e-6;
const MIN_RUNS: usize = 5;
const MAX_RUNS: usize = 101;

/// Minimum and median seconds of one call of `f`, after two calls to warm up.
///
/// # Errors
/// The first error of `f`.
pub(crate) fn seconds<E>(mut f: impl FnMut() -> Result<(), E>) -> Result<(f64, f64), E> {
    f()?;
    let start = Instant::now();
    f()?;
    let once = start.elapsed().as_secs_f64();
    let calls = (STRETCH / once.max(1e-9)).ceil().clamp(1.0, 1e6) as usize;
    let begin = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < MIN_RUNS || (seconds.len() < MAX_RUNS && begin.elapsed() < BUDGET) {
        let start = Instant::now();
        for _ in 0..calls {
            f()?;
        }
        seconds.push(start.elapsed().as_secs_f64() / calls as f64);
    }
    seconds.sort_by(f64::total_cmp);
    Ok((seconds[0], seconds[seconds.len() / 2]))
}

/// Median seconds of one call of `f` and of one call of `g`, called in turn; each call must take long enough for the clock.
///
/// # Errors
/// The first error of `f`.
pub(crate) fn in_turn<E>(mut f: impl FnMut() -> Result<(), E>, mut g: impl FnMut()) -> Result<(f64, f64), E> {
    let begin = Instant::now();
    let (mut of_f, mut of_g) = (Vec::new(), Vec::new());
    while of_f.len() < MIN_RUNS || (of_f.len() < MAX_RUNS && begin.elapsed() < 2 * BUDGET) {
        let start = Instant::now();
        f()?;
        let between = Instant::now();
        g();
        of_f.push((between - start).as_secs_f64());
        of_g.push(between.elapsed().as_secs_f64());
    }
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    Ok((median(of_f), median(of_g)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_takes_as_long_as_it_says_and_errors_end_it() {
        let slept = seconds(|| {
            std::thread::sleep(Duration::from_millis(2));
            Ok::<(), ()>(())
        });
        let (minimum, median) = slept.unwrap();
        assert!(minimum >= 2e-3 && median >= minimum);
        assert_eq!(seconds(|| Err("no")), Err("no"));
        let sleep = |ms| std::thread::sleep(Duration::from_millis(ms));
        let one = || {
            sleep(1);
            Ok::<(), ()>(())
        };
        let both = in_turn(one, || sleep(4)).unwrap();
        assert!(both.0 >= 1e-3 && both.1 >= 4e-3 && both.0 < both.1);
        assert_eq!(in_turn(|| Err("no"), || ()), Err("no"));
    }
}
