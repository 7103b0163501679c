//! `jempp-cli eval all`.

use super::fid_job::{FidJob, SampleSource};
use super::{fid, metrics, text};
use crate::args::{All, Global};
use crate::commands::sample_job::ChainStart;
use crate::commands::{json, print};
use crate::progress::{StageProgress, note};
use jempp::evaluation::{Part, Subject};
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::all::{FOLDER, Options, Summary, all};
use jempp_eval::attack::{Norm, Plan};
use jempp_eval::report;
use jempp_formats::files::write_atomic;
use std::path::{Path, PathBuf};

/// Runs all evaluations and writes the report.
pub fn run(global: &Global, a: &All) -> Result<()> {
    let out = folder(a)?;
    let plans: Vec<Plan> = [Norm::Linf, Norm::L2]
        .into_iter()
        .filter(|_| a.attack_n > 0)
        .map(|norm| Plan { restarts: a.restarts, ..Plan::usual(norm) })
        .collect();
    plans.iter().try_for_each(Plan::check)?;
    let model = Model::load(&global.device()?, &a.model)?;
    let subject = Subject::of_model(&model, a.data.as_deref(), global.seed)?;
    if let Some(warning) = &subject.warning {
        note(global, &format!("warning: {warning}"));
    }
    let eval = out.join(FOLDER);
    let against = metrics::ood_sets(&model, &a.ood_data, global)?;
    let source = a.transfer_from.as_ref().map(|p| Model::load(model.device(), p)).transpose()?;
    let name = a.transfer_from.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let mut stages = StageProgress::new(global);
    let mut watch = |what: &str, done, total| stages.report(what, done, total);
    let fid = match &a.inception {
        Some(weights) => {
            let job = FidJob {
                model: (&model, &a.model),
                source: SampleSource::Chains(a.fid_n, ChainStart::Informative, None),
                reference: fid::reference(&a.inception_options, Some(&subject), Part::Train)?,
                extractor: fid::extractor(weights, &a.inception_options),
                seed: global.seed,
                folder: Some(&eval),
            };
            Some(job.run(&mut watch)?)
        }
        None => None,
    };
    let options = Options {
        fid,
        n: a.n,
        attacked: a.attack_n,
        plans: &plans,
        transfer: source.as_ref().map(|m| (m, name.as_str())),
        against: &against,
        gradient: !a.no_gradient,
    };
    let summary = all((&model, &a.model), &subject, &options, &eval, &mut watch)?;
    let page = out.join("report.html");
    // What training wrote is beside the model, wherever the evaluation goes.
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
        None if !Path::new(&a.model).exists() => Err(Error::Data(format!(
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
    out += &s.fid.as_ref().map(|f| format!("\n{}", text::fid(f))).unwrap_or_default();
    out + "\n"
}
