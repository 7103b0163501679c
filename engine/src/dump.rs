//! A plan for the eyes: as text, and as a DOT graph.

use crate::plan::Plan;
use core::fmt::Write;
use kernels::memory::{Space, View};

fn place(v: &View) -> String {
    match v.space {
        Space::Arena => format!("@{}", v.offset),
        Space::Slot(id) => format!("slot {id}"),
    }
}

impl Plan {
    /// One line a node: what it reads and writes and where, MFLOP, KiB moved, KiB alive; totals at the end.
    pub fn dump(&self) -> String {
        let mut out = String::new();
        for (i, s) in self.steps.iter().enumerate() {
            let ins: Vec<_> =
                s.inputs.iter().zip(&s.views.0).map(|(v, w)| format!("v{} {}", v.id, place(w))).collect();
            let outs: Vec<_> = s
                .outputs
                .iter()
                .zip(&s.views.1)
                .map(|((v, spec), w)| format!("v{} {spec} {}", v.id, place(w)))
                .collect();
            let _ = writeln!(
                out,
                "{i:4} {:26} {} -> {} | {:.3} MFLOP, {} KiB moved, {} KiB workspace, {} KiB alive | {}",
                s.name,
                ins.join(", "),
                outs.join(", "),
                s.cost.flops as f64 / 1e6,
                s.cost.bytes / 1024,
                s.views.2.len / 1024,
                self.live[i] / 1024,
                s.site,
            );
        }
        let c = self.cost();
        let _ = writeln!(
            out,
            "{} nodes, {:.3} GFLOP, {:.1} MiB moved, arena {:.1} MiB (most alive {:.1} MiB), {} copies to slots",
            self.len(),
            c.flops as f64 / 1e9,
            c.bytes as f64 / 1048576.0,
            self.bytes() as f64 / 1048576.0,
            self.live_bytes() as f64 / 1048576.0,
            self.copies.len(),
        );
        out
    }

    /// The same as a graph for Graphviz.
    pub fn dot(&self) -> String {
        let mut out = String::from("digraph plan {\n  node [shape=box, fontname=monospace];\n");
        for (_, name, spec, _) in &self.binds {
            let _ = writeln!(out, "  \"{name}\" [label=\"{name}\\n{spec}\", shape=ellipse];");
        }
        let maker = |v| self.steps.iter().position(|s| s.outputs.iter().any(|(o, _)| *o == v));
        for (i, s) in self.steps.iter().enumerate() {
            let specs: Vec<_> = s.outputs.iter().map(|(_, spec)| spec.to_string()).collect();
            let (mflop, kib) = (s.cost.flops as f64 / 1e6, s.cost.bytes / 1024);
            let _ = writeln!(
                out,
                "  n{i} [label=\"{}\\n{}\\n{mflop:.2} MFLOP, {kib} KiB\"];",
                s.name,
                specs.join(", ")
            );
            for (v, view) in s.inputs.iter().zip(&s.views.0) {
                let from = match (maker(*v), self.binds.iter().find(|b| b.0 == *v)) {
                    (Some(n), _) => format!("n{n}"),
                    (None, Some(b)) => format!("\"{}\"", b.1),
                    (None, None) => format!("\"{}\"", place(view)),
                };
                let _ = writeln!(out, "  {from} -> n{i};");
            }
        }
        out.push_str("}\n");
        out
    }
}
