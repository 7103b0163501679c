//! Fault injection: every disk operation fails once, and the machine stops before each. Afterwards the old or the new
//! checkpoint can be loaded.

use super::super::disk::{Disk, System};
use super::super::save::{Content, save_on};
use super::*;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind, Write};

/// A disk on which operation `at` fails half done, and all later ones too if the machine has stopped.
struct Faulty {
    at: usize,
    stops: bool,
    links: bool,
    count: Cell<usize>,
    log: RefCell<Vec<(&'static str, PathBuf)>>,
}

impl Faulty {
    fn new(at: usize, stops: bool, links: bool) -> Self {
        Self { at, stops, links, count: Cell::new(0), log: RefCell::default() }
    }

    fn failed(&self) -> bool {
        self.count.get() > self.at
    }

    fn last_op(&self) -> &'static str {
        self.log.borrow().get(self.at).unwrap().0
    }

    fn go(&self, op: &'static str, path: &Path) -> io::Result<()> {
        let n = self.count.replace(self.count.get() + 1);
        self.log.borrow_mut().push((op, path.to_path_buf()));
        if n == self.at || (self.stops && n > self.at) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Whether the operation that was just refused was the first, of which a half may have been done.
    fn first(&self) -> bool {
        self.count.get() == self.at + 1
    }
}

impl Disk for Faulty {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.go("create_dir_all", path).and_then(|()| System.create_dir_all(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.go("create_dir", path).and_then(|()| System.create_dir(path))
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.go("create", path).and_then(|()| System.create(path))
    }

    fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.go("write", path).inspect_err(|_| {
            if self.first() {
                file.write_all(&bytes[..bytes.len() / 2]).unwrap();
            }
        })?;
        System.write(file, path, bytes)
    }

