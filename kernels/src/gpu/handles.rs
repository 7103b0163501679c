//! The handles of cuDNN and cuBLAS that belong to a device, and what it found out on the way.
//!
//! What must hold: a handle is made at the first need and never during a capture; one thread uses it at a time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::blas::Blas;
use super::context::Gpu;
use super::cudnn::Cudnn;
use super::error::GpuError;

/// Made when first needed.
#[derive(Default)]
pub(crate) struct Handles {
    cudnn: OnceLock<Result<Mutex<Cudnn>, GpuError>>,
    blas: OnceLock<Result<Mutex<Blas>, GpuError>>,
    /// Which candidate was the best for a question.
    choices: Mutex<BTreeMap<String, String>>,
    notes: Mutex<Vec<String>>,
    /// What programs spend their time on.
    pub(super) profile: crate::profile::Profile,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handles {
    /// Questions and answers, in order.
    pub(super) fn choices(&self) -> Vec<(String, String)> {
        lock(&self.choices).iter().map(|(q, a)| (q.clone(), a.clone())).collect()
    }
}

impl Gpu {
    /// The handle of cuDNN.
    pub(crate) fn cudnn(&self) -> Result<MutexGuard<'_, Cudnn>, GpuError> {
        self.not_capturing("taking the cuDNN handle").or_else(|e| {
            // A handle that is there already may be used.
            if self.handles().cudnn.get().is_some() { Ok(()) } else { Err(e) }
        })?;
        let made = self.handles().cudnn.get_or_init(|| Cudnn::new(self).map(Mutex::new));
        made.as_ref().map(lock).map_err(Clone::clone)
    }

    /// The handle of cuBLAS.
    pub(crate) fn blas(&self) -> Result<MutexGuard<'_, Blas>, GpuError> {
        self.not_capturing("taking the cuBLAS handle")
            .or_else(|e| if self.handles().blas.get().is_some() { Ok(()) } else { Err(e) })?;
        let made = self.handles().blas.get_or_init(|| Blas::new(self).map(Mutex::new));
        made.as_ref().map(lock).map_err(Clone::clone)
    }

    /// The candidate chosen for a question before.
    pub(crate) fn choice(&self, question: &str) -> Option<String> {
        lock(&self.handles().choices).get(question).cloned()
    }

    /// Remembers a choice, so that the same question always gets the same answer.
    pub(crate) fn choose(&self, question: String, answer: String) {
        lock(&self.handles().choices).insert(question, answer);
    }

    /// Says something about how this device is used, once.
    pub(crate) fn note(&self, note: String) {
        let mut notes = lock(&self.handles().notes);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// What is worth knowing of how this device is used: libraries that had to be done without.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        lock(&self.handles().notes).clone()
    }
}
