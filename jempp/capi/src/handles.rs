//! Handles: numbers that identify objects, looked up at each use and never dereferenced.
//!
//! Invariants: each number is used once, so a freed handle is recognised for ever; an object lives until the last call
//! on it returns, even if another thread frees the handle meanwhile.

use crate::objects::{Context, SharedTrainer};
use crate::status::{Fault, JEMPP_ERR_INTERNAL, Outcome};
use jempp::Model;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A compute device with its threads. Opaque; see jempp_context_create.
pub struct jempp_context {
    _opaque: [u8; 0],
}

/// A trained model. Opaque and immutable; see jempp_model_load.
pub struct jempp_model {
    _opaque: [u8; 0],
}

/// A model being trained. Opaque; see jempp_trainer_create.
pub struct jempp_trainer {
    _opaque: [u8; 0],
}

/// Whether a call on the object panicked.
pub(crate) type Poison = Arc<AtomicBool>;

/// An object behind a handle.
#[derive(Debug)]
pub(crate) struct Object<T> {
    pub body: T,
    pub poison: Poison,
}

/// An object of any type, while its handle is not freed.
#[derive(Clone)]
pub(crate) enum Live {
    Context(Arc<Object<Context>>),
    Model(Arc<Object<Model>>),
    Trainer(Arc<Object<SharedTrainer>>),
}

static LIVE: RwLock<BTreeMap<usize, Live>> = RwLock::new(BTreeMap::new());
/// The next handle: far from NULL, and aligned like an address.
static NEXT: AtomicUsize = AtomicUsize::new(0x4a45_0000);

/// A type of handle.
pub(crate) trait Handle: Sized {
    /// Its name in C.
    const NAME: &'static str;
    /// The type of the object.
    type Body;
    fn wrap(object: Arc<Object<Self::Body>>) -> Live;
    fn unwrap(live: &Live) -> Option<&Arc<Object<Self::Body>>>;
}

macro_rules! handle {
    ($name:ident, $body:ty, $variant:ident) => {
        impl Handle for $name {
            const NAME: &'static str = stringify!($name);
            type Body = $body;
            fn wrap(object: Arc<Object<Self::Body>>) -> Live {
                Live::$variant(object)
            }
            fn unwrap(live: &Live) -> Option<&Arc<Object<Self::Body>>> {
                if let Live::$variant(object) = live { Some(object) } else { None }
            }
        }
    };
}
handle!(jempp_context, Context, Context);
handle!(jempp_model, Model, Model);
handle!(jempp_trainer, SharedTrainer, Trainer);

/// Registers an object and returns its handle.
pub(crate) fn register<H: Handle>(body: H::Body) -> *mut H {
    let object = Arc::new(Object { body, poison: Poison::default() });
    let number = NEXT.fetch_add(16, Ordering::Relaxed);
    LIVE.write().unwrap_or_else(PoisonError::into_inner).insert(number, H::wrap(object));
    core::ptr::without_provenance_mut(number)
}

/// The object behind `handle`.
pub(crate) fn find<H: Handle>(handle: *const H) -> Outcome<Arc<Object<H::Body>>> {
    let name = H::NAME;
    if handle.is_null() {
        return Err(Fault::argument(format!("the {name} is NULL")));
    }
    let live = LIVE.read().unwrap_or_else(PoisonError::into_inner);
    let Some(found) = live.get(&handle.addr()) else {
        return Err(Fault::argument(format!("{handle:p} is not a {name}: it was freed, or never created")));
    };
    let object = H::unwrap(found)
        .ok_or_else(|| Fault::argument(format!("{handle:p} is not a {name} but a handle of another type")))?;
    if object.poison.load(Ordering::Acquire) {
        let why = format!("an internal error has left this {name} in an unknown state; free it");
        return Err(Fault::new(JEMPP_ERR_INTERNAL, why));
    }
    Ok(Arc::clone(object))
}

/// Frees a handle; the object is dropped when the last call on it has returned.
pub(crate) fn release<H: Handle>(handle: *mut H) {
    let mut live = LIVE.write().unwrap_or_else(PoisonError::into_inner);
    let same_type = live.get(&handle.addr()).is_some_and(|found| H::unwrap(found).is_some());
    let removed = if same_type { live.remove(&handle.addr()) } else { None };
    drop(live);
    // Dropped outside the lock, as it may join threads and write to the log.
    drop(removed);
}
