//! Options of reading that do not affect what is read.

use engine::Device;
use jempp_formats::files::cache_folder;
use std::path::PathBuf;

/// Resources for reading a data set.
pub struct Reading<'a> {
    /// Number of decoding threads; 0: one per core.
    pub threads: usize,
    /// The folder in which decoded data sets are cached; `None`: no cache.
    pub cache: Option<PathBuf>,
    /// Whether the number of validation images is a default that nobody chose: it is then at most a tenth of the training
    /// images.
    pub default_valid_size: bool,
    /// Called with the numbers of decoded files and of all files; not called if nothing has to be decoded.
    pub progress: Box<dyn FnMut(usize, usize) + 'a>,
}

impl Default for Reading<'_> {
    fn default() -> Self {
        Self { threads: 0, cache: cache_folder(), default_valid_size: false, progress: Box::new(|_, _| {}) }
    }
}

impl Reading<'_> {
    /// Uses as many threads as `device` has, or one per core if it is not a CPU; the other fields have their defaults.
    pub fn on(device: &Device) -> Self {
        let threads = device.threads().unwrap_or(0);
        Self { threads, ..Self::default() }
    }
}
