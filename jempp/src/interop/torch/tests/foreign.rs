//! Checkpoints as other programs save them: prefixes of wrappers, weights under other keys beside other things, plain
//! safetensors, and what goes back into the network class that it came from.

use super::hostile::rezip;
use super::*;
use crate::config::NormKind;
use crate::model::published::Variant;
use jempp_formats::container::{Tensor, TensorData};

/// The published checkpoint with other strings in its pickle.
fn with_names(rename: &dyn Fn(&str) -> String) -> Vec<u8> {
    rezip(&official(OFFICIAL[0]), &|name, content| {
        if name != "data.pkl" {
            return Some(content);
        }
        let (mut out, mut at) = (Vec::new(), 0);
        while at < content.len() {
            let text = (content[at] == b'X').then(|| content.get(at + 1..at + 5)).flatten().and_then(|n| {
                let n = u32::from_le_bytes(n.try_into().unwrap()) as usize;
                content.get(at + 5..at + 5 + n).and_then(|t| str::from_utf8(t).ok())
            });
            match text.filter(|t| t.contains('.') && t.len() > 8 || t.starts_with("model_state")) {
                Some(text) => {
                    let new = rename(text);
                    out.push(b'X');
                    out.extend((new.len() as u32).to_le_bytes());
                    out.extend(new.bytes());
                    at += 5 + text.len();
                }
                None => {
                    out.push(content[at]);
                    at += 1;
                }
            }
        }
        Some(out)
    })
}

fn logits(container: &Container) {
    let (images, logits, _) = fixture();
    let model = Model::from_container(&Device::cpu(2), container).unwrap();
    close(&model.scores(&images).unwrap().logits, &logits);
}

fn read_of(bytes: &[u8]) -> Container {
    read(bytes, Path::new("x.pt"), Hints::default()).unwrap()
}

#[test]
fn prefixes_of_wrappers_are_taken_off_in_any_nesting() {
    let want = read_of(&official(OFFICIAL[0]));
    for prefix in ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.module."]
    {
        let bytes =
            with_names(&|t| if t.starts_with("model_state") { t.into() } else { format!("{prefix}{t}") });
        assert_eq!(read_of(&bytes), want, "{prefix}");
    }
    // A part of the network that was compiled by itself.
    let bytes = with_names(&|t| t.replacen("f.", "f._orig_mod.", 1));
    assert_eq!(read_of(&bytes), want);
    logits(&want);
}

#[test]
fn weights_are_found_under_the_usual_keys() {
    let want = read_of(&official(OFFICIAL[0]));
    for key in ["state_dict", "net", "model", "ema", "some_other_key"] {
        let found =
            read_of(&with_names(&|t| if t.starts_with("model_state") { key.into() } else { t.into() }));
        assert_eq!(found.tensors, want.tensors, "{key}");
        let said = found.meta["source"].contains(&format!("weights under `{key}`"));
        assert_eq!(said, key != "state_dict", "{}", found.meta["source"]);
    }
}

