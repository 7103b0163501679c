//! The lists against the calls in the wrappers' source.

use super::*;

/// Every function of the bindings that a wrapper names is on its library's list.
#[test]
fn the_lists_are_complete() {
    for (prefix, list, source) in [("nvrtc", NVRTC, include_str!("../../nvrtc/mod.rs"))] {
        let named = source.split("sys::").skip(1).map(|rest| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            &rest[..end]
        });
        let is_type = |name: &str| name.ends_with("_t") || ["nvrtcProgram", "nvrtcResult"].contains(&name);
        let functions: Vec<&str> = named.filter(|n| n.starts_with(prefix) && !is_type(n)).collect();
        assert!(!functions.is_empty(), "{functions:?}");
        for function in functions {
            assert!(list.contains(&function), "{function} is not on the list");
        }
    }
}

#[test]
fn the_functions_of_cublas_and_cudnn_are_listed() {
    let cudnn = crate::gpu::cudnn::Functions::NAMES.iter().map(|name| (name, CUDNN));
    let cublas = crate::gpu::cublas::Functions::NAMES.iter().map(|name| (name, CUBLAS));
    for (name, list) in cudnn.chain(cublas) {
        assert!(list.contains(name), "{name} is not on the list");
    }
}
