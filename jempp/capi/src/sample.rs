//! New images from a model.

use crate::args::{self, Room, Sized32, elements, numbers, read};
use crate::call::{call, quietly};
use crate::handles::jempp_model;
use crate::status::{Fault, Outcome, jempp_status};
use core::ffi::{c_int, c_void};
use jempp::sampling::draw::Start;
use jempp::{Model, SampleOptions};

/// How chains are run. Set by jempp_sample_options_init, then changed by the caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_sample_options {
    /// sizeof(jempp_sample_options).
    pub struct_size: u32,
    /// Where the chains start, n x H x W x C; NULL: at draws that the model carries.
    pub start: *const f32,
    /// Elements of `start`: n * H * W * C, or 0.
    pub start_len: usize,
    /// n classes that the chains follow, climbing log p(x, y); NULL: they climb log p(x).
    pub labels: *const i32,
    /// Outer steps of a chain; 0: as many as in the model's training.
    pub steps: u32,
    /// Size of one of the inner steps; negative: as in the model's training.
    pub step_size: f32,
    /// Bound on each component of the gradient, 0 for none; negative: as in the model's training.
    pub clip: f32,
    /// Standard deviation of the noise of each step; negative: as in the model's training.
    pub noise: f32,
    /// Seed of starts and noise: the same seed gives the same images.
    pub seed: u64,
    /// Called after each step with steps done and steps in all (chains run in chunks, and these are over all of them), in the
    /// calling thread; returning 0 cancels. NULL: nobody is told. It may call functions on const handles.
    pub progress: Option<extern "C" fn(step: u32, steps: u32, user: *mut c_void) -> c_int>,
    /// Given to `progress`.
    pub user: *mut c_void,
}

// SAFETY: repr(C), starts with its size; any bits are a value of all fields but `progress`, of which NULL and the address of
// a function of this type are, and nothing else may be put into it.
unsafe impl Sized32 for jempp_sample_options {
    const NAME: &'static str = "jempp_sample_options";
}

/// Fills `options` with the defaults: draws that the model carries, log p(x), constants as in the model's training, seed 0.
///
/// options: what is filled; NULL does nothing. struct_size: sizeof(jempp_sample_options). Any thread; cannot fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_sample_options_init(options: *mut jempp_sample_options, struct_size: u32) {
    // SAFETY: the caller gives NULL or `struct_size` bytes.
    quietly(|| unsafe { args::init(options, struct_size, defaults(struct_size)) });
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

/// Draws n images: chains of Langevin steps under the model, as in its training.
///
/// model: which. options: how, or NULL for the defaults; what it points to is used during the call only. out: receives
/// n x H x W x C, in [-1, 1]; out_len must be that. Any number of threads at once.
///
/// Errors: INVALID_ARGUMENT for a wrong length, a label that is no class, constants out of range, or a model that carries no
/// draws where `start` is NULL; DIVERGED if a chain left the finite numbers; CANCELLED by `progress`.
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
        // SAFETY: the caller gives NULL or a struct as long as it says.
        let o = if options.is_null() { defaults(0) } else { unsafe { read(options, "options")? } };
        let len = elements(n, model.network().pixels(), "out")?;
        let room = Room::new(out, out_len, len, "out")?;
        // SAFETY: the caller gives NULL or `start_len` values, and NULL or n labels.
        let (start, labels) = unsafe {
            let start = (!o.start.is_null()).then(|| numbers(o.start, o.start_len, "start")).transpose()?;
            (start, (!o.labels.is_null()).then(|| numbers(o.labels, n, "labels")).transpose()?)
        };
        if start.map_or(o.start_len, |s| s.len().abs_diff(len)) != 0 {
            let got = o.start_len;
            return Err(Fault::argument(format!(
                "start_len is {got}; {n} chains start at {len} elements, or NULL and 0"
            )));
        }
        if n == 0 {
            return Ok(());
        }
        let options = SampleOptions {
            n,
            labels: labels.map(<[i32]>::to_vec),
            start: start.map_or(Start::Bank, Start::Images),
            ..constants(model, &o)?
        };
        let mut progress = |step, steps| o.progress.is_none_or(|told| told(step, steps, o.user) != 0);
        let drawn = jempp::sample(model, &options, &mut progress)?;
        // SAFETY: the caller gives room for `out_len` values.
        unsafe { room.fill(&drawn.images) }
    })
}

/// The constants of training, or those that are given instead.
fn constants(model: &Model, o: &jempp_sample_options) -> Outcome<SampleOptions<'static>> {
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
    if o.steps > 0 {
        options.steps = o.steps;
    }
    options.seed = o.seed;
    Ok(options)
}
