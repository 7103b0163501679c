//! Saving, loading and finding checkpoints when all goes well, or nearly.

mod corruption;
mod faults;

use super::names::target;
use super::*;
use crate::error::Result;
use jempp_formats::container::Tensor;
use serde_json::json;
use std::fs;

/// A model file, a trainer's file and a state, all marked with the save they belong to.
fn content(tag: u64) -> (Container, Container, serde_json::Value) {
    let weights = (0..54).map(|i| (i as f32).sin() * tag as f32).collect();
    let mut model = Container::new([
        Tensor::f32("conv1.weight", [2, 3, 3, 3], weights),
        Tensor::i64("bn1.num_batches_tracked", [], vec![tag as i64]),
    ]);
    model.meta.insert("arch".into(), "wrn".into());
    let trainer = Container::new([
        Tensor::u8("buffer", [2, 3, 4, 4], (0..96).map(|i| (i * tag) as u8).collect()),
        Tensor::i32("order", [4], vec![3, 1, tag as i32, 0]),
    ]);
    (model, trainer, json!({ "step": tag, "lr": 0.1 + tag as f64 / 3.0, "seed": u64::MAX - tag }))
}

fn put(root: &Path, step: u64, tag: u64, best: bool, keep: usize) -> PathBuf {
    let (model, trainer, state) = content(tag);
    save(root, step, &model, &trainer, &state, best, keep).unwrap()
}

/// The save that a checkpoint comes from, if all its parts come from the same one.
fn tag(found: &Checkpoint) -> Option<u64> {
    let tag = found.state["step"].as_u64()?;
    let same = (found.model.clone(), found.trainer.clone(), found.state.clone()) == content(tag);
    same.then_some(tag)
}

fn names(root: &Path) -> Vec<String> {
    names::entries(root).unwrap()
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run/ckpt");
    let saved = put(&root, 30, 7, true, 3);
    assert_eq!(saved, root.join("step_30"));
    for path in [&saved, &root.join("last"), &root.join("best")] {
        let found = load(path).unwrap();
        assert_eq!((&found.dir, found.step, tag(&found)), (&saved, 30, Some(7)));
        assert_eq!(verify(path).unwrap(), 30);
    }
    let (found, warnings) = load_last(&root).unwrap();
    assert_eq!((tag(&found), warnings), (Some(7), vec![]));
    assert_eq!(names(&root), ["best", "last", "step_30"]);
    assert_eq!(names(&saved), [MANIFEST, MODEL, STATE, TRAINER]);
}

#[test]
fn equal_content_gives_equal_files() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (put(&dir.path().join("a"), 1, 5, false, 1), put(&dir.path().join("b"), 1, 5, false, 1));
    for name in [MANIFEST, MODEL, STATE, TRAINER] {
        assert_eq!(fs::read(a.join(name)).unwrap(), fs::read(b.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn numbers_in_the_state_come_back_to_the_last_bit() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f64> = (1..2000).map(|i| f64::from(i).ln() * 10f64.powi(i % 60 - 30)).collect();
    let empty = Container::default();
    let saved = save(dir.path(), 1, &empty, &empty, &json!(values), false, 1).unwrap();
    assert_eq!(load(&saved).unwrap().state, json!(values));
}

#[test]
fn the_newest_and_the_best_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for step in 1..=6 {
        put(root, step, step, step == 2, 2);
    }
    assert_eq!(names(root), ["best", "last", "step_2", "step_5", "step_6"]);
    assert_eq!(load(&root.join("best")).unwrap().step, 2);
    put(root, 7, 7, true, 0);
    assert_eq!(names(root), ["best", "last", "step_7"]);
    // A run resumed at an earlier step: later checkpoints are neither removed nor mistaken for the newest.
    put(root, 3, 3, false, 1);
    assert_eq!(names(root), ["best", "last", "step_3", "step_7"]);
    assert_eq!(load_last(root).unwrap().0.step, 3);
    assert_eq!(steps(root).unwrap(), [(3, root.join("step_3")), (7, root.join("step_7"))]);
}

#[test]
fn the_same_step_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), 4, 1, true, 2);
    fs::write(dir.path().join("step_4/notes.txt"), "old").unwrap();
    put(dir.path(), 4, 2, false, 2);
    assert_eq!(tag(&load(&dir.path().join("last")).unwrap()), Some(2));
    assert_eq!(names(dir.path()), ["best", "last", "step_4"]);
    assert_eq!(names(&dir.path().join("step_4")).len(), 4);
}

#[test]
fn pointers_that_are_files_or_folders_work_and_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put(root, 1, 1, true, 5);
    let last = root.join("last");
    fs::remove_file(&last).unwrap();
    fs::write(&last, "step_1\n").unwrap();
    assert_eq!(load_last(root).unwrap().0.dir, root.join("step_1"));
    assert_eq!(load(&last).unwrap().step, 1);
    assert_eq!(resolve_model(&last).unwrap(), root.join("step_1").join(MODEL));
    assert_eq!(resolve_model(root).unwrap(), root.join("step_1").join(MODEL));
    put(root, 2, 2, false, 5);
    assert_eq!(load_last(root).unwrap().0.step, 2);
    // `last` is a folder, as in a copy that followed the links.
    fs::remove_file(&last).unwrap();
    fs::rename(root.join("step_2"), &last).unwrap();
    let (found, warnings) = load_last(root).unwrap();
    assert_eq!((tag(&found), warnings), (Some(2), vec![]));
    put(root, 3, 3, false, 5);
    assert_eq!(load_last(root).unwrap().0.step, 3);
    assert_eq!(names(root), ["best", "last", "step_1", "step_3"]);
}

