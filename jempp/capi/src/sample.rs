//! Sampling images from a model.

use crate::args::{self, Output, Sized32, elements, numbers, read};
use crate::call::{call, call_infallible};
use crate::handles::jempp_model;
use crate::status::{Fault, Outcome, jempp_status};
use core::ffi::{c_int, c_void};
use jempp::sampling::draw::ChainBn;
use jempp::sampling::draw::Start;
use jempp::{Model, SampleOptions};

/// Options of sampling. Initialise with jempp_sample_options_init, then set fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_sample_options {
    /// sizeof(jempp_sample_options).
    pub struct_size: u32,
    /// Initial images of the chains, n x H x W x C; NULL: the start samples stored in the model.
    pub start: *const f32,
    /// Elements of `start`: n * H * W * C, or 0.
    pub start_len: usize,
    /// Class of each chain, n values: sample from p(x|y), with the gradient of log p(x, y); NULL: sample from p(x).
    pub labels: *const i32,
    /// Number of outer steps; 0: as in the model's training.
    pub steps: u32,
    /// Step size of the inner steps; negative: as in the model's training.
    pub step_size: f32,
    /// Elementwise gradient clipping: bound on each component, 0 for none; negative: as in the model's training.
    pub clip: f32,
    /// Standard deviation of the noise added at each step; negative: as in the model's training.
    pub noise: f32,
    /// Random seed of initial images and noise: the same seed gives the same images.
    pub seed: u64,
    /// Called on the calling thread after each step, with the number of steps done and the total (both summed over all
    /// chunks of chains); returning 0 cancels. NULL: no progress reports. It may call functions on const handles.
    pub progress: Option<extern "C" fn(step: u32, steps: u32, user: *mut c_void) -> c_int>,
    /// Passed to `progress`.
    pub user: *mut c_void,
}

// SAFETY: repr(C), starts with its size; every bit pattern is valid for all fields but `progress`, which a caller may
// set only to NULL or to the address of a function of its type.
unsafe impl Sized32 for jempp_sample_options {
    const NAME: &'static str = "jempp_sample_options";
}

/// Fills `options` with the defaults: the model's start samples, p(x), step count and sizes as in the model's training,
/// seed 0.
///
/// options: receives the defaults; NULL does nothing. struct_size: sizeof(jempp_sample_options). Any thread; cannot
/// fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_sample_options_init(options: *mut jempp_sample_options, struct_size: u32) {
    // SAFETY: the caller passes NULL or `struct_size` bytes.
    call_infallible(|| unsafe { args::init(options, struct_size, defaults(struct_size)) });
}

fn defaults(struct_size: u32) -> jempp_sample_options {
    jempp_sample_options {
        struct_size,
        start: core::ptr::null(),
        start_len: 0,
        labels: core::ptr::null(),
        steps: 0,
        step_size: -1.0,
        clip: -1.0,
        noise: -1.0,
        seed: 0,
        progress: None,
        user: core::ptr::null_mut(),
    }
}

/// Samples n images by stochastic gradient Langevin dynamics (SGLD), with the sampler of the model's training. Chains see
/// the batch norm statistics with which the model classifies, so an image does not depend on the others.
///
/// model: the model. options: NULL for the defaults; what it points to is used during the call only. out: receives
/// n x H x W x C values in [-1, 1]; out_len must be n * H * W * C. May be called concurrently.
///
/// Errors: INVALID_ARGUMENT for a wrong length, a label out of range, a parameter out of range, or a model without
/// start samples if `start` is NULL; DIVERGED if a chain left the finite numbers; CANCELLED by `progress`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_sample(
    model: *const jempp_model,
    options: *const jempp_sample_options,
    n: usize,
    out: *mut f32,
    out_len: usize,
) -> jempp_status {
    call(|c| {
        let model = c.find(model)?;
        let model = &model.body;
        // SAFETY: the caller passes NULL or a struct of `struct_size` bytes.
        let o = if options.is_null() { defaults(0) } else { unsafe { read(options, "options")? } };
        let len = elements(n, model.network().pixels(), "out")?;
        let output = Output::new(out, out_len, len, "out")?;
        // SAFETY: the caller passes NULL or `start_len` values, and NULL or n labels.
        let (start, labels) = unsafe {
            let start = (!o.start.is_null()).then(|| numbers(o.start, o.start_len, "start")).transpose()?;
            (start, (!o.labels.is_null()).then(|| numbers(o.labels, n, "labels")).transpose()?)
        };
        if start.map_or(o.start_len, |s| s.len().abs_diff(len)) != 0 {
            let got = o.start_len;
            return Err(Fault::argument(format!(
                "start_len is {got}; {n} chains need {len} elements, or start NULL and start_len 0"
            )));
        }
        if n == 0 {
            return Ok(());
        }
        let options = SampleOptions {
            n,
            labels: labels.map(<[i32]>::to_vec),
            start: start.map_or(Start::StartSamples, Start::Images),
            ..sampler_options(model, &o)?
        };
        let mut progress = |step, steps| o.progress.is_none_or(|report| report(step, steps, o.user) != 0);
        let drawn = jempp::sample(model, &options, &mut progress)?;
        // SAFETY: the caller provides space for `out_len` values.
        unsafe { output.fill(&drawn.images) }
    })
}

/// The sampler's parameters: those of the model's training, except where the options override them.
fn sampler_options(model: &Model, o: &jempp_sample_options) -> Outcome<SampleOptions<'static>> {
    let mut options = SampleOptions::of_model(model)?;
    let s = &mut options.sampler;
    for (name, given, to) in [
        ("step_size", o.step_size, &mut s.step_size),
        ("clip", o.clip, &mut s.clip),
        ("noise", o.noise, &mut s.noise),
    ] {
        if !given.is_finite() {
            return Err(Fault::argument(format!(
                "{name} is {given}; it must be finite, or negative for the model's"
            )));
        }
        if given >= 0.0 {
            *to = f64::from(given);
        }
    }
    // A chain's result must not depend on the other chains of the call, and one image must cost one chain.
    options.bn = ChainBn::Running;
    if o.steps > 0 {
        options.steps = o.steps;
    }
    options.seed = o.seed;
    Ok(options)
}
