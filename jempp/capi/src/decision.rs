//! Decisions: label, calibrated probability, abstention, and the thresholds and class names they come with.

use crate::args::{Output, Sized32, check_size, elements, numbers};
use crate::call::call;
use crate::handles::jempp_model;
use crate::status::{Fault, JEMPP_ERR_FORMAT, jempp_status};
use core::ffi::c_char;

/// A model's decision about an image.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_decision {
    /// sizeof(jempp_decision), set by the caller.
    pub struct_size: u32,
    /// The most probable class.
    pub label: i32,
    /// Calibrated probability of `label`.
    pub probability: f32,
    /// Unnormalised log p(x).
    pub log_density: f32,
    /// Conformal p-value of out-of-distribution detection: estimated fraction of in-distribution images whose log p(x)
    /// is as low as this.
    pub ood_p_value: f32,
    /// 1 if the model abstains, else 0.
    pub abstain: i32,
}

// SAFETY: repr(C), starts with its size, and every bit pattern is valid.
unsafe impl Sized32 for jempp_decision {
    const NAME: &'static str = "jempp_decision";
}

/// What a model decides by, and what it does to the validation images that it was fitted on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_thresholds {
    /// sizeof(jempp_thresholds), set by the caller.
    pub struct_size: u32,
    /// Number of validation images.
    pub images: u32,
    /// What logits are divided by before softmax; 1 where the validation images do not support another value.
    pub temperature: f32,
    /// Mean negative log-likelihood of held-out images, in nats, without the temperature. NaN in models of earlier versions.
    pub nll_before: f32,
    /// The same with the temperature.
    pub nll_after: f32,
    /// Calibrated probability that exactly one class has to reach, or the model abstains.
    pub probability: f32,
    /// Allowed rate of labels that do not reach it.
    pub alpha: f32,
    /// The model abstains on images whose p-value is below this; the allowed rate of in-distribution images rejected so.
    pub ood_alpha: f32,
    /// Fraction of the validation images that the model does not abstain on. NaN in models of earlier versions.
    pub coverage: f32,
}

// SAFETY: repr(C), starts with its size, and every bit pattern is valid.
unsafe impl Sized32 for jempp_thresholds {
    const NAME: &'static str = "jempp_thresholds";
}

/// Name of a class, such as the folder that its training images were in.
///
/// model: the model. label: the class, counted from 0. out: receives the name in UTF-8 and a terminating zero; out_len:
/// its size in bytes. The name is empty if the model has no names. May be called concurrently. Since 1.1.
///
/// Errors: INVALID_ARGUMENT for a class out of range, or if `out` is too small; the message says what is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_class_name(
    model: *const jempp_model,
    label: i32,
    out: *mut c_char,
    out_len: usize,
) -> jempp_status {
    call(|c| {
        let model = c.find(model)?;
        let classes = model.body.network().config.classes;
        let k = usize::try_from(label).ok().filter(|k| *k < classes);
        let k = k.ok_or_else(|| {
            Fault::argument(format!("class {label}: the model has the classes 0 to {}", classes - 1))
        })?;
        let names = model.body.class_names();
        let mut bytes = names.get(k).map(|n| n.clone().into_bytes()).unwrap_or_default();
        bytes.push(0);
        if out_len < bytes.len() {
            let need = bytes.len();
            return Err(Fault::argument(format!("out has room for {out_len} bytes, not the {need} needed")));
        }
        let output = Output::<u8>::new(out.cast(), bytes.len(), bytes.len(), "out")?;
        // SAFETY: the caller provides space for `out_len` bytes, which are at least as many.
        unsafe { output.fill(&bytes) }
    })
}

/// Describes what a model decides by: see jempp_decide.
///
/// model: the model. out: receives the description; set its struct_size first. May be called concurrently. Since 1.1.
///
/// Errors: FORMAT if the model has no thresholds; INVALID_ARGUMENT if struct_size is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_get_thresholds(
    model: *const jempp_model,
    out: *mut jempp_thresholds,
) -> jempp_status {
    call(|c| {
        // SAFETY: the caller passes NULL or a struct of `struct_size` bytes.
        let struct_size = unsafe { check_size(out, "out")? };
        let model = c.find(model)?;
        let thresholds = model.body.thresholds().ok_or_else(|| {
            Fault::new(
                JEMPP_ERR_FORMAT,
                "the model carries no thresholds (`jempp-cli eval thresholds` fits them)",
            )
        })?;
        let v = &thresholds.values;
        let [before, after] = v.fit.as_ref().map_or([f64::NAN; 2], |f| f.nll);
        let described = jempp_thresholds {
            struct_size,
            images: (v.fitted_on[0] + v.fitted_on[1]) as u32,
            temperature: v.temperature as f32,
            nll_before: before as f32,
            nll_after: after as f32,
            probability: v.probability as f32,
            alpha: v.alpha as f32,
            ood_alpha: v.ood_alpha as f32,
            coverage: v.coverage.unwrap_or(f64::NAN) as f32,
        };
        // SAFETY: checked above.
        unsafe { out.write(described) };
        Ok(())
    })
}

/// Decides about images: label, calibrated probability, out-of-distribution p-value, and whether the model abstains.
///
/// model: the model. images: n x H x W x C. out: receives n decisions; set the struct_size of each first; out_len must
/// be n. May be called concurrently.
///
/// Errors: FORMAT if the model has no thresholds for abstaining (`jempp-cli eval thresholds` fits them);
/// INVALID_ARGUMENT for a wrong length or struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_decide(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    out: *mut jempp_decision,
    out_len: usize,
) -> jempp_status {
    call(|c| {
        let model = c.find(model)?;
        let len = elements(n, model.body.network().pixels(), "images")?;
        if out_len != n {
            return Err(Fault::argument(format!("out has room for {out_len} elements, not the {n} needed")));
        }
        if n == 0 {
            return Ok(());
        }
        // SAFETY: the caller provides at least one decision of `struct_size` bytes.
        let size = unsafe { check_size(out, "out")? };
        if !(size as usize).is_multiple_of(align_of::<jempp_decision>()) {
            return Err(Fault::argument(format!(
                "struct_size is {size}, which no array of decisions can have"
            )));
        }
        // SAFETY: the caller passes n images.
        let images = unsafe { numbers(images, len, "images")? };
        for (i, d) in model.body.decide(images)?.into_iter().enumerate() {
            let decision = jempp_decision {
                struct_size: size,
                label: d.label,
                probability: d.probability,
                log_density: d.log_density,
                ood_p_value: d.ood_p_value,
                abstain: i32::from(d.abstain),
            };
            // SAFETY: the caller provides n decisions, each of the first one's `struct_size`, which is at least our
            // size.
            unsafe { out.byte_add(i * size as usize).write(decision) };
        }
        Ok(())
    })
}
