//! NULL, wrong lengths, wrong sizes, invalid handles.

use super::*;
use std::ffi::{c_int, c_void};

const ARGUMENT: jempp_status = JEMPP_ERR_INVALID_ARGUMENT;

#[test]
fn null_handles_and_pointers_are_refused_everywhere() {
    let (context, model) = (context(), model());
    let (x, mut y, mut p) = ([0f32; PIXELS], [0f32; PIXELS], null_mut::<jempp_model>());
    let path = c("/nowhere");
    let (xp, yp) = (x.as_ptr(), y.as_mut_ptr());
    // SAFETY: pointers that are not NULL have the stated number of elements.
    unsafe {
        refused(jempp_context_create(null(), null_mut()), ARGUMENT, "out is NULL");
        refused(
            jempp_model_load(null_mut(), path.as_ptr(), &raw mut p),
            ARGUMENT,
            "the jempp_context is NULL",
        );
        refused(jempp_model_load(context.0, null(), &raw mut p), ARGUMENT, "path is NULL");
        refused(jempp_model_load(context.0, c("").as_ptr(), &raw mut p), ARGUMENT, "path is empty");
        refused(jempp_model_load(context.0, path.as_ptr(), null_mut()), ARGUMENT, "out is NULL");
        refused(jempp_model_load_memory(context.0, null(), 9, &raw mut p), ARGUMENT, "data is NULL");
        refused(jempp_model_load_memory(null_mut(), xp.cast(), 9, &raw mut p), ARGUMENT, "jempp_context");
        refused(jempp_model_load_memory(context.0, xp.cast(), 9, null_mut()), ARGUMENT, "out is NULL");
        refused(jempp_model_save(null(), path.as_ptr()), ARGUMENT, "the jempp_model is NULL");
        refused(jempp_model_save(model.0, null()), ARGUMENT, "path is NULL");
        refused(jempp_model_get_info(model.0, null_mut()), ARGUMENT, "info is NULL");
        refused(jempp_logits(null(), xp, 1, yp, 10), ARGUMENT, "the jempp_model is NULL");
        refused(jempp_logits(model.0, null(), 1, yp, 10), ARGUMENT, "images is NULL");
        refused(jempp_logits(model.0, xp, 1, null_mut(), 10), ARGUMENT, "out is NULL");
        refused(jempp_log_density(null(), xp, 1, yp, 1), ARGUMENT, "the jempp_model is NULL");
        refused(jempp_log_density(model.0, null(), 1, yp, 1), ARGUMENT, "images is NULL");
        refused(jempp_log_density(model.0, xp, 1, null_mut(), 1), ARGUMENT, "out is NULL");
        refused(jempp_input_grad(null(), xp, 1, null(), yp, PIXELS), ARGUMENT, "the jempp_model is NULL");
        refused(jempp_input_grad(model.0, null(), 1, null(), yp, PIXELS), ARGUMENT, "images is NULL");
        refused(jempp_input_grad(model.0, xp, 1, null(), null_mut(), PIXELS), ARGUMENT, "out is NULL");
        refused(jempp_sample(null(), null(), 1, yp, PIXELS), ARGUMENT, "the jempp_model is NULL");
        refused(jempp_sample(model.0, null(), 1, null_mut(), PIXELS), ARGUMENT, "out is NULL");
        refused(jempp_decide(null(), xp, 1, null_mut(), 1), ARGUMENT, "the jempp_model is NULL");
        refused(jempp_decide(model.0, xp, 1, null_mut(), 1), ARGUMENT, "out is NULL");
        jempp_context_options_init(null_mut(), 40);
        jempp_sample_options_init(null_mut(), 72);
    }
    jempp_context_free(null_mut());
    jempp_model_free(null_mut());
    assert!(y.iter().all(|v| *v == 0.0) && p.is_null(), "a failure wrote something");
}

