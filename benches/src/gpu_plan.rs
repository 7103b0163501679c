//! What an iteration asks of a GPU, counted from its programs without one, and the time that a simple model predicts.
//!
//! Invariant: programs are recorded for two small batches on a CPU that emulates bf16, whose programs are those of a GPU node by
//! node. FLOPs and bytes of every node are affine in the batch, so those of any batch follow exactly.

use crate::{Error, Result};
use engine::Device;
use engine::op::{Cost, GpuWork};
use jempp::config::Config;
use jempp_bench::synthetic_run;
use std::fmt::Write as _;

/// What the model assumes, until there are measurements to replace it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// Floating-point operations per second of a library's call, by op; the last is for all others.
    pub flops: Vec<(String, f64)>,
    /// Bytes per second between memory and kernels, read and written.
    pub bandwidth: f64,
    /// Bytes that the second-level cache still holds of what a pass has read, for the pass after it.
    pub cache: f64,
    /// Seconds that a launch or a call takes besides its work, in a graph.
    pub launch: f64,
    /// Whether the pass over data and labelled images may run beside the chain steps.
    pub branches: bool,
}

impl Default for Rates {
    /// An H200: copies reach 4.3 TB/s, products of large matrices 790 TFLOP/s. The others are assumptions: convolutions at
    /// about two thirds of that, half of the 60 MB of cache, 2 µs a launch.
    fn default() -> Self {
        let flops =
            [("conv2d", 520e12), ("conv2d_input_grad", 520e12), ("conv2d_weight_grad", 480e12), ("", 50e12)];
        Self {
            flops: flops.map(|(op, rate)| (op.to_owned(), rate)).into(),
            bandwidth: 4.3e12,
            cache: 30e6,
            launch: 2e-6,
            branches: true,
        }
    }
}

impl Rates {
    fn flops_of(&self, op: &str) -> f64 {
        let of = |name: &str| self.flops.iter().find(|(op, _)| op == name).map(|(_, rate)| *rate);
        of(op).or_else(|| of("")).unwrap_or(f64::INFINITY)
    }

    /// Replaces a rate: `OP=TFLOPS`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn set(&mut self, text: &str) -> core::result::Result<(), String> {
        let wrong = || format!("`{text}` is not of the form OP=TFLOPS, as in conv2d=520");
        let (op, rate) = text.split_once('=').ok_or_else(wrong)?;
        let rate: f64 = rate.trim().parse().ok().filter(|r| *r > 0.0).ok_or_else(wrong)?;
        self.flops.retain(|(name, _)| name != op.trim());
        self.flops.insert(0, (op.trim().to_owned(), 1e12 * rate));
        Ok(())
    }
}

/// All nodes of one op in an iteration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The op.
    pub op: String,
    /// Nodes that run.
    pub runs: u64,
    /// Launches of the project's own kernels.
    pub launches: u64,
    /// Calls of libraries.
    pub calls: u64,
    /// Floating-point operations of nodes that call a library.
    pub flops: f64,
    /// Bytes that own kernels read and write, pass by pass.
    pub bytes: f64,
    /// Of these, bytes that the cache holds from the pass before.
    pub cached: f64,
    /// Predicted seconds.
    pub seconds: f64,
}

/// An iteration, by op; the longest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// One row per op.
    pub rows: Vec<Row>,
    /// The sum of all rows.
    pub total: Row,
    /// Predicted seconds if the pass over data and labelled images runs beside the chain steps; `None` if it cannot.
    pub beside: Option<f64>,
    /// Launches of own kernels in that pass.
    pub launches_beside: u64,
}

/// Predicted seconds of a part of an iteration, by what they are spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spent {
    launches: f64,
    memory: f64,
    libraries: f64,
}

impl Spent {
    fn all(&self) -> f64 {
        self.launches + self.memory + self.libraries
    }

    fn add(&mut self, times: f64, more: Self) {
        self.launches += times * more.launches;
        self.memory += times * more.memory;
        self.libraries += times * more.libraries;
    }

    /// Of two parts that run at the same time, at best: neither is faster than by itself, and memory and tensor cores serve
    /// one after the other.
    fn beside(&self, other: &Self) -> f64 {
        let shared = [self.memory + other.memory, self.libraries + other.libraries];
        shared.into_iter().fold(self.all().max(other.all()), f64::max)
    }
}

/// One node: how often it runs in an iteration, and what it takes.
#[derive(Clone, Copy)]
struct Node {
    /// The program: the first runs beside all but the last, if there is one that does.
    program: usize,
    times: u64,
    op: &'static str,
    cost: Cost,
    work: GpuWork,
}

