//! What there is of CUDA on this machine, and opening a device.
//!
//! What must hold: nothing here panics, whatever the machine has; a report never makes a context.

use super::context::Gpu;
use super::driver::{Device, Driver, version};
use super::error::NoCuda;
use super::libs::{Id, Libraries, Status, Version, libraries};
use super::search::Search;

/// One library in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryReport {
    /// Which one.
    pub id: Id,
    /// Its name, as people call it.
    pub name: &'static str,
    /// What it is for here.
    pub purpose: &'static str,
    /// Its path and version, or why there is none and how to get one.
    pub status: Status,
}

/// What there is of CUDA on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The libraries.
    pub libraries: Vec<LibraryReport>,
    /// The version of CUDA that the driver supports.
    pub driver_version: Option<Version>,
    /// The devices, or why there are none.
    pub devices: Result<Vec<Device>, NoCuda>,
    /// The places looked in, in order.
    pub places: Vec<String>,
    /// What is odd about the environment.
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

/// Looks for CUDA's libraries and devices. The libraries are looked for once a process, the devices each time.
#[must_use]
pub fn probe() -> Report {
    Report::of(libraries())
}

/// Looks for CUDA's libraries and devices by a search of one's own. What it loads stays loaded.
#[must_use]
pub fn probe_with(search: &Search) -> Report {
    Report::of(&Libraries::load(search))
}

/// Opens device `ordinal`.
///
/// # Errors
/// What was looked for and where, or what the driver answered.
pub fn open(ordinal: usize) -> Result<Gpu, NoCuda> {
    let driver = Driver::new(libraries().require(Id::Driver)?)?;
    let count = driver.count()?;
    if ordinal >= count {
        return Err(NoCuda::NoSuchDevice { ordinal, count });
    }
    Gpu::open(driver.device(ordinal)?)
}