#[test]
fn null_handles_and_pointers_are_refused_by_trainers() {
    let (context, model) = (context(), model());
    let trainer = trainer(&context, CONFIG);
    let (path, mut p, mut t) = (c("/nowhere"), null_mut::<jempp_model>(), null_mut::<jempp_trainer>());
    // SAFETY: pointers that are not NULL have the stated number of elements.
    unsafe {
        let config = c(CONFIG);
        refused(
            jempp_trainer_create(null_mut(), config.as_ptr(), &raw mut t),
            ARGUMENT,
            "jempp_context is NULL",
        );
        refused(jempp_trainer_create(context.0, null(), &raw mut t), ARGUMENT, "config_toml is NULL");
        refused(jempp_trainer_create(context.0, config.as_ptr(), null_mut()), ARGUMENT, "out is NULL");
        refused(jempp_trainer_model(null_mut(), &raw mut p), ARGUMENT, "the jempp_trainer is NULL");
        refused(jempp_trainer_model(trainer.0, null_mut()), ARGUMENT, "out is NULL");
        refused(jempp_trainer_save(null(), path.as_ptr()), ARGUMENT, "the jempp_trainer is NULL");
        refused(jempp_trainer_save(trainer.0, null()), ARGUMENT, "dir is NULL");
        refused(
            jempp_trainer_resume(null_mut(), path.as_ptr(), &raw mut t),
            ARGUMENT,
            "jempp_context is NULL",
        );
        refused(jempp_trainer_resume(context.0, null(), &raw mut t), ARGUMENT, "dir is NULL");
        refused(jempp_trainer_resume(context.0, path.as_ptr(), null_mut()), ARGUMENT, "out is NULL");
    }
    refused(jempp_trainer_load_model(null_mut(), model.0), ARGUMENT, "the jempp_trainer is NULL");
    refused(jempp_trainer_load_model(trainer.0, null()), ARGUMENT, "the jempp_model is NULL");
    refused(step(null_mut()), ARGUMENT, "the jempp_trainer is NULL");
    jempp_trainer_free(null_mut());
    assert!(p.is_null() && t.is_null(), "a failure wrote something");
}

#[test]
fn freed_foreign_and_made_up_handles_are_known_as_such() {
    let (context, mut model) = (context(), model());
    let trainer = trainer(&context, CONFIG);
    let was = logits(model.0);
    well(was.0);
    refused(logits(context.0.cast()).0, ARGUMENT, "a handle of another type");
    refused(logits(core::ptr::without_provenance(48)).0, ARGUMENT, "it was freed, or never created");
    refused(step(model.0.cast()), ARGUMENT, "a handle of another type");
    // Freeing with the wrong function does nothing.
    jempp_context_free(model.0.cast());
    jempp_model_free(trainer.0.cast());
    assert_eq!(logits(model.0), was);
    well(step(trainer.0));
    let freed = core::mem::replace(&mut model.0, null_mut());
    jempp_model_free(freed);
    jempp_model_free(freed);
    refused(logits(freed).0, ARGUMENT, "it was freed, or never created");
    // A number is never used for a second handle.
    let other = super::model();
    assert_ne!(other.0, freed);
    refused(logits(freed).0, ARGUMENT, "it was freed");
    refused(jempp_trainer_load_model(trainer.0, freed), ARGUMENT, "it was freed");
}

