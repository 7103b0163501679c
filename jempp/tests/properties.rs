//! Identities of JEM++: the informative distribution, the Langevin program, programs that share a state, the replay buffer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use engine::rng::Stream;
use engine::{Device, Spec, State};
use jempp::config::{Config, Init};
use jempp::network::Network;
use jempp::sampling::{self, Langevin, LangevinSpec, RoundPlan, TrainingImages};
use jempp::streams;
use jempp::train::{Batch, BatchIndices, Counters, Options, TrainStep};
use jempp_data::Dataset;
use proptest::prelude::*;

/// 40 random 2×3 grey images of two classes, 15 and 25 of each, with correlated pixels.
fn small_set() -> Dataset {
    let mut rng = engine::rng::Philox::new(3, Stream::TEST, 0);
    let mut images = Vec::new();
    let mut labels = Vec::new();
    for i in 0..40 {
        let class = u16::from(i % 8 >= 3);
        let base = 60.0 + 80.0 * f32::from(class) + 25.0 * rng.normal();
        images.extend((0..6).map(|p| (base + 5.0 * p as f32 + 12.0 * rng.normal()).clamp(20.0, 235.0) as u8));
        labels.push(class);
    }
    Dataset::new("small", [2, 3, 1], 2, images, labels).unwrap()
}

/// Mean and covariance of the informative draws against μ and Σ + 10⁻⁴I, formed directly from the images.
#[test]
fn informative_draws_have_the_mean_and_covariance_of_their_class() {
    let set = small_set();
    let all: Vec<u32> = (0..40).collect();
    let device = Device::cpu(2);
    let mut state = State::new();
    let seed = sampling::seed_slot(&mut state, 7).unwrap();
    let (images, rows) = TrainingImages::new(&mut state, &set, &all, seed).unwrap();
    assert!(rows.len() == 40 && (0..40).all(|row| rows.contains(&row)));
    let n = 40_000;
    for class in 0..2u16 {
        let members: Vec<Vec<f64>> = all
            .iter()
            .filter(|i| set.labels()[**i as usize] == class)
            .map(|i| set.image(*i).unwrap().iter().map(|u| f64::from(*u) / 127.5 - 1.0).collect())
            .collect();
        let count = members.len() as f64;
        let mean: Vec<f64> = (0..6).map(|p| members.iter().map(|m| m[p]).sum::<f64>() / count).collect();
        let classes = vec![i32::from(class); n];
        let place = (Stream::TEST, u32::from(class));
        let spec = Spec::f32(&[1, 2, 3, 1]);
        let draws =
            sampling::fresh(&device, &mut state, images, spec, &classes, Init::Informative, place).unwrap();
        let at = |i: usize, p: usize| f64::from(draws[i * 6 + p]);
        for p in 0..6 {
            let m = (0..n).map(|i| at(i, p)).sum::<f64>() / n as f64;
            assert!((m - mean[p]).abs() < 5e-3, "class {class}, pixel {p}: mean {m}, not {}", mean[p]);
            for q in 0..6 {
                let direct = members.iter().map(|v| (v[p] - mean[p]) * (v[q] - mean[q])).sum::<f64>() / count
                    + if p == q { 1e-4 } else { 0.0 };
                let got = (0..n).map(|i| (at(i, p) - mean[p]) * (at(i, q) - mean[q])).sum::<f64>() / n as f64;
                // Four standard errors of a covariance estimate.
                assert!(
                    (got - direct).abs() < 4.0 * 0.09 / (n as f64).sqrt() + 1e-4,
                    "({p}, {q}): {got}, not {direct}"
                );
            }
        }
    }
}

