//! Models: loading, saving, and what they say about images.

use crate::args::{self, Room, Sized32, check_size, elements, numbers, path};
use crate::call::{call, quietly};
use crate::handles::{forget, give, jempp_context, jempp_model};
use crate::status::{Fault, JEMPP_ERR_IO, Outcome, jempp_status};
use core::ffi::{c_char, c_void};
use jempp::{Error, Model};

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_model_info {
    /// sizeof(jempp_model_info), set by the caller.
    pub struct_size: u32,
    /// Height of its images.
    pub height: u32,
    /// Width of its images.
    pub width: u32,
    /// Channels of its images.
    pub channels: u32,
    /// Number of classes.
    pub classes: u32,
    /// Number of trained values.
    pub parameters: u64,
}

// SAFETY: repr(C), starts with its size, and any bits are a value.
unsafe impl Sized32 for jempp_model_info {
    const NAME: &'static str = "jempp_model_info";
}

/// What a model decides about an image.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_decision {
    /// sizeof(jempp_decision), set by the caller.
    pub struct_size: u32,
    /// The likeliest class.
    pub label: i32,
    /// Its probability, calibrated.
    pub probability: f32,
    /// Unnormalised log p(x).
    pub log_density: f32,
    /// Share of images like the training data that are as unlikely as this one.
    pub ood_p_value: f32,
    /// 1 where the model had better not answer, else 0.
    pub abstain: i32,
}

// SAFETY: repr(C), starts with its size, and any bits are a value.
unsafe impl Sized32 for jempp_decision {
    const NAME: &'static str = "jempp_decision";
}

/// Loads a trained model.
///
/// context: where the model computes. path: a run's folder, a checkpoint's folder, or a safetensors file; UTF-8, or on Unix
/// any bytes. A file is mapped and read as far as it is needed: it may be replaced or deleted while the model lives, but
/// not written into. out: receives the model; free it with jempp_model_free. Another thread's call on the context is BUSY.
///
/// Errors: IO if nothing that can be read is at the path; FORMAT if it is damaged, or no model of jempp's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_load(
    context: *mut jempp_context,
    path: *const c_char,
    out: *mut *mut jempp_model,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        // SAFETY: the caller gives NULL or a text that ends.
        let path = unsafe { self::path(path, "path")? };
        let context = c.find(context)?;
        let _turn = context.body.turn()?;
        let model = Model::load(&context.body.device, &path).map_err(|e| match e {
            Error::Data(why) => Fault::new(JEMPP_ERR_IO, why),
            other => other.into(),
        })?;
        // SAFETY: not NULL and aligned; the caller gives room for a pointer.
        unsafe { to.write(give(model)) };
        Ok(())
    })
}

/// Loads a trained model from the content of its safetensors file.
///
/// context: where the model computes. data: `len` bytes, which are copied. out: receives the model; free it with
/// jempp_model_free. Another thread's call on the context is BUSY.
///
/// Errors: FORMAT if the content is damaged, or no model of jempp's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_load_memory(
    context: *mut jempp_context,
    data: *const c_void,
    len: usize,
    out: *mut *mut jempp_model,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        if data.is_null() {
            return Err(Fault::argument("data is NULL"));
        }
        // SAFETY: not NULL; the caller gives `len` bytes.
        let bytes = unsafe { numbers::<u8>(data.cast(), len, "data")? };
        let context = c.find(context)?;
        let _turn = context.body.turn()?;
        let model = Model::from_bytes(&context.body.device, bytes.to_vec())?;
        // SAFETY: not NULL and aligned; the caller gives room for a pointer.
        unsafe { to.write(give(model)) };
        Ok(())
    })
}

/// Writes a model to a safetensors file, whole or not at all; a file that is there is replaced.
///
/// model: what is written. path: the file; its folder must exist. Any number of threads at once.
///
/// Errors: IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_save(model: *const jempp_model, path: *const c_char) -> jempp_status {
    call(|c| {
        // SAFETY: the caller gives NULL or a text that ends.
        let path = unsafe { self::path(path, "path")? };
        Ok(c.find(model)?.body.save(&path)?)
    })
}