#[test]
fn lengths_must_be_exact() {
    let model = model();
    let (x, mut y) = (vec![0f32; 2 * PIXELS], vec![7f32; 2 * PIXELS]);
    let (xp, yp) = (x.as_ptr(), y.as_mut_ptr());
    // SAFETY: no length exceeds the buffers, except those that are refused before anything is read.
    unsafe {
        for len in [0, 1, 9, 11, 20, usize::MAX] {
            refused(jempp_logits(model.0, xp, 1, yp, len), ARGUMENT, "not the 10 needed");
        }
        refused(jempp_logits(model.0, xp, usize::MAX, yp, 10), ARGUMENT, "more than memory can hold");
        let most = usize::MAX / PIXELS;
        refused(jempp_log_density(model.0, xp, most, yp, most), ARGUMENT, "exceeds the address space");
        refused(jempp_log_density(model.0, xp, 2, yp, 1), ARGUMENT, "not the 2 needed");
        refused(jempp_input_grad(model.0, xp, 1, null(), yp, 63), ARGUMENT, "not the 64 needed");
        refused(jempp_sample(model.0, null(), 1, yp, 128), ARGUMENT, "not the 64 needed");
        refused(jempp_decide(model.0, xp, 1, null_mut(), 2), ARGUMENT, "not the 1 needed");
        refused(jempp_logits(model.0, xp.byte_add(1), 1, yp, 10), ARGUMENT, "not aligned to 4 bytes");
        let labels = [10i32];
        refused(jempp_input_grad(model.0, xp, 1, labels.as_ptr(), yp, PIXELS), ARGUMENT, "labels below 10");
        let mut bad = x.clone();
        bad[PIXELS + 5] = f32::NAN;
        refused(jempp_logits(model.0, bad.as_ptr(), 2, yp, 20), ARGUMENT, "image 1 holds NaN at value 5");
        assert!(y.iter().all(|v| *v == 7.0));
        // Zero images are valid.
        well(jempp_logits(model.0, null(), 0, null_mut(), 0));
        well(jempp_sample(model.0, null(), 0, null_mut(), 0));
        // Outputs may overlap inputs.
        let mut both = x.clone();
        let p = both.as_mut_ptr();
        well(jempp_input_grad(model.0, p, 2, null(), p, 2 * PIXELS));
        well(jempp_input_grad(model.0, xp, 2, null(), y.as_mut_ptr(), 2 * PIXELS));
        assert_eq!(both, y);
    }
}

#[test]
fn options_say_how_large_they_are() {
    let mut made = null_mut();
    // SAFETY: structs of `struct_size` bytes, and NUL-terminated strings.
    unsafe {
        let mut o: jempp_context_options = core::mem::zeroed();
        refused(jempp_context_create(&raw const o, &raw mut made), ARGUMENT, "struct_size is 0");
        jempp_context_options_init(&raw mut o, 39);
        refused(jempp_context_create(&raw const o, &raw mut made), ARGUMENT, "has 40 bytes");
        jempp_context_options_init(&raw mut o, 40);
        let with = |change: &dyn Fn(&mut jempp_context_options), status, said| {
            let (mut o, mut made) = (o, null_mut());
            change(&mut o);
            refused(jempp_context_create(&raw const o, &raw mut made), status, said);
            assert!(made.is_null());
        };
        with(&|o| o.threads = -1, ARGUMENT, "must not be negative");
        with(&|o| o.device = c"gpu".as_ptr(), ARGUMENT, "use auto, cpu or cuda:N");
        with(&|o| o.device = c"\xff".as_ptr(), ARGUMENT, "not UTF-8");
        with(&|o| o.device = c"cuda:999".as_ptr(), JEMPP_ERR_DEVICE, "cuda:999");
        with(&|o| o.precision = c"f16".as_ptr(), ARGUMENT, "use f32, tf32 or bf16");
        with(&|o| o.precision = c"tf32".as_ptr(), ARGUMENT, "needs a GPU");
        // A newer program's struct: its additional fields must be zero.
        #[repr(C)]
        struct Newer(jempp_context_options, u64);
        let mut newer = Newer(o, 7);
        jempp_context_options_init((&raw mut newer).cast(), 48);
        assert_eq!((newer.0.struct_size, newer.1), (48, 0));
        well(jempp_context_create((&raw const newer).cast(), &raw mut made));
        jempp_context_free(made);
        newer.1 = 1;
        refused(
            jempp_context_create((&raw const newer).cast(), &raw mut made),
            ARGUMENT,
            "byte 40, which this version does not know, is not zero",
        );
    }
}