#[test]
fn a_langevin_step_records_no_weight_gradient_and_follows_its_labels() {
    let config = Config::preset("digits").unwrap();
    let device = Device::cpu(1);
    for (conditional, literal) in [(false, false), (true, false), (false, true)] {
        let mut s = config.sampler.clone();
        s.literal = literal;
        let mut state = State::new();
        let network = Network::new(&mut state, &config.model).unwrap();
        network.initialise(&mut state, 1).unwrap();
        let seed = sampling::seed_slot(&mut state, 1).unwrap();
        let chain = state.add("chain", network.images(5)).unwrap();
        let counter = sampling::counter_slot(&mut state, 3).unwrap();
        let spec = LangevinSpec {
            sampler: &s,
            chain,
            seed,
            counter,
            conditional,
            accumulate: None,
            dropout: false,
            stream: streams::LANGEVIN,
        };
        let mut l = Langevin::new(&device, &network, &spec).unwrap();
        for op in ["conv2d_weight_grad", "linear_weight_grad", "sum_rows", "sgd"] {
            assert_eq!(l.plan().count(op), 0, "{op}");
        }
        assert!(l.plan().count("conv2d_input_grad") > 0);
        let labels = [1, 2, 3, 4, 5];
        let labels = conditional.then_some(&labels[..]);
        // Ascent: the energy after twenty steps is above that at the start.
        let mut energy = || {
            l.run(&mut state, labels).unwrap();
            l.energy().unwrap()
        };
        let first = energy();
        let last = (1..20).map(|_| energy()).last().unwrap();
        assert!(last > first + 1e-3, "{first} to {last}");
        let moved = state.get::<f32>(chain).unwrap();
        assert!(moved.iter().all(|v| (-1.0..=1.0).contains(v)) && moved.iter().any(|v| *v != 0.0));
        assert_eq!(state.get::<i32>(counter).unwrap(), [23], "each step counts itself");
    }
}

#[test]
fn draws_follow_the_frequencies_and_the_labels() {
    let mut s = Config::preset("digits").unwrap().sampler;
    (s.reinit_freq, s.uniform_reinit_freq, s.buffer_size) = (0.2, 0.1, 1000);
    let offsets = [0, 100, 400];
    let plan = RoundPlan::new(&s, 20_000, 1, 5, &offsets, None);
    assert_eq!(plan, RoundPlan::new(&s, 20_000, 1, 5, &offsets, None));
    assert_ne!(plan.index, RoundPlan::new(&s, 20_000, 1, 6, &offsets, None).index);
    let fraction = |k: i32| plan.kind.iter().filter(|v| **v == k).count() as f64 / 20_000.0;
    assert!((fraction(1) - 0.2).abs() < 0.015 && (fraction(2) - 0.1).abs() < 0.015);
    let ones = plan.class.iter().filter(|c| **c == 1).count() as f64 / 20_000.0;
    assert!((ones - 0.75).abs() < 0.015, "class by its frequency in the data, {ones}");
    assert!(plan.index.iter().all(|i| (0..1000).contains(i)));
    let labels: Vec<i32> = (0..1000).map(|i| i % 2).collect();
    let y = RoundPlan::new(&s, 1000, 1, 5, &offsets, Some(&labels));
    assert!(y.index.iter().zip(&labels).all(|(i, l)| i / 500 == *l) && y.class == labels);
}

fn tiny_trainer(overrides: &[&str]) -> (TrainStep, Dataset) {
    let mut all = vec![
        "model.image_size=[4,4,1]",
        "model.classes=2",
        "train.batch_size=6",
        "sampler.buffer_size=20",
        "sampler.outer_steps=2",
        "data.pad=0",
    ];
    all.extend(overrides);
    let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    let config = Config::from_sources("digits", None, &all).unwrap();
    let images: Vec<u8> = (0..30 * 16).map(|i| (i * 37 % 251) as u8).collect();
    let set = Dataset::new("tiny", [4, 4, 1], 2, images, (0..30).map(|i| i % 2).collect()).unwrap();
    let train: Vec<u32> = (0..30).collect();
    let t = TrainStep::new(&config, &Device::cpu(1), Some((&set, &train)), Options::default()).unwrap();
    (t, set)
}

/// The sampling programs write the chains that the training program reads, and that one writes the weights that the
/// sampling programs read.
#[test]
fn programs_that_share_a_state_see_each_others_assigns() {
    let (mut t, _) = tiny_trainer(&[]);
    let x = vec![0.1; 6 * 16];
    let labels = [0, 1, 0, 1, 0, 1];
    let batch = Batch { x_data: &x, x_labelled: &x, labels: &labels, chain_start: None };
    let buffer = t.buffer().unwrap().unwrap().to_vec();
    t.step(&batch, 0.1).unwrap();
    let changed = t.buffer().unwrap().unwrap();
    let rows = buffer.chunks(16).zip(changed.chunks(16)).filter(|(a, b)| a != b).count();
    assert!((1..=6).contains(&rows), "{rows} rows of the buffer changed");
    let chains = t.chains().unwrap();
    // Of chains that share a row the last one stays; the last of all is there in any case.
    let is_chain = |row: &[f32]| chains.chunks(16).any(|c| c == row);
    assert!(buffer.chunks(16).zip(changed.chunks(16)).all(|(a, b)| a == b || is_chain(b)));
    assert!(changed.chunks(16).any(|b| b == &chains[5 * 16..]));
}

