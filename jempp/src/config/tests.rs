//! Whole configurations: precedence, messages and the round trip through TOML.

use super::*;
use proptest::prelude::*;

fn from(toml: &str, overrides: &[&str]) -> Result<Config> {
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    Config::from_sources("digits", Some((toml, "run.toml")), &overrides)
}

fn message(toml: &str, overrides: &[&str]) -> String {
    from(toml, overrides).unwrap_err().to_string()
}

#[test]
fn presets_hold_what_they_promise() {
    let p = Config::preset("jempp").unwrap();
    assert_eq!((p.model.depth, p.model.widen_factor, p.model.bn_momentum), (28, 10, 0.9));
    assert_eq!((p.train.epochs, p.train.warmup_iters, p.train.weight_decay), (150, 1000, 4e-4));
    assert_eq!((p.sampler.buffer_size, p.sampler.noise, p.data.sigma), (10_000, 0.0, 0.03));
    let d = Config::from_sources("digits", None, &[]).unwrap();
    assert_eq!((d.model.depth, d.model.widen_factor, d.model.image_size), (10, 1, [8, 8, 1]));
    assert_eq!((d.train.epochs, d.train.decay_epochs.as_slice()), (55, &[27usize, 41, 49][..]));
    assert_eq!((d.train.lr, d.train.energy_l2, d.train.decay_rate), (0.1, 0.1, 0.2));
    assert_eq!((d.sampler.outer_steps, d.sampler.inner_steps, d.sampler.step_size), (10, 5, 0.2));
    assert!(d.sampler.clip_after_noise && !d.data.flip);
    assert_eq!((d.data.sigma, d.data.pad, d.data.valid_size), (0.1, 0, 0));
}

#[test]
fn jem_and_softmax_hold_what_they_promise() {
    let j = Config::preset("jem").unwrap();
    assert_eq!((j.train.optimizer, j.train.lr, j.train.weight_decay), (Optimizer::Adam, 1e-4, 0.0));
    assert_eq!(
        (j.train.epochs, j.train.decay_epochs.as_slice(), j.train.decay_rate),
        (200, &[160, 180][..], 0.3)
    );
    let s = &j.sampler;
    assert_eq!((s.outer_steps, s.inner_steps, s.step_size, s.sgld_lr, s.noise), (20, 1, 1.0, 0.0, 0.01));
    assert_eq!((s.clip, s.in_box, s.clip_after_noise, s.init), (0.0, false, false, Init::Uniform));
    assert_eq!((s.reinit_freq, s.uniform_reinit_freq, s.buffer_size), (0.05, 0.0, 10_000));
    let (soft, base) = (Config::preset("softmax").unwrap(), Config::preset("jempp").unwrap());
    assert_eq!((soft.train.p_x_weight, soft.train.p_y_given_x_weight), (0.0, 1.0));
    assert_eq!((soft.model, soft.data, soft.train.lr), (base.model, base.data, 0.1));
}

#[test]
fn noise_on_images_for_p_x_is_that_of_the_others_unless_it_is_given() {
    let sigma = |overrides: &[&str]| from("", overrides).unwrap().data.sigma_of_p_x();
    assert_eq!((sigma(&[]), sigma(&["data.sigma=0.3"])), (0.1, 0.3));
    assert_eq!(sigma(&["data.p_x_augment=false"]), 0.0);
    for augment in ["data.p_x_augment=false", "data.p_x_augment=true"] {
        assert_eq!(
            (sigma(&[augment, "data.p_x_sigma=0"]), sigma(&[augment, "data.p_x_sigma=0.2"])),
            (0.0, 0.2)
        );
    }
    assert_eq!(Config::preset("modern").unwrap().data.sigma_of_p_x(), 0.0);
}

