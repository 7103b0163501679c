//! Training driven by the host program, step by step.

use crate::args::{self, Output, Sized32, check_size, elements, numbers, path, text};
use crate::call::{call, call_infallible};
use crate::handles::{jempp_context, jempp_model, jempp_trainer, register, release};
use crate::objects::SharedTrainer;
use crate::status::{Fault, JEMPP_ERR_IO, jempp_status};
use core::ffi::c_char;
use jempp::{Batch, StepMetrics, Trainer};

/// Metrics of a training step.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_step_metrics {
    /// sizeof(jempp_step_metrics), set by the caller.
    pub struct_size: u32,
    /// Number of steps done, including this one.
    pub step: u64,
    /// Total loss.
    pub loss: f32,
    /// Mean cross-entropy of the labelled images, in nats.
    pub ce: f32,
    /// Mean unnormalised log p(x) of the data; NaN if log p(x) is not trained.
    pub log_density_data: f32,
    /// Mean unnormalised log p(x) of the chains; NaN if log p(x) is not trained.
    pub log_density_chain: f32,
    /// Fraction of the labelled images that were classified correctly.
    pub accuracy: f32,
    /// Learning rate of the step.
    pub lr: f32,
}

// SAFETY: repr(C), starts with its size, and every bit pattern is valid.
unsafe impl Sized32 for jempp_step_metrics {
    const NAME: &'static str = "jempp_step_metrics";
}

/// Creates a trainer with freshly initialised weights.
///
/// context: the trainer computes on its device. config_toml: the configuration, a TOML document in UTF-8 with the keys
/// that `jempp-cli train --print-config` shows; keys that it does not set have the preset's values (preset "jempp" by
/// default). If it sets data.dataset, or preset = "digits", that data set is loaded: chains restart from its
/// informative initialisation, and the batch norm statistics of models can be recalibrated on it. Otherwise each step
/// needs chain_start until jempp_trainer_set_init_images is called or a model with start samples is loaded, unless
/// sampler.init = "uniform" (restarts from noise, with which the published settings collapse). train.from = "PATH" starts
/// from the weights of that model, as jempp_trainer_load_model does. Training uses only the images passed to
/// jempp_trainer_step. out: receives the trainer; free it with jempp_trainer_free. BUSY while another thread uses the
/// context.
///
/// Errors: INVALID_ARGUMENT for an invalid configuration, naming the key; IO for a data set that cannot be read;
/// OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_create(
    context: *mut jempp_context,
    config_toml: *const c_char,
    out: *mut *mut jempp_trainer,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        // SAFETY: the caller passes NULL or a NUL-terminated string.
        let config = unsafe { text(config_toml, "config_toml")? };
        let context = c.find(context)?;
        let _guard = context.body.acquire()?;
        let trainer = Trainer::from_toml(config, context.body.seed, &context.body.device)?;
        // SAFETY: not NULL and aligned; the caller provides space for a pointer.
        unsafe { to.write(register(SharedTrainer::new(trainer))) };
        Ok(())
    })
}

/// Copies the weights and running statistics of a model into a trainer. Optimiser state and step count are not changed. If
/// the model has another number of classes, the trainer keeps its own class head, with a warning to the log callback. A
/// trainer whose chains have nothing to restart from takes the start samples that the model carries, and a replay buffer of
/// them: steps then need no chain_start.
///
/// trainer: the trainer; BUSY while another thread uses it. model: a model of the same architecture; not modified.
///
/// Errors: INVALID_ARGUMENT if the architectures differ, naming tensors and both shapes; OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_trainer_load_model(
    trainer: *mut jempp_trainer,
    model: *const jempp_model,
) -> jempp_status {
    call(|c| {
        let (trainer, model) = (c.find(trainer)?, c.find(model)?);
        let mut guard = trainer.body.lock_exclusive()?;
        Ok(guard.trainer.load_model(&model.body)?)
    })
}

