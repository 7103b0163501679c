//! The table of ops: times, rates, and the percentage of the machine's limit.

use super::{BenchProgram, Ceiling, cases, timing};
use engine::op::Cost;
use engine::testing::Case;
use engine::{Device, format_bytes, peak};
use jempp::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The resource that limits a node in the roofline model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Arithmetic.
    Compute,
    /// Memory traffic.
    Memory,
}

/// From this many bytes on a case is timed in turn with copies of as many bytes, because the bandwidth of main memory varies
/// from minute to minute on some machines.
const BESIDE: u64 = 64 << 20;

/// The measurements of one bench case of an op.
#[derive(Clone, Debug)]
pub struct Row {
    /// The op.
    pub op: &'static str,
    /// The case.
    pub case: String,
    /// Shape of the largest tensor.
    pub shape: String,
    /// Minimum milliseconds of a run.
    pub min_ms: f64,
    /// Median milliseconds of a run.
    pub median_ms: f64,
    /// FLOPs and bytes of a run.
    pub cost: Cost,
    /// Which limit of the roofline applies.
    pub bound: Bound,
    /// GFLOP/s ([`Bound::Compute`]) or GB/s ([`Bound::Memory`]).
    pub rate: f64,
    /// The ceiling of that rate, measured in the same run.
    pub ceiling: f64,
    /// 100 · rate / ceiling. It may exceed 100 for cases that read more than they write: writes of a copy cost more.
    pub percent: f64,
}

/// Which side of the roofline a node lies under, and the rate there.
pub fn bound(cost: Cost, ceiling: &Ceiling) -> (Bound, f64) {
    let memory = ceiling.gb_per_s(cost.bytes);
    if cost.flops as f64 / ceiling.gflop_per_s > cost.bytes as f64 / memory {
        (Bound::Compute, ceiling.gflop_per_s)
    } else {
        (Bound::Memory, memory)
    }
}

/// Times all bench cases whose `op/name` contains `filter` on a device with the given ceiling. `progress` receives before each
/// case how many are done, how many there are, and the name of the next.
///
/// # Errors
/// If a case does not run.
pub fn rows(
    device: &Device,
    ceiling: &Ceiling,
    filter: Option<&str>,
    progress: &mut dyn FnMut(usize, usize, &str),
) -> Result<Vec<Row>> {
    let cases = cases(filter);
    let total = cases.len();
    let mut rows = Vec::with_capacity(total);
    for (done, (op, case)) in cases.into_iter().enumerate() {
        progress(done, total, &format!("{op} {}", case.name));
        rows.push(row(device, ceiling, op, case)?);
    }
    progress(total, total, "");
    Ok(rows)
}

fn row(device: &Device, ceiling: &Ceiling, op: &'static str, case: Case) -> Result<Row> {
    let mut program = BenchProgram::new(&case, device)?;
    program.fill()?;
    let (minimum, mut median) = timing::seconds(|| program.run())?;
    let (bound, mut limit) = bound(program.cost, ceiling);
    if let (Bound::Memory, false, BESIDE..) = (bound, device.is_gpu(), program.cost.bytes) {
        let n = program.cost.bytes as usize / 8;
        let (src, mut dst) = (vec![1.0f32; n], vec![0.0f32; n]);
        let (own, copy) = timing::in_turn(|| program.run(), || peak::copy(device, &src, &mut dst))?;
        (median, limit) = (own, (8 * n) as f64 / copy / 1e9);
    }
    let work = if bound == Bound::Compute { program.cost.flops } else { program.cost.bytes };
    let rate = work as f64 / median / 1e9;
    let shape: Vec<String> = program.spec.shape().iter().map(ToString::to_string).collect();
    Ok(Row {
        op,
        case: case.name,
        shape: shape.join("×"),
        min_ms: 1e3 * minimum,
        median_ms: 1e3 * median,
        cost: program.cost,
        bound,
        rate,
        ceiling: limit,
        percent: 100.0 * rate / limit,
    })
}