    // The tests do not cut the power, so they need not wait for the disk.
    fn sync(&self, _: &File, path: &Path) -> io::Result<()> {
        self.go("sync", path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.go("sync_dir", path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.go("rename", from)?;
        System.rename(from, to)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.go("symlink", link)?;
        if self.links { System.symlink(target, link) } else { Err(ErrorKind::PermissionDenied.into()) }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.go("remove", path).and_then(|()| System.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.go("remove", path).inspect_err(|_| {
            if self.first()
                && let Some(Ok(entry)) = fs::read_dir(path).unwrap().next()
            {
                fs::remove_file(entry.path()).unwrap();
            }
        })?;
        System.remove_dir_all(path)
    }
}

fn put_on(disk: &Faulty, root: &Path, step: u64, tag: u64, best: bool) -> Result<PathBuf> {
    let (model, trainer, state) = content(tag);
    save_on(disk, root, &Content::new(step, &model, &trainer, &state).unwrap(), best, 2)
}

/// Saves like [`put`], without waiting for the disk.
fn quick(root: &Path, step: u64, tag: u64, best: bool) {
    put_on(&Faulty::new(usize::MAX, false, true), root, step, tag, best).unwrap();
}

fn litter(root: &Path) -> Vec<String> {
    names(root).into_iter().filter(|n| n.starts_with('.')).collect()
}

/// Saves tag 9 as `step` over what `before` has saved, with every fault in turn; before it, `old` is loaded.
fn every_fault(step: u64, old: Option<u64>, links: bool, before: impl Fn(&Path)) {
    for stops in [false, true] {
        for at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("ckpt");
            before(&root);
            let litter_before = litter(&root);
            let disk = Faulty::new(at, stops, links);
            let result = put_on(&disk, &root, step, 9, true);
            if !disk.failed() {
                assert!(result.is_ok() && at > 20, "only {at} operations");
                break;
            }
            let here = format!("operation {at} ({}), stops: {stops}", disk.last_op());
            let found = load_last(&root).ok().map(|(c, _)| tag(&c).expect("a mixture"));
            assert!(found == old || found == Some(9), "{here}: found {found:?}");
            match &result {
                Ok(_) => assert_eq!(found, Some(9), "{here}"),
                Err(e) => assert_eq!(e.exit_code(), 7, "{here}: {e}"),
            }
            if !stops && disk.last_op() != "remove" {
                assert!(litter(&root).iter().all(|n| litter_before.contains(n)), "{here}");
                // No pointer leads to an incomplete checkpoint, unless one did before.
                let pointers = if litter_before.is_empty() { &["last", "best"][..] } else { &[] };
                for pointer in pointers {
                    let whole = target(&root.join(pointer)).is_none_or(|dir| load(&dir).is_ok());
                    assert!(whole, "{here}: {pointer}");
                }
            }
            // The next save succeeds from this state.
            put_on(&Faulty::new(usize::MAX, false, links), &root, step + 1, 10, false).unwrap();
            let (found, warnings) = load_last(&root).unwrap();
            assert_eq!((tag(&found), warnings), (Some(10), vec![]), "{here}");
            assert_eq!(litter(&root), [""; 0], "{here}");
            assert!(steps(&root).unwrap().iter().all(|(_, dir)| load(dir).is_ok()), "{here}");
        }
    }
}

#[test]
fn the_first_save() {
    every_fault(1, None, true, |_| {});
}

#[test]
fn a_save_that_prunes() {
    every_fault(8, Some(3), true, |root| {
        for step in [1, 2, 3] {
            quick(root, step, step, step == 1);
        }
    });
}

#[test]
fn a_save_without_links() {
    every_fault(8, Some(3), false, |root| {
        let disk = Faulty::new(usize::MAX, false, false);
        for step in [1, 3] {
            put_on(&disk, root, step, step, true).unwrap();
        }
        assert_eq!(fs::read_to_string(root.join("last")).unwrap(), "step_3\n");
    });
}

#[test]
fn a_save_over_the_same_step() {
    for links in [true, false] {
        every_fault(3, Some(4), links, |root| {
            quick(root, 2, 2, true);
            quick(root, 3, 4, false);
        });
    }
}

#[test]
fn a_save_over_what_another_save_left_when_it_was_killed() {
    every_fault(3, Some(4), true, |root| {
        quick(root, 2, 2, true);
        quick(root, 3, 4, false);
        fs::rename(root.join("step_3"), root.join(".step_3.old")).unwrap();
        fs::create_dir(root.join(".step_3.part")).unwrap();
        fs::write(root.join(".step_3.part").join(MODEL), "x").unwrap();
        fs::write(root.join(".last.part"), "x").unwrap();
    });
}

#[test]
fn a_save_where_last_is_a_folder() {
    every_fault(3, Some(2), true, |root| {
        quick(root, 1, 1, true);
        quick(root, 2, 2, false);
        fs::remove_file(root.join("last")).unwrap();
        fs::rename(root.join("step_2"), root.join("last")).unwrap();
    });
}

#[test]
fn nothing_is_renamed_before_it_is_on_the_disk_nor_removed_before_its_successor_is() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("ckpt");
    quick(&root, 1, 1, false);
    quick(&root, 2, 2, false);
    let disk = Faulty::new(usize::MAX, false, true);
    put_on(&disk, &root, 2, 3, true).unwrap();
    put_on(&disk, &root, 5, 5, true).unwrap();
    let log = disk.log.borrow();
    let (mut unsynced, mut pending) = (Vec::new(), false);
    for (op, path) in log.iter() {
        match *op {
            "create" | "create_dir" | "write" => unsynced.push(path.clone()),
            "sync" | "sync_dir" => {
                unsynced.retain(|p| p != path);
                pending &= path != &root;
            }
            "rename" => {
                assert!(
                    !unsynced.iter().any(|p| p.starts_with(path)),
                    "{path:?} renamed before it was synced"
                );
                // Where a folder loses its name for good, what comes after it must be durable.
                let pruned = path.ends_with("step_1");
                assert!(!(pruned && pending), "pruned before the new names were synced");
                assert!(
                    !(path.ends_with(".last.part") && pending),
                    "`last` moved before its folder was synced"
                );
                pending = true;
            }
            "remove" => {
                let aside = path.ends_with(".step_2.old");
                assert!(!(aside && pending), "removed before the new names were synced");
            }
            _ => {}
        }
    }
    assert!(log.iter().filter(|(op, _)| *op == "sync").count() >= 8);
}
