//! The CUDA libraries that this crate uses or reports.
//!
//! What must hold: they are listed in the order of loading, each after those that it depends on.

use super::{Id, Library, Version, symbols};

/// The libraries, in the order of loading.
pub const KNOWN: &[Library] = &[
    Library {
        id: Id::Driver,
        name: "NVIDIA driver",
        purpose: "all work on a GPU",
        files: &["libcuda.so.1"],
        base_name: Some("cuda"),
        companions: &[],
        symbols: symbols::DRIVER,
        oldest: Version(12, 0, 0),
        advice: "Install NVIDIA's driver for this GPU (`nvidia-smi` must work); in a container, start it with access to \
             the GPU (`--gpus all`)",
    },
    Library {
        id: Id::Runtime,
        name: "CUDA runtime",
        purpose: "programs that link it, not this one",
        files: &["libcudart.so.13", "libcudart.so.12"],
        base_name: None,
        companions: &[],
        symbols: symbols::RUNTIME,
        oldest: Version(12, 0, 0),
        advice: "Nothing needs to be installed",
    },
    Library {
        id: Id::Nvrtc,
        name: "NVRTC",
        purpose: "compiling kernels",
        files: &["libnvrtc.so.13", "libnvrtc.so.12"],
        base_name: Some("nvrtc"),
        // Opened by name while it compiles.
        companions: &["libnvrtc-builtins.so."],
        symbols: symbols::NVRTC,
        oldest: Version(12, 0, 0),
        advice: "Install CUDA 13.0, or `pip install \"nvidia-cuda-nvrtc==13.0.*\"` and set JEMPP_CUDA_PATH to that \
             Python environment",
    },
    Library {
        id: Id::Cublas,
        name: "cuBLAS",
        purpose: "matrix products",
        files: &["libcublas.so.13", "libcublas.so.12"],
        base_name: None,
        // It is linked against this one.
        companions: &["libcublasLt.so."],
        symbols: symbols::CUBLAS,
        oldest: Version(12, 0, 0),
        advice: "Install CUDA 13.0, or `pip install \"nvidia-cublas==13.*\"` and set JEMPP_CUDA_PATH to that Python \
             environment",
    },
    Library {
        id: Id::Cudnn,
        name: "cuDNN",
        purpose: "convolutions",
        files: &["libcudnn.so.9"],
        base_name: None,
        // It loads its sub-libraries itself, from its own folder.
        companions: &[],
        symbols: symbols::CUDNN,
        oldest: Version(9, 1, 0),
        advice: "Install cuDNN 9, or `pip install nvidia-cudnn-cu13` and set JEMPP_CUDA_PATH to that Python environment",
    },
    Library {
        id: Id::Nccl,
        name: "NCCL",
        purpose: "several GPUs",
        files: &["libnccl.so.2"],
        base_name: None,
        companions: &[],
        symbols: symbols::NCCL,
        oldest: Version(2, 18, 0),
        advice: "It is needed for several GPUs only: install NCCL 2, or `pip install nvidia-nccl-cu13` and set \
             JEMPP_CUDA_PATH to that Python environment",
    },
];
