//! Inference beyond the basic functions: long calls with progress, features, and gradients of any function of the logits.

use crate::args::{self, Output, elements, numbers};
use crate::call::call;
use crate::handles::jempp_model;
use crate::model::infer;
use crate::status::{Outcome, jempp_status};
use core::ffi::{c_int, c_void};

/// A callback for the progress of long calls.
pub(crate) type Progress = Option<extern "C" fn(done: u32, total: u32, user: *mut c_void) -> c_int>;

/// Reports progress to `callback`, and returns whether to go on.
pub(crate) fn reporter(callback: Progress, user: *mut c_void) -> impl FnMut(usize, usize) -> bool {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    move |done, total| callback.is_none_or(|report| report(count(done), count(total), user) != 0)
}

/// Logits and unnormalised log p(x) of many images, from one pass, with progress.
///
/// model: the model. images: n x H x W x C. logits: receives n x classes values, logits_len must be n * classes; or NULL
/// and 0. log_density: receives n values, log_density_len must be n; or NULL and 0. progress: called on the calling thread
/// before the first chunk of images and after each, with the number of images done and the total; returning 0 cancels;
/// NULL for none. It may call functions on const handles. user: passed to it. May be called concurrently. Since 1.1.
///
/// Errors: INVALID_ARGUMENT for a wrong length or an image value that is not finite; CANCELLED by `progress`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_scores(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    logits: *mut f32,
    logits_len: usize,
    log_density: *mut f32,
    log_density_len: usize,
    progress: Option<extern "C" fn(done: u32, total: u32, user: *mut c_void) -> c_int>,
    user: *mut c_void,
) -> jempp_status {
    call(|c| {
        let model = c.find(model)?;
        let model = &model.body;
        let len = elements(n, model.network().pixels(), "images")?;
        let output = |p: *mut f32, len: usize, each: usize, name: &str| -> Outcome<_> {
            let wanted = !p.is_null() || len > 0;
            wanted.then(|| Output::new(p, len, elements(n, each, name)?, name)).transpose()
        };
        let classes = model.network().config.classes;
        let logits = output(logits, logits_len, classes, "logits")?;
        let log_density = output(log_density, log_density_len, 1, "log_density")?;
        // SAFETY: the caller passes n images.
        let images = unsafe { numbers(images, len, "images")? };
        let scores = model.scores_with(images, &mut reporter(progress, user))?;
        for (output, values) in [(logits, &scores.logits), (log_density, &scores.log_density)] {
            if let Some(output) = output {
                // SAFETY: the caller provides space for as many values as the lengths say, which have been checked.
                unsafe { output.fill(values)? };
            }
        }
        Ok(())
    })
}

/// Number of features of a model: see jempp_features.
///
/// model: the model. out: receives the number. May be called concurrently. Since 1.1.
///
/// Errors: INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_feature_count(model: *const jempp_model, out: *mut u32) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        let count = c.find(model)?.body.network().feature_count() as u32;
        // SAFETY: not NULL and aligned; the caller provides space for a number.
        unsafe { to.write(count) };
        Ok(())
    })
}

/// Features: the pooled output of the last block, which the logits are a linear function of.
///
/// model: the model. images: n x H x W x C. out: receives n x F values, F from jempp_feature_count; out_len must be
/// n * F. May be called concurrently. Since 1.1.
///
/// Errors: INVALID_ARGUMENT for a wrong length or an image value that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_features(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    out: *mut f32,
    out_len: usize,
) -> jempp_status {
    // SAFETY: the caller passes arguments as described above.
    unsafe {
        infer(model, images, n, out, out_len, |m| m.network().feature_count(), |m, x| Ok(m.features(x)?))
    }
}

/// Gradient with respect to the images of any function of the logits, given its gradient with respect to the logits (the
/// vector-Jacobian product of the logits).
///
/// model: the model. images: n x H x W x C. upstream: the gradient with respect to the logits, n x classes values;
/// upstream_len must be n * classes. out: receives n x H x W x C values; out_len must be n * H * W * C. May be called
/// concurrently. Since 1.1.
///
/// Errors: INVALID_ARGUMENT for a wrong length, or a value that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_logits_vjp(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    upstream: *const f32,
    upstream_len: usize,
    out: *mut f32,
    out_len: usize,
) -> jempp_status {
    // SAFETY: the caller passes arguments as described above.
    unsafe {
        infer(
            model,
            images,
            n,
            out,
            out_len,
            |m| m.network().pixels(),
            |m, x| Ok(m.logits_vjp(x, numbers(upstream, upstream_len, "upstream")?)?.1),
        )
    }
}
