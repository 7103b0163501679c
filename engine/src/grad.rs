//! Gradients, appended to the tape as ordinary nodes, only where they are needed.
//!
//! Invariant: a node gets a backward node only if it lies on a path from a `wrt` value to the output; so a Langevin
//! step never records a weight gradient.

use crate::error::{Error, Result};
use crate::op::{Grad, Wanted};
use crate::ops::elementwise::{Axpby, Fill};
use crate::tape::{Source, Tape, Var};
use core::panic::Location;

/// Records the gradient of the scalar `y` with respect to each of `wrt` (which may be interior values); zeros where
/// `y` does not depend on it.
///
/// # Errors
/// If `y` is no real scalar, a variable is foreign, or an op on the way has no gradient.
#[track_caller]
pub fn grad(tape: &mut Tape, y: Var, wrt: &[Var]) -> Result<Vec<Var>> {
    let site = Location::caller();
    let spec = tape.spec(y)?;
    if spec.len() != 1 || !spec.dtype.is_real() {
        return Err(Error::Tape { detail: format!("gradient of {spec}, which is no real scalar"), site });
    }
    for v in wrt {
        tape.check(*v, site)?;
    }
    let needed = needed(tape, y, wrt);
    let mut so_far: Vec<Option<Var>> = vec![None; tape.values.len()];
    so_far[y.index()] = Some(tape.one(Fill { spec, value: 1.0 }, &[])?);
    let last = match tape.values[y.index()].source {
        Source::Node { node } => node + 1,
        _ => 0,
    };
    for n in (0..last).rev() {
        let node = tape.nodes[n].clone();
        let dy: Vec<Option<Var>> = node.outputs.iter().map(|o| so_far[o.index()]).collect();
        let want = wanted(tape, &node.inputs, &needed, &so_far);
        if dy.iter().all(Option::is_none) || !want.need.contains(&true) {
            continue;
        }
        let grads = node.op.vjp(tape, &node, &dy, &want)?;
        for (k, (input, g)) in node.inputs.iter().zip(grads).enumerate() {
            let slot = &mut so_far[input.index()];
            // A total includes what was offered; nothing was for an input used twice, and what there is remains.
            let (g, old) = match g {
                Grad::None => continue,
                Grad::Total(g) if want.so_far[k].is_some() => (g, None),
                Grad::Total(g) | Grad::Add(g) => (g, *slot),
            };
            *slot = Some(match old {
                Some(old) => tape.one(Axpby { a: 1.0, b: 1.0 }, &[old, g])?,
                None => g,
            });
        }
    }
    wrt.iter()
        .map(|v| match so_far[v.index()] {
            Some(g) => Ok(g),
            None => tape.one(Fill { spec: tape.values[v.index()].spec, value: 0.0 }, &[]),
        })
        .collect()
}

/// Values that descend from `wrt` and are ancestors of `y`.
fn needed(tape: &Tape, y: Var, wrt: &[Var]) -> Vec<bool> {
    let mut down = vec![false; tape.values.len()];
    for v in wrt {
        down[v.index()] = true;
    }
    for node in &tape.nodes {
        if node.inputs.iter().any(|i| down[i.index()]) {
            node.outputs.iter().filter(|o| tape.values[o.index()].spec.dtype.is_real()).for_each(|o| {
                down[o.index()] = true;
            });
        }
    }
    let mut up = vec![false; tape.values.len()];
    up[y.index()] = true;
    for node in tape.nodes.iter().rev() {
        if node.outputs.iter().any(|o| up[o.index()]) {
            node.inputs.iter().for_each(|i| up[i.index()] = true);
        }
    }
    down.iter().zip(&up).map(|(d, u)| *d && *u).collect()
}

fn wanted(tape: &Tape, inputs: &[Var], needed: &[bool], so_far: &[Option<Var>]) -> Wanted {
    let need = inputs
        .iter()
        .map(|i| {
            needed.get(i.index()).copied().unwrap_or(false) && tape.values[i.index()].spec.dtype.is_real()
        })
        .collect();
    // What there is so far is offered once, so that an input used twice is not counted twice.
    let so_far =
        inputs
            .iter()
            .enumerate()
            .map(|(k, i)| {
                if inputs[..k].contains(i) || inputs[k + 1..].contains(i) { None } else { so_far[i.index()] }
            })
            .collect();
    Wanted { need, so_far }
}
