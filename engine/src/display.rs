//! Plans as text, and as graphs in the DOT language of Graphviz.

use crate::plan::Plan;
use crate::program::Step;
use core::fmt::{self, Write};
use kernels::memory::{Space, View};

fn place(v: &View) -> String {
    match v.space {
        Space::Arena => format!("@{}", v.offset),
        Space::Slot(id) => format!("slot {id}"),
    }
}

/// One line per node: inputs and outputs and where they lie, MFLOP, KiB moved, KiB alive; the last line has the totals.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (s, live)) in self.program.steps.iter().zip(&self.program.live).enumerate() {
            let inputs: Vec<_> = s.inputs.iter().map(|(v, w)| format!("v{} {}", v.id, place(w))).collect();
            let outputs: Vec<_> =
                s.outputs.iter().map(|(v, spec, w)| format!("v{} {spec} {}", v.id, place(w))).collect();
            writeln!(
                f,
                "{i:4} {:26} {} -> {} | {:.3} MFLOP, {} KiB moved, {} KiB workspace, {} KiB alive | {}",
                s.name,
                inputs.join(", "),
                outputs.join(", "),
                s.cost.flops as f64 / 1e6,
                s.cost.bytes / 1024,
                s.workspace.len / 1024,
                live / 1024,
                s.site,
            )?;
        }
        let c = self.cost();
        writeln!(
            f,
            "{} nodes, {:.3} GFLOP, {:.1} MiB moved, arena {:.1} MiB (at most {:.1} MiB alive), {} copies to slots",
            self.len(),
            c.flops as f64 / 1e9,
            c.bytes as f64 / 1048576.0,
            self.bytes() as f64 / 1048576.0,
            self.live_bytes() as f64 / 1048576.0,
            self.program.copies.len(),
        )
    }
}

impl Plan {
    /// The plan as a graph in the DOT language of Graphviz: a box per node with its FLOPs and bytes, an ellipse per
    /// input.
    pub fn dot(&self) -> String {
        let program = &self.program;
        let mut out = String::from("digraph plan {\n  node [shape=box, fontname=monospace];\n");
        for input in &program.inputs {
            let (name, spec) = (&input.name, input.spec);
            let _ = writeln!(out, "  \"{name}\" [label=\"{name}\\n{spec}\", shape=ellipse];");
        }
        let makes = |s: &Step, v| s.outputs.iter().any(|(o, ..)| *o == v);
        for (i, s) in program.steps.iter().enumerate() {
            let specs: Vec<_> = s.outputs.iter().map(|(_, spec, _)| spec.to_string()).collect();
            let (mflop, kib) = (s.cost.flops as f64 / 1e6, s.cost.bytes / 1024);
            let _ = writeln!(
                out,
                "  n{i} [label=\"{}\\n{}\\n{mflop:.2} MFLOP, {kib} KiB\"];",
                s.name,
                specs.join(", ")
            );
            for (v, view) in &s.inputs {
                let producer = program.steps.iter().position(|s| makes(s, *v));
                let from = match (producer, program.inputs.iter().find(|b| b.var == *v)) {
                    (Some(n), _) => format!("n{n}"),
                    (None, Some(b)) => format!("\"{}\"", b.name),
                    (None, None) => format!("\"{}\"", place(view)),
                };
                let _ = writeln!(out, "  {from} -> n{i};");
            }
        }
        out.push_str("}\n");
        out
    }
}
