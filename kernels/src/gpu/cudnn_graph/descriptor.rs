//! Descriptors of cuDNN's graph API.
//!
//! What must hold: a descriptor is destroyed once, after all that refer to it; what cuDNN writes is read as integers, so
//! that a value which a later version adds does no harm.

use std::ffi::c_void;
use std::ptr;

use cudarc::cudnn::sys;
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;

use crate::gpu::cudnn::{Functions, check, functions};
use crate::gpu::error::GpuError;

/// The Rust types of attributes, with cuDNN's names for them.
pub(super) trait Attribute: Copy {
    const TYPE: Type;
}

macro_rules! attribute {
    ($($rust:ty => $name:ident),+ $(,)?) => {
        $(impl Attribute for $rust {
            const TYPE: Type = Type::$name;
        })+
    };
}
attribute!(
    i32 => CUDNN_TYPE_INT32,
    i64 => CUDNN_TYPE_INT64,
    f32 => CUDNN_TYPE_FLOAT,
    f64 => CUDNN_TYPE_DOUBLE,
    bool => CUDNN_TYPE_BOOLEAN,
    u8 => CUDNN_TYPE_CHAR,
    u64 => CUDNN_TYPE_VOID_PTR,
    sys::cudnnHandle_t => CUDNN_TYPE_HANDLE,
    sys::cudnnDataType_t => CUDNN_TYPE_DATA_TYPE,
    sys::cudnnConvolutionMode_t => CUDNN_TYPE_CONVOLUTION_MODE,
    sys::cudnnBackendHeurMode_t => CUDNN_TYPE_HEUR_MODE,
    sys::cudnnPointwiseMode_t => CUDNN_TYPE_POINTWISE_MODE,
    sys::cudnnReduceTensorOp_t => CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
    sys::cudnnBackendNormMode_t => CUDNN_TYPE_NORM_MODE,
    sys::cudnnBackendNormFwdPhase_t => CUDNN_TYPE_NORM_FWD_PHASE,
    sys::cudnnBackendDescriptor_t => CUDNN_TYPE_BACKEND_DESCRIPTOR,
);

/// A descriptor of the graph API.
pub(super) struct Descriptor {
    pub(super) raw: sys::cudnnBackendDescriptor_t,
    pub(super) cudnn: &'static Functions,
}

// SAFETY: a descriptor is plain memory of the library; any thread may use it, one at a time.
unsafe impl Send for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by cudnnBackendCreateDescriptor and destroyed once.
        let _ = unsafe { (self.cudnn.cudnnBackendDestroyDescriptor)(self.raw) };
    }
}

impl Descriptor {
    /// An empty descriptor.
    ///
    /// # Errors
    /// Why cuDNN cannot be used, or its error.
    pub(super) fn new(kind: Kind) -> Result<Self, GpuError> {
        let (cudnn, mut raw) = (functions()?, ptr::null_mut());
        // SAFETY: it writes one descriptor.
        check("making a descriptor", unsafe { (cudnn.cudnnBackendCreateDescriptor)(kind, &mut raw) })?;
        Ok(Self { raw, cudnn })
    }

    /// Sets an attribute; the library copies the values.
    pub(super) fn with<T: Attribute>(self, name: Name, values: &[T]) -> Result<Self, GpuError> {
        self.with_type(name, T::TYPE, values)
    }

    /// As [`Descriptor::with`], for integers that cuDNN gives a type of its own.
    pub(super) fn with_type<T: Attribute>(
        self,
        name: Name,
        kind: Type,
        values: &[T],
    ) -> Result<Self, GpuError> {
        let (count, from) = (values.len() as i64, values.as_ptr().cast::<c_void>());
        // SAFETY: the descriptor is good, and `values` are as many of this type as the count says.
        let status = unsafe { (self.cudnn.cudnnBackendSetAttribute)(self.raw, name, kind, count, from) };
        check(&format!("setting {name:?}"), status).map(|()| self)
    }

