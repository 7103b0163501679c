//! Training inside the host.

use crate::args::{self, Room, Sized32, check_size, elements, numbers, path, text};
use crate::call::{call, quietly};
use crate::handles::{forget, give, jempp_context, jempp_model, jempp_trainer};
use crate::status::{Fault, JEMPP_ERR_BUSY, JEMPP_ERR_IO, Outcome, jempp_status};
use core::ffi::c_char;
use jempp::{Batch, StepMetrics, Trainer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

/// What a training step measured.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct jempp_step_metrics {
    /// sizeof(jempp_step_metrics), set by the caller.
    pub struct_size: u32,
    /// Steps done, this one included.
    pub step: u64,
    /// The loss.
    pub loss: f32,
    /// Mean cross-entropy of the labelled images.
    pub ce: f32,
    /// Mean unnormalised log p(x) of the data; NaN if that is not trained.
    pub log_density_data: f32,
    /// The same of the chains.
    pub log_density_chain: f32,
    /// Share of the labelled images that were classified right.
    pub accuracy: f32,
    /// The step's learning rate.
    pub lr: f32,
}

// SAFETY: repr(C), starts with its size, and any bits are a value.
unsafe impl Sized32 for jempp_step_metrics {
    const NAME: &'static str = "jempp_step_metrics";
}

/// What is behind a trainer.
#[derive(Debug)]
pub(crate) struct Training {
    trainer: Mutex<Trainer>,
    /// Whether a call that changes the trainer is under way.
    changing: AtomicBool,
}

/// A trainer taken by a call.
struct Taken<'a> {
    trainer: MutexGuard<'a, Trainer>,
    changing: Option<&'a AtomicBool>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(changing) = self.changing {
            changing.store(false, Ordering::Release);
        }
    }
}

fn busy() -> Fault {
    Fault::new(JEMPP_ERR_BUSY, "another thread is using this trainer; wait for its call")
}

impl Training {
    fn new(trainer: Trainer) -> Self {
        Self { trainer: Mutex::new(trainer), changing: AtomicBool::new(false) }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Trainer>> {
        match self.trainer.try_lock() {
            Ok(t) => Some(t),
            // What a panic left is never used: its handle is poisoned.
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// For a call that changes it: alone.
    fn change(&self) -> Outcome<Taken<'_>> {
        let trainer = self.try_lock().ok_or_else(busy)?;
        self.changing.store(true, Ordering::Release);
        Ok(Taken { trainer, changing: Some(&self.changing) })
    }

    /// For a call that does not: after others like it.
    fn look(&self) -> Outcome<Taken<'_>> {
        loop {
            if let Some(trainer) = self.try_lock() {
                return Ok(Taken { trainer, changing: None });
            }
            if self.changing.load(Ordering::Acquire) {
                return Err(busy());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Makes a trainer with fresh weights.
///
/// context: where it computes. config_toml: the configuration, a TOML document in UTF-8 with the keys that `jempp-cli train
/// --print-config` shows; what it does not name is the preset's ("jempp" unless it names another). If it names
/// data.dataset, or preset = "digits", that data set is loaded, for chains to restart from and for the statistics of batch
/// norm that models are given; else each step needs chain_start, unless sampler.init = "uniform" (restarts from noise).
/// No image is trained on but those given to jempp_trainer_step. out: receives the trainer; free it with
/// jempp_trainer_free. Another thread's call on the context is BUSY.
///
/// Errors: INVALID_ARGUMENT for a configuration that cannot be, naming the key; IO for a data set that cannot be read;
/// OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_create(
    context: *mut jempp_context,
    config_toml: *const c_char,
    out: *mut *mut jempp_trainer,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        // SAFETY: the caller gives NULL or a text that ends.
        let config = unsafe { text(config_toml, "config_toml")? };
        let context = c.find(context)?;
        let _turn = context.body.turn()?;
        let trainer = Trainer::from_toml(config, context.body.seed, &context.body.device)?;
        // SAFETY: not NULL and aligned; the caller gives room for a pointer.
        unsafe { to.write(give(Training::new(trainer))) };
        Ok(())
    })
}

/// Gives a trainer the weights and running statistics of a model, to go on from. Optimiser, replay buffer and step number
/// stay as they are.
///
/// trainer: what is changed; another thread's call on it is BUSY. model: of the same architecture; it is only read.
///
/// Errors: INVALID_ARGUMENT if the architecture is another.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_trainer_load_model(
    trainer: *mut jempp_trainer,
    model: *const jempp_model,
) -> jempp_status {
    call(|c| {
        let (trainer, model) = (c.find(trainer)?, c.find(model)?);
        let mut taken = trainer.body.change()?;
        Ok(taken.trainer.load_model(&model.body)?)
    })
}

/// One training step on images that are given: the chains move, then data, chains and labelled images pass through the
/// network, then the weights change, with the learning rate that the configuration's schedule says.
///
/// trainer: what is changed; another thread's call on it is BUSY. x_data: n_data x H x W x C, the images for log p(x); n_data
/// must be train.batch_size (if log p(x) is not trained, x_data may be NULL and n_data 0). x_labelled: n_labelled x H x W x C
/// with labels: n_labelled classes; n_labelled must be train.labelled_batch_size, or train.batch_size if that is 0.
/// chain_start: n_chain x H x W x C, where the chains start (they then do not go into the replay buffer), or NULL: rows of
/// the buffer. chain_end: receives where they end, n_chain x H x W x C, or NULL. n_chain must be train.batch_size unless
/// both are NULL. metrics: is filled, its struct_size must be set; or NULL. Images are taken as they are: nothing is
/// augmented.
///
/// Errors: INVALID_ARGUMENT for a wrong length, a label that is no class, a value that is not finite, or no chain_start where
/// there is no buffer: then nothing has changed. DIVERGED once the weights are lost: resume from a saved trainer.
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
        let mut taken = trainer.body.change()?;
        let m = &taken.trainer.config().model;
        let pixels: usize = m.image_size.iter().product();
        let chains = elements(n_chain, pixels, "chain_start")?;
        let trained = taken.trainer.chain_count();
        if !(chain_start.is_null() && chain_end.is_null()) && n_chain != trained {
            return Err(Fault::argument(format!(
                "n_chain is {n_chain}; this trainer moves {trained} chains"
            )));
        }
        // SAFETY: the caller gives as many images, labels and starts as it says, and a struct as long as it says.
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
        let room = (!chain_end.is_null()).then(|| Room::new(chain_end, chains, chains, "chain_end"));
        let room = room.transpose()?;
        let done = taken.trainer.step(&batch)?;
        if let Some(room) = room {
            // SAFETY: the caller gives room for n_chain images.
            unsafe { room.fill(&taken.trainer.chains()?)? };
        }
        if let Some(size) = struct_size {
            // SAFETY: not NULL, and checked above.
            unsafe { metrics.write(measured(&done, size)) };
        }
        Ok(())
    })
}

