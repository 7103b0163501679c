//! `jempp-cli eval all`.

use super::{fid, judge, text};
use crate::args::{All, Global, SplitName, StartName};
use crate::commands::{json, print};
use crate::progress::{Stages, note};
use jempp::evaluation::Subject;
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::all::{FOLDER, Options, Summary, all};
use jempp_eval::attack::{Norm, Plan};
use jempp_eval::report;
use jempp_formats::files::write_atomic;
use std::path::{Path, PathBuf};

/// Judges a model by everything, and reports it.
pub fn run(global: &Global, a: &All) -> Result<()> {
    let out = folder(a)?;
    let plans: Vec<Plan> = [Norm::Linf, Norm::L2]
        .into_iter()
        .filter(|_| a.attacked > 0)
        .map(|norm| Plan { restarts: a.restarts, ..Plan::usual(norm) })
        .collect();
    plans.iter().try_for_each(Plan::check)?;
    let model = Model::load(&global.device()?, &a.model)?;
    let subject = Subject::of_model(&model, a.data.as_deref(), global.seed)?;
    if let Some(warning) = &subject.warning {
        note(global, &format!("warning: {warning}"));
    }
    let eval = out.join(FOLDER);
    let against = judge::others(&model, &a.against, global)?;
    let source = a.transfer.as_ref().map(|p| Model::load(model.device(), p)).transpose()?;
    let name = a.transfer.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let seen = |weights: &PathBuf| {
        let drawn = fid::Drawn { n: a.sampled, steps: None, start: StartName::Bank, samples: None };
        let places = (a.model.as_path(), weights.as_path(), Some(eval.as_path()));
        fid::judge(global, (&model, Some(&subject), SplitName::Train), places, &a.seeing, &drawn)
    };
    let options = Options {
        fid: a.inception.as_ref().map(seen).transpose()?,
        n: a.n,
        attacked: a.attacked,
        plans: &plans,
        transfer: source.as_ref().map(|m| (m, name.as_str())),
        against: &against,
        gradient: !a.no_gradient,
    };
    let mut stages = Stages::new(global);
    let mut watch = |what: &str, done, all| stages.tell(what, done, all);
    let summary = all((&model, &a.model), &subject, &options, &eval, &mut watch)?;
    let page = out.join("report.html");
    // What training wrote lies beside the model, wherever the evaluation goes.
    let run = if a.model.is_dir() { &a.model } else { &out };
    let html = report::html(&[report::read_with(run, &eval)?]);
    write_atomic(&page, |w| w.write_all(html.as_bytes()))?;
    if a.json {
        return print(&format!("{}\n", json(&summary)?));
    }
    print(&(lines(&summary) + &format!("report             {}\n", page.display())))
}

/// Where everything goes: the folder asked for, or the run's.
fn folder(a: &All) -> Result<PathBuf> {
    match &a.out {
        Some(out) => {
            let made = std::fs::create_dir_all(out.join(FOLDER));
            made.map_err(|e| Error::io(out, e))?;
            Ok(out.clone())
        }
        None if a.model.join("ckpt").is_dir() => Ok(a.model.clone()),
        None if !Path::new(&a.model).exists() => Err(Error::Data(format!(
            "{}: there is no model (looked for a run's folder, a checkpoint's folder or a .safetensors file)",
            a.model.display()
        ))),
        None => Err(Error::Config(format!(
            "{}: no run folder; say with --out DIR where the evaluation goes",
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
