//! Evaluation of a model on labelled images of the host's, and thresholds fitted to them.

use crate::args::{self, Sized32, check_size, elements, numbers};
use crate::call::call;
use crate::handles::{jempp_model, register};
use crate::scores::reporter;
use crate::status::{Fault, Outcome, jempp_status};
use core::ffi::{c_int, c_void};
use jempp::Model;
use jempp::evaluation::ClassificationMetrics;
use jempp::run::thresholds::fit_to_images;

/// Accuracy and calibration of a model on labelled images.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_evaluation {
    /// sizeof(jempp_evaluation), set by the caller.
    pub struct_size: u32,
    /// Fraction classified correctly.
    pub accuracy: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Negative log-likelihood: mean -log p(label), in nats.
    pub nll: f64,
    /// Brier score, from 0 to 2.
    pub brier: f64,
}

// SAFETY: repr(C), starts with its size, and every bit pattern is valid.
unsafe impl Sized32 for jempp_evaluation {
    const NAME: &'static str = "jempp_evaluation";
}

/// The images of the caller's and their labels, which are in range.
///
/// # Safety
/// `images` is NULL or has n images, `labels` is NULL or has n values.
unsafe fn labelled<'a>(
    model: &Model,
    images: *const f32,
    labels: *const i32,
    n: usize,
) -> Outcome<(&'a [f32], Vec<u16>)> {
    if n == 0 {
        return Err(Fault::argument("n is 0; at least one labelled image is needed"));
    }
    let classes = model.network().config.classes;
    // SAFETY: as required of the caller.
    let (images, labels) = unsafe {
        let len = elements(n, model.network().pixels(), "images")?;
        (numbers(images, len, "images")?, numbers(labels, n, "labels")?)
    };
    let known = |(i, l): (usize, &i32)| {
        u16::try_from(*l).ok().filter(|l| usize::from(*l) < classes).ok_or_else(|| {
            Fault::argument(format!("label {l} of image {i} is not a class from 0 to {}", classes - 1))
        })
    };
    Ok((images, labels.iter().enumerate().map(known).collect::<Outcome<_>>()?))
}

/// Evaluates a model on labelled images: accuracy and calibration.
///
/// model: the model. images: n x H x W x C. labels: their n classes. bins: number of bins of the calibration error; 0: 20.
/// progress, user: those of jempp_scores. out: receives the metrics; set its struct_size first. May be called
/// concurrently. Since 1.1.
///
/// Errors: INVALID_ARGUMENT if n is 0, for a label out of range, an image value that is not finite, or a struct_size that
/// is too small; CANCELLED by `progress`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_evaluate(
    model: *const jempp_model,
    images: *const f32,
    labels: *const i32,
    n: usize,
    bins: u32,
    progress: Option<extern "C" fn(done: u32, total: u32, user: *mut c_void) -> c_int>,
    user: *mut c_void,
    out: *mut jempp_evaluation,
) -> jempp_status {
    call(|c| {
        // SAFETY: the caller passes NULL or a struct of `struct_size` bytes.
        let struct_size = unsafe { check_size(out, "out")? };
        let model = c.find(model)?;
        // SAFETY: the caller passes n images and n labels.
        let (images, labels) = unsafe { labelled(&model.body, images, labels, n)? };
        let bins = if bins == 0 { 20 } else { bins as usize };
        let scores = model.body.scores_with(images, &mut reporter(progress, user))?;
        let classes = model.body.network().config.classes;
        let m = ClassificationMetrics::new(&scores, classes, &labels, bins)?;
        let (accuracy, ece, nll, brier) = (m.accuracy, m.ece, m.nll, m.brier);
        // SAFETY: checked above.
        unsafe { out.write(jempp_evaluation { struct_size, accuracy, ece, nll, brier }) };
        Ok(())
    })
}

/// Fits the thresholds of jempp_decide to labelled images, and returns a model of the same weights that carries them;
/// jempp_model_save keeps them.
///
/// model: the model; not modified. images: n x H x W x C, in random order, which the model was not trained on, from the
/// distribution that it will meet. labels: their n classes. alpha: error rate of the prediction sets, negative for 0.05;
/// ood_alpha: fraction of in-distribution images to reject, negative for 0.05; at least 2 / alpha images are needed.
/// progress, user: those of jempp_scores. out: receives the model; free it with jempp_model_free. May be called
/// concurrently. Since 1.1.
///
/// Errors: INVALID_ARGUMENT for a rate that is not between 0 and 1, too few images, a label out of range, or an image value
/// that is not finite; CANCELLED by `progress`; OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_fit_thresholds(
    model: *const jempp_model,
    images: *const f32,
    labels: *const i32,
    n: usize,
    alpha: f64,
    ood_alpha: f64,
    progress: Option<extern "C" fn(done: u32, total: u32, user: *mut c_void) -> c_int>,
    user: *mut c_void,
    out: *mut *mut jempp_model,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        let model = c.find(model)?;
        // SAFETY: the caller passes n images and n labels.
        let (images, labels) = unsafe { labelled(&model.body, images, labels, n)? };
        let alphas = [alpha, ood_alpha].map(|a| if a < 0.0 { jempp::model::thresholds::ALPHA } else { a });
        let report = &mut reporter(progress, user);
        let thresholds = fit_to_images(&model.body, (images, &labels), alphas, report)?;
        let fitted = model.body.with_thresholds(thresholds)?;
        // SAFETY: not NULL and aligned; the caller provides space for a pointer.
        unsafe { to.write(register(fitted)) };
        Ok(())
    })
}
