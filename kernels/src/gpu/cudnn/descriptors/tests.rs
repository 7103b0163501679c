use super::*;
use crate::gpu::libraries::{Id, libraries};

/// Descriptors need no device.
#[test]
fn descriptors_are_made_and_refused() {
    if let Err(why) = libraries().require(Id::Cudnn) {
        println!("skipped: {why}");
        return;
    }
    for float in [Float::F32, Float::Bf16] {
        assert!(tensor(float, [2, 9, 11, 8]).is_ok());
    }
    let refused = tensor(Float::F32, [2, 0, 11, 8]).err();
    assert!(
        matches!(refused, Some(GpuError::Library { library: "cuDNN", code, .. }) if code != 0),
        "{refused:?}"
    );
    println!("{}", refused.map(|error| error.to_string()).unwrap_or_default());
}
