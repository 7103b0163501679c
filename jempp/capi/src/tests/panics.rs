//! A panic becomes JEMPP_ERR_INTERNAL with its message, and the handles of the call become unusable; a busy trainer
//! returns BUSY.

use super::*;
use crate::call::INJECT;
use crate::handles::find;
use crate::trainer::while_changing;

/// Asserts that a call that panics returns JEMPP_ERR_INTERNAL.
#[track_caller]
fn hit(call: impl FnOnce() -> jempp_status) {
    INJECT.set(true);
    refused(call(), JEMPP_ERR_INTERNAL, "an injected panic");
    assert!(last_error().contains("call.rs"), "{}", last_error());
}

#[test]
fn a_panic_poisons_the_handles_of_its_call() {
    let (context, other) = (context(), context());
    let (model, intact) = (model(), model());
    let trainer = trainer(&context, CONFIG);
    hit(|| logits(model.0).0);
    for _ in 0..2 {
        refused(logits(model.0).0, JEMPP_ERR_INTERNAL, "free it");
    }
    well(logits(intact.0).0);
    hit(|| step(trainer.0));
    refused(step(trainer.0), JEMPP_ERR_INTERNAL, "free it");
    // Only the first handle of the call: the panic came before the second was looked up.
    let fresh = super::trainer(&other, CONFIG);
    hit(|| jempp_trainer_load_model(fresh.0, intact.0));
    well(logits(intact.0).0);
    let mut made = null_mut();
    // SAFETY: a NUL-terminated string, and space for a pointer.
    let mut create = || unsafe { jempp_trainer_create(context.0, c(CONFIG).as_ptr(), &raw mut made) };
    hit(&mut create);
    refused(create(), JEMPP_ERR_INTERNAL, "jempp_context in an unknown state");
    // Freeing still works; another context is not affected.
    drop((context, model, trainer));
    drop(super::trainer(&other, CONFIG));
}

#[test]
fn a_panic_in_another_thread_is_no_message_of_this_one() {
    let model = model();
    let address = model.0.addr();
    let there = move || {
        hit(|| logits(core::ptr::without_provenance(address)).0);
    };
    std::thread::spawn(there).join().unwrap();
    assert_eq!(last_error(), "");
    refused(logits(model.0).0, JEMPP_ERR_INTERNAL, "free it");
}

#[test]
fn a_context_and_a_trainer_are_for_one_at_a_time() {
    let context = context();
    let found = find::<jempp_context>(context.0).unwrap();
    let guard = found.body.acquire().unwrap();
    let mut made = null_mut();
    // SAFETY: a NUL-terminated string, and space for a pointer.
    let mut create = || unsafe { jempp_trainer_create(context.0, c(CONFIG).as_ptr(), &raw mut made) };
    refused(create(), JEMPP_ERR_BUSY, "another thread is using this context");
    drop(guard);
    well(create());
    let trainer = Owned(made, jempp_trainer_free);
    let model = snapshot(&trainer);
    let dir = tempfile::tempdir().unwrap();
    while_changing(trainer.0, || {
        refused(step(trainer.0), JEMPP_ERR_BUSY, "another thread is using this trainer");
        refused(jempp_trainer_load_model(trainer.0, model.0), JEMPP_ERR_BUSY, "using this trainer");
        let mut made = null_mut();
        // SAFETY: space for a pointer; a NUL-terminated string.
        unsafe {
            refused(jempp_trainer_model(trainer.0, &raw mut made), JEMPP_ERR_BUSY, "using this trainer");
            let saved = jempp_trainer_save(trainer.0, c_path(dir.path()).as_ptr());
            refused(saved, JEMPP_ERR_BUSY, "using this trainer");
        }
    });
    well(step(trainer.0));
}
