//! State on a tape: slots are read and assigned as values.
//!
//! Invariant: static single assignment. Reading a slot gives the value last assigned to it on this tape, or the value
//! that it has when the program starts.

use crate::error::{Error, Result};
use crate::ops::elementwise::Identity;
use crate::state::Slot;
use crate::tape::{Origin, SlotUse, Tape, Value, Var};
use core::panic::Location;
use std::sync::Arc;

impl Tape {
    /// The current value of a slot.
    pub fn read(&mut self, slot: Slot) -> Var {
        if let Some(i) = self.slots.iter().position(|u| u.slot == slot) {
            let u = &self.slots[i];
            if let Some(v) = u.assigned.or(u.initial) {
                return v;
            }
        }
        let initial = self.push(Value { spec: slot.spec, origin: Origin::Slot });
        match self.slots.iter_mut().find(|u| u.slot == slot) {
            Some(u) => u.initial = Some(initial),
            None => self.slots.push(SlotUse { slot, initial: Some(initial), assigned: None }),
        }
        initial
    }

    /// Gives a slot a new value, from here on this tape and, after the run, for all programs that use the state.
    ///
    /// # Errors
    /// If the specs differ.
    #[track_caller]
    pub fn assign(&mut self, slot: Slot, v: Var) -> Result<()> {
        let site = Location::caller();
        let spec = self.spec(v)?;
        if spec != slot.spec {
            let detail = format!("a slot of {} cannot take {spec}", slot.spec);
            return Err(Error::Tape { detail, site });
        }
        // A value that no node made, or that another slot takes already, gets a node of its own: the planner then
        // only ever stores what nodes write.
        let taken = self.slots.iter().any(|u| u.assigned == Some(v) && u.slot != slot);
        let v = match self.values[v.index()].origin {
            Origin::Node { .. } if !taken => v,
            _ => self.record_at(Arc::new(Identity), &[v], site)?[0],
        };
        match self.slots.iter_mut().find(|u| u.slot == slot) {
            Some(u) => u.assigned = Some(v),
            None => self.slots.push(SlotUse { slot, initial: None, assigned: Some(v) }),
        }
        Ok(())
    }
}