fn measured(m: &StepMetrics, struct_size: u32) -> jempp_step_metrics {
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

/// The model as training has made it so far: a snapshot that later steps do not change. Batch norm has the statistics that
/// eval.bn names if the trainer has a data set, else the running ones.
///
/// trainer: which; another thread's call on it is BUSY. out: receives the model; free it with jempp_model_free.
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
        let taken = trainer.body.change()?;
        let model = taken.trainer.model()?;
        // SAFETY: not NULL and aligned; the caller gives room for a pointer.
        unsafe { to.write(give(model)) };
        Ok(())
    })
}

/// Saves a checkpoint: everything that training needs to go on bit by bit, and the model to be served. It is whole or not
/// there; the last three stay.
///
/// trainer: which; a thread that changes it makes this BUSY. dir: a folder, made if need be; jempp_model_load and
/// jempp_trainer_resume take it.
///
/// Errors: IO; DIVERGED if a weight is not finite, and INVALID_ARGUMENT if another process is writing into dir: then nothing
/// was saved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_save(
    trainer: *const jempp_trainer,
    dir: *const c_char,
) -> jempp_status {
    call(|c| {
        // SAFETY: the caller gives NULL or a text that ends.
        let dir = unsafe { path(dir, "dir")? };
        let trainer = c.find(trainer)?;
        let taken = trainer.body.look()?;
        taken.trainer.save(&dir)?;
        Ok(())
    })
}

/// Goes on where jempp_trainer_save, or a run of jempp-cli, left off. A damaged checkpoint is passed over for the one before
/// it, which the log callback is told.
///
/// context: where it computes. dir: the folder. out: receives the trainer; free it with jempp_trainer_free. Another thread's
/// call on the context is BUSY.
///
/// Errors: IO if there is no checkpoint; FORMAT if none is whole; INVALID_ARGUMENT if the data set is not what it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_trainer_resume(
    context: *mut jempp_context,
    dir: *const c_char,
    out: *mut *mut jempp_trainer,
) -> jempp_status {
    call(|c| {
        let to = args::out(out, "out")?;
        // SAFETY: the caller gives NULL or a text that ends.
        let dir = unsafe { path(dir, "dir")? };
        let context = c.find(context)?;
        let _turn = context.body.turn()?;
        if !dir.join("ckpt").is_dir() {
            let why = format!("{}: there is no checkpoint (looked for a folder `ckpt` in it)", dir.display());
            return Err(Fault::new(JEMPP_ERR_IO, why));
        }
        let trainer = Trainer::resume(&dir, &context.body.device)?;
        // SAFETY: not NULL and aligned; the caller gives room for a pointer.
        unsafe { to.write(give(Training::new(trainer))) };
        Ok(())
    })
}

/// Frees a trainer. A call on it that is under way in another thread ends first, and well.
///
/// trainer: what is freed; NULL, or what was freed already, does nothing. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_trainer_free(trainer: *mut jempp_trainer) {
    quietly(|| forget(trainer));
}

/// Runs `f` while a call that changes the trainer is under way.
#[cfg(test)]
pub(crate) fn while_changing(trainer: *mut jempp_trainer, f: impl FnOnce()) {
    if let Ok(object) = crate::handles::find(trainer) {
        let _taken = object.body.change();
        f();
    }
}
