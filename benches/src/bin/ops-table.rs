//! `ops-table`: every stem's time and rate beside what this machine can do.

use benches::{Ceiling, Result, device, render, rows};
use engine::Products;
use serde_json::json;
use std::process::ExitCode;

const HELP: &str = "\
ops-table: times every stem on the CPU, beside the machine's ceiling measured in the same run

Usage: ops-table [--threads N] [--bf16] [--json] [FILTER]

  FILTER        only cases whose 'stem/case' contains it
  --threads N   threads; 0: one a core [default: 0]
  --bf16        convolutions and linear layers, and the ceiling, with products of bf16
  --json        JSON instead of the table
  --help        this text

The rate is GFLOP/s where multiply-adds would be the limit, and GB/s where memory traffic would be. JEMPP_SIMD
(portable, avx2, avx512) limits the instruction set. Exit codes: 0 ok · 1 a case failed · 2 wrong usage
";

struct Options {
    threads: usize,
    products: Products,
    json: bool,
    filter: Option<String>,
}

/// `None` asks for help.
fn parse(mut args: impl Iterator<Item = String>) -> core::result::Result<Option<Options>, String> {
    let mut options = Options { threads: 0, products: Products::F32, json: false, filter: None };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--bf16" => options.products = Products::Bf16,
            "--json" => options.json = true,
            "--threads" => {
                let n = args.next().ok_or("--threads needs a value")?;
                options.threads = n.parse().map_err(|_| format!("'{n}' is no number of threads"))?;
            }
            other if other.starts_with('-') || options.filter.is_some() => {
                return Err(format!("'{other}' is not known"));
            }
            _ => options.filter = Some(arg),
        }
    }
    Ok(Some(options))
}

fn describe(c: &Ceiling) -> String {
    let copies: Vec<String> =
        c.copies.iter().map(|b| format!("{:.0} at {} KiB", b.gb_per_s, b.bytes / 1024)).collect();
    let threads = if c.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", c.threads) };
    format!("{threads}: {:.0} GFLOP/s in registers; copies, GB/s: {}", c.gflop_per_s, copies.join(", "))
}

fn run(options: &Options) -> Result<()> {
    let device = device(options.threads)?.with_products(options.products);
    let all = Ceiling::measure(&device);
    let mut ceilings = vec![all.clone()];
    if all.threads > 1 {
        ceilings.insert(0, Ceiling::measure(&benches::device(1)?.with_products(options.products)));
    }
    let rows = rows(&device, &all, options.filter.as_deref())?;
    if options.json {
        let rows: Vec<_> = rows.iter().map(benches::Row::json).collect();
        let ceilings: Vec<_> = ceilings.iter().map(Ceiling::json).collect();
        println!("{:#}", json!({ "device": device.to_string(), "ceilings": ceilings, "rows": rows }));
    } else {
        println!("{device}");
        ceilings.iter().for_each(|c| println!("{}", describe(c)));
        println!("\n{}", render(&rows));
    }
    Ok(())
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("ops-table: {wrong}; --help shows what is");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ops-table: {e}");
            ExitCode::FAILURE
        }
    }
}
