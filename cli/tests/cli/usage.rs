//! Help, usage errors, configuration, devices, measurements.

use super::{Place, TINY};

#[test]
fn every_command_has_help_with_examples() {
    let place = Place::empty();
    let commands: [&[&str]; 13] = [
        &["train"],
        &["sample"],
        &["predict"],
        &["eval"],
        &["eval", "accuracy"],
        &["convert"],
        &["inspect"],
        &["devices"],
        &["bench"],
        &["bench", "train-step"],
        &["bench", "sample-step"],
        &["bench", "ops"],
        &["completions"],
    ];
    let all = place.run(&["--help"]).ok();
    for command in commands {
        let help = place.run(&[command, &["--help"]].concat()).ok();
        assert!(help.contains("Usage: jempp-cli") && help.contains("Examples:"), "{command:?}: {help}");
        assert!(all.contains(command[0]), "{command:?} is not in the overview");
    }
    assert!(place.run(&["--version"]).ok().starts_with("jempp-cli "));
    assert!(place.names().is_empty());
}

#[test]
fn wrong_usage_is_2_with_a_suggestion() {
    let place = Place::empty();
    for (args, hint) in [
        (&["smaple"][..], "'sample'"),
        (&["train", "--dri-run"], "--dry-run"),
        (&["eval", "acuracy"], "'accuracy'"),
        (&["sample", "--model", "m", "--start", "infromative"], "'informative'"),
    ] {
        let err = place.run(args).fails(2);
        assert!(err.contains("similar") && err.contains(hint), "{err}");
    }
    place.run(&[]).fails(2);
    place.run(&["predict", "--model", "m"]).fails(2);
    place.run(&["sample", "--model", "m", "--class", "1", "--by-class"]).fails(2);
}

#[test]
fn options_of_a_gpu_are_refused_on_the_cpu() {
    let place = Place::empty();
    for device in ["auto", "cpu"] {
        let err = place.run(&["train", "--precision", "tf32", "--device", device]).fails(2);
        assert!(err.contains("--precision tf32"), "{err}");
        assert!(err.contains("--device cuda:0") && err.contains("jempp-cli devices"), "{err}");
        let err = place.run(&["train", "--batch-norm", "cudnn", "--device", device]).fails(2);
        assert!(err.contains("--batch-norm cudnn needs a GPU") && err.contains("--device cuda:0"), "{err}");
    }
    assert!(place.names().is_empty());
    // With a GPU named, the command fails because there is no such GPU.
    place.run(&["train", "--precision", "bf16", "--device", "cuda:99", "--dry-run"]).fails(4);
}

#[test]
fn bf16_on_the_cpu_computes_and_says_where_it_is_slow() {
    let place = Place::empty();
    let bench = |simd: &str, more: &[&str]| {
        let small = ["train.batch_size=4", "sampler.buffer_size=20", "sampler.outer_steps=1", "--iters", "1"];
        let args = [&["bench", "train-step", "--precision", "bf16"], &small[..], more].concat();
        place.run_with(&[("JEMPP_SIMD", simd)], &args)
    };
    let done = bench("avx2", &[]);
    assert!(done.err.contains("slower than --precision f32"), "{}", done.err);
    assert!(done.ok().contains("bf16 products emulated"));
    let quiet = bench("portable", &["-q"]);
    assert!(quiet.err.is_empty(), "{}", quiet.err);
    let best = bench("", &[]);
    assert_eq!(best.err.contains("slower"), best.out.contains("emulated"));
    assert!(best.ok().contains("bf16 products"));
}

#[test]
fn configuration_is_printed_and_reads_back() {
    let place = Place::empty();
    let text = place.run(&["train", "--print-config", "train.lr=0.05", "--seed", "7"]).ok();
    std::fs::write(place.path().join("run.toml"), &text).unwrap();
    let back = place.run(&["train", "-c", "run.toml", "--print-config"]).ok();
    assert_eq!(text, back);
    assert!(text.contains("lr = 0.05") && text.contains("seed = 7"));
    // A preset for photographs adapts to the data set named; without one it is unchanged.
    let fits = place.run(&["train", "--print-config", "preset=jem", "data.dataset=digits"]).ok();
    assert!(fits.contains("image_size = [8, 8, 1]") && fits.contains("valid_size = 0"), "{fits}");
    let plain = place.run(&["train", "--print-config", "preset=jem"]).ok();
    assert!(plain.contains("image_size = [32, 32, 3]") && plain.contains("valid_size = 5000"), "{plain}");
    assert!(
        [&fits, &plain].iter().all(|t| t.contains("optimizer = \"adam\"") && t.contains("in_box = false"))
    );
}

