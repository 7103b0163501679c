//! Contexts: a device, its threads, and a seed.

use crate::args::{self, Sized32, init, read, text};
use crate::call::{call, call_infallible};
use crate::handles::{jempp_context, register, release};
use crate::objects::Context;
use crate::status::{Fault, JEMPP_ERR_DEVICE, Outcome, jempp_status};
use core::ffi::c_char;
use jempp::engine::{Debugging, Device, Precision, Products};

/// Options of a context. Initialise with jempp_context_options_init, then set fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_context_options {
    /// sizeof(jempp_context_options).
    pub struct_size: u32,
    /// "auto" (the CPU), "cpu", or a GPU such as "cuda:0". NULL: "auto".
    pub device: *const c_char,
    /// Number of CPU threads; 0: one per core. Results do not depend on it.
    pub threads: i32,
    /// Seed of trainers whose configuration has none; 0: the configuration's default.
    pub seed: u64,
    /// "f32", "bf16", or on a GPU "tf32". NULL: "f32". On the CPU bf16 rounds the inputs of convolutions and linear layers
    /// where that is faster; without AVX512_BF16 it is slower than f32, which the log callback is told.
    pub precision: *const c_char,
}

// SAFETY: repr(C), starts with its size, and every bit pattern is valid.
unsafe impl Sized32 for jempp_context_options {
    const NAME: &'static str = "jempp_context_options";
}

fn device(name: &str, threads: i32, precision: &str) -> Outcome<Device> {
    let threads = usize::try_from(threads)
        .map_err(|_| Fault::argument(format!("threads is {threads}; it must not be negative")))?;
    let precision_mode = match precision {
        "f32" => Precision::F32,
        "tf32" => Precision::Tf32,
        "bf16" => Precision::Bf16,
        _ => return Err(Fault::argument(format!("precision `{precision}`: use f32, tf32 or bf16"))),
    };
    // Plans would be printed to standard error, which belongs to the host program.
    let quiet = |debug: Debugging| Debugging { plan: false, ..debug };
    if let "auto" | "cpu" = name {
        if precision_mode == Precision::Tf32 {
            let why = format!(
                "precision `{precision}` needs a GPU; device `{name}` is the CPU, which computes in f32 or bf16"
            );
            return Err(Fault::argument(why));
        }
        let mut device = Device::cpu_from_env(threads).map_err(Fault::argument)?;
        device.debug = quiet(device.debug);
        if precision_mode == Precision::Bf16 {
            device = device.with_products(Products::Bf16);
        }
        if device.emulates_products() {
            tracing::warn!(
                "this CPU has no AVX512_BF16, so bf16 products are emulated, slower than precision f32: use f32 unless \
                 you need bf16 results"
            );
        }
        return Ok(device);
    }
    let Some(Ok(ordinal)) = name.strip_prefix("cuda:").map(str::parse) else {
        return Err(Fault::argument(format!("device `{name}`: use auto, cpu or cuda:N, such as cuda:0")));
    };
    let debug = quiet(Debugging::from_env().map_err(Fault::argument)?);
    let device = Device::cuda(ordinal, precision_mode, debug)
        .map_err(|why| Fault::new(JEMPP_ERR_DEVICE, format!("device `{name}`: {why}")))?;
    jempp::devices::warn_of_notes(&device);
    Ok(device)
}

/// Fills `options` with the defaults: device "auto", one thread per core, no seed, precision "f32".
///
/// options: receives the defaults; NULL does nothing. struct_size: sizeof(jempp_context_options). Any thread; cannot
/// fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_context_options_init(options: *mut jempp_context_options, struct_size: u32) {
    let defaults = jempp_context_options {
        struct_size,
        device: c"auto".as_ptr(),
        threads: 0,
        seed: 0,
        precision: c"f32".as_ptr(),
    };
    // SAFETY: the caller passes NULL or `struct_size` bytes.
    call_infallible(|| unsafe { init(options, struct_size, defaults) });
}

/// Creates a context: opens the device and starts its threads.
///
/// options: NULL for the defaults; used during the call only. out: receives the context; free it with
/// jempp_context_free, before or after the models and trainers created in it. Any thread.
///
/// Errors: INVALID_ARGUMENT for invalid options or a struct_size that is too small; DEVICE if the device is not
/// available, saying what was tried.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_context_create(
    options: *const jempp_context_options,
    out: *mut *mut jempp_context,
) -> jempp_status {
    call(|_| {
        let to = args::out(out, "out")?;
        let (mut name, mut precision, mut threads, mut seed) = ("auto", "f32", 0, 0);
        if !options.is_null() {
            // SAFETY: not NULL; the caller passes a struct of `struct_size` bytes, and NUL-terminated strings.
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
        let context = register::<jempp_context>(Context::new(device, seed));
        // SAFETY: not NULL and aligned; the caller provides space for a pointer.
        unsafe { to.write(context) };
        Ok(())
    })
}

/// Frees a context. Models and trainers created in it stay valid and keep its threads alive.
///
/// context: NULL or a freed handle does nothing. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_context_free(context: *mut jempp_context) {
    call_infallible(|| release(context));
}
