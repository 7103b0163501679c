//! Contexts: a device, its threads, and a seed.

use crate::args::{self, Sized32, init, read, text};
use crate::call::{call, quietly};
use crate::handles::{forget, give, jempp_context};
use crate::status::{Fault, JEMPP_ERR_BUSY, JEMPP_ERR_DEVICE, Outcome, jempp_status};
use core::ffi::c_char;
use jempp::engine::{Debugging, Device, Precision};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// How a context is made. Set by jempp_context_options_init, then changed by the caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_context_options {
    /// sizeof(jempp_context_options).
    pub struct_size: u32,
    /// "auto" (the CPU), "cpu", or a GPU such as "cuda:0". NULL: "auto".
    pub device: *const c_char,
    /// CPU threads of the context; 0: one a core. Results do not depend on it.
    pub threads: i32,
    /// Seed of trainers whose configuration names none; 0: the configuration's own default.
    pub seed: u64,
    /// "f32", or on a GPU "tf32" or "bf16". NULL: "f32".
    pub precision: *const c_char,
}

// SAFETY: repr(C), starts with its size, and any bits are a value.
unsafe impl Sized32 for jempp_context_options {
    const NAME: &'static str = "jempp_context_options";
}

/// What is behind a context.
#[derive(Debug)]
pub(crate) struct Context {
    pub device: Device,
    pub seed: u64,
    turn: Mutex<()>,
}

impl Context {
    /// Takes the context for one call.
    pub fn turn(&self) -> Outcome<MutexGuard<'_, ()>> {
        match self.turn.try_lock() {
            Ok(turn) => Ok(turn),
            Err(TryLockError::Poisoned(e)) => Ok(e.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(Fault::new(JEMPP_ERR_BUSY, "another thread is using this context; wait for its call"))
            }
        }
    }
}

fn device(name: &str, threads: i32, precision: &str) -> Outcome<Device> {
    let threads = usize::try_from(threads)
        .map_err(|_| Fault::argument(format!("threads is {threads}; it must not be negative")))?;
    let numbers = match precision {
        "f32" => Precision::F32,
        "tf32" => Precision::Tf32,
        "bf16" => Precision::Bf16,
        _ => return Err(Fault::argument(format!("precision `{precision}`: use f32, tf32 or bf16"))),
    };
    // Plans are printed to standard error, which is the host's.
    let quiet = |debug: Debugging| Debugging { plan: false, ..debug };
    if let "auto" | "cpu" = name {
        if numbers != Precision::F32 {
            let why =
                format!("precision `{precision}` is for a GPU; device `{name}` computes on the CPU, in f32");
            return Err(Fault::argument(why));
        }
        let mut device = Device::cpu_from_env(threads).map_err(Fault::argument)?;
        device.debug = quiet(device.debug);
        return Ok(device);
    }
    let Some(Ok(ordinal)) = name.strip_prefix("cuda:").map(str::parse) else {
        return Err(Fault::argument(format!("device `{name}`: use auto, cpu or cuda:N, such as cuda:0")));
    };
    let debug = quiet(Debugging::from_env().map_err(Fault::argument)?);
    Device::cuda(ordinal, numbers, debug)
        .map_err(|why| Fault::new(JEMPP_ERR_DEVICE, format!("device `{name}`: {why}")))
}

/// Fills `options` with the defaults: device "auto", all threads, no seed, precision "f32".
///
/// options: what is filled; NULL does nothing. struct_size: sizeof(jempp_context_options). Any thread; cannot fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_context_options_init(options: *mut jempp_context_options, struct_size: u32) {
    let defaults = jempp_context_options {
        struct_size,
        device: c"auto".as_ptr(),
        threads: 0,
        seed: 0,
        precision: c"f32".as_ptr(),
    };
    // SAFETY: the caller gives NULL or `struct_size` bytes.
    quietly(|| unsafe { init(options, struct_size, defaults) });
}

/// Makes a context: opens the device and starts its threads.
///
/// options: how, or NULL for the defaults; used during the call only. out: receives the context; free it with
/// jempp_context_free, before or after the models and trainers made in it. Any thread.
///
/// Errors: INVALID_ARGUMENT for options that cannot be or a struct_size that is too small; DEVICE if the device is not
/// there, saying what was looked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_context_create(
    options: *const jempp_context_options,
    out: *mut *mut jempp_context,
) -> jempp_status {
    call(|_| {
        let to = args::out(out, "out")?;
        let (mut name, mut precision, mut threads, mut seed) = ("auto", "f32", 0, 0);
        if !options.is_null() {
            // SAFETY: not NULL; the caller gives a struct as long as it says, and texts that end.
            let o = unsafe { read(options, "options")? };
            (threads, seed) = (o.threads, o.seed);
            if !o.device.is_null() {
                // SAFETY: as above.
                name = unsafe { text(o.device, "device")? };
            }
            if !o.precision.is_null() {
                // SAFETY: as above.
                precision = unsafe { text(o.precision, "precision")? };
            }
        }
        let device = device(name, threads, precision)?;
        let context = give::<jempp_context>(Context { device, seed, turn: Mutex::new(()) });
        // SAFETY: not NULL and aligned; the caller gives room for a pointer.
        unsafe { to.write(context) };
        Ok(())
    })
}

/// Frees a context. Models and trainers made in it live on, and its threads with them.
///
/// context: what is freed; NULL, or what was freed already, does nothing. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_context_free(context: *mut jempp_context) {
    quietly(|| forget(context));
}
