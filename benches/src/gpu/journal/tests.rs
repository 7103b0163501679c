use super::*;

fn scratch(name: &str) -> std::path::PathBuf {
    let file = std::env::temp_dir().join(format!("jempp-journal-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    file
}

fn fine(journal: &mut Journal, name: &str) {
    journal.check("g", name, || Ok(Ok(("fine".to_owned(), json!({ "n": 1 }))))).unwrap();
}

#[test]
fn a_check_that_passed_is_not_run_again_and_one_that_failed_is() {
    let file = scratch("again");
    let mut journal = Journal::open(&file, "a", None, None).unwrap();
    fine(&mut journal, "first");
    journal
        .check("g", "second", || Ok(Err(Wrong { text: "off".into(), data: json!({ "by": 0.5 }) })))
        .unwrap();
    let lines = read(&file).unwrap();
    let second = checks(&lines, "a")[1];
    assert_eq!((second.text("status"), &second.value["data"]["by"]), ("failed", &json!(0.5)));

    let run = |since| {
        let mut ran = Vec::new();
        let mut journal = Journal::open(&file, "a", since, None).unwrap();
        for name in ["first", "second"] {
            journal
                .run("g", name, || (ran.push(name), (Outcome::Failed, String::new(), Value::Null)).1)
                .unwrap();
        }
        ran
    };
    assert!(run(Some(0)).is_empty(), "both were tried in this pass");
    assert_eq!(run(None), ["second"]);
    let mut other = Journal::open(&file, "b", Some(0), None).unwrap();
    fine(&mut other, "first");
    assert_eq!(other.outcomes(), [Outcome::Ok]);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_torn_line_hides_nothing() {
    let file = scratch("torn");
    fine(&mut Journal::open(&file, "a", None, None).unwrap(), "first");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"event\":\"started\",\"job\":\"a\",\"gro");
    std::fs::write(&file, text).unwrap();
    fine(&mut Journal::open(&file, "a", None, None).unwrap(), "second");
    let lines = read(&file).unwrap();
    let names: Vec<&str> = checks(&lines, "a").iter().map(|l| l.text("name")).collect();
    assert_eq!(names, ["first", "second"]);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn what_ended_the_process_is_known_by_name() {
    let file = scratch("ended");
    let mut journal = Journal::open(&file, "a", None, None).unwrap();
    journal.write("started", json!({ "group": "g", "name": "deadly" })).unwrap();
    let lines = read(&file).unwrap();
    assert_eq!(checks(&lines, "a")[0].text("event"), "started");
    let mut journal = Journal::open(&file, "a", Some(0), None).unwrap();
    fine(&mut journal, "deadly");
    assert!(journal.outcomes().is_empty(), "it would end this process too");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_device_that_no_longer_works_stops_the_job() {
    let file = scratch("lost");
    let mut journal = Journal::open(&file, "a", None, None).unwrap();
    journal.watch(|| Err("an illegal address".to_owned()));
    fine(&mut journal, "first");
    journal.check("g", "second", || Ok(Err("wrong".into()))).unwrap();
    fine(&mut journal, "third");
    assert_eq!(journal.stopped(), Some("an illegal address"));
    assert_eq!(checks(&read(&file).unwrap(), "a").len(), 2);
    std::fs::remove_file(file).unwrap();
}