/// The nodes, and the number of programs; 0 if none runs beside the others.
fn nodes(config: &Config, batch: usize, branches: bool) -> Result<(Vec<Node>, usize)> {
    let mut config = config.clone();
    (config.train.batch_size, config.train.labelled_batch_size) = (batch, batch);
    config.sampler.buffer_size = config.sampler.buffer_size.min(10 * config.model.classes);
    let run = synthetic_run(&config, &Device::cpu(1).emulating_bf16().with_branches(branches))?;
    let programs = run.train_step().programs();
    let branches = if run.train_step().runs_beside() { programs.len() } else { 0 };
    let of = |(program, (times, plan)): (usize, (u64, &engine::Plan))| {
        let node = move |(op, cost, work)| Node { program, times, op, cost, work };
        plan.nodes().map(node).collect::<Vec<_>>()
    };
    Ok((programs.into_iter().enumerate().flat_map(of).collect(), branches))
}

/// The batches that are recorded.
const BATCHES: [usize; 2] = [2, 4];

/// v at `batch`, from its values at [`BATCHES`].
fn at(batch: usize, [a, b]: [u64; 2]) -> f64 {
    let slope = (b as f64 - a as f64) / (BATCHES[1] - BATCHES[0]) as f64;
    a as f64 + slope * (batch as f64 - BATCHES[0] as f64)
}

/// The iteration of a configuration in bf16, of which data and labelled images must be batches of one size.
///
/// # Errors
/// [`Error::Config`] if sizes differ; those of recording programs.
pub fn table(config: &Config, rates: &Rates) -> Result<Table> {
    let batch = config.train.batch_size;
    if ![0, batch].contains(&config.train.labelled_batch_size) {
        return Err(Error::Config("train.labelled_batch_size must be 0 or train.batch_size here".into()));
    }
    let record = |batch| nodes(config, batch, rates.branches);
    let ((small, programs), (large, _)) = (record(BATCHES[0])?, record(BATCHES[1])?);
    let mut rows: Vec<Row> = Vec::new();
    // Of the first program, those in between, and the last.
    let mut spent = [Spent::default(); 3];
    for (a, b) in small.iter().zip(&large) {
        if (a.op, a.times, a.work.launches) != (b.op, b.times, b.work.launches) {
            return Err(Error::Config(format!("{} and {} differ with the batch", a.op, b.op)));
        }
        let (n, times) = (a.times as f64, a.times);
        let bytes = at(batch, [a.work.bytes, b.work.bytes]);
        let cached = at(batch, [a.work.again, b.work.again]).min(rates.cache);
        let flops = if a.work.calls > 0 { at(batch, [a.cost.flops, b.cost.flops]) } else { 0.0 };
        let of = Spent {
            launches: (a.work.launches + a.work.calls) as f64 * rates.launch,
            memory: (bytes - cached) / rates.bandwidth,
            libraries: flops / rates.flops_of(a.op),
        };
        let part = if a.program == 0 { 0 } else { 1 + usize::from(a.program + 1 == programs) };
        spent[part].add(n, of);
        let seconds = of.all();
        let at = rows.iter().position(|r| r.op == a.op).unwrap_or_else(|| {
            rows.push(Row { op: a.op.to_owned(), ..Row::default() });
            rows.len() - 1
        });
        let r = &mut rows[at];
        r.runs += times;
        r.launches += times * a.work.launches;
        r.calls += times * a.work.calls;
        (r.flops, r.bytes) = (r.flops + n * flops, r.bytes + n * bytes);
        (r.cached, r.seconds) = (r.cached + n * cached, r.seconds + n * seconds);
    }
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let total = rows.iter().fold(Row { op: "all".to_owned(), ..Row::default() }, |t, r| Row {
        op: t.op,
        runs: t.runs + r.runs,
        launches: t.launches + r.launches,
        calls: t.calls + r.calls,
        flops: t.flops + r.flops,
        bytes: t.bytes + r.bytes,
        cached: t.cached + r.cached,
        seconds: t.seconds + r.seconds,
    });
    let beside = (programs > 0).then(|| spent[0].beside(&spent[1]) + spent[2].all());
    let first = small.iter().filter(|n| programs > 0 && n.program == 0);
    let launches_beside = first.map(|n| n.times * n.work.launches).sum();
    Ok(Table { rows, total, beside, launches_beside })
}