#[test]
fn later_sources_win() {
    let c = from("[train]\nlr = 0.3\nepochs = 7\n", &["train.lr=1", "data.dataset=/a/b.npz"]).unwrap();
    assert_eq!((c.train.lr, c.train.epochs, c.data.dataset.as_str()), (1.0, 7, "/a/b.npz"));
    assert_eq!(from("", &["train.lr=0.1", "train.lr = 0.2"]).unwrap().train.lr, 0.2);
    assert_eq!(from("preset = \"jempp\"", &[]).unwrap().model.depth, 28);
    assert_eq!(from("preset = \"jempp\"", &["preset=digits"]).unwrap().model.depth, 10);
    assert_eq!(from("preset = \"jempp\"\n[model]\ndepth=16", &[]).unwrap().model.depth, 16);
    assert_eq!(from("", &["data.dataset=2024"]).unwrap().data.dataset, "2024");
    assert_eq!(from("", &["train.plc=eval"]).unwrap().train.plc, Plc::Eval);
    assert_eq!(from("", &["train.decay_epochs=[1, 2]"]).unwrap().train.decay_epochs, [1, 2]);
    assert!(from("train.lr = 0.5\nsampler = { literal = true }", &[]).unwrap().sampler.literal);
}

#[test]
fn unknown_keys_come_with_a_suggestion() {
    assert_eq!(
        message("[train]\nlrr = 1", &[]),
        "run.toml: unknown key `train.lrr`; did you mean `train.lr`?"
    );
    assert_eq!(message("", &["lr=0.1"]), "command line: unknown key `lr`; did you mean `train.lr`?");
    assert!(message("[trian]\nlr = 1", &[]).contains("`trian.lr`; did you mean `train.lr`?"));
    assert!(message("[optimizer]", &[]).contains("unknown key `optimizer`"));
    assert!(message("", &["train.lr.x=1"]).contains("unknown key"));
    assert!(message("", &["=1"]).contains("unknown key ``"));
    assert!(message("", &["train.lr"]).ends_with("not of the form key=value"));
    assert!(message("", &["softmax"]).ends_with("did you mean preset=softmax?"));
    assert!(message("", &["src"]).ends_with("did you mean data.dataset=src?"));
}

#[test]
fn wrong_types_name_key_found_and_expected() {
    assert_eq!(
        message("", &["train.lr=abc"]),
        "command line: `train.lr` expects a number, got the string \"abc\""
    );
    for (o, part) in [
        ("train.epochs=1.5", "expects a whole number, 0 or above, got the number 1.5"),
        ("train.epochs=-1", "got the number -1"),
        ("data.flip=yes", "expects true or false, got the string \"yes\""),
        ("train.plc=late", "expects one of \"alltrain1\", \"alltrain2\", \"eval\", got the string \"late\""),
        ("preset=cifar", "expects one of \"jempp\", \"digits\", \"jem\", \"softmax\""),
        ("model.norm=group", "expects one of \"batch\", \"instance\", \"layer\", \"act\", \"none\", got"),
        ("model.image_size=[8, 8]", "expects a list of 3 whole numbers"),
        ("train.decay_epochs=3", "expects a list of whole numbers"),
        ("train=3", "`train` is a section of keys, got the number 3"),
        ("seed=18446744073709551615", "expects a whole number"),
    ] {
        let m = message("", &[o]);
        assert!(m.contains(part), "{o}: {m}");
    }
    assert!(message("[train.lr]\nx = 1", &[]).contains("`train.lr` expects a number, got a table"));
    let syntax = message("[train\nlr = 1", &[]);
    assert!(syntax.starts_with("run.toml: ") && syntax.contains("line 1"), "{syntax}");
    assert!(message("[train]\nlr = 1\nlr = 2", &[]).contains("duplicate key"));
}

