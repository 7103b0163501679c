//! What bounds a training iteration: the work of each kind of node compared with the device's peak rates.

use super::peak::{product_rate, sizes};
use super::speed::{copy_gb_per_s, refused};
use super::whole::{Network, network, session};
use super::{Found, Journal, Size, fell_back};
use crate::Result;
use engine::{Device, Precision, Spent};
use kernels::gpu::{Float, Gpu, GpuError};
use serde_json::{Value, json};

/// Number of profiled iterations, after one that is profiled but not counted.
fn iterations(size: Size) -> usize {
    if size == Size::Small { 1 } else { 3 }
}

pub(super) fn checks(journal: &mut Journal, device: &Device, name: Option<&str>, size: Size) -> Result<()> {
    let network = network(name, size)?;
    journal.check("what bounds an iteration", network.name, || one(device, network, size))
}

/// The device's peak rates, in floating-point operations and in bytes per second.
struct Peaks {
    flops: f64,
    bytes: f64,
}

impl Peaks {
    fn measure(gpu: &Gpu, (n, bytes): (usize, usize)) -> Result<Self> {
        let dtype = if gpu.precision() == Precision::Bf16 { Float::Bf16 } else { Float::F32 };
        let flops = product_rate(gpu, n, dtype).map_err(refused)?;
        Ok(Self { flops, bytes: copy_gb_per_s(gpu, bytes)? * 1e9 })
    }

    /// A lower bound on the seconds that the work takes, and what sets it.
    fn least(&self, s: &Spent) -> (f64, &'static str) {
        let (by_flops, by_bytes) = (s.flops as f64 / self.flops, s.bytes as f64 / self.bytes);
        if by_flops > by_bytes { (by_flops, "products") } else { (by_bytes, "memory") }
    }
}

fn one(device: &Device, network: &Network, size: Size) -> Result<Found> {
    let Some(gpu) = device.as_gpu() else { return Ok(Err("this is no GPU".into())) };
    let peaks = Peaks::measure(gpu, sizes(size))?;
    let mut session = session(device, network, size)?;
    if let Some(why) = fell_back(gpu) {
        return Ok(Err(why.into()));
    }
    let whole =
        session.time_iterations(2 + iterations(size))?.into_iter().skip(2).fold(f64::INFINITY, f64::min);
    // What the host takes to submit a node is measured too; the first iteration shows how long that is.
    gpu.profile().begin();
    let first = session.time_iterations(1);
    gpu.profile().end();
    first?;
    gpu.profile().begin();
    let ran = session.time_iterations(iterations(size));
    let nodes = gpu.profile().end();
    ran?;
    // Two events with nothing between them: what each node's time has in it beside its work.
    let nothing = (0..20).map(|_| gpu.seconds_on_device(|| Ok::<_, GpuError>(())));
    let mut nothing = nothing.collect::<Result<Vec<f64>, GpuError>>().map_err(refused)?;
    nothing.sort_by(f64::total_cmp);
    let title = format!("{}, {:?}", network.name, gpu.precision());
    Ok(table(&peaks, (whole, nothing[nothing.len() / 2]), iterations(size) as f64, nodes).map(
        |(text, mut data)| {
            data["title"] = json!(title);
            (text, data)
        },
    ))
}

/// A table by kind of node for one of `n` iterations, longest time first, beside the times of a whole one and of nothing.
fn table(
    peaks: &Peaks,
    (whole, nothing): (f64, f64),
    n: f64,
    mut nodes: Vec<(&'static str, Spent)>,
) -> Found {
    if nodes.is_empty() {
        return Err("no node was timed".into());
    }
    nodes.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    let mut rows: Vec<Value> = Vec::new();
    let mut text = format!(
        "{:.2} ms an iteration; {:.1} TFLOP/s and {:.0} GB/s at most\n    {:<24} {:>6} {:>10} {:>10} {:>9} {:>9} {:>6}  bound by",
        whole * 1e3,
        peaks.flops / 1e12,
        peaks.bytes / 1e9,
        "node",
        "runs",
        "GFLOP",
        "GB",
        "least ms",
        "ms",
        "%"
    );
    let (mut least_all, mut measured_all) = (0.0, 0.0);
    for (name, s) in &nodes {
        let (least, bound) = peaks.least(s);
        (least_all, measured_all) = (least_all + least / n, measured_all + s.seconds / n);
        let (runs, gflop, gb) = (s.runs as f64 / n, s.flops as f64 / n / 1e9, s.bytes as f64 / n / 1e9);
        let percent = 100.0 * least / s.seconds;
        text += &format!(
            "\n    {name:<24} {runs:>6.0} {gflop:>10.2} {gb:>10.3} {:>9.3} {:>9.3} {percent:>6.1}  {bound}",
            1e3 * least / n,
            1e3 * s.seconds / n
        );
        rows.push(json!({
            "node": name, "runs": runs, "flops": gflop * 1e9, "bytes": gb * 1e9, "bound": bound,
            "least_s": least / n, "measured_s": s.seconds / n,
        }));
    }
    text += &format!(
        "\n    all: {:.3} ms at least, {:.3} ms node by node; no work at all measures {:.1} µs",
        1e3 * least_all,
        1e3 * measured_all,
        1e6 * nothing
    );
    let data = json!({
        "iteration_s": whole, "nothing_s": nothing, "least_s": least_all, "nodes_s": measured_all,
        "peak_tflops": peaks.flops / 1e12, "copy_gb_per_s": peaks.bytes / 1e9, "nodes": rows,
    });
    Ok((text, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_is_that_of_the_scarcer_means() {
        let peaks = Peaks { flops: 100.0, bytes: 10.0 };
        let spent = |flops, bytes| Spent { runs: 3, seconds: 12.0, flops, bytes };
        assert_eq!(peaks.least(&spent(300, 10)), (3.0, "products"));
        assert_eq!(peaks.least(&spent(100, 20)), (2.0, "memory"));
        let (text, data) =
            table(&peaks, (5.0, 1e-6), 3.0, vec![("a", spent(300, 10)), ("b", spent(100, 20))]).unwrap();
        assert!(text.contains("products") && text.contains("memory"), "{text}");
        assert!((data["least_s"].as_f64().unwrap() - 5.0 / 3.0).abs() < 1e-12);
        assert_eq!(data["nodes"][0]["runs"], 1.0);
        assert!(table(&peaks, (5.0, 1e-6), 3.0, Vec::new()).is_err());
    }
}
