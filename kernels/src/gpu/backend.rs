//! Descriptors of cuDNN's graph API.
//!
//! What must hold: a descriptor is destroyed once, after all that refer to it; whoever makes one has seen to it that
//! cuDNN is found.

use std::ffi::c_void;
use std::ptr;

use cudarc::cudnn::sys;
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;

use super::desc::check;
use super::error::GpuError;

/// What an attribute can be.
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
pub(super) struct Desc(pub(super) sys::cudnnBackendDescriptor_t);

// SAFETY: a descriptor is plain memory of the library; any thread may use it, one at a time.
unsafe impl Send for Desc {}

impl Drop for Desc {
    fn drop(&mut self) {
        // SAFETY: made by cudnnBackendCreateDescriptor and destroyed once.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

impl Desc {
    pub(super) fn new(kind: Kind) -> Result<Self, GpuError> {
        let mut raw = ptr::null_mut();
        // SAFETY: it writes one descriptor.
        check("making a descriptor", unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut raw) })?;
        Ok(Self(raw))
    }

    /// The same with an attribute set; the library copies the values.
    pub(super) fn with<T: Attribute>(self, name: Name, values: &[T]) -> Result<Self, GpuError> {
        let (count, from) = (values.len() as i64, values.as_ptr().cast::<c_void>());
        // SAFETY: the descriptor is good, and `values` are as many of the type as is said.
        let status = unsafe { sys::cudnnBackendSetAttribute(self.0, name, T::TYPE, count, from) };
        check(&format!("setting {name:?}"), status).map(|()| self)
    }

    /// The same, ready for use.
    pub(super) fn done(self, what: &str) -> Result<Self, GpuError> {
        // SAFETY: the descriptor is good.
        check(what, unsafe { sys::cudnnBackendFinalize(self.0) }).map(|()| self)
    }

    /// An attribute of one number.
    pub(super) fn number(&self, name: Name) -> Result<i64, GpuError> {
        let (mut count, mut value) = (0i64, 0i64);
        let to = ptr::from_mut(&mut value).cast::<c_void>();
        // SAFETY: the descriptor is good; there is room for the one number asked for.
        let status = unsafe { sys::cudnnBackendGetAttribute(self.0, name, i64::TYPE, 1, &mut count, to) };
        check(&format!("reading {name:?}"), status).map(|()| value)
    }
}

/// Whose plans are made: a handle's, or those of a device that need not be here.
pub(crate) enum For {
    /// The device of a handle.
    Handle(sys::cudnnHandle_t),
    /// A device as cuDNN describes it.
    Properties(Properties),
}

/// A device as cuDNN describes it, in JSON.
pub(crate) struct Properties(Desc);

impl Properties {
    /// From cuDNN's own text (`CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION`).
    pub(crate) fn from_json(json: &str) -> Result<Self, GpuError> {
        let text: Vec<u8> = json.bytes().chain([0]).collect();
        let desc = Desc::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?;
        let desc = desc.with(Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, &text)?;
        Ok(Self(desc.done("describing a device")?))
    }
}

impl For {
    /// A descriptor that is told whom it is for.
    pub(super) fn tell(
        &self,
        desc: Desc,
        handle: Option<Name>,
        properties: Option<Name>,
    ) -> Result<Desc, GpuError> {
        match (self, handle, properties) {
            (Self::Handle(raw), Some(name), _) => desc.with(name, &[*raw]),
            (Self::Properties(p), _, Some(name)) => desc.with(name, &[p.0.0]),
            _ => Ok(desc),
        }
    }
}

/// Element types of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Real {
    /// IEEE single.
    F32,
    /// The upper half of it.
    Bf16,
}

impl Real {
    pub(super) fn raw(self) -> sys::cudnnDataType_t {
        match self {
            Self::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            Self::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        }
    }

    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}
