//! The project's kernels on a device: compiled once, loaded once, found by name.
//!
//! What must hold: a kernel's code depends on its source, the headers, the options, the target and the compiler, and
//! on nothing else; code from the disk cache is used only if all of these are the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::sources::{HEADERS, source};
use super::{Compiler, Image, OPTIONS};
use crate::cache_folder::cache_folder;
use crate::gpu::disk_cache;
use crate::gpu::driver::{Deferred, Gpu, Kernel, Module};
use crate::gpu::error::GpuError;

/// The modules loaded on a device so far, by op.
#[derive(Default)]
struct Modules {
    loaded: Mutex<HashMap<&'static str, Arc<Deferred<Module>>>>,
}

impl Gpu {
    /// The kernel `name` of the file `op.cu`. At the first call the file is compiled, or its code read from the disk
    /// cache.
    ///
    /// # Errors
    /// [`GpuError::Compile`]; a driver error; [`GpuError::Capturing`].
    pub fn kernel(&self, op: &'static str, name: &str) -> Result<Kernel, GpuError> {
        self.not_capturing("loading a kernel")?;
        let mut loaded = self.attached::<Modules>().loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(op) {
            return self.function(module, name);
        }
        let image = image(self, op)?;
        let module = self.load_module(image.bytes(), image.target())?;
        loaded.insert(op, module.clone());
        self.function(&module, name)
    }
}

/// The code of an op's file for a device, from the disk cache or compiled now.
fn image(gpu: &Gpu, op: &str) -> Result<Image, GpuError> {
    let file = format!("{op}.cu");
    let source = source(&file);
    let source = source.ok_or_else(|| GpuError::shape("kernel", format!("there is no file {file}")))?;
    let compiler = Compiler::new()?;
    let target = compiler.target(&file, gpu.device().compute_capability)?;
    let key = cache_key(&compiler, &target, source);
    let folder = cache_folder();
    if let Some(bytes) = disk_cache::get(folder.as_deref(), key.as_bytes()) {
        return Ok(Image::cached(bytes, target));
    }
    let image = compiler.compile_for(&file, source, &target)?;
    disk_cache::put(folder.as_deref(), key.as_bytes(), image.bytes());
    Ok(image)
}

/// Everything that the code depends on.
fn cache_key(compiler: &Compiler, target: &str, source: &str) -> String {
    let mut text = format!("NVRTC {}\n{target}\n{}\n", compiler.version(), OPTIONS.join(" "));
    for (name, header) in HEADERS {
        text.push_str(&format!("{name} {:032x}\n", disk_cache::digest(header.as_bytes())));
    }
    text.push_str(&format!("{:032x}\n", disk_cache::digest(source.as_bytes())));
    text
}