extern "C" fn stop_at_two(step: u32, steps: u32, user: *mut c_void) -> c_int {
    // SAFETY: the test passes a number.
    unsafe { *user.cast::<u32>() = 100 * steps + step };
    c_int::from(step < 2)
}

#[test]
fn sampling_takes_options_and_can_be_cancelled() {
    let model = model();
    let (mut out, mut again) = (vec![0f32; 3 * PIXELS], vec![0f32; 3 * PIXELS]);
    let labels = [0i32, 1, 10];
    let mut told = 0u32;
    // SAFETY: pointers have the stated number of elements, and a struct of `struct_size` bytes.
    unsafe {
        let mut o: jempp_sample_options = core::mem::zeroed();
        let go = |o: &jempp_sample_options, out: &mut Vec<f32>| {
            jempp_sample(model.0, core::ptr::from_ref(o), 3, out.as_mut_ptr(), 3 * PIXELS)
        };
        refused(go(&o, &mut out), ARGUMENT, "struct_size is 0");
        jempp_sample_options_init(&raw mut o, size_of_val(&o) as u32);
        o.steps = 3;
        well(go(&o, &mut out));
        well(go(&o, &mut again));
        assert!(
            out == again && out.iter().all(|v| (-1.0..=1.0).contains(v)) && out.iter().any(|v| *v != 0.0)
        );
        refused(go(&jempp_sample_options { labels: labels.as_ptr(), ..o }, &mut out), ARGUMENT, "class 10");
        let start = jempp_sample_options { start: again.as_ptr(), start_len: PIXELS, ..o };
        refused(go(&start, &mut out), ARGUMENT, "start_len is 64");
        refused(go(&jempp_sample_options { start_len: 5, ..o }, &mut out), ARGUMENT, "start_len is 5");
        refused(go(&jempp_sample_options { noise: f32::NAN, ..o }, &mut out), ARGUMENT, "noise is NaN");
        well(go(&jempp_sample_options { start_len: 3 * PIXELS, ..start }, &mut out));
        let before = out.clone();
        o.progress = Some(stop_at_two);
        o.user = (&raw mut told).cast();
        refused(go(&o, &mut out), JEMPP_ERR_CANCELLED, "stopped on request");
        assert_eq!((told, out), (302, before));
    }
}

#[test]
fn a_trainer_checks_its_configuration() {
    let context = context();
    let mut made = null_mut();
    let create = |config: &str, made: &mut *mut jempp_trainer| {
        // SAFETY: a NUL-terminated string, and space for a pointer.
        unsafe { jempp_trainer_create(context.0, c(config).as_ptr(), core::ptr::from_mut(made)) }
    };
    refused(create("[train]\nlearning = 1\n", &mut made), ARGUMENT, "learning");
    refused(create("not toml", &mut made), ARGUMENT, "the configuration");
    refused(create("", &mut made), ARGUMENT, "train.max_iters");
    refused(create("preset = \"digits\"\n[model]\nclasses = 3\n", &mut made), ARGUMENT, "10 classes");
}

