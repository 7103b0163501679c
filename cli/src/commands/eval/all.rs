//! `jempp-cli eval all`.

use super::{fid, load, metrics, text};
use crate::args::{All, Global};
use crate::commands::{json, print};
use crate::progress::StageProgress;
use jempp::evaluation::SplitPart;
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::attack::{AttackPlan, Norm};
use jempp_eval::fid::{FidJob, SampleSource};
use jempp_eval::report;
use jempp_eval::sampling::ChainStart;
use jempp_eval::summary::{FOLDER, Options, Summary, evaluate_all};
use jempp_formats::files::write_atomic;
use std::path::PathBuf;

/// Runs all evaluations and writes the report.
pub(super) fn run(global: &Global, a: &All) -> Result<()> {
    let out = folder(a)?;
    let plans: Vec<AttackPlan> = [Norm::Linf, Norm::L2]
        .into_iter()
        .filter(|_| a.attack_n > 0)
        .map(|norm| AttackPlan { restarts: a.restarts, ..AttackPlan::usual(norm) })
        .collect();
    plans.iter().try_for_each(AttackPlan::check)?;
    let (model, data) = load(global, &a.model, a.data.as_deref())?;
    let eval = out.join(FOLDER);
    let ood_sets = metrics::ood_sets(&model, &a.ood_data, global)?;
    let surrogate = a.transfer_from.as_ref().map(|p| Model::load(model.device(), p)).transpose()?;
    let name = a.transfer_from.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let mut stages = StageProgress::new(global);
    let mut progress = |stage: &str, done, total| stages.report(stage, done, total);
    let fid = match &a.inception {
        Some(weights) => {
            let job = FidJob {
                model: (&model, &a.model),
                source: SampleSource::Chains { n: a.fid_n, start: ChainStart::Trained, steps: None },
                reference: fid::reference(&a.inception_options, Some(&data), SplitPart::Train)?,
                inception: fid::inception_file(weights, &a.inception_options),
                seed: global.seed,
                folder: Some(&eval),
            };
            Some(job.run(&mut progress)?)
        }
        None => None,
    };
    let options = Options {
        fid,
        n: a.n,
        attack_n: a.attack_n,
        plans: &plans,
        surrogate: surrogate.as_ref().map(|m| (m, name.as_str())),
        ood_sets: &ood_sets,
        gradient: !a.no_gradient,
    };
    let summary = evaluate_all((&model, &a.model), &data, &options, &eval, &mut progress)?;
    let page = out.join("report.html");
    // Results of training are in the run folder, wherever those of the evaluation are.
    let run = if a.model.is_dir() { &a.model } else { &out };
    let html = report::html(&[report::read_with(run, &eval)?]);
    write_atomic(&page, |w| w.write_all(html.as_bytes()))?;
    if a.json {
        return print(&format!("{}\n", json(&summary)?));
    }
    print(&(lines(&summary) + &format!("report             {}\n", page.display())))
}

/// Where the results go: the folder asked for, or the run folder.
fn folder(a: &All) -> Result<PathBuf> {
    match &a.out {
        Some(out) => {
            let made = std::fs::create_dir_all(out.join(FOLDER));
            made.map_err(|e| Error::io(out, e))?;
            Ok(out.clone())
        }
        None if a.model.join("ckpt").is_dir() => Ok(a.model.clone()),
        None if !a.model.exists() => Err(Error::Data(format!(
            "{}: there is no model (looked for a run folder, a checkpoint folder or a .safetensors file)",
            a.model.display()
        ))),
        None => Err(Error::Config(format!(
            "{}: not a run folder; name a folder for the results with --out DIR",
            a.model.display()
        ))),
    }
}

fn lines(s: &Summary) -> String {
    let mut out = text::calibration(&s.calibration) + "\n" + &text::detection(&s.detection);
    for c in &s.attacks {
        out += "\n";
        out += &text::curve(c);
    }
    if let Some(t) = &s.thresholds {
        out += &format!("\nabstention\n{}", text::abstention(&s.abstention));
        t.warnings().iter().for_each(|w| out += &format!("warning: {w}\n"));
    }
    out += &s.fid.as_ref().map(|f| format!("\n{}", text::fid(f))).unwrap_or_default();
    out + "\n"
}
