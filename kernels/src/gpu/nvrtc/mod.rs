//! NVRTC: compiling kernels at run time.
//!
//! What must hold: compiling needs no device and no driver; the same source, options and compiler give the same image;
//! an [`Image`] comes from the compiler only.

mod modules;
pub mod sources;

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::ptr;

use cudarc::nvrtc::sys;

use super::error::{GpuError, NoCuda};
use super::libraries::{Id, Status, Version, libraries};
use sources::HEADERS;

/// Compiler options of every file, beside the target. Contraction to fused multiply-adds is off and kernels fuse
/// explicitly, so that a device gives the same bits as a CPU.
pub(crate) const OPTIONS: &[&str] = &["--std=c++17", "--fmad=false", "--ptxas-options=-v"];

/// A compiled file: machine code for one architecture, or PTX for it and later ones.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    bytes: Vec<u8>,
    target: String,
    log: String,
}

impl Image {
    /// An image that the same compiler produced in an earlier run.
    pub(crate) fn cached(bytes: Vec<u8>, target: String) -> Self {
        Self { bytes, target, log: String::new() }
    }

    /// The machine code or PTX.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its target: `sm_90` for machine code, `compute_90` for PTX.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The compiler's log: warnings, and the registers and spills of each kernel.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}, {} bytes)", self.target, self.bytes.len())
    }
}

/// The run-time compiler, NVRTC.
#[derive(Clone, Debug)]
pub struct Compiler {
    version: Version,
    architectures: Vec<u32>,
}

impl Compiler {
    /// The compiler that the probe has found.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn new() -> Result<Self, NoCuda> {
        let found = libraries().require(Id::Nvrtc)?;
        let version = match found.status {
            Status::Found { version, .. } => version,
            Status::Unavailable(ref why) => return Err(why.clone()),
        };
        let mut count = 0;
        // SAFETY: the symbol is there; it writes one int.
        let code = unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) } as u32;
        let mut architectures: Vec<c_int> = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: the symbol is there; it writes as many ints as it reported.
        let code = code | unsafe { sys::nvrtcGetSupportedArchs(architectures.as_mut_ptr()) } as u32;
        if code != 0 || architectures.is_empty() {
            return Err(NoCuda::Unusable {
                library: found.library.name,
                path: format!("version {version}"),
                reason: "it does not report the architectures that it compiles for".to_owned(),
                advice: found.library.advice.to_owned(),
            });
        }
        Ok(Self { version, architectures: architectures.iter().map(|a| a.unsigned_abs()).collect() })
    }

    /// The compiler's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The architectures that it generates machine code for: 90 for `sm_90`.
    #[must_use]
    pub fn architectures(&self) -> &[u32] {
        &self.architectures
    }

    /// Compiles a file for a compute capability: to machine code if the compiler knows the architecture, else to PTX of
    /// the newest older one, which the driver compiles further.
    ///
    /// # Errors
    /// [`GpuError::Compile`] with the compiler's log.
    pub fn compile(&self, file: &str, source: &str, capability: (u32, u32)) -> Result<Image, GpuError> {
        self.compile_for(file, source, &self.target(file, capability)?)
    }

    /// The target of [`Compiler::compile`].
    pub(crate) fn target(&self, file: &str, capability: (u32, u32)) -> Result<String, GpuError> {
        let wanted = capability.0 * 10 + capability.1;
        if self.architectures.contains(&wanted) {
            return Ok(format!("sm_{wanted}"));
        }
        let before = self.architectures.iter().filter(|&&a| a < wanted).max();
        before.map(|before| format!("compute_{before}")).ok_or_else(|| GpuError::Compile {
            file: file.to_owned(),
            target: format!("sm_{wanted}"),
            code: 0,
            log: format!("NVRTC {} compiles for {:?} only", self.version, self.architectures),
        })
    }

    /// Compiles a file for `sm_NN` (machine code) or `compute_NN` (PTX).
    ///
    /// # Errors
    /// [`GpuError::Compile`] with the compiler's log.
    pub(crate) fn compile_for(&self, file: &str, source: &str, target: &str) -> Result<Image, GpuError> {
        let fail = |code: u32, log: String| GpuError::Compile {
            file: file.to_owned(),
            target: target.to_owned(),
            code,
            log,
        };
        let c = |text: &str| CString::new(text).map_err(|_| fail(0, format!("a NUL in {text:.40}")));
        let architecture = format!("--gpu-architecture={target}");
        let options = std::iter::once(architecture.as_str()).chain(OPTIONS.iter().copied());
        let options = options.map(c).collect::<Result<Vec<_>, _>>()?;
        let headers = HEADERS.iter().map(|(name, text)| Ok::<_, GpuError>((c(name)?, c(text)?)));
        let headers = headers.collect::<Result<Vec<_>, _>>()?;
        let program = Program::new(&c(source)?, &c(file)?, &headers)
            .map_err(|code| fail(code, "the program could not be created".to_owned()))?;

        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the program is alive, and the option strings outlive the call.
        let code =
            unsafe { sys::nvrtcCompileProgram(program.0, pointers.len() as c_int, pointers.as_ptr()) } as u32;
        let log = program.log();
        if code != 0 {
            return Err(fail(code, log));
        }
        let image = if target.starts_with("sm_") { program.cubin() } else { program.ptx() };
        let bytes = image.map_err(|code| fail(code, format!("the compiler returned no image\n{log}")))?;
        Ok(Image { bytes, target: target.to_owned(), log })
    }
}

/// A program of NVRTC, destroyed when dropped.
struct Program(sys::nvrtcProgram);

type SizeOf = unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult;
type BytesOf = unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult;

impl Program {
    /// Headers are pairs of name and text.
    fn new(source: &CStr, name: &CStr, headers: &[(CString, CString)]) -> Result<Self, u32> {
        let (names, texts): (Vec<_>, Vec<_>) = headers.iter().map(|(n, t)| (n.as_ptr(), t.as_ptr())).unzip();
        let mut program = ptr::null_mut();
        // SAFETY: all strings outlive the call, and NVRTC copies what it keeps; there are as many names
        // and texts as the count says.
        let code = unsafe {
            sys::nvrtcCreateProgram(
                &mut program,
                source.as_ptr(),
                name.as_ptr(),
                headers.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        } as u32;
        if code == 0 { Ok(Self(program)) } else { Err(code) }
    }

    fn log(&self) -> String {
        let bytes = self.bytes(sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n']).to_owned()
    }

    fn cubin(&self) -> Result<Vec<u8>, u32> {
        self.bytes(sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN)
    }

    fn ptx(&self) -> Result<Vec<u8>, u32> {
        self.bytes(sys::nvrtcGetPTXSize, sys::nvrtcGetPTX)
    }

    /// Reads one of NVRTC's results, which are queried by a pair of functions: one for the size, one for the content.
    fn bytes(&self, size_of: SizeOf, bytes_of: BytesOf) -> Result<Vec<u8>, u32> {
        let mut size = 0;
        // SAFETY: the program is alive; it writes one size.
        let code = unsafe { size_of(self.0, &mut size) } as u32;
        if code != 0 || size == 0 {
            return Err(code);
        }
        let mut bytes = vec![0u8; size];
        // SAFETY: the program is alive, and there is room for as many bytes as it reported.
        let code = unsafe { bytes_of(self.0, bytes.as_mut_ptr().cast()) } as u32;
        if code == 0 { Ok(bytes) } else { Err(code) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by nvrtcCreateProgram and destroyed once.
        let _ = unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}