impl Table {
    /// The page, in Markdown.
    pub fn page(&self, name: &str, rates: &Rates) -> String {
        let mut out = format!("**{name}**\n\n");
        out += "| op | nodes | own launches | library calls | TFLOP | GB | GB from memory | ms |\n";
        out += "|---|---:|---:|---:|---:|---:|---:|---:|\n";
        for r in self.rows.iter().chain([&self.total]) {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                r.op,
                r.runs,
                r.launches,
                r.calls,
                r.flops / 1e12,
                r.bytes / 1e9,
                (r.bytes - r.cached) / 1e9,
                1e3 * r.seconds
            );
        }
        if let Some(seconds) = self.beside {
            let _ = writeln!(
                out,
                "\nWith the pass over data and labelled images, {} launches, beside the chain steps, at best: {:.2} ms.",
                self.launches_beside,
                1e3 * seconds
            );
        }
        out += "\nAssumed: ";
        for (op, rate) in &rates.flops {
            let op = if op.is_empty() { "other library calls" } else { op };
            let _ = write!(out, "{op} {:.0} TFLOP/s, ", rate / 1e12);
        }
        let _ = writeln!(
            out,
            "{:.1} TB/s, {:.0} MB of cache between two passes, {:.1} µs a launch.",
            rates.bandwidth / 1e12,
            rates.cache / 1e6,
            1e6 * rates.launch
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of docs/measurements/gpu-plan.md. Launches cost time whatever they do, and bytes are what own kernels are
    /// bound by, so both must not creep up.
    #[test]
    fn an_iteration_of_wrn_28_10_is_lean() {
        let config = Config::preset("jempp").unwrap();
        let (m, t) = (&config.model, &config.train);
        assert_eq!((m.depth, m.widen_factor, t.batch_size, config.sampler.outer_steps), (28, 10, 64, 10));
        let one = table(&config, &Rates { branches: false, ..Rates::default() }).unwrap();
        assert!(one.total.launches <= 1850 && one.beside.is_none(), "{} launches", one.total.launches);
        let table = table(&config, &Rates::default()).unwrap();
        let all = &table.total;
        println!("{}", table.page("WRN-28-10", &Rates::default()));
        // The branch beside the chain steps launches nothing that they wait for.
        let waited_for = all.launches - table.launches_beside;
        assert!(waited_for <= 2000 && all.launches <= 2050, "{waited_for} of {} launches", all.launches);
        assert!(
            (all.bytes - all.cached) / 1e9 <= 36.0,
            "{:.2} GB from memory",
            (all.bytes - all.cached) / 1e9
        );
        assert!((21e12..24e12).contains(&all.flops), "{:e} FLOP", all.flops);
        // Nothing is written before a convolution, and nothing after it but where filters' gradients are widened.
        let of = |op: &str| table.rows.iter().find(|r| r.op == op).unwrap();
        assert_eq!((of("conv2d").launches, of("conv2d_input_grad").launches), (0, 0));
        assert_eq!(of("conv2d_weight_grad").launches, of("conv2d_weight_grad").runs);
        assert!(!table.rows.iter().any(|r| r.op == "bn_stats" || r.op == "bn_coeffs"));
        assert_eq!((of("batch_norm").runs, of("sgd").launches), (25 * 12, 2));
        let beside = table.beside.unwrap();
        assert!(beside < 0.95 * all.seconds && beside > 0.6 * all.seconds, "{beside} s");
    }

    #[test]
    fn what_is_recorded_for_small_batches_holds_for_others() {
        let config = |batch: usize| {
            let keys = [
                "model.depth=10".to_owned(),
                "model.widen_factor=1".to_owned(),
                "sampler.outer_steps=2".to_owned(),
                format!("train.batch_size={batch}"),
            ];
            Config::from_sources("jempp", None, &keys).unwrap()
        };
        let extrapolated = table(&config(7), &Rates::default()).unwrap().total;
        let (recorded, _) = nodes(&config(7), 7, true).unwrap();
        let flops: u64 = recorded.iter().filter(|n| n.work.calls > 0).map(|n| n.times * n.cost.flops).sum();
        let bytes: u64 = recorded.iter().map(|n| n.times * n.work.bytes).sum();
        assert_eq!((extrapolated.flops, extrapolated.bytes), (flops as f64, bytes as f64));
    }

    #[test]
    fn rates_are_replaced_by_op() {
        let mut rates = Rates::default();
        rates.set("conv2d = 600").unwrap();
        assert_eq!((rates.flops_of("conv2d"), rates.flops_of("linear")), (600e12, 50e12));
        for bad in ["conv2d", "conv2d=fast", "conv2d=-1"] {
            assert!(rates.set(bad).unwrap_err().contains("OP=TFLOPS"), "{bad}");
        }
    }
}
