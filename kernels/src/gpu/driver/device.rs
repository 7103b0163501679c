//! Asking the driver which devices there are, by its own symbols.
//!
//! What must hold: every call goes through a symbol that was looked up, and takes and returns plain integers, so that
//! no answer of a new or broken driver can cause a panic. Nothing here creates a context or touches a device's memory.

use std::ffi::{CStr, c_char, c_int, c_uint};

use crate::gpu::error::NoCuda;
use crate::gpu::libraries::{Handle, Loaded, Status, Version};

const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;
const MULTIPROCESSORS: c_int = 16;

/// A CUDA device, as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number: 0 for `cuda:0`.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Its memory, in bytes.
    pub memory: u64,
    /// Its compute capability: major, minor.
    pub compute_capability: (u32, u32),
    /// Number of its streaming multiprocessors.
    pub multiprocessors: u32,
}

/// An initialised driver.
#[derive(Debug)]
pub(crate) struct Driver<'a> {
    handle: &'a Handle,
    path: String,
}

impl<'a> Driver<'a> {
    /// Initialises the driver.
    ///
    /// # Errors
    /// The driver's error.
    pub(crate) fn new(loaded: &'a Loaded) -> Result<Self, NoCuda> {
        let (Some(handle), Status::Found { path, .. }) = (&loaded.handle, &loaded.status) else {
            return Err(NoCuda::Unusable {
                library: loaded.library.name,
                path: loaded.library.files.join(", "),
                reason: "it is not loaded".to_owned(),
                advice: loaded.library.advice.to_owned(),
            });
        };
        let driver = Self { handle, path: path.display().to_string() };
        type Init = unsafe extern "C" fn(c_uint) -> c_int;
        // SAFETY: the type of cuda.h; 0 is the only value of the flags, and the call may be repeated.
        driver.check("cuInit", unsafe { handle.function::<Init>("cuInit").map(|f| f(0)) })?;
        Ok(driver)
    }

    /// How many devices there are.
    pub(crate) fn count(&self) -> Result<usize, NoCuda> {
        type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
        let mut count = 0;
        // SAFETY: the type of cuda.h; it writes one int.
        let code = unsafe { self.handle.function::<Count>("cuDeviceGetCount").map(|f| f(&mut count)) };
        self.check("cuDeviceGetCount", code)?;
        match usize::try_from(count) {
            Ok(count) if count > 0 => Ok(count),
            // Usually a driver without a device fails to initialise; this one says so here.
            _ => Err(self.error("cuDeviceGetCount", 100)),
        }
    }

    /// The description of device `ordinal`.
    pub(crate) fn device(&self, ordinal: usize) -> Result<Device, NoCuda> {
        type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
        type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
        type Memory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
        let number = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        let mut device = 0;
        // SAFETY: the type of cuda.h, CUdevice being an int; it writes one int.
        let code = unsafe { self.handle.function::<Get>("cuDeviceGet").map(|f| f(&mut device, number)) };
        self.check("cuDeviceGet", code)?;

        let mut name = [0u8; 256];
        // SAFETY: the type of cuda.h; it writes at most 255 bytes and a NUL into the 256 there are.
        let code = unsafe {
            self.handle.function::<Name>("cuDeviceGetName").map(|f| f(name.as_mut_ptr().cast(), 255, device))
        };
        self.check("cuDeviceGetName", code)?;
        let mut memory = 0usize;
        // SAFETY: the type of cuda.h; it writes one size_t.
        let code =
            unsafe { self.handle.function::<Memory>("cuDeviceTotalMem_v2").map(|f| f(&mut memory, device)) };
        self.check("cuDeviceTotalMem_v2", code)?;

        let name = CStr::from_bytes_until_nul(&name).map(|n| n.to_string_lossy().into_owned());
        Ok(Device {
            ordinal,
            name: name.unwrap_or_else(|_| "unnamed".to_owned()),
            memory: memory as u64,
            compute_capability: (
                self.attribute(device, COMPUTE_CAPABILITY_MAJOR)?,
                self.attribute(device, COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: self.attribute(device, MULTIPROCESSORS)?,
        })
    }

    /// All devices.
    pub(crate) fn devices(&self) -> Result<Vec<Device>, NoCuda> {
        (0..self.count()?).map(|ordinal| self.device(ordinal)).collect()
    }

    fn attribute(&self, device: c_int, attribute: c_int) -> Result<u32, NoCuda> {
        type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
        let mut value = 0;
        // SAFETY: the type of cuda.h, CUdevice_attribute being an int; it writes one int.
        let code = unsafe {
            self.handle
                .function::<Attribute>("cuDeviceGetAttribute")
                .map(|f| f(&mut value, attribute, device))
        };
        self.check("cuDeviceGetAttribute", code)?;
        Ok(value.unsigned_abs())
    }

    fn check(&self, call: &'static str, code: Option<c_int>) -> Result<(), NoCuda> {
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(self.error(call, code)),
            None => Err(NoCuda::Unusable {
                library: "NVIDIA driver",
                path: self.path.clone(),
                reason: format!("it lacks {call}"),
                advice: "Install NVIDIA's driver for this GPU".to_owned(),
            }),
        }
    }

    fn error(&self, call: &'static str, code: c_int) -> NoCuda {
        NoCuda::Driver { path: self.path.clone(), call, name: self.name_of(code), code, advice: advice(code) }
    }

    fn name_of(&self, code: c_int) -> String {
        type NameOf = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
        let mut text = std::ptr::null();
        // SAFETY: the type of cuda.h; it writes the address of a constant string, or of none for an unknown code.
        let answer = unsafe { self.handle.function::<NameOf>("cuGetErrorName").map(|f| f(code, &mut text)) };
        if answer != Some(0) || text.is_null() {
            return "an unnamed error".to_owned();
        }
        // SAFETY: not null, and the driver's strings are constants that end with NUL.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// Advice for the user, by CUDA's error number.
fn advice(code: c_int) -> &'static str {
    match code {
        34 => "This is the stub for building, not a driver: take its folder off LD_LIBRARY_PATH",
        100 => {
            "The driver shows no device: see whether `nvidia-smi` lists one, what CUDA_VISIBLE_DEVICES says, and, \
             in a container, whether it was started with access to the GPU"
        }
        3 | 4 | 101 | 999 => {
            "See whether `nvidia-smi` works; after an update of the driver, restart the machine"
        }
        802..=804 => {
            "The driver's library does not fit the kernel's module: after an update of the driver, restart the machine"
        }
        _ => "See whether `nvidia-smi` works",
    }
}

/// The version of the driver, if it is found.
pub(crate) fn version(loaded: &Loaded) -> Option<Version> {
    match loaded.status {
        Status::Found { version, .. } => Some(version),
        Status::Unavailable(_) => None,
    }
}