#[test]
fn ranges_are_checked() {
    for (o, part) in [
        ("train.lr=nan", "`train.lr` = NaN: must be a finite number above 0"),
        ("train.lr=0", "`train.lr` = 0: must be a finite number above 0"),
        ("train.lr=inf", "must be a finite number above 0"),
        ("train.beta2=1", "`train.beta2` = 1: must be a finite number at least 0 and below 1"),
        ("train.ema=1", "`train.ema` = 1: must be a finite number at least 0 and below 1"),
        ("train.lr_min=0.2", "`train.lr_min` = 0.2: must be a finite number at least 0 and at most 0.1"),
        ("train.momentum=1", "`train.momentum` = 1: must be a finite number at least 0 and below 1"),
        ("model.depth=12", "`model.depth` = 12: must be 6n + 4"),
        ("model.classes=1", "`model.classes` = 1: must be at least 2 and at most 65536"),
        ("model.image_size=[0, 8, 1]", "`model.image_size` = [0, 8, 1]"),
        ("data.pad=8", "`data.pad` = 8: must be at least 0 and below 8"),
        ("train.decay_epochs=[3, 3]", "`train.decay_epochs` = [3, 3]: must rise"),
        ("sampler.uniform_reinit_freq=0.96", "must be at most 1 − sampler.reinit_freq, which is 0.05"),
        ("sampler.buffer_size=0", "`sampler.buffer_size` = 0"),
        ("data.dataset=", "`data.dataset`"),
        ("train.batch_size=0", "`train.batch_size` = 0"),
        ("model.dropout=1", "`model.dropout` = 1: must be a finite number at least 0 and below 1"),
    ] {
        let m = message("", &[o]);
        assert!(m.contains(part), "{o}: {m}");
    }
    assert!(message("", &["train.ema=0.9", "eval.bn=running"]).contains("while eval.bn is \"running\""));
    assert!(from("", &["train.ema=0.9", "eval.bn=running", "train.bn=frozen"]).is_ok());
    assert!(message("", &["train.bn=frozen", "model.norm=layer"]).contains("`train.bn` = frozen"));
    assert!(message("", &["train.sam_rho=1", "train.plc=eval"]).contains("`train.sam_rho` = 1"));
    assert!(message("", &["data.p_x_sigma=-0.5"]).contains("`data.p_x_sigma` = -0.5"));
    assert!(
        message("", &["train.p_x_weight=0", "train.p_y_given_x_weight=0"]).contains("nothing is trained")
    );
    assert!(message("", &["train.p_x_weight=0", "model.energy_head=true"]).contains("nothing would train"));
    assert!(from("", &["train.p_x_weight=0", "train.p_x_y_weight=1", "model.energy_head=true"]).is_ok());
    let mut c = Config::preset("digits").unwrap();
    c.seed = u64::MAX;
    assert!(c.validate().is_err() && c.to_toml().is_err());
}

#[test]
fn written_toml_is_complete_and_described() {
    let c = Config::preset("digits").unwrap();
    let text = c.to_toml().unwrap();
    for key in keys::all() {
        assert!(text.contains(&format!("# {}\n# (", key.doc)), "{}", key.name);
    }
    assert_eq!(text.matches("; default ").count(), keys::all().count());
    let lr = "# Learning rate after the warm-up.\n# (number; above 0; per unit of gradient; default 0.1)\nlr = 0.3\n";
    let changed = Config { train: TrainConfig { lr: 0.3, ..c.train.clone() }, ..c.clone() };
    assert!(changed.to_toml().unwrap().contains(lr));
    assert_eq!(changed.changes().unwrap(), ["train.lr=0.3"]);
    // The document is complete: no value comes from the other preset.
    let other = text.replace("preset = \"digits\"", "preset = \"jempp\"");
    let back = Config::from_sources("jempp", Some((&other, "x")), &[]).unwrap();
    assert_eq!(Config { preset: "digits".to_string(), ..back }, c);
}

/// The result of merging with a table of renamed and removed keys made for the test.
fn merged(toml: &str, overrides: &[&str]) -> (Result<Config>, Vec<String>) {
    use retired::Fate::{Gone, Renamed};
    let table = [
        ("train.rate", Renamed("train.lr")),
        ("name", Renamed("data.dataset")),
        ("old.part", Gone("it did nothing")),
        ("train.twice", Gone("once is enough")),
    ];
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    match merge::merge("digits", Some((toml, "run.toml")), &overrides, &table) {
        Ok(m) => (m.config.validate().map(|()| m.config), m.warnings),
        Err(e) => (Err(e), Vec::new()),
    }
}

