//! Gradients, appended to the tape as ordinary nodes, only where they are needed.
//!
//! Invariant: a node gets a backward node only if it lies on a path from a `wrt` value to the output; so a Langevin
//! step never records a weight gradient.

use crate::error::{Error, Result};
use crate::op::{Grad, GradRequest};
use crate::ops::elementwise::{Axpby, Fill};
use crate::tape::{Origin, Tape, Var};
use core::panic::Location;

/// Records the gradient of the scalar `y` with respect to each of `wrt`, which may be intermediate values; zeros where
/// `y` does not depend on it. The gradients are values of the tape like any other and can be differentiated again.
///
/// ```
/// use engine::ops::elementwise::Mul;
/// use engine::ops::reduce::SumAll;
/// use engine::{Device, HostTensor, Spec, State, Tape, grad};
///
/// let mut tape = Tape::new();
/// let x = tape.input("x", Spec::f32(&[3]));
/// let squares = tape.one(Mul, &[x, x])?;
/// let y = tape.one(SumAll { factor: 1.0 }, &[squares])?;
/// let dx = grad(&mut tape, y, &[x])?[0];
///
/// let mut plan = tape.plan(&Device::cpu(1), &[dx])?;
/// plan.run(&mut State::new(), &[(x, HostTensor::F32(&[1.0, -2.0, 3.0]))])?;
/// assert_eq!(plan.read::<f32>(dx)?, [2.0, -4.0, 6.0]);
/// # Ok::<(), engine::Error>(())
/// ```
///
/// # Errors
/// If `y` is not a scalar of a real type, a variable belongs to another tape, or an op between `wrt` and `y` has no
/// gradient.
#[track_caller]
pub fn grad(tape: &mut Tape, y: Var, wrt: &[Var]) -> Result<Vec<Var>> {
    let site = Location::caller();
    let spec = tape.spec(y)?;
    if spec.len() != 1 || !spec.dtype.is_real() {
        return Err(Error::Tape { detail: format!("gradient of {spec}, which is not a real scalar"), site });
    }
    for v in wrt {
        tape.check(*v, site)?;
    }
    let needed = needed(tape, y, wrt);
    let mut accumulated: Vec<Option<Var>> = vec![None; tape.values.len()];
    accumulated[y.index()] = Some(tape.one(Fill { spec, value: 1.0 }, &[])?);
    let last = match tape.values[y.index()].origin {
        Origin::Node { node } => node + 1,
        _ => 0,
    };
    for n in (0..last).rev() {
        let node = tape.nodes[n].clone();
        let dy: Vec<Option<Var>> = node.outputs.iter().map(|o| accumulated[o.index()]).collect();
        let want = request(tape, &node.inputs, &needed, &accumulated);
        if dy.iter().all(Option::is_none) || !want.need.contains(&true) {
            continue;
        }
        let grads = node.op.vjp(tape, &node, &dy, &want)?;
        for (k, (input, g)) in node.inputs.iter().zip(grads).enumerate() {
            let slot = &mut accumulated[input.index()];
            // An accumulated gradient includes the sum that was offered; none is offered for an input used twice, whose
            // sum must be kept.
            let (g, old) = match g {
                Grad::None => continue,
                Grad::Accumulated(g) if want.accumulated[k].is_some() => (g, None),
                Grad::Accumulated(g) | Grad::Add(g) => (g, *slot),
            };
            *slot = Some(match old {
                Some(old) => tape.one(Axpby { a: 1.0, b: 1.0 }, &[old, g])?,
                None => g,
            });
        }
    }
    wrt.iter()
        .map(|v| match accumulated[v.index()] {
            Some(g) => Ok(g),
            None => tape.one(Fill { spec: tape.values[v.index()].spec, value: 0.0 }, &[]),
        })
        .collect()
}

/// Which values depend on one of `wrt` and contribute to `y`.
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

fn request(tape: &Tape, inputs: &[Var], needed: &[bool], accumulated: &[Option<Var>]) -> GradRequest {
    let need = inputs
        .iter()
        .map(|i| {
            needed.get(i.index()).copied().unwrap_or(false) && tape.values[i.index()].spec.dtype.is_real()
        })
        .collect();
    // Not offered for an input used twice, so that the sum is not counted twice.
    let accumulated = inputs
        .iter()
        .enumerate()
        .map(|(k, i)| {
            if inputs[..k].contains(i) || inputs[k + 1..].contains(i) { None } else { accumulated[i.index()] }
        })
        .collect();
    GradRequest { need, accumulated }
}
