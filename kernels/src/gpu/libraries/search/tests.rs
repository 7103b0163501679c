use super::*;

/// A folder of this process alone, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("jempp-search-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn folder(&self, below: &str) -> PathBuf {
        let path = self.0.join(below);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names(folders: &[Folder]) -> Vec<&Path> {
    folders.iter().map(|folder| folder.path.as_path()).collect()
}

#[test]
fn the_variable_comes_first_and_takes_many_layouts() {
    let scratch = Scratch::new("variable");
    let toolkit = scratch.folder("toolkit/lib64");
    let wheel = scratch.folder("venv/lib/python3.12/site-packages/nvidia/cu13/lib");
    let value = format!("{0}/toolkit:{0}/venv:{0}/absent", scratch.0.display());
    let search = Search::with(|name| (name == PATH_VARIABLE).then(|| value.clone().into()), &scratch.0);
    assert!(names(&search.first).contains(&toolkit.as_path()));
    assert!(names(&search.first).contains(&wheel.as_path()));
    assert_eq!(search.notes.len(), 1, "{:?}", search.notes);
    for site in ["venv/lib/python3.12/site-packages", "venv/lib/python3.12/site-packages/nvidia"] {
        assert!(below(&scratch.0.join(site)).contains(&wheel), "{site}");
    }
}

#[test]
fn newer_toolkits_come_before_older_ones() {
    let scratch = Scratch::new("toolkits");
    let old = scratch.folder("usr/local/cuda-9.2/lib64");
    let new = scratch.folder("usr/local/cuda-13.0/lib64");
    let current = scratch.folder("usr/local/cuda/lib64");
    let search = Search::with(|_| None, &scratch.0);
    assert_eq!(names(&search.then), [current.as_path(), &new, &old]);
}

#[test]
fn python_environments_are_found_without_running_python() {
    let scratch = Scratch::new("python");
    let active = scratch.folder("active/lib/python3.11/site-packages/nvidia/cudnn/lib");
    let conda = scratch.folder("conda/lib/python3.13/site-packages/nvidia/nccl/lib");
    let shimmed = scratch.folder("pyenv/versions/3.12.1/lib/python3.12/site-packages/nvidia/cu13/lib");
    let shims = scratch.folder("pyenv/shims");
    fs::write(shims.join("python3"), "#!/bin/sh\nexit 1\n").unwrap();
    let at = |below: &str| Some(scratch.0.join(below).into_os_string());
    let search = Search::with(
        |name| match name {
            "VIRTUAL_ENV" => at("active"),
            "CONDA_PREFIX" => at("conda"),
            "PATH" => at("pyenv/shims"),
            _ => None,
        },
        &scratch.0,
    );
    for folder in [&active, &conda, &shimmed, &scratch.0.join("conda/lib")] {
        assert!(names(&search.then).contains(&folder.as_path()), "{}", folder.display());
    }
}

#[test]
fn a_link_to_an_environments_python_leads_to_its_packages() {
    let scratch = Scratch::new("links");
    let wheel = scratch.folder("venv/lib/python3.12/site-packages/nvidia/cudnn/lib");
    let (system, venv, bin) =
        (scratch.folder("usr/bin"), scratch.folder("venv/bin"), scratch.folder("local/bin"));
    fs::write(system.join("python3.12"), "").unwrap();
    std::os::unix::fs::symlink(system.join("python3.12"), venv.join("python3")).unwrap();
    // Relative, as package managers make them.
    std::os::unix::fs::symlink("../../venv/bin/python3", bin.join("python3")).unwrap();
    let path = bin.clone().into_os_string();
    let search = Search::with(|name| (name == "PATH").then(|| path.clone()), &scratch.0);
    assert!(search.then.iter().any(|f| same_file(&f.path, &wheel)), "{:?}", search.then);
    // A circle ends.
    std::os::unix::fs::symlink(bin.join("b"), bin.join("a")).unwrap();
    std::os::unix::fs::symlink(bin.join("a"), bin.join("b")).unwrap();
    assert!(links(&bin.join("a")).len() < 20);
}
