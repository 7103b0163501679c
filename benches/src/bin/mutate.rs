//! `mutate`: a million mutated files for every parser of files from outside.

use benches::mutate;
use benches::mutate::probe::Parser;
use clap::Parser as _;
use peak_alloc::PeakAlloc;
use std::process::ExitCode;
use std::time::Instant;

#[global_allocator]
static ALLOC: PeakAlloc = PeakAlloc;

/// Feeds mutated files to the parsers of data sets, images, models and configurations: none may panic, take more memory
/// than 64 times the input plus 1 MiB, or fail with an exit code other than 3 or 6.
///
/// Exit codes: 0 ok · 1 a parser failed, and the case is named · 2 wrong usage
#[derive(clap::Parser)]
struct Options {
    /// The parsers to test; all of them if none is named.
    #[arg(value_parser = parser)]
    parsers: Vec<Parser>,
    /// Files per parser.
    #[arg(long, default_value_t = 1_000_000)]
    cases: u32,
    /// Seed of the mutations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn parser(name: &str) -> Result<Parser, String> {
    let known = Parser::ALL.map(|p| format!("{p:?}").to_lowercase());
    let found = known.iter().position(|k| k == name);
    found.map(|i| Parser::ALL[i]).ok_or_else(|| format!("there are {}", known.join(", ")))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let parsers = if options.parsers.is_empty() { Parser::ALL.to_vec() } else { options.parsers };
    println!("parser          cases   read  memory, of what is allowed   seconds");
    for parser in parsers {
        let start = Instant::now();
        match mutate::run(parser, options.seed, 0..options.cases, &ALLOC) {
            Ok(t) => {
                let (seconds, read) =
                    (start.elapsed().as_secs_f64(), 100.0 * t.accepted as f64 / t.cases as f64);
                let name = format!("{parser:?}").to_lowercase();
                println!(
                    "{name:<12} {:>8}  {read:>3.0} %  {:>24.0} %  {seconds:>8.0}",
                    t.cases,
                    100.0 * t.worst
                );
            }
            Err(e) => {
                eprintln!("error: {e}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