/// Gives a trainer without a data set the images that its chains restart from (informative initialisation), and fills its
/// replay buffer with draws from the normals of the classes: steps then need no chain_start, and models of the trainer carry
/// start samples. Call it before the first step; later calls fill the buffer anew. Weights, optimiser and step count are not
/// changed.
///
/// trainer: the trainer; BUSY while another thread uses it. images: n x H x W x C values in [-1, 1]; labels: their n
/// classes. There must be an image of every class; some hundred of each are better. All count for the class means; 5000
/// are kept, and saved by jempp_trainer_save.
///
/// Errors: INVALID_ARGUMENT for a value outside [-1, 1], a label out of range, a class without an image, or a trainer that
/// has a data set, sampler.init = "uniform" or no chains; the trainer is then unchanged. OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_set_init_images(
    trainer: *mut jempp_trainer,
    images: *const f32,
    labels: *const i32,
    n: usize,
) -> jempp_status {
    call(|c| {
        let trainer = c.find(trainer)?;
        let mut guard = trainer.body.lock_exclusive()?;
        let pixels: usize = guard.trainer.config().model.image_size.iter().product();
        // SAFETY: the caller passes n images and n labels.
        let (images, labels) = unsafe {
            (numbers(images, elements(n, pixels, "images")?, "images")?, numbers(labels, n, "labels")?)
        };
        Ok(guard.trainer.set_init_images(images, labels)?)
    })
}

/// Runs one training step on the given images: samples the chains by SGLD, computes the loss on data, chains and
/// labelled images, and updates the weights with the learning rate of the configured schedule.
///
/// trainer: the trainer; BUSY while another thread uses it. x_data: images for log p(x), n_data x H x W x C; n_data
/// must be train.batch_size (if log p(x) is not trained, x_data may be NULL and n_data 0). x_labelled: labelled images,
/// n_labelled x H x W x C; labels: their n_labelled classes; n_labelled must be train.labelled_batch_size, or
/// train.batch_size if that is 0. chain_start: initial images of the chains, n_chain x H x W x C, whose results are
/// then not stored in the replay buffer; NULL: draw them from the replay buffer. chain_end: receives the chains' final
/// images, n_chain x H x W x C, or NULL. n_chain must be train.batch_size unless both are NULL. metrics: receives the
/// metrics; set its struct_size first; or NULL. Images are used as they are, without data augmentation.
///
/// Errors: INVALID_ARGUMENT for a wrong length, a label out of range, a value that is not finite, or a missing
/// chain_start if there is no replay buffer; the trainer is then unchanged. DIVERGED if the weights are no longer
/// finite: resume from a saved checkpoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_step(
    trainer: *mut jempp_trainer,
    x_data: *const f32,
    n_data: usize,
    x_labelled: *const f32,
    labels: *const i32,
    n_labelled: usize,
    chain_start: *const f32,
    chain_end: *mut f32,
    n_chain: usize,
    metrics: *mut jempp_step_metrics,
) -> jempp_status {
    call(|c| {
        let trainer = c.find(trainer)?;
        let mut guard = trainer.body.lock_exclusive()?;
        let m = &guard.trainer.config().model;
        let pixels: usize = m.image_size.iter().product();
        let chains = elements(n_chain, pixels, "chain_start")?;
        let trained = guard.trainer.chain_count();
        if !(chain_start.is_null() && chain_end.is_null()) && n_chain != trained {
            return Err(Fault::argument(format!(
                "n_chain is {n_chain}; this trainer samples {trained} chains"
            )));
        }
        // SAFETY: the caller passes n_data, n_labelled and n_chain images, and a struct of `struct_size` bytes.
        let (batch, struct_size) = unsafe {
            let start = (!chain_start.is_null()).then(|| numbers(chain_start, chains, "chain_start"));
            let batch = Batch {
                x_data: numbers(x_data, elements(n_data, pixels, "x_data")?, "x_data")?,
                x_labelled: numbers(x_labelled, elements(n_labelled, pixels, "x_labelled")?, "x_labelled")?,
                labels: numbers(labels, n_labelled, "labels")?,
                chain_start: start.transpose()?,
            };
            (batch, (!metrics.is_null()).then(|| check_size(metrics, "metrics")).transpose()?)
        };
        let output = (!chain_end.is_null()).then(|| Output::new(chain_end, chains, chains, "chain_end"));
        let output = output.transpose()?;
        let done = guard.trainer.step(&batch)?;
        if let Some(output) = output {
            // SAFETY: the caller provides space for n_chain images.
            unsafe { output.fill(&guard.trainer.chains()?)? };
        }
        if let Some(size) = struct_size {
            // SAFETY: not NULL, and checked above.
            unsafe { metrics.write(measured(&done, size)) };
        }
        Ok(())
    })
}