/// Says what a model is.
///
/// model: which. info: is filled; its struct_size must be set. Any number of threads at once.
///
/// Errors: INVALID_ARGUMENT if struct_size is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_get_info(
    model: *const jempp_model,
    info: *mut jempp_model_info,
) -> jempp_status {
    call(|c| {
        // SAFETY: the caller gives NULL or a struct as long as it says.
        let struct_size = unsafe { check_size(info, "info")? };
        let model = c.find(model)?;
        let network = model.body.network();
        let [height, width, channels] = network.config.image_size.map(|v| v as u32);
        let classes = network.config.classes as u32;
        let parameters = network.parameter_count();
        // SAFETY: checked above.
        unsafe { info.write(jempp_model_info { struct_size, height, width, channels, classes, parameters }) };
        Ok(())
    })
}

/// Logits `f(x)[y]`: softmax over them is p(y | x).
///
/// model: which. images: n x H x W x C. out: receives n x classes; out_len must be n * classes. Any number of threads at
/// once.
///
/// Errors: INVALID_ARGUMENT for a wrong length or an image with a value that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_logits(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    out: *mut f32,
    out_len: usize,
) -> jempp_status {
    // SAFETY: the caller's arguments are as above.
    unsafe { answer(model, images, n, out, out_len, |m| m.network().config.classes, |m, x| Ok(m.logits(x)?)) }
}

/// Unnormalised log p(x): logsumexp over the logits, or the output of the energy head.
///
/// model: which. images: n x H x W x C. out: receives n values; out_len must be n. Any number of threads at once.
///
/// Errors: INVALID_ARGUMENT for a wrong length or an image with a value that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_log_density(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    out: *mut f32,
    out_len: usize,
) -> jempp_status {
    // SAFETY: the caller's arguments are as above.
    unsafe { answer(model, images, n, out, out_len, |_| 1, |m, x| Ok(m.log_density(x)?)) }
}

/// Gradient by the images: of log p(x), or with labels of the logit `f(x)[y]`.
///
/// model: which. images: n x H x W x C. labels: n classes, or NULL. out: receives n x H x W x C; out_len must be that. Any
/// number of threads at once.
///
/// Errors: INVALID_ARGUMENT for a wrong length, a label that is no class or an image with a value that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_input_grad(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    labels: *const i32,
    out: *mut f32,
    out_len: usize,
) -> jempp_status {
    // SAFETY: the caller's arguments are as above.
    unsafe {
        answer(
            model,
            images,
            n,
            out,
            out_len,
            |m| m.network().pixels(),
            |m, x| {
                let labels = (!labels.is_null()).then(|| numbers(labels, n, "labels")).transpose()?;
                Ok(m.input_grad(x, labels)?)
            },
        )
    }
}

/// What `f` says of n images: `each` values an image.
///
/// # Safety
/// The pointers lead to as much as they are said to.
unsafe fn answer(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    out: *mut f32,
    out_len: usize,
    each: impl FnOnce(&Model) -> usize,
    f: impl FnOnce(&Model, &[f32]) -> Outcome<Vec<f32>>,
) -> jempp_status {
    call(|c| {
        let model = c.find(model)?;
        let model = &model.body;
        let len = elements(n, model.network().pixels(), "images")?;
        let room = Room::new(out, out_len, elements(n, each(model), "out")?, "out")?;
        // SAFETY: the caller gives n images.
        let images = unsafe { numbers(images, len, "images")? };
        let values = f(model, images)?;
        // SAFETY: the caller gives room for `out_len` values.
        unsafe { room.fill(&values) }
    })
}

/// Decides about images: label, calibrated probability, how far from the training data, and whether to abstain.
///
/// model: which. images: n x H x W x C. out: n decisions, each with its struct_size set, are filled; out_len must be n. Any
/// number of threads at once.
///
/// Errors: FORMAT while the model carries no thresholds to decide by; INVALID_ARGUMENT for a wrong length or struct_size.
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
        // SAFETY: the caller gives at least one decision as long as it says.
        let size = unsafe { check_size(out, "out")? };
        if !(size as usize).is_multiple_of(align_of::<jempp_decision>()) {
            return Err(Fault::argument(format!(
                "struct_size is {size}, which no array of decisions can have"
            )));
        }
        // SAFETY: the caller gives n images.
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
            // SAFETY: the caller gives n decisions, each as long as the first says, which is at least as long as ours.
            unsafe { out.byte_add(i * size as usize).write(decision) };
        }
        Ok(())
    })
}

/// Frees a model. Calls on it that are under way in other threads end first, and well.
///
/// model: what is freed; NULL, or what was freed already, does nothing. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_model_free(model: *mut jempp_model) {
    quietly(|| forget(model));
}
