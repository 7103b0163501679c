//! Options of reading that do not affect what is read.

use engine::Device;
use jempp_formats::files::cache_folder;
use std::path::PathBuf;

/// How a data set is read.
pub struct Reading<'a> {
    /// Threads that decode; 0 means one a core.
    pub threads: usize,
    /// The folder in which decoded data sets are kept; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// Hears of files decoded and files in all; not called for what need not be decoded.
    pub progress: Box<dyn FnMut(usize, usize) + 'a>,
}

impl Default for Reading<'_> {
    fn default() -> Self {
        Self { threads: 0, cache: cache_folder(), progress: Box::new(|_, _| {}) }
    }
}

impl Reading<'_> {
    /// With the threads of a device, or with one a core if it has none.
    pub fn on(device: &Device) -> Self {
        let threads = device.threads().unwrap_or(0);
        Self { threads, ..Self::default() }
    }
}