#[test]
fn a_full_disk_or_a_forbidden_folder_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("file");
    fs::write(&root, "").unwrap();
    let (model, trainer, state) = content(1);
    let e = save(&root, 1, &model, &trainer, &state, false, 1).unwrap_err();
    assert_eq!(e.exit_code(), 7, "{e}");
    assert!(e.to_string().contains("file"), "{e}");
}

#[test]
fn a_container_that_contradicts_itself_does_not_touch_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (model, _, state) = content(1);
    let bad = [
        Container::new([Tensor::f32("a", [2], vec![0.0])]),
        Container::new([Tensor::f32("a", [1], vec![0.0]), Tensor::u8("a", [1], vec![0])]),
        Container::new([Tensor::u8("__metadata__", [0], vec![])]),
        Container::new([Tensor::u8("a", [usize::MAX, 8], vec![])]),
    ];
    for trainer in bad {
        let e = save(&dir.path().join("ckpt"), 1, &model, &trainer, &state, false, 1).unwrap_err();
        assert_eq!(e.exit_code(), 1, "{e}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn nothing_saved_yet_is_told_from_all_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for root in [dir.path().to_path_buf(), dir.path().join("none")] {
        let e = load_last(&root).unwrap_err();
        assert_eq!(e.exit_code(), 3, "{e}");
    }
    let saved = put(dir.path(), 1, 1, false, 1);
    fs::remove_file(saved.join(TRAINER)).unwrap();
    let e = load_last(dir.path()).unwrap_err();
    assert_eq!(e.exit_code(), 6);
    assert!(e.to_string().contains("step_1/trainer.safetensors: missing"), "{e}");
    let e = load(&dir.path().join("step_9")).unwrap_err();
    assert_eq!(e.exit_code(), 3, "{e}");
}

/// The whole content of the model file that `path` stands for.
fn read_model(path: &Path) -> Result<Container> {
    let (path, file) = open_model(path)?;
    LazyReader::new(FileBytes::map(&file, &path)?, &path)?.read_all()
}

#[test]
fn models_are_found_from_where_a_user_stands() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("train-001");
    let root = run.join("ckpt");
    put(&root, 1, 1, true, 5);
    let saved = put(&root, 2, 2, false, 5);
    let file = saved.join(MODEL);
    for path in [&run, &root, &root.join("last"), &saved, &file] {
        let found = resolve_model(path).unwrap();
        assert_eq!(found.canonicalize().unwrap(), file.canonicalize().unwrap(), "{}", path.display());
        assert_eq!(read_model(path).unwrap(), content(2).0);
    }
    assert_eq!(read_model(&root.join("best")).unwrap(), content(1).0);
    // `last` points to nothing: the newest step is used.
    fs::remove_dir_all(&saved).unwrap();
    assert_eq!(resolve_model(&run).unwrap(), root.join("step_1").join(MODEL));
    // A model file on its own needs no manifest; where there is one, a flipped bit is detected.
    let alone = dir.path().join("alone.safetensors");
    fs::copy(root.join("step_1").join(MODEL), &alone).unwrap();
    assert_eq!(read_model(&alone).unwrap(), content(1).0);
    let mut bytes = fs::read(&alone).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(root.join("step_1").join(MODEL), bytes).unwrap();
    let e = read_model(&run).unwrap_err();
    assert!(e.to_string().contains("model.safetensors: corrupt"), "{e}");
}

#[test]
fn a_missing_model_is_answered_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["train-001", "train-002", "other"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let said = |path: &str| {
        let e = resolve_model(&dir.path().join(path)).unwrap_err();
        assert_eq!(e.exit_code(), 3);
        e.to_string().replace(&dir.path().display().to_string(), "DIR")
    };
    let looked =
        "there is no model (looked for a run's folder, a checkpoint's folder, a .safetensors or a .pt file)";
    assert_eq!(said("train-003"), format!("DIR/train-003: {looked}; in DIR there is train-001, train-002"));
    assert_eq!(
        said("trian-001/ckpt/last"),
        format!("DIR/trian-001/ckpt/last: {looked}; in DIR there is train-001, train-002")
    );
    assert_eq!(said("zzzzzz"), format!("DIR/zzzzzz: {looked}"));
    assert_eq!(said("other/ckpt/last"), format!("DIR/other/ckpt/last: {looked}; DIR/other has no ckpt"));
    assert!(said("other").starts_with("DIR/other: there is no model here (looked for model.safetensors"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("step_5", dir.path().join("last")).unwrap();
        assert!(said("last").ends_with("; it is a link to step_5, which does not exist"));
        assert_eq!(target(&dir.path().join("last")), Some(dir.path().join("step_5")));
    }
}
