//! From a tape to a plan: kernels are prepared, memory is laid out and allocated.

use crate::arena::Arena;
use crate::bf16_reference;
use crate::capture::CapturedGraph;
use crate::device::{Backend, Device};
use crate::error::{Error, Result, explain_out_of_memory};
use crate::op::{Cost, Op, Prepared};
use crate::plan::Plan;
use crate::planner::{Home, Planner};
use crate::program::{Input, Output, Program, Step};
use crate::readback::Readback;
use crate::spec::{DType, Spec};
use crate::tape::{Origin, Tape, Var};
use core::panic::Location;
use kernels::memory::{Access, Space, View};

impl Tape {
    /// Compiles everything that `outputs` and the assigned slots depend on: decides memory, prepares kernels and
    /// allocates. Nodes that nothing depends on do not run.
    ///
    /// # Errors
    /// If an output belongs to another tape, an op does not run on the device, or there is not enough memory.
    #[track_caller]
    pub fn plan(&self, device: &Device, outputs: &[Var]) -> Result<Plan> {
        for v in outputs {
            self.check(*v, Location::caller())?;
        }
        let _turn = device.as_gpu().map(|gpu| gpu.turn());
        let mut roots: Vec<Var> = outputs.to_vec();
        roots.extend(self.slots.iter().filter_map(|u| u.assigned));
        let mut p = Planner::new(self, &roots, device.alignment());
        p.place_slots();
        let prepare_node = |&n: &usize| {
            let (x, y) = p.specs(n);
            prepare(&*self.nodes[n].op, device, &x, &y)
        };
        let prepared: Vec<Prepared> = p.order.iter().map(prepare_node).collect::<Result<_>>()?;
        p.place_values(&roots);
        let workspaces: Vec<usize> =
            prepared.iter().enumerate().map(|(i, k)| p.storage(k.workspace, i + 1, i + 1)).collect();
        let bytes = p.assign_offsets();
        let live = p.live_bytes();
        let state = self.slots.iter().map(|u| u.slot.spec.bytes()).sum();
        let sizes: Vec<usize> = prepared.iter().map(|k| k.workspace).collect();
        let program = Program {
            device: device.clone(),
            tag: self.tag(),
            steps: steps(&p, &workspaces, &sizes)?,
            inputs: inputs(&p),
            outputs: outputs.iter().map(|&var| output(&p, var)).collect(),
            copies: copies(&p),
            slots: self.slots.iter().map(|u| u.slot).collect(),
            assigned: self.slots.iter().filter(|u| u.assigned.is_some()).map(|u| u.slot).collect(),
            writes_state: self.slots.iter().any(|u| u.assigned.is_some()),
            live,
        };
        let arena = explain_out_of_memory(Arena::new(device, bytes), device, (bytes, state), || {
            p.largest_at_peak(&program.live, &workspaces)
        })?;
        let sent = p.input_bytes();
        let staging = device.as_gpu().filter(|_| sent > 0).map(|gpu| gpu.staging(sent)).transpose()?;
        let kernels = prepared.into_iter().map(|p| p.kernel).collect();
        let (graph, readback) = (CapturedGraph::default(), Readback::default());
        let plan = Plan { program, kernels, arena, graph, staging, readback };
        if device.debug.plan {
            eprintln!("{plan}");
        }
        Ok(plan)
    }
}

/// The kernel of an op for a device. On a CPU nodes with bf16 run their float32 kernel on converted copies.
fn prepare(op: &dyn Op, device: &Device, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
    match device.backend() {
        Backend::Cpu(cpu) if x.iter().chain(y).any(|s| s.dtype == DType::BF16) => {
            let wide = |specs: &[Spec]| specs.iter().map(Spec::wide).collect::<Vec<_>>();
            bf16_reference::in_float32(op.cpu(cpu, &wide(x), &wide(y)), x, y)
        }
        Backend::Cpu(cpu) => Ok(op.cpu(cpu, x, y)),
        Backend::Cuda(_) if x.iter().chain(y).any(|s| s.dtype == DType::F64) => Err(Error::Unsupported {
            op: op.name(),
            why: "float64 is for reference values and runs on the CPU only",
        }),
        Backend::Cuda(gpu) => op.cuda(gpu, x, y),
    }
}

/// The nodes in order; `workspaces` are the storages of their workspaces, `sizes` the bytes of these.
fn steps(p: &Planner<'_>, workspaces: &[usize], sizes: &[usize]) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(p.order.len());
    for (i, &n) in p.order.iter().enumerate() {
        let node = &p.tape.nodes[n];
        let (x, y) = p.specs(n);
        let views = |vs: &[Var]| vs.iter().map(|v| p.view(*v)).collect::<Vec<_>>();
        let (ins, outs) = (views(&node.inputs), views(&node.outputs));
        let workspace = p.workspace(workspaces[i], sizes[i]);
        let (name, site) = (node.op.name(), node.site);
        let access = Access::new(ins.clone(), outs.clone(), workspace, node.op.may_alias())
            .map_err(|e| Error::Kernel { op: name, site, source: e.into() })?;
        let outputs = node.outputs.iter().zip(&y).zip(outs).map(|((v, spec), view)| (*v, *spec, view));
        steps.push(Step {
            name,
            site,
            inputs: node.inputs.iter().copied().zip(ins).collect(),
            outputs: outputs.collect(),
            workspace,
            access,
            cost: Cost { flops: node.op.flops(&x, &y), bytes: node.op.bytes(&x, &y) },
            gpu_work: node.op.gpu_work(&x, &y),
        });
    }
    Ok(steps)
}

fn inputs(p: &Planner<'_>) -> Vec<Input> {
    let values = p.tape.values.iter().zip(&p.homes).enumerate();
    values
        .filter_map(|(i, (value, home))| match (&value.origin, home) {
            (Origin::Input(name), Home::Arena(_)) => {
                let var = Var { tape: p.tape.tag(), id: i as u32 };
                Some(Input { var, name: name.clone(), spec: value.spec, view: p.view(var) })
            }
            _ => None,
        })
        .collect()
}

fn output(p: &Planner<'_>, var: Var) -> Output {
    Output { var, spec: p.tape.values[var.index()].spec, view: p.view(var) }
}

/// Assigned values that do not live in their slot.
fn copies(p: &Planner<'_>) -> Vec<(View, View)> {
    let assigned = p.tape.slots.iter().filter_map(|u| u.assigned.map(|v| (p.view(v), u.slot)));
    assigned
        .map(|(from, slot)| (from, View { space: Space::Slot(slot.id), offset: 0, len: slot.spec.bytes() }))
        .filter(|(from, to)| from != to)
        .collect()
}