    /// Finalises it: no attribute can be set any more, and it can be used. `what` is named in the error.
    pub(super) fn finish(self, what: &str) -> Result<Self, GpuError> {
        // SAFETY: the descriptor is good.
        check(what, unsafe { (self.cudnn.cudnnBackendFinalize)(self.raw) }).map(|()| self)
    }

    /// Reads at most `out.len()` values of an attribute into `out`; how many there are.
    ///
    /// # Safety
    /// Values of the type `kind` must have the size of a `T`, and any bytes must be a valid `T`.
    unsafe fn read<T>(&self, name: Name, kind: Type, out: &mut [T]) -> Result<usize, GpuError> {
        let (mut count, room) = (0i64, out.len() as i64);
        let to = out.as_mut_ptr().cast::<c_void>();
        // SAFETY: the descriptor is good; there is room for as many values as the call is told.
        let status =
            unsafe { (self.cudnn.cudnnBackendGetAttribute)(self.raw, name, kind, room, &mut count, to) };
        check(&format!("reading {name:?}"), status)?;
        Ok(usize::try_from(count).unwrap_or(0).min(out.len()))
    }

    /// Reads an attribute that is a single integer.
    pub(super) fn number(&self, name: Name) -> Result<i64, GpuError> {
        let mut value = [0i64];
        // SAFETY: an i64 is what the type says.
        let count = unsafe { self.read(name, i64::TYPE, &mut value) }?;
        if count == 1 { Ok(value[0]) } else { Err(GpuError::shape("a cuDNN graph", "a number is missing")) }
    }

    /// Reads an attribute that is a list of at most `most` of cuDNN's enumerants, as their numbers.
    pub(super) fn enumerants(&self, name: Name, kind: Type, most: usize) -> Result<Vec<i32>, GpuError> {
        let mut values = vec![0i32; most];
        // SAFETY: cuDNN's enumerations are ints, and callers name one.
        let count = unsafe { self.read(name, kind, &mut values) }?;
        values.truncate(count);
        Ok(values)
    }

    /// Reads an attribute that is a list of at most `most` descriptors of one kind.
    pub(super) fn descriptors(&self, name: Name, kind: Kind, most: usize) -> Result<Vec<Self>, GpuError> {
        let mut all = (0..most).map(|_| Self::new(kind)).collect::<Result<Vec<_>, _>>()?;
        let mut raw: Vec<_> = all.iter().map(|d| d.raw).collect();
        // SAFETY: the library fills the descriptors that it is given, in place.
        let count = unsafe { self.read(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &mut raw) }?;
        all.truncate(count);
        Ok(all)
    }
}

/// The device that plans are compiled for: that of a handle, or one described in JSON, which need not be present.
pub(super) enum Target {
    /// The device of a handle.
    Handle(sys::cudnnHandle_t),
    /// A device that is only described.
    Properties(Properties),
}

/// cuDNN's description of a device.
pub(super) struct Properties(Descriptor);

impl Properties {
    /// From cuDNN's own JSON text (`CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION`).
    pub(super) fn from_json(json: &str) -> Result<Self, GpuError> {
        let text: Vec<u8> = json.bytes().chain([0]).collect();
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?;
        let descriptor = descriptor.with(Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, &text)?;
        Ok(Self(descriptor.finish("describing a device")?))
    }
}

impl Target {
    /// Sets the target on a descriptor: by the attribute `handle` or by `properties`, whichever applies and is given.
    pub(super) fn set_on(
        &self,
        descriptor: Descriptor,
        handle: Option<Name>,
        properties: Option<Name>,
    ) -> Result<Descriptor, GpuError> {
        match (self, handle, properties) {
            (Self::Handle(raw), Some(name), _) => descriptor.with(name, &[*raw]),
            (Self::Properties(p), _, Some(name)) => descriptor.with(name, &[p.0.raw]),
            _ => Ok(descriptor),
        }
    }
}
