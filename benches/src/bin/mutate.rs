//! `mutate`: a million mutated files for every parser of data sets.

use benches::mutate;
use jempp::data::Parser;
use peak_alloc::PeakAlloc;
use std::process::ExitCode;
use std::time::Instant;

#[global_allocator]
static ALLOC: PeakAlloc = PeakAlloc;

const HELP: &str = "\
mutate: feeds mutated files to the parsers of data sets; none may panic, nor take more memory than 64 times the input
and 1 MiB

Usage: mutate [--cases N] [--seed N] [PARSER]

  PARSER       pickle, archive, idx, mat or npz; all of them if none is named
  --cases N    files for each [default: 1000000]
  --seed N     of the mutations [default: 1]
  --help       this text

Exit codes: 0 ok · 1 a parser failed, and the case is named · 2 wrong usage
";

struct Options {
    cases: u32,
    seed: u64,
    parsers: Vec<Parser>,
}

/// `None` asks for help.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options { cases: 1_000_000, seed: 1, parsers: Parser::ALL.to_vec() };
    while let Some(arg) = args.next() {
        let mut number = || {
            let n = args.next().ok_or(format!("{arg} needs a number"))?;
            n.parse::<u32>().map_err(|_| format!("'{n}' is no number"))
        };
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--cases" => options.cases = number()?,
            "--seed" => options.seed = u64::from(number()?),
            name => {
                options.parsers.retain(|p| format!("{p:?}").eq_ignore_ascii_case(name));
                if options.parsers.is_empty() {
                    return Err(format!("'{name}' is not known"));
                }
            }
        }
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("error: {e}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    for parser in options.parsers {
        let start = Instant::now();
        match mutate::run(parser, options.seed, 0..options.cases, &ALLOC) {
            Ok(t) => {
                let (seconds, percent) = (start.elapsed().as_secs_f64(), 100.0 * t.worst);
                println!(
                    "{parser:?}: {} cases, {} accepted, at most {percent:.0} % of the memory allowed, {seconds:.1} s",
                    t.cases, t.accepted
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
