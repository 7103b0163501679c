//! The text and the graph of a plan show every node with its work and its traffic.

use super::device;
use engine::ops::batch::SliceRows;
use engine::ops::conv2d::{Conv2d, Geometry};
use engine::ops::leaky_relu::LeakyRelu;
use engine::ops::reduce::SumAll;
use engine::ops::replay::GatherRows;
use engine::{Spec, State, Tape, grad};

#[test]
fn text_and_dot_show_every_node_with_flops_and_bytes() {
    let mut state = State::new();
    let slot = state.add("w", Spec::f32(&[16, 3, 3, 8])).unwrap();
    let mut tape = Tape::new();
    let (x, w) = (tape.input("image", Spec::f32(&[4, 16, 16, 8])), tape.read(slot));
    let conv = Conv2d { geometry: Geometry { stride: 1, pad: 1 }, bias: false, residual: false };
    let y = tape.one(conv, &[x, w]).unwrap();
    let z = tape.one(LeakyRelu { leak: 0.2 }, &[y]).unwrap();
    let l = tape.one(SumAll { factor: 1.0 }, &[z]).unwrap();
    let g = grad(&mut tape, l, &[x]).unwrap();
    let plan = tape.plan(&device(), &[l, g[0]]).unwrap();
    let nodes = ["conv2d", "leaky_relu", "sum_all", "fill", "leaky_relu_grad", "conv2d_input_grad"];
    assert_eq!((plan.len(), nodes.map(|n| plan.count(n))), (6, [1; 6]));

    // 2 · pixels · outputs · taps · channels; image, filters and result are each moved once.
    let flops = 2 * (4 * 16 * 16) * 16 * 9 * 8;
    let bytes = 4 * (4 * 16 * 16 * 8 + 16 * 9 * 8 + 4 * 16 * 16 * 16);
    let (text, graph) = (plan.to_string(), plan.dot());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), nodes.len() + 1);
    for (i, name) in nodes.iter().enumerate() {
        let line = lines.iter().find(|l| l.split_whitespace().nth(1) == Some(name)).unwrap();
        for part in ["MFLOP", "KiB moved", "KiB workspace", "KiB alive", ".rs:", "f32["] {
            assert!(line.contains(part), "{line} lacks {part}");
        }
        assert!(graph.contains(&format!("label=\"{name}\\n")), "node {i} {name} is missing in\n{graph}");
    }
    let work = format!("{:.3} MFLOP, {} KiB moved", f64::from(flops) / 1e6, bytes / 1024);
    assert!(lines[0].contains(&work), "{} lacks {work}", lines[0]);
    assert!(lines[0].contains("slot 0") && lines[6].starts_with("6 nodes"), "{text}");
    assert!(graph.contains(&format!("{:.2} MFLOP, {} KiB", f64::from(flops) / 1e6, bytes / 1024)), "{graph}");
    assert!(graph.starts_with("digraph") && graph.ends_with("}\n"));
    assert!(graph.contains("\"image\" -> n0") && graph.contains("\"slot 0\" -> n0"), "{graph}");
    // One edge per input of a node.
    assert_eq!(graph.matches(" -> ").count(), 2 + 1 + 1 + 2 + 2);

    let cost = plan.cost();
    assert!(cost.flops >= 2 * flops as u64 && cost.bytes > 2 * bytes as u64);
    assert!(format!("{plan:?}").contains("6 nodes"));
}

#[test]
fn rows_taken_from_a_buffer_do_not_count_the_buffer() {
    let mut tape = Tape::new();
    let (buffer, at) = (tape.input("buffer", Spec::f32(&[1000, 50])), tape.input("at", Spec::i32(&[3])));
    let rows = tape.one(GatherRows, &[buffer, at]).unwrap();
    let plan = tape.plan(&device(), &[rows]).unwrap();
    assert_eq!(plan.cost().bytes, 4 * (2 * 3 * 50 + 3));
    let cut = tape.one(SliceRows { start: 5, rows: 2 }, &[buffer]).unwrap();
    assert_eq!(tape.plan(&device(), &[cut]).unwrap().cost().bytes, 4 * 2 * 2 * 50);
}
