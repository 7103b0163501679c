//! `jempp-cli train`.

use super::{bytes, configuration, duration};
use crate::args::{Global, Train};
use crate::progress::Follower;
use core::sync::atomic::AtomicBool;
use jempp::session::{Folder, Outline, Report, Session};
use jempp::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Trains, or says what training would be.
pub fn run(global: &Global, a: &Train) -> Result<()> {
    let config = configuration(global, "digits", a.config.as_deref(), &a.overrides)?;
    if a.print_config {
        print!("{}", config.to_toml()?);
        return Ok(());
    }
    let device = global.device()?;
    if let Some(out) = a.out.as_deref().filter(|p| p.exists()) {
        return Err(Error::Exists(out.to_path_buf()));
    }
    let mut session = Session::new(&config, &device)?;
    if a.dry_run {
        let seconds = session.time_iterations(2)?[1];
        print_outline(&session.outline(), seconds);
        return Ok(());
    }
    let folder = match &a.out {
        Some(out) => Folder::create(out)?,
        None => Folder::next(Path::new("runs"))?,
    };
    let stop = stop_on_signals()?;
    let mut follower = Follower::new(global, &folder);
    let report = session.run(&folder, &mut follower, &stop)?;
    drop(follower);
    if a.json {
        let text = serde_json::to_string(&report).map_err(|e| Error::Internal(e.to_string()))?;
        println!("{text}");
    } else {
        print_report(&report);
    }
    Ok(())
}

/// The first Ctrl-C (or SIGTERM) asks for a stop after the iteration; a second one stops at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let ask = |e| Error::Internal(format!("signal handler: {e}"));
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .map_err(ask)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(ask)?;
    }
    Ok(stop)
}

fn print_outline(o: &Outline, seconds: f64) {
    let f = o.footprint;
    let [per_epoch, total] = o.iterations;
    println!(
        "data          {}: {} to train on, {} to validate, {} to test",
        o.dataset, o.images[0], o.images[1], o.images[2]
    );
    println!("device        {}", o.device);
    println!("parameters    {}", f.parameters);
    println!("memory        {} of state, {} of programs", bytes(f.state_bytes), bytes(f.program_bytes));
    println!(
        "work          {:.2} GFLOP an iteration, {per_epoch} iterations an epoch, {total} in all",
        f.flops as f64 / 1e9
    );
    let rate = f.flops as f64 / seconds / 1e9;
    println!(
        "speed         {:.1} ms an iteration ({rate:.0} GFLOP/s), measured on the second",
        seconds * 1e3
    );
    println!(
        "time          {} an epoch, {} in all",
        duration(seconds * per_epoch as f64),
        duration(seconds * total as f64)
    );
}

fn print_report(r: &Report) {
    let c = &r.test.classification;
    println!();
    println!("test accuracy      {:.4}  ({} images)", c.accuracy, c.n);
    println!("calibration error  {:.4}  (ECE, {} bins)", c.ece, c.ece_bins);
    for d in &r.test.detection {
        println!("AUROC of log p(x)  {:.4}  against {}", d.auroc_log_density, d.against);
    }
    if let Some([mean, worst]) = r.gap {
        println!(
            "gap                {mean:+.3}  mean log p(x) of data − chains, last 200 iterations (largest {worst:.2})"
        );
    }
    println!("trained            {} iterations in {}", r.iterations, duration(r.training_seconds));
    println!();
    println!("run folder         {}", r.folder.display());
    if let Some(grid) = r.grids.last() {
        println!("samples            {}  (one row a class)", grid.display());
    }
    let run = r.folder.display();
    println!();
    println!("Next:");
    println!("  jempp-cli sample --model {run}             draw new images");
    println!("  jempp-cli eval accuracy --model {run}      judge it again");
    println!("  jempp-cli inspect {run}                    what the model is");
}
