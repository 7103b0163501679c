//! Outputs copied back to the host without making the device wait: a copy is started behind a run and collected when
//! its values are needed.
//!
//! Invariant: readbacks finish in the order in which they were started, each with the values of the run before it.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::state::Element;
use crate::tape::Var;
use kernels::gpu::Staging;
use kernels::memory::View;
use std::collections::VecDeque;

/// Outputs on their way back.
#[derive(Debug, Default)]
pub(crate) struct Readback {
    queue: VecDeque<(Var, Values)>,
    /// Page-locked buffers to use again.
    staging: Vec<Staging>,
    /// Host buffers to use again.
    buffers: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Values {
    Host(Vec<u8>),
    Gpu(Staging),
}

impl Readback {
    /// Starts copying the bytes of `view`, which are those of `v`.
    pub(crate) fn start(&mut self, v: Var, arena: &Arena, view: View) -> Result<()> {
        let values = match arena {
            Arena::Host(a) => {
                let mut bytes = self.buffers.pop().unwrap_or_default();
                bytes.clear();
                bytes.extend_from_slice(&a.bytes()[view.offset..view.offset + view.len]);
                Values::Host(bytes)
            }
            Arena::Gpu(gpu, arena) => {
                let _turn = gpu.turn();
                let fits = self.staging.iter().position(|s| s.len() == view.len);
                let mut staging = match fits {
                    Some(i) => self.staging.swap_remove(i),
                    None => gpu.staging(view.len)?,
                };
                staging.receive(gpu, arena, view.offset)?;
                Values::Gpu(staging)
            }
        };
        self.queue.push_back((v, values));
        Ok(())
    }

    /// Waits for the copy that was started first, which must be of `v`, and puts its values into `values`.
    pub(crate) fn finish<T: Element>(&mut self, v: Var, values: &mut Vec<T>) -> Result<()> {
        match self.queue.front() {
            Some((first, _)) if *first == v => {}
            _ => {
                return Err(Error::Bind("the output is not the one whose readback was started first".into()));
            }
        }
        values.clear();
        match self.queue.pop_front() {
            Some((_, Values::Host(bytes))) => {
                values.extend(typed::<T>(&bytes));
                self.buffers.push(bytes);
            }
            Some((_, Values::Gpu(mut staging))) => {
                values.extend(typed::<T>(staging.bytes()?));
                self.staging.push(staging);
            }
            None => {}
        }
        Ok(())
    }
}

/// The values in bytes of any alignment.
fn typed<T: Element>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}
