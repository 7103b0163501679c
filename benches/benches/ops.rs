//! Criterion runs the bench cases of the registry, then the table of the same cases is printed: `cargo bench -p
//! jempp-benches --bench ops -- [FILTER]`. Takes a minute or two without a filter.
#![allow(missing_docs)]

use benches::{BenchProgram, Bound, Ceiling, bound, cases, device, render, rows};
use criterion::{Criterion, SamplingMode, Throughput};
use std::cell::RefCell;
use std::process::ExitCode;
use std::time::Duration;

fn ops(c: &mut Criterion, device: &engine::Device, ceiling: &Ceiling) -> benches::Result<()> {
    for (op, case) in cases(None) {
        let program = RefCell::new(BenchProgram::new(&case, device)?);
        let (cost, shape) = (program.borrow().cost, program.borrow().spec.to_string());
        let mut group = c.benchmark_group(op);
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
        group.throughput(match bound(cost, ceiling).0 {
            Bound::Compute => Throughput::Elements(cost.flops),
            Bound::Memory => Throughput::BytesDecimal(cost.bytes),
        });
        // Several cases of one name differ in shape.
        let id = if case.name.contains('×') { case.name.clone() } else { format!("{} {shape}", case.name) };
        let failed = RefCell::new(None);
        group.bench_function(id, |b| {
            let mut program = program.borrow_mut();
            let keep = |r: jempp::Result<()>| {
                if let Err(e) = r {
                    failed.borrow_mut().get_or_insert(e);
                }
            };
            keep(program.fill());
            b.iter(|| keep(program.run()));
        });
        group.finish();
        if let Some(e) = failed.into_inner() {
            return Err(e);
        }
    }
    Ok(())
}

fn run() -> benches::Result<()> {
    let device = device(0)?;
    let ceiling = Ceiling::measure(&device);
    let mut c = Criterion::default().without_plots().configure_from_args();
    ops(&mut c, &device, &ceiling)?;
    c.final_summary();
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Only after a real measurement, and only if the sole free argument is a filter.
    let plain = args.iter().filter(|a| *a != "--bench").collect::<Vec<_>>();
    if args.iter().any(|a| a == "--bench") && plain.iter().all(|a| !a.starts_with('-')) {
        let filter = plain.first().map(|f| f.as_str());
        println!("{device}: {:.0} GFLOP/s in registers", ceiling.gflop_per_s);
        print!("{}", render(&rows(&device, &ceiling, filter, &mut |_, _, _| {})?));
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ops: {e}");
            ExitCode::FAILURE
        }
    }
}
