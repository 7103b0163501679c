//! Outputs read back without holding up the device: asked for behind a run, taken when they are needed.
//!
//! Invariant: what is asked for first is taken first, and holds the values of the run before it was asked for.

use crate::error::{Error, Result};
use crate::plan::{Arena, Plan};
use crate::state::Element;
use crate::tape::Var;
use kernels::gpu::Staging;
use std::collections::VecDeque;

/// Outputs on their way.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    queue: VecDeque<(Var, Values)>,
    /// Page-locked memory to use again.
    spare: Vec<Staging>,
    /// The same of plain memory.
    plain: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Values {
    Host(Vec<u8>),
    Gpu(Staging),
}

impl Plan {
    /// Asks for an output of the run just started, to be taken by [`Plan::take`]. Does not wait.
    ///
    /// # Errors
    /// As [`Plan::fetch`].
    pub fn ask<T: Element>(&mut self, v: Var) -> Result<()> {
        let view = self.output::<T>(v)?;
        let values = match &self.arena {
            Arena::Host(a) => {
                let mut bytes = self.asked.plain.pop().unwrap_or_default();
                bytes.clear();
                bytes.extend_from_slice(&a.bytes()[view.offset..view.offset + view.len]);
                Values::Host(bytes)
            }
            Arena::Gpu(gpu, arena) => {
                let _turn = gpu.turn();
                let fits = self.asked.spare.iter().position(|s| s.len() == view.len);
                let mut staging = match fits {
                    Some(i) => self.asked.spare.swap_remove(i),
                    None => gpu.staging(view.len)?,
                };
                staging.receive(gpu, arena, view.offset)?;
                Values::Gpu(staging)
            }
        };
        self.asked.queue.push_back((v, values));
        Ok(())
    }

    /// The values asked for longest ago, into `values`, waiting for them if need be.
    ///
    /// # Errors
    /// If they were not asked for, or another output was asked for before; what a GPU answers.
    pub fn take<T: Element>(&mut self, v: Var, values: &mut Vec<T>) -> Result<()> {
        match self.asked.queue.front() {
            Some((first, _)) if *first == v => {}
            _ => return Err(Error::Bind("the output is not the one asked for longest ago".into())),
        }
        values.clear();
        match self.asked.queue.pop_front() {
            Some((_, Values::Host(bytes))) => {
                values.extend(typed::<T>(&bytes));
                self.asked.plain.push(bytes);
            }
            Some((_, Values::Gpu(mut staging))) => {
                values.extend(typed::<T>(staging.bytes()?));
                self.asked.spare.push(staging);
            }
            None => {}
        }
        Ok(())
    }
}

/// The values in bytes that may lie at any address.
fn typed<T: Element>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}
