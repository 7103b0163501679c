//! Training by a host program: its batches alone determine the steps, and a saved trainer goes on bit by bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use jempp::{Batch, Config, Device, Error, Model, Trainer};

const SMALL: &str = "preset = \"digits\"\n[train]\nbatch_size = 4\nschedule = \"constant\"\n\
                     [sampler]\nouter_steps = 1\nbuffer_size = 20\n\
                     init = \"uniform\"\n[eval]\nrecalibration_batches = 1\n";

fn config() -> Config {
    Config::from_sources("digits", Some((SMALL, "test")), &[]).unwrap()
}

fn step(trainer: &mut Trainer, shade: f32, chain_start: Option<&[f32]>) -> f64 {
    let x: Vec<f32> = (0..4 * 64).map(|i| (i % 7) as f32 / 7.0 - shade).collect();
    let batch = Batch { x_data: &x, x_labelled: &x, labels: &[1, 2, 3, 4], chain_start };
    trainer.step(&batch).unwrap().loss
}

#[test]
fn without_data_chains_come_from_noise_and_statistics_from_training() {
    let device = Device::cpu(1);
    let mut alone = Trainer::new(&config(), &device).unwrap();
    let losses = [step(&mut alone, 0.5, None), step(&mut alone, 0.4, None)];
    assert!(losses.iter().all(|l| l.is_finite()));
    let model = alone.model().unwrap();
    assert_eq!((model.metadata["bn"].as_str(), model.metadata.get("dataset")), ("running", None));
    assert!(model.start_samples().unwrap().is_none());
    // With a data set the same steps differ, as the replay buffer holds other noise; statistics are recalibrated.
    let mut with = Trainer::from_toml(SMALL, 0, &device).unwrap();
    step(&mut with, 0.5, None);
    let model = with.model().unwrap();
    assert_eq!(
        (model.metadata["bn"].as_str(), model.metadata["dataset"].as_str()),
        ("recalibrated", "digits")
    );
    assert!(model.start_samples().unwrap().is_some());
}

#[test]
fn informative_chains_need_data_or_starts() {
    let mut c = config();
    c.sampler.init = jempp::config::Init::Informative;
    let mut t = Trainer::new(&c, &Device::cpu(1)).unwrap();
    let start = vec![0.25; 4 * 64];
    assert!(step(&mut t, 0.5, Some(&start)).is_finite());
    assert_ne!(t.chains().unwrap(), start);
    let x = vec![0.0; 4 * 64];
    let e = t.step(&Batch { x_data: &x, x_labelled: &x, labels: &[0; 4], chain_start: None }).unwrap_err();
    assert!(matches!(&e, Error::Data(why) if why.contains("chains' starts")), "{e}");
}

#[test]
fn what_only_data_can_settle_is_refused_without() {
    let refused = |change: &dyn Fn(&mut Config), said: &str| {
        let mut c = config();
        change(&mut c);
        let e = Trainer::new(&c, &Device::cpu(1)).unwrap_err();
        assert!(matches!(&e, Error::Config(why) if why.contains(said)), "{e}");
    };
    refused(&|c| c.train.schedule = jempp::config::Schedule::Steps, "train.max_iters");
    refused(&|c| c.train.ema = 0.9, "train.ema");
}

#[test]
fn the_seed_of_the_host_is_for_configurations_that_name_none() {
    let seed = |text: &str, seed| Trainer::from_toml(text, seed, &Device::cpu(1)).unwrap().config().seed;
    assert_eq!((seed(SMALL, 0), seed(SMALL, 5)), (1, 5));
    assert_eq!(seed(&format!("seed = 9\n{SMALL}"), 5), 9);
}

#[test]
fn a_saved_trainer_goes_on_bit_by_bit_without_data_too() {
    let (device, dir) = (Device::cpu(1), tempfile::tempdir().unwrap());
    let mut t = Trainer::new(&config(), &device).unwrap();
    step(&mut t, 0.5, None);
    t.save(dir.path()).unwrap();
    let mut again = Trainer::resume(dir.path(), &device).unwrap();
    for shade in [0.3, 0.2] {
        assert_eq!(step(&mut t, shade, None), step(&mut again, shade, None));
    }
    let x = vec![0.1; 64];
    let logits = |m: &Model| m.logits(&x).unwrap();
    assert_eq!(logits(&t.model().unwrap()), logits(&again.model().unwrap()));
    // A model's weights, taken over, give that model.
    let model = t.model().unwrap();
    let mut other = Trainer::new(&config(), &device).unwrap();
    assert_ne!(logits(&other.model().unwrap()), logits(&model));
    other.load_model(&model).unwrap();
    assert_eq!(logits(&other.model().unwrap()), logits(&model));
}

/// More callers than programs: each waits for its turn and gets the bits of one.
#[test]
fn callers_beyond_the_pool_wait() {
    let model = Trainer::new(&config(), &Device::cpu(1)).unwrap().model().unwrap();
    let x: Vec<f32> = (0..9 * 64).map(|i| (i % 11) as f32 / 11.0).collect();
    let want = model.scores(&x).unwrap();
    std::thread::scope(|s| {
        for _ in 0..12 {
            s.spawn(|| (0..20).for_each(|_| assert_eq!(model.scores(&x).unwrap(), want)));
        }
    });
    assert!(model.scores(&x[1..]).is_err() && model.scores(&x).is_ok());
}