#[test]
fn renamed_keys_give_their_value_to_the_new_name() {
    let (c, said) = merged("[train]\nrate = 1", &[]);
    assert_eq!(c.unwrap().train.lr, 1.0);
    assert_eq!(said, ["run.toml: `train.rate` is now called `train.lr`"]);
    let (c, said) = merged("", &["train.rate=0.3", "name=2024"]);
    let c = c.unwrap();
    assert_eq!((c.train.lr, c.data.dataset.as_str(), said.len()), (0.3, "2024", 2));
    assert!(said[1].starts_with("command line: `name` is now called `data.dataset`"));
    // A later source wins under either name; in one source the new name does.
    assert_eq!(merged("train.rate = 0.3", &["train.lr=0.4"]).0.unwrap().train.lr, 0.4);
    assert_eq!(merged("train.lr = 0.3", &["train.rate=0.4"]).0.unwrap().train.lr, 0.4);
    let (c, said) = merged("", &["train.lr=0.3", "train.rate=0.4"]);
    assert_eq!(c.unwrap().train.lr, 0.3);
    assert_eq!(said, ["command line: `train.rate` is ignored: it is now `train.lr`, which is given too"]);
    // A wrong value is an error of the new name.
    let wrong = merged("", &["train.rate=fast"]).0.unwrap_err().to_string();
    assert_eq!(wrong, "command line: `train.lr` expects a number, got the string \"fast\"");
    // What is written has the new name only.
    let text = merged("train.rate = 0.3", &[]).0.unwrap().to_toml().unwrap();
    assert!(text.contains("\nlr = 0.3\n") && !text.contains("rate = 0.3"), "{text}");
}

#[test]
fn removed_keys_are_ignored_with_a_warning() {
    let (c, said) = merged("[old]\npart = { a = 1 }\n[train]\ntwice = \"what\"", &["train.twice=nan"]);
    assert!(c.unwrap_err().to_string().contains("unknown key `old.part.a`"));
    assert!(said.is_empty());
    let (c, said) = merged("[old]\npart = 1\n[train]\ntwice = \"what\"", &["train.twice=nan"]);
    assert_eq!(c.unwrap(), Config::preset("digits").unwrap());
    assert_eq!(
        said,
        [
            "run.toml: `old.part` is ignored: it did nothing",
            "run.toml: `train.twice` is ignored: once is enough",
            "command line: `train.twice` is ignored: once is enough",
        ]
    );
}

#[test]
fn the_batch_size_of_evaluation_is_gone() {
    let old = Config::preset("jempp").unwrap().to_toml().unwrap() + "batch_size = 64\n";
    assert_eq!(from(&old, &["eval.batch_size=3"]).unwrap(), Config::preset("jempp").unwrap());
    let sources = (Some((old.as_str(), "run.toml")), ["eval.batch_size=3".to_string()]);
    let merged = merge::merge("digits", sources.0, &sources.1, retired::RETIRED).unwrap();
    assert!(!merged.given.contains("eval.batch_size"));
    let [file, line] = &merged.warnings[..] else { panic!("{:?}", merged.warnings) };
    assert!(file.starts_with("run.toml: `eval.batch_size` is ignored: "), "{file}");
    assert!(line.starts_with("command line: `eval.batch_size` is ignored: "), "{line}");
}

proptest! {
    #[test]
    fn toml_reads_back_equal(
        seed in 0..=i64::MAX as u64, lr in 1e-12..1e12f64, wd in 0.0..1.0f64, limit in 1e-300..1e300f64,
        name in "[^\\p{Cc}]{0,8}[\"'\\\\\n\t#=a]", epochs in proptest::collection::btree_set(0usize..1000, 0..5),
    ) {
        let mut c = Config::preset("jempp").unwrap();
        (c.seed, c.train.lr, c.train.weight_decay, c.train.loss_limit) = (seed, lr, wd, limit);
        c.data.dataset = format!("d{name}");
        c.train.decay_epochs = epochs.into_iter().collect();
        let text = c.to_toml().unwrap();
        prop_assert_eq!(Config::from_sources("digits", Some((&text, "x")), &[]).unwrap(), c);
    }

    #[test]
    fn no_input_panics(doc in ".{0,60}", key in "[a-z_.]{0,12}", value in ".{0,12}") {
        let _ = Config::from_sources("digits", Some((&doc, "x")), &[format!("{key}={value}")]);
        let _ = Config::from_sources("digits", None, &[value]);
    }
}
