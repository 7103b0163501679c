//! PyTorch files: reading, writing them back, and (in `hostile`) damaged and malicious ones.

mod foreign;
mod hostile;

use super::*;
use crate::model::Model;
use crate::model::published::{Hints, read};
use crate::model::source::ModelSource;
use engine::Device;
use jempp_formats::container::Container;
use jempp_formats::torch::Saved;
use std::fs;
use std::path::{Path, PathBuf};

/// Logits of a WRN-10-1, relative to the largest.
const LOGITS: f64 = 1e-5;

fn read_file(folder: &str, name: &str) -> Vec<u8> {
    fs::read(path(folder, name)).unwrap()
}

fn path(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name)
}

/// A file of `tests/interop/make_torch.py`.
fn data(name: &str) -> Vec<u8> {
    read_file("tests/torch", name)
}

const OFFICIAL: [&str; 2] = ["wrn10_1_official.pt", "wrn10_1_official_legacy.pt"];

fn official(name: &str) -> Vec<u8> {
    read_file("../tests/fixtures", name)
}

/// Images of the fixture, N×H×W×C, and the logits and log densities that PyTorch gives them.
fn fixture() -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let c = Container::read(&path("../tests/fixtures", "wrn10_1.safetensors")).unwrap();
    let n = c.get("in.x_labelled").unwrap().shape[0];
    let images = c.images("in.x_labelled", [n, 32, 32, 3]).unwrap();
    let get = |name: &str, shape: &[usize]| c.f32(name, shape).unwrap().to_vec();
    (images, get("eval.logits", &[n, 10]), get("eval.log_density", &[n]))
}

fn load_container(path: &Path) -> Container {
    ModelSource::open(path).unwrap().into_container().unwrap()
}

fn close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let error = got.iter().zip(want).fold(0.0, |m: f64, (a, b)| m.max((f64::from(*a) - f64::from(*b)).abs()));
    assert!(error <= LOGITS * scale, "{}", error / scale);
}

#[test]
fn published_checkpoints_give_the_published_logits() {
    let (images, logits, density) = fixture();
    for name in OFFICIAL {
        let path = path("../tests/fixtures", name);
        let container = load_container(&path);
        let from_bytes = ModelSource::from_bytes(official(name), &path).unwrap();
        assert_eq!(container, from_bytes.into_container().unwrap());
        let model = Model::from_container(&Device::cpu(2), &container).unwrap();
        let config = &model.network().config;
        let shape =
            (config.depth, config.widen_factor, config.image_size, config.classes, config.energy_head);
        assert_eq!(shape, (10, 1, [32, 32, 3], 10, false));
        let scores = model.scores(&images).unwrap();
        close(&scores.logits, &logits);
        close(&scores.log_density, &density);
        let buffer = crate::sampling::draw::replay_buffer(&path, &model).unwrap();
        assert_eq!(buffer.len(), 8 * 3072);
        // Channels are the last axis now: the first pixel's green is the second plane's first value.
        assert_eq!(buffer[1], container.f32("replay_buffer", &[8, 3, 32, 32]).unwrap()[1024]);
    }
}

#[test]
fn the_two_forms_hold_the_same_and_the_first_of_them_is_written_again() {
    let [zip, legacy] =
        OFFICIAL.map(|name| read(&official(name), Path::new(name), Hints::default()).unwrap());
    assert_eq!(zip.meta["source"], "PyTorch checkpoint (zip)");
    assert_eq!(legacy.meta["source"], "PyTorch checkpoint (legacy)");
    assert_eq!(Container::new(zip.tensors.clone()), Container::new(legacy.tensors));
    // Nothing is lost on the way: the unused head, counts of batches, the replay buffer.
    for name in ["energy_output.weight", "f.bn1.num_batches_tracked", "replay_buffer"] {
        assert!(zip.get(name).is_some(), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pt");
    write(&path, &zip, None).unwrap();
    assert_eq!(load_container(&path), zip);
    let bytes = fs::read(&path).unwrap();
    write(&path, &zip, None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes, "equal models give equal bytes");
    let saved = Saved::open(&bytes, &path).unwrap();
    let state = saved.root().as_pairs().unwrap().get("model_state_dict").unwrap().as_pairs().unwrap();
    let theirs = official(OFFICIAL[0]);
    let theirs = Saved::open(&theirs, &path).unwrap();
    let theirs = theirs.root().as_pairs().unwrap().get("model_state_dict").unwrap().as_pairs().unwrap();
    let names = |p: jempp_formats::pickle::Pairs<'_>| {
        p.iter().map(|(k, _)| k.as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!((names(state), state.len()), (names(theirs), theirs.len()));
}

#[test]
fn storages_are_aligned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pt");
    write(&path, &read(&official(OFFICIAL[0]), &path, Hints::default()).unwrap(), None).unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    for i in 0..zip.len() {
        let entry = zip.by_index_raw(i).unwrap();
        let (name, start) = (entry.name().unwrap().into_owned(), entry.data_start().unwrap());
        assert!(start % 64 == 0, "{name} starts at {start}");
    }
}

#[test]
fn means_and_covariances_become_start_samples() {
    let (mean, cov) = (data("mean.pt"), data("cov.pt"));
    let moments_of = |m: &[u8], c: &[u8]| moments((m, Path::new("mean.pt")), (c, Path::new("cov.pt")));
    let samples = moments_of(&mean, &cov).unwrap().start_samples([1, 1, 3], 2, 5, 1).unwrap();
    assert_eq!(samples.means, [0.1, -0.2, 0.3, 0.0, 0.5, -0.5]);
    assert_eq!((samples.draws.len(), samples.classes), (30, [[0; 5], [1; 5]].concat()));
    let e = moments_of(&cov, &mean).unwrap_err();
    assert!(
        e.exit_code() == 6 && e.to_string().starts_with("cov.pt: covariances [2, 3] do not match"),
        "{e}"
    );
    let e = moments_of(&read_file("formats/tests/torch", "values.pt"), &cov).unwrap_err().to_string();
    assert!(e.starts_with("mean.pt: entry `values/data.pkl`: it holds a dict, not one tensor"), "{e}");
}