#[test]
fn a_trainer_checks_what_it_is_given() {
    let context = context();
    let trainer = trainer(&context, CONFIG);
    let (x, mut y) = (vec![0f32; 4 * PIXELS], vec![0f32; 4 * PIXELS]);
    let (xp, labels, wrong) = (x.as_ptr(), [0i32, 1, 2, 3], [0i32, 1, 2, 10]);
    // SAFETY: zeros are a struct of size 0.
    let mut m: jempp_step_metrics = unsafe { core::mem::zeroed() };
    // SAFETY: four images, labels and chains; smaller numbers are within them.
    unsafe {
        let t = trainer.0;
        let l = labels.as_ptr();
        let none = null_mut();
        refused(
            jempp_trainer_step(t, xp, 3, xp, l, 4, null(), none, 0, null_mut()),
            ARGUMENT,
            "x_data holds 192",
        );
        refused(
            jempp_trainer_step(t, xp, 4, xp, l, 3, null(), none, 0, null_mut()),
            ARGUMENT,
            "x_labelled holds 192",
        );
        refused(
            jempp_trainer_step(t, null(), 4, xp, l, 4, null(), none, 0, null_mut()),
            ARGUMENT,
            "x_data is NULL",
        );
        refused(
            jempp_trainer_step(t, xp, 4, null(), l, 4, null(), none, 0, null_mut()),
            ARGUMENT,
            "x_labelled is NULL",
        );
        refused(
            jempp_trainer_step(t, xp, 4, xp, null(), 4, null(), none, 0, null_mut()),
            ARGUMENT,
            "labels is NULL",
        );
        let w = wrong.as_ptr();
        refused(jempp_trainer_step(t, xp, 4, xp, w, 4, null(), none, 0, null_mut()), ARGUMENT, "label 10");
        refused(
            jempp_trainer_step(t, xp, 4, xp, l, 4, xp, none, 3, null_mut()),
            ARGUMENT,
            "this trainer samples 4 chains",
        );
        refused(
            jempp_trainer_step(t, xp, 4, xp, l, 4, null(), none, 0, &raw mut m),
            ARGUMENT,
            "struct_size is 0",
        );
        m.struct_size = size_of_val(&m) as u32;
        well(jempp_trainer_step(t, xp, 4, xp, l, 4, null(), y.as_mut_ptr(), 4, &raw mut m));
    }
    assert!(m.step == 1 && m.loss.is_finite() && y.iter().any(|v| *v != 0.0));
}

#[test]
fn a_trainer_refuses_models_of_another_architecture() {
    let context = context();
    let wide =
        "preset = \"jempp\"\n[model]\ndepth = 10\nwiden_factor = 1\n[train]\nmax_iters = 9\nbatch_size = 4\n";
    let other = trainer(&context, wide);
    refused(jempp_trainer_load_model(other.0, model().0), ARGUMENT, "architecture differs");
    refused(step(other.0), ARGUMENT, "x_data holds");
}

#[test]
fn a_model_without_thresholds_does_not_decide() {
    let model = model();
    let x = [0f32; 2 * PIXELS];
    // SAFETY: zeros are decisions of size 0.
    let mut out: [jempp_decision; 2] = unsafe { core::mem::zeroed() };
    let decide = |out: &mut [jempp_decision]| {
        // SAFETY: two images and decisions.
        unsafe { jempp_decide(model.0, x.as_ptr(), 2, out.as_mut_ptr(), 2) }
    };
    refused(decide(&mut out), ARGUMENT, "struct_size is 0");
    out.iter_mut().for_each(|d| d.struct_size = size_of::<jempp_decision>() as u32);
    refused(decide(&mut out), JEMPP_ERR_FORMAT, "carries no thresholds");
    // SAFETY: zeros are a struct of size 0.
    let mut thresholds: jempp_thresholds = unsafe { core::mem::zeroed() };
    // SAFETY: a struct of `struct_size` bytes.
    let get = |out: &mut jempp_thresholds| unsafe { jempp_model_get_thresholds(model.0, out) };
    refused(get(&mut thresholds), ARGUMENT, "struct_size is 0");
    thresholds.struct_size = size_of::<jempp_thresholds>() as u32;
    refused(get(&mut thresholds), JEMPP_ERR_FORMAT, "carries no thresholds");
}