impl Bound {
    /// The unit of its rates.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Compute => "GFLOP/s",
            Self::Memory => "GB/s",
        }
    }
}

impl Row {
    /// Converts it to a JSON object.
    pub fn json(&self) -> Value {
        json!({
            "stem": self.op, "case": self.case, "shape": self.shape, "min_ms": self.min_ms,
            "median_ms": self.median_ms,
            "flops": self.cost.flops, "bytes": self.cost.bytes,
            "rate": self.rate, "unit": self.bound.unit(), "ceiling": self.ceiling, "percent": self.percent,
        })
    }
}

impl Ceiling {
    /// Converts it to a JSON object.
    pub fn json(&self) -> Value {
        let copies = self.copies.iter().map(|c| json!({ "bytes": c.bytes, "gb_per_s": c.gb_per_s }));
        json!({
            "threads": self.threads, "level": format!("{:?}", self.level), "gflop_per_s": self.gflop_per_s,
            "copies": copies.collect::<Vec<_>>(),
        })
    }

    /// Describes it in a line of text.
    pub fn describe(&self) -> String {
        let copies: Vec<String> = self
            .copies
            .iter()
            .map(|b| format!("{:.0} at {}", b.gb_per_s, format_bytes(b.bytes as u64)))
            .collect();
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        format!(
            "{threads}: {:.0} GFLOP/s in registers; copies, GB/s read and written: {}",
            self.gflop_per_s,
            copies.join(", ")
        )
    }
}

/// The table as text.
pub fn render(rows: &[Row]) -> String {
    let wide = |f: fn(&Row) -> &str, title: &str| {
        rows.iter().map(|r| f(r).chars().count()).chain([title.len()]).max().unwrap_or(0)
    };
    let (a, b) = (wide(|r| r.op, "op"), wide(|r| &r.case, "case"));
    let c = wide(|r| &r.shape, "shape");
    let mut out = format!(
        "{:a$}  {:b$}  {:c$}  {:>10}  {:>10}  {:>15}  of ceiling\n",
        "op", "case", "shape", "fewest", "median", "rate"
    );
    for r in rows {
        let _ = writeln!(
            out,
            "{:a$}  {:b$}  {:c$}  {:>7.3} ms  {:>7.3} ms  {:>7.1} {:7}  {:>8.0} %",
            r.op,
            r.case,
            r.shape,
            r.min_ms,
            r.median_ms,
            r.rate,
            r.bound.unit(),
            r.percent
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bandwidth;
    use engine::Level;

    fn ceiling() -> Ceiling {
        let copies = vec![Bandwidth { bytes: 1, gb_per_s: 10.0 }];
        Ceiling { threads: 1, level: Level::Portable, gflop_per_s: 100.0, copies }
    }

    #[test]
    fn the_longer_of_compute_and_traffic_is_the_bound() {
        let cost = |flops, bytes| Cost { flops, bytes };
        assert_eq!(bound(cost(1000, 10), &ceiling()), (Bound::Compute, 100.0));
        assert_eq!(bound(cost(50, 10), &ceiling()), (Bound::Memory, 10.0));
    }

    #[test]
    fn rows_are_measured_and_shown() {
        let mut told = Vec::new();
        let mut tell = |done, total, name: &str| told.push((done, total, name.to_owned()));
        let rows = rows(&Device::cpu(1), &ceiling(), Some("softmax_cross"), &mut tell).unwrap();
        assert_eq!(rows.len(), 1);
        let name = "softmax_cross_entropy loss".to_owned();
        assert_eq!(told, [(0, 1, name), (1, 1, String::new())]);
        let r = &rows[0];
        assert!(r.min_ms > 0.0 && r.median_ms >= r.min_ms && r.rate > 0.0 && r.shape == "64×10", "{r:?}");
        assert!((r.percent - 100.0 * r.rate / r.ceiling).abs() < 1e-9);
        let text = render(&rows);
        assert!(text.contains("softmax_cross_entropy") && text.lines().count() == 2, "{text}");
        assert_eq!(r.json()["stem"], "softmax_cross_entropy");
    }
}
