//! Missing, damaged and malicious files; and what is saved can be loaded.

use super::*;
use std::fs;

fn load(context: &Owned<jempp_context>, path: &Path) -> (jempp_status, Owned<jempp_model>) {
    let mut made = null_mut();
    // SAFETY: a NUL-terminated string, and space for a pointer.
    let status = unsafe { jempp_model_load(context.0, c_path(path).as_ptr(), &raw mut made) };
    (status, Owned(made, jempp_model_free))
}

fn load_memory(context: &Owned<jempp_context>, bytes: &[u8]) -> (jempp_status, Owned<jempp_model>) {
    let mut made = null_mut();
    // SAFETY: as many bytes as there are, and space for a pointer.
    let status =
        unsafe { jempp_model_load_memory(context.0, bytes.as_ptr().cast(), bytes.len(), &raw mut made) };
    (status, Owned(made, jempp_model_free))
}

fn save(model: &Owned<jempp_model>, path: &Path) -> jempp_status {
    // SAFETY: a NUL-terminated string.
    unsafe { jempp_model_save(model.0, c_path(path).as_ptr()) }
}

#[test]
fn a_model_comes_back_from_file_and_memory() {
    let (context, model, dir) = (context(), model(), tempfile::tempdir().unwrap());
    let path = dir.path().join("model.safetensors");
    well(save(&model, &path));
    let (status, from_file) = load(&context, &path);
    well(status);
    let bytes = fs::read(&path).unwrap();
    let (status, from_memory) = load_memory(&context, &bytes);
    well(status);
    // The file may be deleted even before its start samples have been read.
    fs::remove_file(&path).unwrap();
    assert_eq!(logits(model.0), logits(from_file.0));
    assert_eq!(logits(model.0), logits(from_memory.0));
    let draw = |m: &Owned<jempp_model>| {
        let mut out = vec![0f32; 5 * PIXELS];
        // SAFETY: space for five images.
        well(unsafe { jempp_sample(m.0, null(), 5, out.as_mut_ptr(), out.len()) });
        out
    };
    assert!(draw(&model) == draw(&from_file) && draw(&model) == draw(&from_memory));
    // SAFETY: zeros are a struct of size 0.
    let mut info: jempp_model_info = unsafe { core::mem::zeroed() };
    info.struct_size = size_of_val(&info) as u32;
    // SAFETY: a struct of `struct_size` bytes.
    well(unsafe { jempp_model_get_info(from_file.0, &raw mut info) });
    assert_eq!((info.height, info.width, info.channels, info.classes), (8, 8, 1, 10));
    assert!(info.parameters > 70_000);
    // Objects may be freed in any order.
    drop(context);
    assert_eq!(logits(model.0), logits(from_file.0));
}

#[test]
fn what_is_not_there_is_an_io_error() {
    let (context, dir) = (context(), tempfile::tempdir().unwrap());
    refused(load(&context, &dir.path().join("nothing")).0, JEMPP_ERR_IO, "there is no model");
    refused(load(&context, dir.path()).0, JEMPP_ERR_IO, "there is no model here");
    refused(save(&model(), &dir.path().join("no/folder.safetensors")), JEMPP_ERR_IO, "No such file");
    let mut made = null_mut();
    // SAFETY: a NUL-terminated string, and space for a pointer.
    let resumed = unsafe { jempp_trainer_resume(context.0, c_path(dir.path()).as_ptr(), &raw mut made) };
    refused(resumed, JEMPP_ERR_IO, "there is no checkpoint");
}

