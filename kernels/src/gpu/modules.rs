//! The project's kernels on a device: compiled once, loaded once, found by name.
//!
//! What must hold: a kernel's code depends on its source, the headers, the options, the target and the compiler, and
//! nothing else; code kept from an earlier run is used only where all of these are the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::CudaModule;

use super::context::{Gpu, Kernel};
use super::error::GpuError;
use super::nvrtc::{Compiler, Image, OPTIONS};
use super::sources::{HEADERS, source};
use super::store;

/// The modules of a device, by stem.
#[derive(Default)]
pub(crate) struct Modules {
    loaded: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
}

impl Gpu {
    /// The kernel `name` of the file `stem`. The file is compiled, or its code found, at the first call.
    ///
    /// # Errors
    /// [`GpuError::Compile`]; what the driver answers; [`GpuError::Capturing`].
    pub fn kernel(&self, stem: &'static str, name: &str) -> Result<Kernel, GpuError> {
        self.not_capturing("loading a kernel")?;
        let mut loaded = self.modules().loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(stem) {
            return self.function(module, name);
        }
        let module = self.load_module(&self.image(stem)?)?;
        loaded.insert(stem, module.clone());
        self.function(&module, name)
    }

    /// The code of a file for this device, kept from an earlier run or compiled now.
    fn image(&self, stem: &str) -> Result<Image, GpuError> {
        let file = format!("{stem}.cu");
        let source = source(&file);
        let source = source.ok_or_else(|| GpuError::shape("kernel", format!("there is no file {file}")))?;
        let compiler = Compiler::new()?;
        let target = compiler.target(&file, self.device().compute_capability)?;
        let question = question(&compiler, &target, source);
        let folder = store::folder();
        if let Some(bytes) = store::get(folder.as_deref(), question.as_bytes()) {
            return Ok(Image::kept(bytes, target));
        }
        let image = compiler.compile_for(&file, source, &target)?;
        store::put(folder.as_deref(), question.as_bytes(), image.bytes());
        Ok(image)
    }
}

/// Everything that the code depends on.
fn question(compiler: &Compiler, target: &str, source: &str) -> String {
    let mut text = format!("NVRTC {}\n{target}\n{}\n", compiler.version(), OPTIONS.join(" "));
    for (name, header) in HEADERS {
        text.push_str(&format!("{name} {:032x}\n", store::digest(header.as_bytes())));
    }
    text.push_str(&format!("{:032x}\n", store::digest(source.as_bytes())));
    text
}
