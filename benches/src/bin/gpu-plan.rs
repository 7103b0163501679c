//! `gpu-plan`: what a training iteration asks of a GPU, counted without one, and the time that a simple model predicts.

use benches::gpu_plan::{Rates, table};
use clap::Parser as _;
use jempp::config::Config;
use std::process::ExitCode;

/// Counts launches, bytes and floating-point operations of a training iteration in bf16 on a GPU, by op, and predicts its
/// time from assumed rates. Needs no GPU; prints Markdown.
///
/// Exit codes: 0 done · 2 wrong usage · 3 the configuration is wrong
#[derive(clap::Parser)]
struct Options {
    /// Keys of the configuration, as in model.depth=16; the preset jempp is WRN-28-10, batch 64, M = 10.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// One pass for all images after the chain steps.
    #[arg(long)]
    one_stream: bool,
    /// A measured or assumed rate of a library's calls, as in conv2d=520; may be repeated.
    #[arg(long, value_name = "OP=TFLOPS")]
    tflops: Vec<String>,
    /// TB/s between memory and kernels.
    #[arg(long, value_name = "TB/S")]
    bandwidth: Option<f64>,
    /// MB that the cache holds of what a pass has read for the pass after it.
    #[arg(long, value_name = "MB")]
    cache: Option<f64>,
    /// µs of a launch in a graph.
    #[arg(long, value_name = "µS")]
    launch: Option<f64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut rates = Rates { branches: !options.one_stream, ..Rates::default() };
    for text in &options.tflops {
        if let Err(why) = rates.set(text) {
            eprintln!("error: --tflops: {why}");
            return ExitCode::from(2);
        }
    }
    for (value, rate, unit) in [
        (options.bandwidth, &mut rates.bandwidth, 1e12),
        (options.cache, &mut rates.cache, 1e6),
        (options.launch, &mut rates.launch, 1e-6),
    ] {
        match value {
            Some(v) if v.is_finite() && v >= 0.0 => *rate = v * unit,
            Some(v) => {
                eprintln!("error: {v} is not a rate: give a number that is not negative");
                return ExitCode::from(2);
            }
            None => {}
        }
    }
    let config = Config::from_sources("jempp", None, &options.overrides);
    let page = config.and_then(|config| {
        let (m, t) = (&config.model, &config.train);
        let name = format!(
            "WRN-{}-{}, batch {}, M = {}, bf16",
            m.depth, m.widen_factor, t.batch_size, config.sampler.outer_steps
        );
        Ok(table(&config, &rates)?.page(&name, &rates))
    });
    match page {
        Ok(page) => {
            print!("{page}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(3)
        }
    }
}
