//! The symbols that each library must have.
//!
//! What must hold: every function of `cudarc` that this module's wrappers reach is named here, since `cudarc` panics
//! at one that is missing. A test opens a device on a driver that has these symbols and no others.

pub(crate) const DRIVER: &[&str] = &[
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
];

pub(crate) const RUNTIME: &[&str] = &["cudaRuntimeGetVersion"];

pub(crate) const NVRTC: &[&str] = &[
    "nvrtcCompileProgram",
    "nvrtcCreateProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetCUBIN",
    "nvrtcGetCUBINSize",
    "nvrtcGetNumSupportedArchs",
    "nvrtcGetPTX",
    "nvrtcGetPTXSize",
    "nvrtcGetProgramLog",
    "nvrtcGetProgramLogSize",
    "nvrtcGetSupportedArchs",
    "nvrtcVersion",
];

pub(crate) const CUBLAS: &[&str] = &[
    "cublasCreate_v2",
    "cublasDestroy_v2",
    "cublasGemmEx",
    "cublasGetProperty",
    "cublasSetMathMode",
    "cublasSetStream_v2",
    "cublasSetWorkspace_v2",
    "cublasSgemm_v2",
];

pub(crate) const CUDNN: &[&str] = &[
    "cudnnBackendCreateDescriptor",
    "cudnnBackendDestroyDescriptor",
    "cudnnBackendExecute",
    "cudnnBackendFinalize",
    "cudnnBackendGetAttribute",
    "cudnnBackendSetAttribute",
    "cudnnBatchNormalizationBackwardEx",
    "cudnnBatchNormalizationForwardTrainingEx",
    "cudnnConvolutionBackwardData",
    "cudnnConvolutionBackwardFilter",
    "cudnnConvolutionForward",
    "cudnnCreate",
    "cudnnCreateConvolutionDescriptor",
    "cudnnCreateFilterDescriptor",
    "cudnnCreateTensorDescriptor",
    "cudnnDestroy",
    "cudnnDestroyConvolutionDescriptor",
    "cudnnDestroyFilterDescriptor",
    "cudnnDestroyTensorDescriptor",
    "cudnnGetBatchNormalizationBackwardExWorkspaceSize",
    "cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize",
    "cudnnGetBatchNormalizationTrainingExReserveSpaceSize",
    "cudnnGetConvolutionBackwardDataWorkspaceSize",
    "cudnnGetConvolutionBackwardFilterWorkspaceSize",
    "cudnnGetConvolutionForwardWorkspaceSize",
    "cudnnGetLastErrorString",
    "cudnnGetVersion",
    "cudnnSetConvolution2dDescriptor",
    "cudnnSetConvolutionMathType",
    "cudnnSetFilter4dDescriptor",
    "cudnnSetStream",
    "cudnnSetTensor4dDescriptor",
];

pub(crate) const NCCL: &[&str] = &["ncclGetVersion"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every function of the bindings that a wrapper names is on its library's list.
    #[test]
    fn the_lists_are_complete() {
        for (prefix, list, source) in [
            ("nvrtc", NVRTC, include_str!("nvrtc.rs")),
            ("cublas", CUBLAS, include_str!("blas.rs")),
            ("cublasGemm", CUBLAS, include_str!("peak.rs")),
            ("cudnn", CUDNN, include_str!("cudnn.rs")),
            ("cudnn", CUDNN, include_str!("desc.rs")),
            ("cudnn", CUDNN, include_str!("backend.rs")),
            ("cudnn", CUDNN, include_str!("opgraph.rs")),
            ("cudnn", CUDNN, include_str!("batch_norm.rs")),
        ] {
            let named = source.split("sys::").skip(1).map(|rest| {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                &rest[..end]
            });
            let is_type =
                |name: &str| name.ends_with("_t") || ["nvrtcProgram", "nvrtcResult"].contains(&name);
            let functions: Vec<&str> = named.filter(|n| n.starts_with(prefix) && !is_type(n)).collect();
            assert!(!functions.is_empty(), "{functions:?}");
            for function in functions {
                assert!(list.contains(&function), "{function} is not on the list");
            }
        }
    }
}