/// With p(x, y) trained as well there is a second set of chains; all terms move the weights.
#[test]
fn every_term_of_the_loss_trains() {
    for overrides in [
        &["train.p_x_y_weight=1", "train.p_x_weight=0", "train.energy_l2=0"][..],
        &["train.p_x_y_weight=1"],
        &["train.p_x_weight=0", "train.energy_l2=0"],
        &["train.plc=\"eval\""],
        &["train.plc=\"alltrain2\""],
        &["train.labelled_batch_size=4"],
        &["model.energy_head=true", "train.p_x_y_weight=1", "train.p_x_weight=0", "train.energy_l2=0"],
        &["model.energy_head=true", "train.p_x_y_weight=1", "model.norm=act", "model.dropout=0.2"],
        &["model.energy_head=true", "train.plc=\"eval\"", "model.norm=layer"],
        &["train.plc=\"alltrain2\"", "model.norm=instance", "sampler.literal=true", "model.dropout=0.2"],
        &["train.plc=\"eval\"", "model.norm=none", "model.dropout=0.2"],
    ] {
        let (mut t, _) = tiny_trainer(overrides);
        let n = if overrides[0].contains("labelled_batch") { 4 } else { 6 };
        let (x, y) = (vec![0.1; 6 * 16], vec![-0.3; n * 16]);
        let labels = [0, 1, 0, 1, 0, 1];
        let batch = Batch { x_data: &x, x_labelled: &y, labels: &labels[..n], chain_start: None };
        let before = t.state().get::<f32>(t.network().parameters[0].slot).unwrap().to_vec();
        let m = t.step(&batch, 0.1).unwrap();
        assert!(m.loss.is_finite(), "{overrides:?}");
        assert_ne!(before, t.state().get::<f32>(t.network().parameters[0].slot).unwrap(), "{overrides:?}");
    }
}

/// A step on indices is the step on the images at these indices, and augmentation follows its configuration.
#[test]
fn images_by_index_are_augmented_as_configured() {
    let indices = BatchIndices { data: &[3, 29, 0, 7, 7, 12], labelled: &[5, 1, 28, 2, 0, 9] };
    let plain = ["data.sigma=0", "data.flip=false"];
    let values = |set: &Dataset, of: &[u32]| -> Vec<f32> {
        of.iter().flat_map(|i| set.image(*i).unwrap()).map(|u| jempp_formats::pixels::value(*u)).collect()
    };
    let (mut given, set) = tiny_trainer(&plain);
    let (x, y) = (values(&set, indices.data), values(&set, indices.labelled));
    let batch = Batch { x_data: &x, x_labelled: &y, labels: &[1, 1, 0, 0, 0, 1], chain_start: None };
    let (mut by_index, _) = tiny_trainer(&plain);
    let (a, b) = (given.step(&batch, 0.1).unwrap(), by_index.step_on(&indices, 0.1).unwrap());
    assert_eq!((a, given.max_difference(&by_index, 1e-3).unwrap().0), (b, 0.0));

    let metrics = |keys: &[&str]| tiny_trainer(keys).0.step_on(&indices, 0.1).unwrap();
    let noisy = metrics(&["data.sigma=0.3"]);
    let half = metrics(&["data.sigma=0.3", "data.p_x_augment=false"]);
    assert_eq!(half.log_density_data, b.log_density_data, "images for p(x) are left alone");
    assert_ne!(noisy.log_density_data, b.log_density_data);
    assert_eq!(half.ce, noisy.ce, "labelled images are not");
    assert_ne!(half.ce, b.ce);
    for (indices, word) in [
        (BatchIndices { data: &[0], ..indices }, "1 data images"),
        (BatchIndices { labelled: &[0, 1, 2, 3, 4, 30], ..indices }, "image 30"),
    ] {
        let e = by_index.step_on(&indices, 0.1).unwrap_err();
        assert!(e.to_string().contains(word), "{e} lacks `{word}`");
    }
}

