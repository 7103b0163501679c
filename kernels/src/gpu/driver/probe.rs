//! Finding out what this machine has of CUDA, and opening a device.
//!
//! What must hold: nothing here panics, whatever the machine has; a report never creates a context.

use super::context::Gpu;
use super::device::{Device, Driver, version};
use crate::gpu::error::NoCuda;
use crate::gpu::libraries::{Id, Libraries, Search, Status, Version, libraries};

/// One library in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryReport {
    /// Which library it is.
    pub id: Id,
    /// Its usual name.
    pub name: &'static str,
    /// What this crate uses it for.
    pub purpose: &'static str,
    /// Its path and version, or why it cannot be used and how to install it.
    pub status: Status,
}

/// What this machine has of CUDA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The libraries.
    pub libraries: Vec<LibraryReport>,
    /// The version of CUDA that the driver supports.
    pub driver_version: Option<Version>,
    /// The devices, or why there are none.
    pub devices: Result<Vec<Device>, NoCuda>,
    /// The places searched, in order.
    pub places: Vec<String>,
    /// Anything unusual about the environment.
    pub notes: Vec<String>,
}

impl Report {
    fn of(libraries: &Libraries) -> Self {
        let driver = libraries.require(Id::Driver);
        let reports = libraries.loaded.iter().map(|loaded| LibraryReport {
            id: loaded.library.id,
            name: loaded.library.name,
            purpose: loaded.library.purpose,
            status: loaded.status.clone(),
        });
        Self {
            libraries: reports.collect(),
            driver_version: driver.as_ref().ok().and_then(|loaded| version(loaded)),
            devices: driver.and_then(Driver::new).and_then(|driver| driver.devices()),
            places: libraries.places.clone(),
            notes: libraries.notes.clone(),
        }
    }

    /// The report on one library.
    #[must_use]
    pub fn library(&self, id: Id) -> Option<&LibraryReport> {
        self.libraries.iter().find(|library| library.id == id)
    }
}

/// Searches for CUDA's libraries and devices. Libraries are searched for once per process, devices at each call.
#[must_use]
pub fn probe() -> Report {
    Report::of(libraries())
}

/// Searches for CUDA's libraries and devices as `search` says. Libraries that it loads stay loaded.
#[must_use]
pub fn probe_with(search: &Search) -> Report {
    Report::of(&Libraries::load(search))
}

/// Opens device `ordinal`.
///
/// # Errors
/// What was searched for and where, or the driver's error.
pub fn open(ordinal: usize) -> Result<Gpu, NoCuda> {
    let driver = Driver::new(libraries().require(Id::Driver)?)?;
    let count = driver.count()?;
    if ordinal >= count {
        return Err(NoCuda::NoSuchDevice { ordinal, count });
    }
    Gpu::open(driver.device(ordinal)?)
}
