//! Models: loading, saving, and inference on images.

use crate::args::{self, Output, Sized32, check_size, elements, numbers, path};
use crate::call::{call, call_infallible};
use crate::handles::{jempp_context, jempp_model, register, release};
use crate::status::{Fault, JEMPP_ERR_IO, Outcome, jempp_status};
use core::ffi::{c_char, c_void};
use jempp::{Error, Model};

/// Description of a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_model_info {
    /// sizeof(jempp_model_info), set by the caller.
    pub struct_size: u32,
    /// Height of its images, in pixels.
    pub height: u32,
    /// Width of its images, in pixels.
    pub width: u32,
    /// Channels of its images.
    pub channels: u32,
    /// Number of classes.
    pub classes: u32,
    /// Number of trainable parameters.
    pub parameters: u64,
}

// SAFETY: repr(C), starts with its size, and every bit pattern is valid.
unsafe impl Sized32 for jempp_model_info {
    const NAME: &'static str = "jempp_model_info";
}

/// Loads a trained model.
///
/// context: the model computes on its device. path: a run folder, a checkpoint folder, a safetensors file or a
/// published PyTorch checkpoint; UTF-8, or on Unix any bytes. A safetensors file is memory-mapped and read on demand:
/// it may be replaced or deleted while the model lives, but not written into. out: receives the model; free it with
/// jempp_model_free. BUSY while another thread uses the context.
///
/// Errors: IO if there is no readable file at the path; FORMAT if it is damaged or not a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_load(
    context: *mut jempp_context,
    path: *const c_char,
    out: *mut *mut jempp_model,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        // SAFETY: the caller passes NULL or a NUL-terminated string.
        let path = unsafe { self::path(path, "path")? };
        let context = c.find(context)?;
        let _guard = context.body.acquire()?;
        let model = Model::load(&context.body.device, &path).map_err(|e| match e {
            Error::Data(why) => Fault::new(JEMPP_ERR_IO, why),
            other => other.into(),
        })?;
        // SAFETY: not NULL and aligned; the caller provides space for a pointer.
        unsafe { to.write(register(model)) };
        Ok(())
    })
}

/// Loads a trained model from the bytes of its file.
///
/// context: the model computes on its device. data: `len` bytes, which are copied. out: receives the model; free it
/// with jempp_model_free. BUSY while another thread uses the context.
///
/// Errors: FORMAT if the bytes are damaged or not a model.
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
        // SAFETY: not NULL; the caller passes `len` bytes.
        let bytes = unsafe { numbers::<u8>(data.cast(), len, "data")? };
        let context = c.find(context)?;
        let _guard = context.body.acquire()?;
        let model = Model::from_bytes(&context.body.device, bytes.to_vec())?;
        // SAFETY: not NULL and aligned; the caller provides space for a pointer.
        unsafe { to.write(register(model)) };
        Ok(())
    })
}

/// Saves a model to a safetensors file. The file is replaced atomically.
///
/// model: the model. path: the file; its folder must exist. May be called concurrently.
///
/// Errors: IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_save(model: *const jempp_model, path: *const c_char) -> jempp_status {
    call(|c| {
        // SAFETY: the caller passes NULL or a NUL-terminated string.
        let path = unsafe { self::path(path, "path")? };
        Ok(c.find(model)?.body.save(&path)?)
    })
}

/// Describes a model.
///
/// model: the model. info: receives the description; set its struct_size first. May be called concurrently.
///
/// Errors: INVALID_ARGUMENT if struct_size is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_model_get_info(
    model: *const jempp_model,
    info: *mut jempp_model_info,
) -> jempp_status {
    call(|c| {
        // SAFETY: the caller passes NULL or a struct of `struct_size` bytes.
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

/// Logits `f(x)[y]`, whose softmax is p(y|x).
///
/// model: the model. images: n x H x W x C. out: receives n x classes values; out_len must be n * classes. May be
/// called concurrently.
///
/// Errors: INVALID_ARGUMENT for a wrong length or an image value that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_logits(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    out: *mut f32,
    out_len: usize,
) -> jempp_status {
    // SAFETY: the caller passes arguments as described above.
    unsafe { infer(model, images, n, out, out_len, |m| m.network().config.classes, |m, x| Ok(m.logits(x)?)) }
}

/// Unnormalised log p(x): the logsumexp of the logits, or the output of the energy head if the model has one.
///
/// model: the model. images: n x H x W x C. out: receives n values; out_len must be n. May be called concurrently.
///
/// Errors: INVALID_ARGUMENT for a wrong length or an image value that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_log_density(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    out: *mut f32,
    out_len: usize,
) -> jempp_status {
    // SAFETY: the caller passes arguments as described above.
    unsafe { infer(model, images, n, out, out_len, |_| 1, |m, x| Ok(m.log_density(x)?)) }
}

/// Gradient with respect to the images of unnormalised log p(x), or if labels are given of unnormalised log p(x, y):
/// the label's logit `f(x)[y]`, or for a model with an energy head log p(x) + log p(y|x).
///
/// model: the model. images: n x H x W x C. labels: n classes, or NULL. out: receives n x H x W x C values; out_len
/// must be n * H * W * C. May be called concurrently.
///
/// Errors: INVALID_ARGUMENT for a wrong length, a label out of range or an image value that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_input_grad(
    model: *const jempp_model,
    images: *const f32,
    n: usize,
    labels: *const i32,
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
            |m, x| {
                let labels = (!labels.is_null()).then(|| numbers(labels, n, "labels")).transpose()?;
                Ok(m.input_grad(x, labels)?)
            },
        )
    }
}

/// Runs `f` on n images and copies its results, `each` values per image, to `out`.
///
/// # Safety
/// `images` is NULL or has n images, `out` is NULL or has `out_len` elements.
pub(crate) unsafe fn infer(
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
        let output = Output::new(out, out_len, elements(n, each(model), "out")?, "out")?;
        // SAFETY: the caller passes n images.
        let images = unsafe { numbers(images, len, "images")? };
        let values = f(model, images)?;
        // SAFETY: the caller provides space for `out_len` values.
        unsafe { output.fill(&values) }
    })
}

/// Frees a model. Calls on it that other threads have in progress complete normally.
///
/// model: NULL or a freed handle does nothing. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_model_free(model: *mut jempp_model) {
    call_infallible(|| release(model));
}