/// Dropout masks are a function of the iteration in the training pass, of the chain step in the chains, and of nothing else.
#[test]
fn dropout_is_a_function_of_iteration_and_chain_step() {
    let x: Vec<f32> = (0..6 * 16).map(|i| (i * 29 % 97) as f32 / 48.5 - 1.0).collect();
    let run = |overrides: &[&str], iteration, chain_step| {
        // Without noise, so that only dropout depends on the chain step, and from given starts.
        let all: Vec<&str> = ["sampler.noise=0"].iter().chain(overrides).copied().collect();
        let (mut t, _) = tiny_trainer(&all);
        t.set_counters(Counters { iteration, round: 0, chain_step }).unwrap();
        let labels = [0, 1, 0, 1, 0, 1];
        let batch = Batch { x_data: &x, x_labelled: &x, labels: &labels, chain_start: Some(&x) };
        let m = t.step(&batch, 0.1).unwrap();
        assert_eq!(t.counters().chain_step, chain_step + 2);
        (t.chains().unwrap(), m.loss)
    };
    for norm in ["model.norm=batch", "model.norm=none"] {
        let with_dropout = |iteration, chain_step| run(&[norm, "model.dropout=0.4"], iteration, chain_step);
        let base = with_dropout(5, 3);
        assert_eq!(base, with_dropout(5, 3));
        let later = with_dropout(6, 3);
        assert_eq!(later.0, base.0, "the chains do not see the iteration");
        assert_ne!(later.1, base.1, "the training pass does");
        assert_ne!(with_dropout(5, 4).0, base.0, "the chains see their step");
        let without = |iteration, chain_step| run(&[norm], iteration, chain_step);
        assert_eq!(without(5, 3), without(6, 4));
        assert_ne!(without(5, 3).0, base.0);
    }
}

#[test]
fn wrong_batches_are_named() {
    let (mut t, _) = tiny_trainer(&[]);
    let x = vec![0.0; 6 * 16];
    let labels = [0, 1, 0, 1, 0, 1];
    let good = Batch { x_data: &x, x_labelled: &x, labels: &labels, chain_start: None };
    let mut nan = x.clone();
    nan[40] = f32::NAN;
    for (batch, word) in [
        (Batch { x_data: &x[16..], ..good }, "x_data"),
        (Batch { x_labelled: &nan, ..good }, "NaN in image 2"),
        (Batch { labels: &[0, 1, 0, 1, 0, 2], ..good }, "label 2"),
        (Batch { labels: &[0, 1], ..good }, "2 labels"),
        (Batch { chain_start: Some(&x[1..]), ..good }, "chain starts"),
    ] {
        let e = t.step(&batch, 0.1).unwrap_err();
        assert!(e.to_string().contains(word), "{e} lacks `{word}`");
        assert_eq!(e.exit_code(), 3);
    }
    t.step(&good, 0.1).unwrap();
}

/// N inner steps of size α equal one clipped step of size N·α inside the box.
fn literal(x: f64, g: f64, n: u32, alpha: f64) -> f64 {
    (0..n).fold(x, |x, _| (x + alpha * g.clamp(-1.0, 1.0)).clamp(-1.0, 1.0))
}

proptest! {
    #[test]
    fn inner_steps_collapse(x in -1.5f64..1.5, g in -3.0f64..3.0, n in 1u32..9, alpha in 0.01f64..0.5) {
        use kernels_args::step;
        let got = step(x, g, n, alpha);
        prop_assert!((got - literal(x, g, n, alpha)).abs() < 1e-12);
        if x.abs() <= 1.0 {
            let one = (x + f64::from(n) * alpha * g.clamp(-1.0, 1.0)).clamp(-1.0, 1.0);
            prop_assert!((got - one).abs() < 1e-12);
        }
    }
}

mod kernels_args {
    use engine::ops::pyld_step::{Args, PyldStep};
    use engine::rng::Stream;
    use engine::{DType, Device, HostTensor, Spec, State, Tape};

    /// The engine's collapsed step on one value in float64.
    pub(crate) fn step(x: f64, g: f64, inner: u32, step_size: f64) -> f64 {
        let mut t = Tape::new();
        let spec = Spec::new(&[1], DType::F64);
        let (xv, gv) = (t.input("x", spec), t.input("g", spec));
        let args = Args {
            inner,
            step_size,
            clip: 1.0,
            boxed: true,
            sgld_lr: 0.0,
            noise: 0.0,
            clip_after_noise: false,
        };
        let y = t.one(PyldStep { args, stream: Stream::TEST }, &[xv, gv]).unwrap();
        let mut p = t.plan(&Device::cpu(1), &[y]).unwrap();
        p.run(&mut State::new(), &[(xv, HostTensor::F64(&[x])), (gv, HostTensor::F64(&[g]))]).unwrap();
        p.read::<f64>(y).unwrap()[0]
    }
}
