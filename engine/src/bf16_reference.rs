//! bf16 on a CPU, for every op alike: the reference for a GPU's bf16 kernels.
//!
//! Invariant: an op's float32 kernel runs on widened copies of its inputs, and each bf16 output is rounded once, to
//! nearest, ties to even; what is float32, such as statistics, stays float32. The copies lie in the node's workspace.

use crate::error::{KernelError, Result};
use crate::op::{Kernel, Prepared};
use crate::spec::{DType, Spec};
use kernels::dtype::bf16;
use kernels::memory::{ALIGN, Access, Io, Memory, MemoryError, Space, View};
use kernels::ops::cast::{narrow, widen};

/// Wraps `float32`, an op's float32 kernel, for inputs `x` and outputs `y` of which some are bf16.
///
/// # Errors
/// If the workspace cannot be laid out.
pub(crate) fn in_float32(float32: Prepared, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
    let mut end = 0;
    let mut place = |len: usize| {
        let view = View { space: Space::Arena, offset: end, len };
        end += len.next_multiple_of(ALIGN);
        view
    };
    let inputs: Vec<View> = x.iter().map(|s| place(s.wide().bytes())).collect();
    let outputs: Vec<View> = y.iter().map(|s| place(s.wide().bytes())).collect();
    let workspace = place(float32.workspace);
    let access = Access::new(inputs.clone(), outputs.clone(), workspace, &[])?;
    let bf16s = |specs: &[Spec]| specs.iter().map(|s| s.dtype == DType::BF16).collect::<Vec<_>>();
    let (from, to) =
        (bf16s(x).into_iter().zip(inputs).collect(), bf16s(y).into_iter().zip(outputs).collect());
    Ok(Prepared { workspace: end, kernel: Box::new(Converting { kernel: float32.kernel, access, from, to }) })
}

/// A float32 kernel that converts its inputs and outputs.
struct Converting {
    kernel: Box<dyn Kernel>,
    access: Access,
    /// For each input whether it is bf16, and where its copy lies.
    from: Vec<(bool, View)>,
    /// For each output whether it is bf16, and where its copy lies.
    to: Vec<(bool, View)>,
}

impl Kernel for Converting {
    fn run(&mut self, io: &mut Io<'_>) -> core::result::Result<(), KernelError> {
        let place = io.workspace::<u8>()?;
        let outputs = (0..self.to.len()).map(|o| io.output::<u8>(o));
        let mut outputs = outputs.collect::<core::result::Result<Vec<_>, MemoryError>>()?;
        for (i, (is_bf16, view)) in self.from.iter().enumerate() {
            let copy = &mut place[view.offset..view.offset + view.len];
            // An input that shares memory with an output is read there, before anything is written.
            let from: &[u8] = match (0..outputs.len()).find(|&o| io.in_place(o, i)) {
                Some(o) => &*outputs[o],
                None => io.input::<u8>(i)?,
            };
            if *is_bf16 {
                widen(bytemuck::cast_slice::<u8, bf16>(from), bytemuck::cast_slice_mut(copy));
            } else {
                copy.copy_from_slice(from);
            }
        }
        self.kernel.run(&mut Memory::within(place)?.io(&self.access))?;
        for (out, (is_bf16, view)) in outputs.iter_mut().zip(&self.to) {
            let copy = &place[view.offset..view.offset + view.len];
            if *is_bf16 {
                narrow(bytemuck::cast_slice(copy), bytemuck::cast_slice_mut::<u8, bf16>(out));
            } else {
                out.copy_from_slice(copy);
            }
        }
        Ok(())
    }
}
