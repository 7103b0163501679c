//! Misuse of every function: the right status, a helpful message, and no other effect.

mod additions;
mod files;
mod misuse;
mod panics;

use crate::*;
use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr::{null, null_mut};

const PIXELS: usize = 64;

/// A handle that is freed when dropped.
struct Owned<T>(*mut T, extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        (self.1)(self.0);
    }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn c_path(path: &Path) -> CString {
    c(path.to_str().unwrap())
}

fn last_error() -> String {
    // SAFETY: never NULL, and NUL-terminated.
    unsafe { CStr::from_ptr(jempp_last_error()) }.to_str().unwrap().to_owned()
}

/// Asserts that a call returned this status, with a message that contains this text.
#[track_caller]
fn refused(got: jempp_status, status: jempp_status, message: &str) {
    assert_eq!((got, last_error().contains(message)), (status, true), "{}, not {message}", last_error());
}

#[track_caller]
fn well(got: jempp_status) {
    assert_eq!((got, last_error()), (JEMPP_OK, String::new()));
}

fn context() -> Owned<jempp_context> {
    let mut made = null_mut();
    // SAFETY: NULL options, and space for a pointer.
    well(unsafe { jempp_context_create(null(), &raw mut made) });
    Owned(made, jempp_context_free)
}

const CONFIG: &str = "preset = \"digits\"\n[train]\nbatch_size = 4\n[sampler]\nouter_steps = 1\nbuffer_size = 20\n\
                      [eval]\nrecalibration_batches = 1\n";

fn trainer(context: &Owned<jempp_context>, config: &str) -> Owned<jempp_trainer> {
    let mut made = null_mut();
    // SAFETY: a NUL-terminated string, and space for a pointer.
    well(unsafe { jempp_trainer_create(context.0, c(config).as_ptr(), &raw mut made) });
    Owned(made, jempp_trainer_free)
}

fn snapshot(trainer: &Owned<jempp_trainer>) -> Owned<jempp_model> {
    let mut made = null_mut();
    // SAFETY: space for a pointer.
    well(unsafe { jempp_trainer_model(trainer.0, &raw mut made) });
    Owned(made, jempp_model_free)
}

/// A small model of the digits.
fn model() -> Owned<jempp_model> {
    snapshot(&trainer(&context(), CONFIG))
}

/// Runs a step on four grey images.
fn step(trainer: *mut jempp_trainer) -> jempp_status {
    let (x, y) = ([0.25f32; 4 * PIXELS], [0i32, 1, 2, 3]);
    // SAFETY: four images and labels; no chains, no metrics.
    unsafe {
        jempp_trainer_step(
            trainer,
            x.as_ptr(),
            4,
            x.as_ptr(),
            y.as_ptr(),
            4,
            null(),
            null_mut(),
            0,
            null_mut(),
        )
    }
}

/// The logits of one grey image.
fn logits(model: *const jempp_model) -> (jempp_status, [f32; 10]) {
    let (x, mut out) = ([0.5f32; PIXELS], [0f32; 10]);
    // SAFETY: one image and space for its logits.
    let status = unsafe { jempp_logits(model, x.as_ptr(), 1, out.as_mut_ptr(), 10) };
    (status, out)
}

#[test]
fn every_status_has_its_name() {
    for (status, name) in
        [(JEMPP_OK, "JEMPP_OK"), (JEMPP_ERR_INTERNAL, "JEMPP_ERR_INTERNAL"), (99, "unknown status")]
    {
        // SAFETY: never NULL, and NUL-terminated.
        assert_eq!(unsafe { CStr::from_ptr(jempp_status_string(status)) }.to_str().unwrap(), name);
    }
    // SAFETY: as above.
    assert_eq!(unsafe { CStr::from_ptr(jempp_version()) }.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
    assert_eq!((jempp_abi_version(), jempp_abi_minor()), (JEMPP_ABI_VERSION, JEMPP_ABI_MINOR));
}

#[test]
fn devices_are_counted_and_described() {
    let mut count = 0;
    // SAFETY: space for a number; structs of `struct_size` bytes.
    unsafe {
        well(jempp_device_count(&raw mut count));
        assert!(count >= 1);
        let mut info: jempp_device_info = core::mem::zeroed();
        refused(jempp_device_get_info(0, &raw mut info), JEMPP_ERR_INVALID_ARGUMENT, "struct_size is 0");
        info.struct_size = size_of_val(&info) as u32;
        well(jempp_device_get_info(0, &raw mut info));
        assert!(info.is_cuda == 0 && info.compute_capability == 0 && info.name[0] != 0);
        assert!(info.memory_free <= info.memory_total);
        refused(
            jempp_device_get_info(count, &raw mut info),
            JEMPP_ERR_INVALID_ARGUMENT,
            "there is no device",
        );
        refused(jempp_device_get_info(0, null_mut()), JEMPP_ERR_INVALID_ARGUMENT, "info is NULL");
        refused(jempp_device_count(null_mut()), JEMPP_ERR_INVALID_ARGUMENT, "out is NULL");
    }
}

/// The messages that the log callback received.
static HEARD: std::sync::Mutex<Vec<(i32, String)>> = std::sync::Mutex::new(Vec::new());

extern "C" fn hear(level: i32, message: *const c_char, _user: *mut core::ffi::c_void) {
    // SAFETY: a message is NUL-terminated.
    let message = unsafe { CStr::from_ptr(message) }.to_str().unwrap().to_owned();
    HEARD.lock().unwrap().push((level, message));
}

#[test]
fn the_log_is_heard_while_someone_listens() {
    jempp_set_log_callback(Some(hear), null_mut());
    tracing::warn!(n = 3, "something odd");
    tracing::debug!("details");
    jempp_set_log_callback(None, null_mut());
    tracing::warn!("nobody listens");
    let heard = HEARD.lock().unwrap();
    assert!(heard.contains(&(2, "something odd n=3".to_owned())), "{heard:?}");
    assert!(!heard.iter().any(|(_, m)| m == "details" || m == "nobody listens"));
}
