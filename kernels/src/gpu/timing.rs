//! Timing single launches on the device, without the time that the host takes to submit them.
//!
//! What must hold: the device is still busy with a delay when the last of the work to be timed is submitted; where it
//! was not, later delays are longer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::driver::{Buffer, Gpu};
use super::error::GpuError;
use super::launch::{Launch, blocks, i32, span_of};

/// Rounds in a launch of the delay: about 40 µs at 13 cycles each and 1.8 GHz.
const ROUNDS: i32 = 5500;
/// The most launches of the delay before a measurement, about 0.6 ms.
const MOST: u32 = 16;

/// A kernel that only takes time.
struct Delay {
    launch: Launch,
    memory: Buffer<u32>,
    /// Seconds that one launch takes.
    seconds: f64,
}

/// The delay of a device, and how many launches of it precede each measurement.
#[derive(Default)]
struct Delays {
    made: Mutex<Option<Delay>>,
    launches: AtomicU32,
}

impl Delay {
    fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let params = vec![i32(ROUNDS), span_of::<u32>("last", 1)];
        // SAFETY: the kernel's one thread reads and writes one value.
        let launch = unsafe { Launch::new(gpu, "delay", "delay", blocks(1, 1, 1), params)? };
        let mut delay = Self { launch, memory: gpu.zeros(1)?, seconds: 0.0 };
        delay.run(gpu)?;
        gpu.synchronize()?;
        delay.seconds = gpu.seconds(|| (0..4).try_for_each(|_| delay.run(gpu)))? / 4.0;
        Ok(delay)
    }

    fn run(&self, gpu: &Gpu) -> Result<(), GpuError> {
        self.launch.run(gpu, &[Some(gpu.span(&self.memory)?)])
    }
}

impl Gpu {
    /// Seconds that the work submitted by `submit` takes on the device; waits for it. Unlike [`Gpu::seconds`] it leaves
    /// out the time that the host takes to submit the work, up to about half a millisecond: the device is first given
    /// something to do for longer than that.
    ///
    /// # Errors
    /// Those of `submit`; errors of compiling and loading the delay; a driver error; [`GpuError::Capturing`].
    pub fn seconds_on_device<E: From<GpuError>>(
        &self,
        submit: impl FnOnce() -> Result<(), E>,
    ) -> Result<f64, E> {
        let delays = self.attached::<Delays>();
        let mut made = delays.made.lock().unwrap_or_else(PoisonError::into_inner);
        let delay = match &mut *made {
            Some(delay) => delay,
            none => none.insert(Delay::new(self)?),
        };
        let launches = delays.launches.load(Ordering::Relaxed).max(1);
        let start = Instant::now();
        (0..launches).try_for_each(|_| delay.run(self))?;
        let mut host = 0.0;
        let seconds = self.seconds(|| {
            submit()?;
            host = start.elapsed().as_secs_f64();
            Ok::<_, E>(())
        })?;
        // A margin for the events, which are submitted too.
        if host * 1.5 > f64::from(launches) * delay.seconds {
            delays.launches.store((2 * launches).min(MOST), Ordering::Relaxed);
        }
        Ok(seconds)
    }
}