#[test]
fn safetensors_of_other_programs_are_models() {
    let whole = read_of(&official(OFFICIAL[0]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    for (format, prefix) in [(None, ""), (Some("pt"), "module."), (Some(""), "model.")] {
        let renamed = whole.tensors.iter().map(|t| match t.name.as_str() {
            "replay_buffer" => t.clone(),
            name => Tensor { name: format!("{prefix}{name}"), ..t.clone() },
        });
        let mut plain = Container::new(renamed.collect::<Vec<_>>());
        plain.meta.extend(format.filter(|f| !f.is_empty()).map(|f| ("format".to_owned(), f.to_owned())));
        plain.write(&path).unwrap();
        let read = load_container(&path);
        assert_eq!(Container::new(read.tensors.clone()), Container::new(whole.tensors.clone()));
        assert_eq!(read.meta["source"], "safetensors file of another program");
        logits(&read);
    }
    // Any other file is what it was.
    Container::new([Tensor::f32("w", [1], vec![1.0])]).write(&path).unwrap();
    assert!(ModelSource::open(&path).unwrap().architecture().is_err());
}

/// What is written for a class reads back equal, and has exactly the names of that class.
#[test]
fn each_class_gets_its_names() {
    let whole = read_of(&official(OFFICIAL[0]));
    let dir = tempfile::tempdir().unwrap();
    let names = |variant| {
        let path = dir.path().join("a.pt");
        write(&path, &whole, variant).unwrap();
        let bytes = fs::read(&path).unwrap();
        let saved = Saved::open(&bytes, &path).unwrap();
        let state = saved.root().as_pairs().unwrap().get("model_state_dict").unwrap().as_pairs().unwrap();
        let names: Vec<String> = state.iter().map(|(k, _)| k.as_str().unwrap().to_owned()).collect();
        (names, read_of(&bytes))
    };
    let has = |names: &[String], part: &str| names.iter().any(|n| n.starts_with(part));
    for (variant, aliases, linear) in [
        (None, true, false),
        (Some(Variant::JemppYopo), true, false),
        (Some(Variant::JemppWrn), false, false),
        (Some(Variant::Jem), false, true),
    ] {
        let (names, back) = names(variant);
        assert_eq!((has(&names, "f.layer_one."), has(&names, "f.other_layers.")), (aliases, aliases));
        assert_eq!(has(&names, "f.linear."), linear, "{variant:?}");
        assert!(has(&names, "energy_output."));
        let came_from = variant.unwrap_or(Variant::JemppYopo).name();
        assert_eq!(back.meta["published"], came_from);
        logits(&back);
        // The unused layer is kept, and the class that it came from remembered.
        let path = dir.path().join("b.pt");
        write(&path, &back, None).unwrap();
        let again = read_of(&fs::read(&path).unwrap());
        assert_eq!(again, back);
    }
}

/// ActNorm goes out in the shapes of the published class, with its flags, and comes back.
#[test]
fn act_norm_both_ways() {
    let mut c = read_of(&official(OFFICIAL[0]));
    let old = c.meta["architecture"].replace("\"batch\"", "\"act\"");
    c.meta.insert("architecture".into(), old);
    c.meta.remove("bn");
    c.tensors.retain(|t| !t.name.contains("running") && !t.name.contains("tracked"));
    for t in &mut c.tensors {
        let part = if t.name.ends_with("weight") { "scale" } else { "loc" };
        if let Some((norm, _)) =
            t.name.rsplit_once('.').filter(|(norm, _)| norm.ends_with("bn1") || norm.ends_with("bn2"))
        {
            t.name = format!("{norm}.{part}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("act.pt");
    write(&path, &c, None).unwrap();
    let bytes = fs::read(&path).unwrap();
    let tensors = |bytes: &[u8]| {
        let saved = Saved::open(bytes, &path).unwrap();
        let state = saved.root().as_pairs().unwrap().get("model_state_dict").unwrap().as_pairs().unwrap();
        let view = |(k, v): (jempp_formats::pickle::Item<'_>, _)| {
            let name = k.as_str().unwrap().to_owned();
            let view = jempp_formats::torch::View::of(v).unwrap().unwrap();
            (name.clone(), saved.read(&name, &view).unwrap())
        };
        state.iter().map(view).collect::<std::collections::BTreeMap<_, _>>()
    };
    let all = tensors(&bytes);
    assert_eq!(all["f.bn1.loc"].shape, [1, 64, 1, 1]);
    assert_eq!(all["f.other_layers.0.0.bn1.scale"].shape, [1, 16, 1, 1]);
    assert_eq!(
        (&all["f.bn1.initialized"].shape[..], &all["f.bn1.initialized"].data),
        (&[][..], &TensorData::I64(vec![1]))
    );
    assert!(all.contains_key("f.other_layers.3.initialized"));
    let back = read_of(&bytes);
    assert_eq!(crate::model::architecture(&back).unwrap().norm, NormKind::Act);
    assert_eq!(Container::new(back.tensors), Container::new(c.tensors));
}

#[test]
fn files_that_are_no_models_are_told_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, words) in [
        (
            "a.safetensors",
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n"[..],
            "git lfs pull",
        ),
        ("b.pt", b"<!DOCTYPE html><html>", "a web page (HTML)"),
        ("c.onnx", b"\x08\x08\x12\x05jempp", "an ONNX graph"),
        ("d.h5", b"\x89HDF\r\n\x1a\n\0\0\0\0", "an HDF5 file"),
        ("e.pkl", b"\x80\x04}.", "a Python pickle"),
        ("f.pt", b"", "an empty file"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let e = ModelSource::open(&path).unwrap_err();
        assert!(e.exit_code() == 6 && e.to_string().contains(words), "{e}");
    }
}