#[test]
fn retired_keys_warn_and_are_not_written() {
    let place = Place::empty();
    std::fs::write(place.path().join("old.toml"), "[eval]\nbatch_size = 64\nece_bins = 7\n").unwrap();
    let done = place.run(&["train", "-c", "old.toml", "--print-config", "eval.batch_size=8"]);
    for source in ["old.toml", "command line"] {
        assert!(done.err.contains(&format!("{source}: `eval.batch_size` is ignored")), "{}", done.err);
    }
    let text = done.ok();
    let (_, eval) = text.split_once("[eval]").unwrap();
    assert!(eval.contains("ece_bins = 7") && !eval.contains("batch_size ="), "{eval}");
}

#[test]
fn wrong_configurations_are_3_and_say_where() {
    let place = Place::empty();
    let err = place.run(&["train", "train.lrr=1"]).fails(3);
    assert!(err.contains("`train.lrr`") && err.contains("did you mean `train.lr`?"), "{err}");
    let err = place.run(&["train", "train.lr=abc"]).fails(3);
    assert!(err.contains("expects a number, got the string \"abc\""), "{err}");
    std::fs::write(place.path().join("bad.toml"), "[train\nlr = 1").unwrap();
    let err = place.run(&["train", "-c", "bad.toml"]).fails(3);
    assert!(err.contains("bad.toml") && err.contains("line 1"), "{err}");
    assert!(place.run(&["train", "-c", "none.toml"]).fails(3).contains("none.toml: there is no such file"));
    let err = place.run(&["train", "data.dataset=mnist"]).fails(3);
    assert!(err.contains("mnist"), "{err}");
    assert_eq!(place.names(), ["bad.toml"]);
}

