//! Whole training runs, as `jempp-cli train` does them, with a callback for each step.

use crate::args::{path, text};
use crate::call::call;
use crate::handles::jempp_context;
use crate::status::{Outcome, jempp_status};
use crate::trainer::{jempp_step_metrics, measured};
use core::ffi::{c_char, c_int, c_void};
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, Ordering};
use jempp::config::ConfigBuilder;
use jempp::engine::Device;
use jempp::run::{Folder, Observer, Progress, TrainingRun};
use std::path::Path;

/// A callback for each training step.
type OnStep =
    Option<extern "C" fn(metrics: *const jempp_step_metrics, steps: u64, user: *mut c_void) -> c_int>;

/// Trains a model on a data set, from the first step to the last, as `jempp-cli train` does: writes metrics, samples,
/// checkpoints and the evaluation into a folder, which jempp_model_load accepts.
///
/// context: the run computes on its device, and takes its seed if the configuration has none. BUSY while another thread
/// uses the context; it is free again when training begins. config_toml: that of jempp_trainer_create, with a data set; or
/// NULL to resume the run in `dir`. dir: the folder; must not exist, unless a run is resumed. step: called on the calling
/// thread after each step with its metrics, valid during the call, and the number of steps in total; returning 0 ends the
/// run after the step that follows, with a checkpoint from which it may be resumed; NULL for none. It may call functions on
/// const handles. user: passed to it. Since 1.1.
///
/// Errors: INVALID_ARGUMENT for an invalid configuration, naming the key, a folder that exists, a data set that is not
/// found or has changed, or a run that has ended; IO; FORMAT if the checkpoints are damaged; DIVERGED; CANCELLED by `step`,
/// after saving; OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jempp_train(
    context: *mut jempp_context,
    config_toml: *const c_char,
    dir: *const c_char,
    step: Option<extern "C" fn(metrics: *const jempp_step_metrics, steps: u64, user: *mut c_void) -> c_int>,
    user: *mut c_void,
) -> jempp_status {
    call(|c| {
        // SAFETY: the caller passes NUL-terminated strings, or NULL.
        let (dir, config) = unsafe {
            let config = (!config_toml.is_null()).then(|| text(config_toml, "config_toml")).transpose()?;
            (path(dir, "dir")?, config)
        };
        let context = c.find(context)?;
        let guard = context.body.acquire()?;
        let (run, folder) = open(config, &dir, context.body.seed, &context.body.device)?;
        drop(guard);
        let stop = AtomicBool::new(false);
        run.run(&folder, &mut Host { step, user, stop: &stop }, &stop)?;
        Ok(())
    })
}

/// The run to start, or without a configuration to resume, and its folder.
fn open(config: Option<&str>, dir: &Path, seed: u64, device: &Device) -> Outcome<(TrainingRun, Folder)> {
    let Some(config) = config else {
        let (run, folder, warnings) = TrainingRun::resume(dir, device, &[])?;
        warnings.iter().for_each(|w| tracing::warn!("{w}"));
        return Ok((run, folder));
    };
    if dir.exists() {
        return Err(jempp::Error::Exists(dir.to_path_buf()).into());
    }
    let mut builder = ConfigBuilder::from_sources("jempp", Some((config, "the configuration")), &[])?;
    if seed != 0 {
        builder = builder.default_seed(seed);
    }
    jempp::train::adopt_network(&mut builder)?;
    let default_valid_size = builder.default_valid_size();
    let reading = jempp_data::Reading { default_valid_size, ..jempp_data::Reading::on(device) };
    let data = jempp_data::load_with(&builder.data(), reading).map_err(jempp::Error::from)?;
    data.warnings.iter().for_each(|w| tracing::warn!("{w}"));
    let warm = !builder.config().train.from.is_empty();
    let config = match builder.is_open() || warm {
        true => builder.fit_to(&data)?,
        false => builder.finish()?,
    };
    let run = TrainingRun::with_data(&config, device, data.set, data.split)?;
    Ok((run, Folder::create(dir)?))
}

/// Tells the host's callback of each step, and the log of the rest.
struct Host<'a> {
    step: OnStep,
    user: *mut c_void,
    stop: &'a AtomicBool,
}

impl Observer for Host<'_> {
    fn iteration(&mut self, p: &Progress) {
        let Some(step) = self.step else { return };
        let metrics = measured(&p.metrics, size_of::<jempp_step_metrics>() as u32);
        if step(&raw const metrics, p.iterations[1], self.user) == 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn note(&mut self, text: &str) {
        tracing::info!("{text}");
    }

    fn warn(&mut self, text: &str) {
        tracing::warn!("{text}");
    }
}
