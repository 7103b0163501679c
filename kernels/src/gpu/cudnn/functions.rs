//! The functions of cuDNN that this crate calls.
//!
//! What must hold: a status is read as an integer, so that one which a later version adds is an error with its number.

use std::ffi::{c_char, c_int, c_void};

use cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, cudnnBackendDescriptor_t,
    cudnnBackendDescriptorType_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, cudnnDataType_t, cudnnHandle_t,
    cudnnTensorDescriptor_t, cudnnTensorFormat_t,
};

use crate::gpu::error::GpuError;
use crate::gpu::libraries::{Id, functions};

/// What cuDNN's functions return: 0 for success.
pub(in crate::gpu) type Status = c_int;

/// A descriptor of an activation, which plain batch norm does not have.
type Activation = *mut c_void;
type Tensor = cudnnTensorDescriptor_t;

functions! {
    Id::Cudnn;
    cudnnBackendCreateDescriptor: fn(cudnnBackendDescriptorType_t, *mut cudnnBackendDescriptor_t) -> Status;
    cudnnBackendDestroyDescriptor: fn(cudnnBackendDescriptor_t) -> Status;
    cudnnBackendExecute: fn(cudnnHandle_t, cudnnBackendDescriptor_t, cudnnBackendDescriptor_t) -> Status;
    cudnnBackendFinalize: fn(cudnnBackendDescriptor_t) -> Status;
    cudnnBackendGetAttribute: fn(
        cudnnBackendDescriptor_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, i64, *mut i64,
        *mut c_void,
    ) -> Status;
    cudnnBackendSetAttribute: fn(
        cudnnBackendDescriptor_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, i64, *const c_void,
    ) -> Status;
    cudnnBatchNormalizationBackwardEx: fn(
        cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t,
        *const c_void, *const c_void, *const c_void, *const c_void,
        Tensor, *const c_void, Tensor, *const c_void, Tensor, *const c_void, Tensor, *mut c_void,
        Tensor, *mut c_void, Tensor, *const c_void, *const c_void, *mut c_void, *mut c_void, f64,
        *const c_void, *const c_void, Activation, *mut c_void, usize, *mut c_void, usize,
    ) -> Status;
    cudnnBatchNormalizationForwardTrainingEx: fn(
        cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, *const c_void, *const c_void,
        Tensor, *const c_void, Tensor, *const c_void, Tensor, *mut c_void,
        Tensor, *const c_void, *const c_void, f64, *mut c_void, *mut c_void, f64,
        *mut c_void, *mut c_void, Activation, *mut c_void, usize, *mut c_void, usize,
    ) -> Status;
    cudnnCreate: fn(*mut cudnnHandle_t) -> Status;
    cudnnCreateTensorDescriptor: fn(*mut Tensor) -> Status;
    cudnnDestroy: fn(cudnnHandle_t) -> Status;
    cudnnDestroyTensorDescriptor: fn(Tensor) -> Status;
    cudnnGetBatchNormalizationBackwardExWorkspaceSize: fn(
        cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
        Activation, *mut usize,
    ) -> Status;
    cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize: fn(
        cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, Tensor, Tensor, Tensor, Tensor, Activation,
        *mut usize,
    ) -> Status;
    cudnnGetBatchNormalizationTrainingExReserveSpaceSize: fn(
        cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, Activation, Tensor, *mut usize,
    ) -> Status;
    cudnnGetLastErrorString: fn(*mut c_char, usize);
    cudnnSetStream: fn(cudnnHandle_t, *mut c_void) -> Status;
    cudnnSetTensor4dDescriptor: fn(
        Tensor, cudnnTensorFormat_t, cudnnDataType_t, c_int, c_int, c_int, c_int,
    ) -> Status;
}

/// An error for every status but success, with cuDNN's own message.
pub(in crate::gpu) fn check(doing: &str, status: Status) -> Result<(), GpuError> {
    if status == 0 {
        return Ok(());
    }
    let mut text = [0u8; 512];
    if let Ok(cudnn) = functions() {
        // SAFETY: it writes at most as many bytes as it is told.
        unsafe { (cudnn.cudnnGetLastErrorString)(text.as_mut_ptr().cast::<c_char>(), text.len() - 1) };
    }
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let detail = String::from_utf8_lossy(text).trim().to_owned();
    let code = status.cast_unsigned();
    Err(GpuError::Library { library: "cuDNN", doing: doing.to_owned(), code, detail })
}