#[test]
fn dry_run_prints_the_cost_and_writes_nothing() {
    let place = Place::empty();
    let out = place.run(&[&["train", "--dry-run"], TINY].concat()).ok();
    for word in ["parameters", "77898", "GFLOP", "per epoch", "3 in total"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    assert!(place.names().is_empty());
}

#[test]
fn a_missing_gpu_is_4_and_auto_is_the_cpu() {
    let place = Place::empty();
    let devices = place.run(&["devices", "--json"]).json();
    assert!(devices["cpu"]["threads"].as_u64().unwrap() >= 1);
    assert!(devices["libraries"].as_array().unwrap().len() >= 4);
    assert!(place.run(&["devices"]).ok().contains("CUDA libraries"));
    if devices["gpus"].as_array().unwrap().is_empty() {
        let err = place.run(&["train", "--device", "cuda:0"]).fails(4);
        assert!(err.contains("cuda:0") && err.contains("jempp-cli devices"), "{err}");
        let why = devices["no_gpu"].as_str().unwrap();
        assert!(err.contains(why), "{err}");
        place.run(&["bench", "train-step", "--device", "cuda:0"]).fails(4);
        place.run(&["devices", "--device", "cuda:0"]).fails(4);
    } else {
        println!("skipped: this machine has a GPU");
    }
    for name in ["cuda:x", "gpu", "cuda"] {
        assert!(place.run(&["train", "--device", name]).fails(4).contains("use auto, cpu or cuda:N"));
    }
    place.run(&[&["train", "--device", "auto", "--dry-run"], TINY].concat()).ok();
    assert!(place.names().is_empty());
}

#[test]
fn a_training_step_is_timed_in_one_line_of_json() {
    let place = Place::empty();
    let small = ["model.depth=10", "model.widen_factor=1", "model.image_size=[8, 8, 3]", "data.pad=2"];
    let sizes = ["train.batch_size=8", "sampler.outer_steps=2", "sampler.buffer_size=50"];
    let base = [&["bench", "train-step", "--threads", "1"][..], &small, &sizes].concat();
    let t = place.run(&[&base[..], &["--iters", "4", "--warmup", "1", "--json"]].concat()).json();
    let number = |key: &str| t[key].as_f64().unwrap_or_else(|| panic!("{key}: {t}"));
    assert!(number("min_s") > 0.0 && number("median_s") >= number("min_s") && number("gflops") > 0.0);
    assert_eq!((number("iterations"), number("threads")), (4.0, 1.0));
    assert!(number("planned_bytes") > 1e5 && number("parameters") > 7e4);
    assert!(t["device"].as_str().unwrap().contains("CPU"));
    let out = place.run(&[&base[..], &["--iters", "1", "--print-plan"]].concat()).ok();
    for word in ["Langevin step", "Training step", "pyld_step", "GFLOP/s"] {
        assert!(out.contains(word), "{word}");
    }
    place.run(&[&base[..], &["--iters", "0"]].concat()).fails(3);
    assert!(place.names().is_empty());
    assert!(t.get("profile").is_none());
    // The profile: each op of an iteration is counted once, the slowest first.
    let with = [&base[..], &["--iters", "2", "--warmup", "1", "--profile"]].concat();
    let t = place.run(&[&with[..], &["--json"]].concat()).json();
    let nodes = t["profile"].as_array().unwrap();
    let of = |op: &str| nodes.iter().find(|n| n["op"] == op).unwrap();
    assert_eq!((of("pyld_step")["runs"].as_f64(), of("sgd")["runs"].as_f64()), (Some(2.0), Some(1.0)));
    let seconds = |n: &serde_json::Value| n["seconds"].as_f64().unwrap();
    assert!(nodes.windows(2).all(|w| seconds(&w[0]) >= seconds(&w[1])));
    let flops: f64 = nodes.iter().map(|n| n["flops"].as_f64().unwrap()).sum();
    assert!(flops >= t["flops"].as_f64().unwrap(), "the profile includes the initialisation of the chains");
    let text = place.run(&with).ok();
    assert!(text.contains("conv2d_weight_grad") && text.contains("GFLOP/s"), "{text}");
}

#[test]
fn ops_are_timed_and_compared_with_the_machines_limits() {
    let place = Place::empty();
    let base = ["bench", "ops", "--threads", "1"];
    let t = place.run(&[&base[..], &["softmax_cross_entropy/loss", "--json"]].concat()).json();
    let ceiling = &t["ceiling"];
    assert!(ceiling["gflop_per_s"].as_f64().unwrap() > 0.0 && ceiling["threads"] == 1);
    assert!(ceiling["copies"].as_array().unwrap().len() > 3);
    let rows = t["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    let number = |key: &str| rows[0][key].as_f64().unwrap();
    assert!(number("min_ms") > 0.0 && number("median_ms") >= number("min_ms"));
    assert!((number("percent") - 100.0 * number("rate") / number("ceiling")).abs() < 1e-6);
    let text = place.run(&[&base[..], &["--filter", "softmax_cross_entropy"]].concat()).ok();
    assert!(text.contains("GFLOP/s in registers") && text.contains("of ceiling"), "{text}");
    let at =
        |level| place.run_with(&[("JEMPP_SIMD", level)], &[&base[..], &["softmax_cross_entropy"]].concat());
    assert!(at("portable").ok().contains("portable"));
    assert!(at("avx3").fails(3).contains("did you mean avx2?"));
    let err = place.run(&["bench", "ops", "no_such_op"]).fails(3);
    assert!(err.contains("no_such_op") && err.contains("conv2d"), "{err}");
    place.run(&["bench", "ops", "a", "--filter", "b"]).fails(2);
    assert!(place.names().is_empty());
}

#[test]
fn a_chain_step_is_timed_at_several_batch_sizes() {
    let place = Place::empty();
    let base = [
        "bench",
        "sample-step",
        "preset=digits",
        "--steps",
        "3",
        "--threads",
        "1",
        "--batch",
        "1",
        "--batch",
        "4",
    ];
    let t = place.run(&[&base[..], &["--json"]].concat()).json();
    let steps = t["steps"].as_array().unwrap();
    let of = |i: usize, key: &str| steps[i][key].as_f64().unwrap();
    assert_eq!((steps.len(), of(0, "batch"), of(1, "batch")), (2, 1.0, 4.0));
    assert!(of(0, "min_s") > 0.0 && of(0, "median_s") >= of(0, "min_s"));
    assert!((of(1, "images_per_second") * of(1, "median_s") - 4.0).abs() < 1e-9);
    assert!(of(1, "flops") > 3.9 * of(0, "flops"));
    assert!(place.run(&base).ok().contains("images/s"));
    place.run(&["bench", "sample-step", "--batch", "0"]).fails(3);
    assert!(place.names().is_empty());
}

#[test]
fn completions_name_the_commands() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).ok();
        assert!(script.contains("jempp-cli") && script.contains("train-step"), "{shell}");
    }
}