pub(crate) fn measured(m: &StepMetrics, struct_size: u32) -> jempp_step_metrics {
    jempp_step_metrics {
        struct_size,
        step: m.step,
        loss: m.loss as f32,
        ce: m.ce as f32,
        log_density_data: m.log_density_data as f32,
        log_density_chain: m.log_density_chain as f32,
        accuracy: m.accuracy as f32,
        lr: m.lr as f32,
    }
}

/// Returns the current model: a snapshot that later steps do not change. If the trainer has a data set, batch norm uses
/// the statistics that eval.bn selects, otherwise the running statistics.
///
/// trainer: the trainer; BUSY while another thread uses it. out: receives the model; free it with jempp_model_free.
///
/// Errors: OUT_OF_MEMORY; INVALID_ARGUMENT if the data set is smaller than a batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_model(
    trainer: *mut jempp_trainer,
    out: *mut *mut jempp_model,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        let trainer = c.find(trainer)?;
        let guard = trainer.body.lock_exclusive()?;
        let model = guard.trainer.model()?;
        // SAFETY: not NULL and aligned; the caller provides space for a pointer.
        unsafe { to.write(register(model)) };
        Ok(())
    })
}

/// Saves a checkpoint: the trained model, and everything needed to resume training with bit-identical results. Saving
/// is atomic; the last three checkpoints are kept.
///
/// trainer: the trainer; BUSY while another thread changes it. dir: a folder, created if it does not exist; pass it to
/// jempp_model_load or jempp_trainer_resume.
///
/// Errors: IO; DIVERGED if a weight is not finite, and INVALID_ARGUMENT if another process is writing into dir; nothing
/// is saved in these cases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_save(
    trainer: *const jempp_trainer,
    dir: *const c_char,
) -> jempp_status {
    call(|c| {
        // SAFETY: the caller passes NULL or a NUL-terminated string.
        let dir = unsafe { path(dir, "dir")? };
        let trainer = c.find(trainer)?;
        let guard = trainer.body.lock_shared()?;
        guard.trainer.save(&dir)?;
        Ok(())
    })
}

/// Resumes training from the last checkpoint of jempp_trainer_save or of a jempp-cli run. A damaged checkpoint is
/// skipped for the one before it, with a warning to the log callback.
///
/// context: the trainer computes on its device. dir: the folder. out: receives the trainer; free it with
/// jempp_trainer_free. BUSY while another thread uses the context.
///
/// Errors: IO if there is no checkpoint; FORMAT if all are damaged; INVALID_ARGUMENT if the data set has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_resume(
    context: *mut jempp_context,
    dir: *const c_char,
    out: *mut *mut jempp_trainer,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        // SAFETY: the caller passes NULL or a NUL-terminated string.
        let dir = unsafe { path(dir, "dir")? };
        let context = c.find(context)?;
        let _guard = context.body.acquire()?;
        if !dir.join("ckpt").is_dir() {
            let why = format!("{}: there is no checkpoint (looked for a folder `ckpt` in it)", dir.display());
            return Err(Fault::new(JEMPP_ERR_IO, why));
        }
        let trainer = Trainer::resume(&dir, &context.body.device)?;
        // SAFETY: not NULL and aligned; the caller provides space for a pointer.
        unsafe { to.write(register(SharedTrainer::new(trainer))) };
        Ok(())
    })
}

/// Frees a trainer. A call on it that another thread has in progress completes normally.
///
/// trainer: NULL or a freed handle does nothing. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_trainer_free(trainer: *mut jempp_trainer) {
    call_infallible(|| release(trainer));
}

/// Runs `f` while a call that changes the trainer is in progress.
#[cfg(test)]
pub(crate) fn while_changing(trainer: *mut jempp_trainer, f: impl FnOnce()) {
    if let Ok(object) = crate::handles::find(trainer) {
        let _guard = object.body.lock_exclusive();
        f();
    }
}
