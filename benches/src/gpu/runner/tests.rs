//! Each job dies in each way, in turn, as a shell script that stands in for the program.

use super::super::{Wanted, stages};
use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// A job has two checks; `DEATH` is what happens in the first one of the job `VICTIM`, where that is not behind yet.
const SCRIPT: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        --stage) stage=$2 ;;
        --precision) precision=$2 ;;
        --network) network=$2 ;;
        --mode) mode=$2 ;;
        --job) job=$2 ;;
        --jsonl) file=$2 ;;
    esac
    shift
done
[ -n "$job" ] || job=$(echo $stage $network $mode $precision)
begin() { echo "{\"event\":\"started\",\"job\":\"$job\",\"group\":\"g\",\"name\":\"$1\"}" >>"$file"; }
pass() { echo "{\"event\":\"check\",\"job\":\"$job\",\"group\":\"g\",\"name\":\"$1\",\"status\":\"ok\"}" >>"$file"; }
if ! grep -q "started.*$job\"" "$file"; then
    begin one
    if [ "$job" = "VICTIM" ]; then DEATH; fi
    pass one
fi
begin two
pass two
echo "{\"event\":\"finished\",\"job\":\"$job\"}" >>"$file"
"#;

fn pass(folder: &Path, victim: &str, death: &str) -> Pass {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    let program = folder.join("program");
    fs::write(&program, SCRIPT.replace("VICTIM", victim).replace("DEATH", death)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("jempp_torch_gpu.py"), "").unwrap();
    fs::write(folder.join("results"), "").unwrap();
    // As Python it is given the name of a file first, which it ignores.
    Pass {
        python: program.clone(),
        program,
        common: Vec::new(),
        jsonl: folder.join("results"),
        budget: Some(Duration::from_secs(120)),
        faults: Vec::new(),
        peers: folder.to_owned(),
        quick: false,
    }
}

#[test]
fn every_job_may_die_in_every_way_and_the_others_are_complete() {
    let folder = std::env::temp_dir().join(format!("jempp-runner-{}", std::process::id()));
    let mut jobs = stages::plan(Wanted { quick: false, speed: true, torch: true, sanitizer: false });
    // One of each stage.
    jobs.dedup_by_key(|job| job.stage);
    jobs.iter_mut().for_each(|job| job.limit = 6);
    let hang = "sleep 60 & echo $! >\"$file.pid\"; wait";
    for death in ["exit 3", hang, "kill -ABRT $$", "exit 71"] {
        for victim in &jobs {
            // Waiting takes the limit each time.
            if death == hang && victim.stage == Stage::Torch {
                continue;
            }
            if death != "exit 3" && ![Stage::Probe, Stage::Peak, Stage::Torch].contains(&victim.stage) {
                continue;
            }
            let pass = pass(&folder, &victim.to_string(), death);
            assert_eq!(pass.run(&jobs).unwrap(), None);
            if death == hang && cfg!(target_os = "linux") {
                let pid = fs::read_to_string(folder.join("results.pid")).unwrap();
                let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
                assert!(!state.contains(") S"), "what it had started is ended too: {state}");
            }
            let lines = journal::read(&pass.jsonl).unwrap();
            for job in &jobs {
                assert_eq!(is_complete(&lines, job), job != victim, "{job}, when {victim} meets {death}");
                let found = journal::checks(&lines, &job.to_string());
                let last: Vec<&str> = found.iter().map(|l| l.text("event")).collect();
                match (job == victim, victim.stage) {
                    (false, _) => assert_eq!(last, ["check", "check"]),
                    (true, Stage::Torch) => assert_eq!(last, ["started"]),
                    (true, _) => assert_eq!(last, ["started", "check"], "its other check was run too"),
                }
            }
        }
    }
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn a_second_pass_runs_only_what_is_missing() {
    let folder = std::env::temp_dir().join(format!("jempp-passes-{}", std::process::id()));
    let jobs = stages::plan(Wanted::default());
    let victim = &jobs[1];
    let mut pass = pass(&folder, &victim.to_string(), "exit 3");
    pass.run(&jobs).unwrap();
    let before = journal::read(&pass.jsonl).unwrap();
    // Without its file the script believes that nothing has run yet, and dies again; it is mended here.
    fs::write(
        &pass.program,
        SCRIPT.replace("grep -q", "false").replace("VICTIM", "none").replace("DEATH", "true"),
    )
    .unwrap();
    pass.run(&jobs).unwrap();
    let lines = journal::read(&pass.jsonl).unwrap();
    assert!(jobs.iter().all(|job| is_complete(&lines, job)));
    let ran: Vec<&str> = lines[before.len()..]
        .iter()
        .filter(|l| l.text("event") == "finished")
        .map(|l| l.text("job"))
        .collect();
    assert_eq!(ran, ["probe".to_owned(), victim.to_string()]);
    pass.budget = Some(Duration::from_secs(1));
    fs::write(&pass.jsonl, "").unwrap();
    pass.run(&jobs).unwrap();
    assert!(journal::read(&pass.jsonl).unwrap().is_empty(), "nothing begins when the time is up");
    let _ = fs::remove_dir_all(folder);
}
