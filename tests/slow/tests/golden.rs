//! Training from end to end: JEM++ on the digits with three seeds, evaluated as in the paper.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use core::sync::atomic::AtomicBool;
use engine::Device;
use jempp::checkpoint;
use jempp::config::Config;
use jempp::metrics::{LabelledLogits, argmax};
use jempp::model::Model;
use jempp::run::{Folder, Report, Silent, TrainingRun};
use jempp_eval::fid::{FeatureSums, frechet_distance};
use jempp_eval::sampling::{Animation, ChainStart, Conditioning, SampleJob, SamplerOverrides};

fn train(overrides: &[String]) -> (tempfile::TempDir, Report) {
    let config = Config::from_sources("digits", None, overrides).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(&dir.path().join("run")).unwrap();
    let session = TrainingRun::new(&config, &Device::cpu(0)).unwrap();
    let report = session.run(&folder, &mut Silent, &AtomicBool::new(false)).unwrap();
    (dir, report)
}

/// Fraction of the replay buffer that `classifier` predicts with a confidence above 0.9, and the number of chains that
/// it predicts for each class.
fn predicted_chains(report: &Report, classifier: &Model) -> (f64, Vec<usize>) {
    let c = checkpoint::load(&report.checkpoint).unwrap();
    let buffer = c.trainer.images("replay_buffer", [1000, 8, 8, 1]).unwrap();
    let logits = classifier.logits(&buffer).unwrap();
    let p = LabelledLogits::new(&logits, 10, &[0; 1000]).unwrap();
    let sure = p.confidences().iter().filter(|c| **c > 0.9).count();
    let mut counts = vec![0; 10];
    logits.chunks_exact(10).for_each(|l| counts[argmax(l)] += 1);
    (sure as f64 / 1000.0, counts)
}

/// The squared Fréchet distance between images and training images, on the features of `classifier`.
fn distance(classifier: &Model, images: &[f32]) -> f64 {
    let (set, split) = jempp_data::digits::load().unwrap();
    let mut training = vec![0.0; split.train.len() * 64];
    jempp_data::plain_batch(&set, &split.train, &mut training).unwrap();
    let statistics = |images: &[f32]| {
        let mut sums = FeatureSums::new(classifier.network().feature_count());
        sums.add(&classifier.features(images).unwrap());
        sums.statistics().unwrap()
    };
    frechet_distance(&statistics(images), &statistics(&training)).unwrap()
}

/// Fraction of images of `sample` that `classifier` predicts with a confidence above 0.9, and their [`distance`].
fn predicted_samples(
    report: &Report,
    classifier: &Model,
    steps: u32,
    conditioning: Conditioning,
) -> [f64; 2] {
    let model = Model::load(&Device::cpu(0), &report.folder).unwrap();
    let job = SampleJob {
        model: (&model, &report.folder),
        n: 200,
        conditioning,
        start: ChainStart::Trained,
        overrides: SamplerOverrides { steps: Some(steps), ..SamplerOverrides::default() },
        animate: Animation::None,
    };
    let sampled = job.run(&mut |_, _| true).unwrap();
    let logits = classifier.logits(&sampled.samples.images).unwrap();
    let p = LabelledLogits::new(&logits, 10, &[0; 200]).unwrap();
    let sure = p.confidences().iter().filter(|c| **c > 0.9).count() as f64 / 200.0;
    [sure, distance(classifier, &sampled.samples.images)]
}

#[test]
fn three_seeds_classify_calibrate_detect_and_generate() {
    let softmax = ["seed=100", "train.p_x_weight=0"].map(str::to_owned);
    let (_keep, softmax) = train(&softmax);
    assert!(softmax.test.classification.accuracy >= 0.97, "the softmax classifier: {softmax:?}");
    let classifier = Model::load(&Device::cpu(0), &softmax.folder).unwrap();
    for seed in 0..3 {
        let (_keep, r) = train(&[format!("seed={seed}")]);
        let c = r.test.classification;
        let (sure, counts) = predicted_chains(&r, &classifier);
        let kept = checkpoint::load(&r.checkpoint).unwrap();
        let buffer = kept.trainer.images("replay_buffer", [1000, 8, 8, 1]).unwrap();
        println!(
            "seed {seed}: distance of the first 200 chains of the buffer {:.3}",
            distance(&classifier, &buffer[..200 * 64])
        );
        for steps in [10, 100, 1000] {
            for conditioning in [Conditioning::None, Conditioning::EveryClass] {
                let [sure, fid] = predicted_samples(&r, &classifier, steps, conditioning);
                println!(
                    "seed {seed}: {steps} steps, {conditioning:?}: sure samples {sure:.3}, distance {fid:.3}"
                );
                assert!(sure >= 0.95, "seed {seed}, {steps} steps, {conditioning:?}: {sure}");
            }
        }
        let gap = r.gap.unwrap();
        let seconds = r.training_seconds;
        println!(
            "seed {seed}: accuracy {:.4}, ECE {:.4}, AUROC {:.4} shuffled, {:.4} uniform, gap {:+.3} (largest {:.2}), \
             sure chains {sure:.3} {counts:?}, {seconds:.1} s",
            c.accuracy,
            c.ece,
            r.test.detection[0].auroc_log_density,
            r.test.detection[1].auroc_log_density,
            gap[0],
            gap[1],
        );
        assert!(c.accuracy >= 0.975, "seed {seed}: accuracy {}", c.accuracy);
        assert!(c.ece_bins == 20 && c.ece <= 0.035, "seed {seed}: ECE {}", c.ece);
        assert!(
            r.test.detection.iter().all(|d| d.auroc_log_density >= 0.95),
            "seed {seed}: {:?}",
            r.test.detection
        );
        assert!(gap[1] <= 1.0, "seed {seed}: gap {gap:?}");
        assert!(sure >= 0.9, "seed {seed}: only {sure} of the chains are predicted with confidence");
        assert!(counts.iter().all(|n| *n > 0), "seed {seed}: classes of the chains {counts:?}");
    }
}