/// The thresholds and class names of a model are those of the Rust library.
fn describes(model: &Owned<jempp_model>, values: jempp::model::thresholds::ThresholdValues) {
    // SAFETY: zeros are a struct of size 0.
    let mut got: jempp_thresholds = unsafe { core::mem::zeroed() };
    got.struct_size = size_of::<jempp_thresholds>() as u32;
    // SAFETY: a struct of `struct_size` bytes.
    well(unsafe { jempp_model_get_thresholds(model.0, &raw mut got) });
    let [before, after] = values.fit.unwrap().nll.map(|v| v as f32);
    assert_eq!((got.images, got.temperature), (40, values.temperature as f32));
    assert_eq!((got.nll_before, got.nll_after), (before, after));
    assert_eq!((got.probability, got.alpha, got.ood_alpha), (values.probability as f32, 0.05, 0.05));
    assert_eq!(got.coverage, values.coverage.unwrap() as f32);
    let mut text = [1 as c_char; 32];
    let mut name = |label, len| {
        // SAFETY: at least `len` bytes.
        unsafe { jempp_model_class_name(model.0, label, text.as_mut_ptr(), len) }
    };
    refused(name(10, 32), ARGUMENT, "classes 0 to 9");
    refused(name(3, 5), ARGUMENT, "not the 14 needed");
    well(name(3, 32));
    // SAFETY: a NUL-terminated string.
    assert_eq!(unsafe { CStr::from_ptr(text.as_ptr()) }.to_str().unwrap(), "class “3”");
}

/// Decisions of a model with thresholds are those of the Rust library, even if a newer host has a longer struct.
#[test]
fn a_model_with_thresholds_decides() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, path) = (dir.path().join("plain.safetensors"), dir.path().join("model.safetensors"));
    let made = model();
    // SAFETY: a NUL-terminated path.
    well(unsafe { jempp_model_save(made.0, c_path(&plain).as_ptr()) });
    let device = jempp::Device::cpu(1);
    let mut own = jempp::Model::load(&device, &plain).unwrap();
    let images: Vec<f32> = (0..40 * PIXELS).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect();
    let labels: Vec<u16> = (0..40).map(|i| i % 10).collect();
    let scores = own.scores(&images).unwrap();
    let thresholds =
        jempp::model::thresholds::Thresholds::fit(&scores, (10, &labels), [0.05, 0.05], "").unwrap();
    let values = thresholds.values.clone();
    own.set_thresholds(thresholds);
    let names: Vec<String> = (0..10).map(|k| format!("class “{k}”")).collect();
    own.metadata.insert("class_names".into(), format!("{names:?}"));
    own.save(&path).unwrap();
    let want = own.decide(&images[..3 * PIXELS]).unwrap();

    #[repr(C)]
    struct Newer(jempp_decision, u64);
    let context = context();
    let mut model = null_mut();
    // SAFETY: a NUL-terminated path, and space for a pointer.
    well(unsafe { jempp_model_load(context.0, c_path(&path).as_ptr(), &raw mut model) });
    let model = Owned(model, jempp_model_free);
    // SAFETY: zeros are decisions of size 0.
    let mut out: [Newer; 3] = unsafe { core::mem::zeroed() };
    out.iter_mut().for_each(|d| (d.0.struct_size, d.1) = (size_of::<Newer>() as u32, 7));
    // SAFETY: three images and decisions, each of `struct_size` bytes.
    well(unsafe { jempp_decide(model.0, images.as_ptr(), 3, out.as_mut_ptr().cast(), 3) });
    for (got, want) in out.iter().zip(&want) {
        assert_eq!((got.0.label, got.0.probability), (want.label, want.probability));
        assert_eq!((got.0.log_density, got.0.ood_p_value), (want.log_density, want.ood_p_value));
        assert_eq!((got.0.abstain, got.1), (i32::from(want.abstain), 7));
    }
    describes(&model, values);
    out[0].0.struct_size += 1;
    // SAFETY: as above.
    let status = unsafe { jempp_decide(model.0, images.as_ptr(), 3, out.as_mut_ptr().cast(), 3) };
    refused(status, ARGUMENT, "no array of decisions");
}
