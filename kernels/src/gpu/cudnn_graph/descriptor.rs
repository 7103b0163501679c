//! Descriptors of cuDNN's graph API.
//!
//! What must hold: a descriptor is destroyed once, after all that refer to it; callers make one only after cuDNN has
//! been found.

use std::ffi::c_void;
use std::ptr;

use cudarc::cudnn::sys;
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;

use crate::dtype::Float;
use crate::gpu::cudnn::check;
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
    sys::cudnnBackendDescriptor_t => CUDNN_TYPE_BACKEND_DESCRIPTOR,
);

/// A descriptor of the graph API.
pub(super) struct Descriptor(pub(super) sys::cudnnBackendDescriptor_t);

// SAFETY: a descriptor is plain memory of the library; any thread may use it, one at a time.
unsafe impl Send for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by cudnnBackendCreateDescriptor and destroyed once.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

impl Descriptor {
    pub(super) fn new(kind: Kind) -> Result<Self, GpuError> {
        let mut raw = ptr::null_mut();
        // SAFETY: it writes one descriptor.
        check("making a descriptor", unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut raw) })?;
        Ok(Self(raw))
    }

    /// Sets an attribute; the library copies the values.
    pub(super) fn with<T: Attribute>(self, name: Name, values: &[T]) -> Result<Self, GpuError> {
        let (count, from) = (values.len() as i64, values.as_ptr().cast::<c_void>());
        // SAFETY: the descriptor is good, and `values` are as many of this type as the count says.
        let status = unsafe { sys::cudnnBackendSetAttribute(self.0, name, T::TYPE, count, from) };
        check(&format!("setting {name:?}"), status).map(|()| self)
    }

    /// Finalises it: no attribute can be set any more, and it can be used. `what` is named in the error.
    pub(super) fn finish(self, what: &str) -> Result<Self, GpuError> {
        // SAFETY: the descriptor is good.
        check(what, unsafe { sys::cudnnBackendFinalize(self.0) }).map(|()| self)
    }

    /// Reads an attribute that is a single integer.
    pub(super) fn number(&self, name: Name) -> Result<i64, GpuError> {
        let (mut count, mut value) = (0i64, 0i64);
        let to = ptr::from_mut(&mut value).cast::<c_void>();
        // SAFETY: the descriptor is good; there is room for the one value requested.
        let status = unsafe { sys::cudnnBackendGetAttribute(self.0, name, i64::TYPE, 1, &mut count, to) };
        check(&format!("reading {name:?}"), status).map(|()| value)
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
            (Self::Properties(p), _, Some(name)) => descriptor.with(name, &[p.0.0]),
            _ => Ok(descriptor),
        }
    }
}

/// cuDNN's name of an element type.
pub(super) fn data_type(float: Float) -> sys::cudnnDataType_t {
    match float {
        Float::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Float::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}