/// Changes each byte of the header and truncates the file everywhere: the call returns and never crashes, and never
/// returns a model with other weights for a damaged header.
#[test]
fn damaged_models_are_format_errors() {
    let (context, model, dir) = (context(), model(), tempfile::tempdir().unwrap());
    let path = dir.path().join("model.safetensors");
    well(save(&model, &path));
    let bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for cut in (0..header).step_by(97).chain([header, bytes.len() / 2, bytes.len() - 1]) {
        let (status, _) = load_memory(&context, &bytes[..cut]);
        assert_eq!(status, JEMPP_ERR_FORMAT, "cut at {cut}: {}", last_error());
        assert!(!last_error().is_empty());
    }
    for at in (0..header).step_by(7) {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let (status, _) = load_memory(&context, &bad);
        assert!(
            matches!(status, JEMPP_OK | JEMPP_ERR_FORMAT | JEMPP_ERR_OUT_OF_MEMORY),
            "{at}: {}",
            last_error()
        );
    }
    let mut nan = bytes.clone();
    nan[header..header + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    refused(load_memory(&context, &nan).0, JEMPP_ERR_FORMAT, "is NaN");
    refused(load_memory(&context, b"PK\x03\x04rest").0, JEMPP_ERR_FORMAT, "");
    refused(load_memory(&context, b"").0, JEMPP_ERR_FORMAT, "an empty file");
    fs::write(&path, b"").unwrap();
    refused(load(&context, &path).0, JEMPP_ERR_FORMAT, "an empty file");
    fs::write(&path, b"{}").unwrap();
    refused(load(&context, &path).0, JEMPP_ERR_FORMAT, "not a safetensors file");
}

/// An impossible architecture is refused before anything is allocated for it.
#[test]
fn a_hostile_architecture_is_a_format_error() {
    let context = context();
    for (key, value) in [("depth", "1000000000"), ("widen_factor", "99999999"), ("classes", "0")] {
        let mut m = serde_json::to_value(jempp::Config::preset("digits").unwrap().model).unwrap();
        m[key] = value.parse::<u64>().unwrap().into();
        let mut c = jempp_formats::container::Container::default();
        c.meta.insert("format".into(), jempp::model::FORMAT.into());
        c.meta.insert("architecture".into(), m.to_string());
        let bytes = c.to_bytes().unwrap();
        refused(load_memory(&context, &bytes).0, JEMPP_ERR_FORMAT, &format!("model.{key}"));
    }
}

#[test]
fn a_trainer_goes_on_bit_by_bit_and_past_a_damaged_checkpoint() {
    let (context, dir) = (context(), tempfile::tempdir().unwrap());
    let first = trainer(&context, CONFIG);
    let path = c_path(dir.path());
    let save = |t: &Owned<jempp_trainer>| {
        // SAFETY: a NUL-terminated string.
        well(unsafe { jempp_trainer_save(t.0, path.as_ptr()) });
    };
    let resume = || {
        let mut made = null_mut();
        // SAFETY: a NUL-terminated string, and space for a pointer.
        let status = unsafe { jempp_trainer_resume(context.0, path.as_ptr(), &raw mut made) };
        (status, Owned(made, jempp_trainer_free))
    };
    (0..2).for_each(|_| well(step(first.0)));
    save(&first);
    (0..2).for_each(|_| well(step(first.0)));
    let want = logits(snapshot(&first).0);
    let (status, second) = resume();
    well(status);
    (0..2).for_each(|_| well(step(second.0)));
    assert_eq!(logits(snapshot(&second).0), want);
    // The folder can be loaded as a model, too.
    save(&second);
    let (status, model) = load(&context, dir.path());
    well(status);
    assert_eq!(logits(model.0), want);
    // A damaged checkpoint is skipped; if all are damaged, that is the error.
    let weights = |step: u32| dir.path().join(format!("ckpt/step_{step}/trainer.safetensors"));
    fs::write(weights(4), b"damaged").unwrap();
    let (status, third) = resume();
    well(status);
    (0..2).for_each(|_| well(step(third.0)));
    assert_eq!(logits(snapshot(&third).0), want);
    fs::write(weights(2), b"damaged").unwrap();
    refused(resume().0, JEMPP_ERR_FORMAT, "no checkpoint is whole");
    // Weights alone can be loaded into another trainer.
    let fresh = trainer(&context, CONFIG);
    well(jempp_trainer_load_model(fresh.0, model.0));
}

/// Published PyTorch checkpoints can be loaded, from a path and from memory.
#[test]
fn a_published_checkpoint_is_a_model() {
    let context = context();
    for name in ["wrn10_1_official.pt", "wrn10_1_official_legacy.pt"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
        let (status, by_path) = load(&context, &path);
        well(status);
        let (status, by_bytes) = load_memory(&context, &fs::read(&path).unwrap());
        well(status);
        let x: Vec<f32> = (0..32 * 32 * 3).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect();
        let logits = |model: *const jempp_model| {
            let mut out = [0f32; 10];
            // SAFETY: one image, and space for its logits.
            well(unsafe { jempp_logits(model, x.as_ptr(), 1, out.as_mut_ptr(), 10) });
            out
        };
        assert_eq!(logits(by_path.0), logits(by_bytes.0));
    }
}
