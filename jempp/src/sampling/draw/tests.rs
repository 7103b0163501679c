//! Sampling on small random networks.

use super::*;
use crate::model::StartSamples;

fn model() -> Model {
    let config = Config::preset("digits").unwrap();
    let mut state = State::new();
    let network = crate::network::Network::new(&mut state, &config.model).unwrap();
    network.initialise(&mut state, 3).unwrap();
    let tensors: std::collections::HashMap<_, _> = network.tensors().collect();
    let device = engine::Device::cpu(1);
    let mut model =
        Model::new(&device, &config.model, |name, _| crate::network::get(&state, tensors[name])).unwrap();
    let classes: Vec<i32> = (0..20).map(|i| i / 2).collect();
    let means = (0..640).map(|i| (i / 64) as f32 / 10.0 - 0.5).collect();
    let draws = (0..1280).map(|i| (i / 128) as f32 / 10.0 - 0.5 + 0.01 * (i % 3) as f32).collect();
    model.set_start_samples(StartSamples { means, draws, classes });
    model
}

fn options<'a>(n: usize) -> SampleOptions<'a> {
    SampleOptions { n, steps: 3, ..SampleOptions::new(&Config::preset("digits").unwrap()) }
}

fn run(model: &Model, o: &SampleOptions<'_>) -> Samples {
    sample(model, o, &mut |_, _| true).unwrap()
}

#[test]
fn fewer_chains_are_the_first_of_more() {
    let m = model();
    let pool: Vec<f32> = run(&m, &SampleOptions { start: Start::Noise, ..options(50) }).images;
    for start in [Start::StartSamples, Start::Noise, Start::Pool(&pool)] {
        for (labels, bn) in [(false, ChainBn::Batch), (false, ChainBn::Running), (true, ChainBn::Running)] {
            let of = |n: usize| {
                let labels = labels.then(|| (0..n as i32).map(|i| i % 10).collect());
                run(&m, &SampleOptions { start, labels, bn, ..options(n) })
            };
            let (few, many) = (of(30), of(70));
            assert_eq!(few.images, many.images[..30 * 64], "{labels}");
            assert_eq!(few.log_density, many.log_density[..30]);
            assert!(many.images.iter().all(|v| v.abs() <= 1.0));
            assert_eq!((many.labels.len(), many.confidence.len()), (70, 70));
            let distinct: std::collections::HashSet<Vec<u32>> =
                many.images.chunks(64).map(|x| x.iter().map(|v| v.to_bits()).collect()).collect();
            assert_eq!(distinct.len(), 70, "chains repeat each other");
        }
    }
}

#[test]
fn seeds_differ_and_chains_climb() {
    let m = model();
    let bn = ChainBn::Running;
    let at = |seed, steps| run(&m, &SampleOptions { seed, steps, start: Start::Noise, bn, ..options(20) });
    assert_eq!(at(1, 3), at(1, 3));
    assert_ne!(at(1, 3).images, at(2, 3).images);
    let mean = |s: Samples| s.log_density.iter().sum::<f32>() / 20.0;
    assert!(mean(at(1, 20)) > mean(at(1, 0)));
    let labels = Some(vec![4; 20]);
    let o = SampleOptions { labels, steps: 20, start: Start::Noise, bn, ..options(20) };
    let s = run(&m, &o);
    assert!(s.labels.iter().all(|l| *l == 4));
    let p = |s: &Samples| s.confidence.iter().sum::<f32>();
    assert!(p(&s) > p(&run(&m, &SampleOptions { steps: 0, ..o })));
}

#[test]
fn one_step_is_the_formula() {
    let m = model();
    let start: Vec<f32> = (0..128).map(|i| (i as f32 / 64.0 - 1.0) * 0.9).collect();
    let bn = ChainBn::Running;
    let mut o = SampleOptions { steps: 1, start: Start::Images(&start), bn, ..options(2) };
    (o.sampler.noise, o.sampler.inner_steps) = (0.0, 3);
    let g = m.input_grad(&start, None).unwrap();
    let got = run(&m, &o).images;
    for ((x, g), y) in start.iter().zip(&g).zip(&got) {
        let want = (x + 3.0 * o.sampler.step_size as f32 * g.clamp(-1.0, 1.0)).clamp(-1.0, 1.0);
        assert!((want - y).abs() < 1e-6, "{want} {y}");
    }
}

#[test]
fn trajectories_show_the_chains_from_start_to_end() {
    let m = model();
    let o = SampleOptions { n: 70, steps: 5, ..options(70) };
    let mut trajectory = Trajectory::new(2);
    let s = sample_with_trajectory(&m, &o, Some(&mut trajectory), &mut |_, _| true).unwrap();
    assert_eq!(s, run(&m, &o));
    // Frames at 0, 2, 4 and 5 steps; each equals the end of a run of that many steps.
    let ends = [0, 2, 4, 5].map(|steps| run(&m, &SampleOptions { steps, ..o.clone() }).images);
    assert_eq!(trajectory.frames[0], ends[0]);
    assert_eq!(trajectory.frames.len(), 4);
    assert_eq!(trajectory.frames[3], ends[3]);
    // Noise is numbered by chunk and step, so only the first chunk agrees with that of a shorter run.
    let chunk = CHUNK * 64;
    assert_eq!(
        (&trajectory.frames[1][..chunk], &trajectory.frames[2][..chunk]),
        (&ends[1][..chunk], &ends[2][..chunk])
    );
    assert_ne!(trajectory.frames[1], trajectory.frames[2]);
}

#[test]
fn wrong_requests_are_refused_and_progress_can_cancel() {
    let m = model();
    let said = |o: &SampleOptions<'_>| sample(&m, o, &mut |_, _| true).unwrap_err().to_string();
    assert!(said(&SampleOptions { labels: Some(vec![1]), ..options(2) }).contains("1 labels for 2 chains"));
    assert!(said(&SampleOptions { labels: Some(vec![10]), ..options(1) }).contains("class 10"));
    assert!(said(&SampleOptions { start: Start::Images(&[0.0; 5]), ..options(1) }).contains("5 values"));
    assert!(
        said(&SampleOptions { start: Start::Pool(&[]), ..options(1) }).contains("the pool holds 0 values")
    );
    assert!(said(&SampleOptions { start: Start::Pool(&[f32::NAN; 64]), ..options(1) }).contains("NaN"));
    let mut seen = Vec::new();
    let e = sample(&m, &options(70), &mut |i, n| {
        seen.push((i, n));
        i < 4
    });
    assert!(matches!(e, Err(Error::Cancelled)));
    assert_eq!(seen, [(1, 6), (2, 6), (3, 6), (4, 6)]);
}

#[test]
fn more_draws_have_the_mean_and_the_spread_of_the_bank() {
    let m = model();
    let labels = Some(vec![7; 2000]);
    let s = run(&m, &SampleOptions { labels, steps: 0, ..options(2000) });
    let mean = s.images.iter().map(|v| f64::from(*v)).sum::<f64>() / s.images.len() as f64;
    assert!((mean - 0.2).abs() < 2e-3, "{mean}");
    // Draws lie 0, 0.01 or 0.02 above the mean, with a pixel noise of 0.01 on top.
    let var = s.images.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / s.images.len() as f64;
    assert!((1e-4..5e-4).contains(&var), "{var}");
}

/// With the statistics of the batch a step is that of a training chain: the gradient of Σ f over a batch of 64.
#[test]
fn batch_statistics_are_those_of_the_chains_that_run_together() {
    let m = model();
    let noise = |seed| run(&m, &SampleOptions { steps: 0, start: Start::Noise, seed, ..options(64) }).images;
    let (ours, theirs) = (noise(1), noise(2));
    let after = |start: &[f32], bn| {
        let o = SampleOptions { steps: 1, start: Start::Images(start), bn, ..options(64) };
        run(&m, &o).images
    };
    let mut mixed = ours.clone();
    mixed[32 * 64..].copy_from_slice(&theirs[32 * 64..]);
    let half = |x: Vec<f32>| x[..32 * 64].to_vec();
    assert_eq!(half(after(&ours, ChainBn::Running)), half(after(&mixed, ChainBn::Running)));
    assert_ne!(half(after(&ours, ChainBn::Batch)), half(after(&mixed, ChainBn::Batch)));
    // Training's own program, with accumulators, moves the chains to the same place.
    let o = SampleOptions { steps: 1, start: Start::Images(&ours), ..options(64) };
    let mut state = m.state().duplicate().unwrap();
    let chain = state.add("chain", m.network().images(64)).unwrap();
    let (seed, counter) = (seed_slot(&mut state, o.seed).unwrap(), counter_slot(&mut state, 0).unwrap());
    state.set(chain, &ours).unwrap();
    let accumulators = crate::sampling::Accumulator::all(&mut state, m.network(), "acc").unwrap();
    let spec = LangevinSpec {
        sampler: &o.sampler,
        chain,
        seed,
        counter,
        conditional: false,
        accumulate: Some(&accumulators),
        dropout: false,
        stream: streams::SAMPLE,
    };
    Langevin::new(m.device(), m.network(), &spec).unwrap().run(&mut state, None).unwrap();
    let want: Vec<f32> = state.fetch::<f32>(chain).unwrap().iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    assert_eq!(run(&m, &o).images, want);
}

/// Batches are full, and hold about as many chains of each class; the chains asked for are all there, once.
#[test]
fn chains_of_classes_get_companions_of_the_other_classes() {
    let labels: [Vec<i32>; 4] =
        [vec![3; 20], (0..100).map(|i| i / 10).collect(), vec![0], (0..64).map(|i| i % 10).collect()];
    for labels in labels {
        let n = labels.len();
        let o = SampleOptions { labels: Some(labels.clone()), ..options(n) };
        let plan = Batches::new(&o, 10, true);
        let all = plan.labels.unwrap();
        assert_eq!(all[..n], labels);
        let mut seen: Vec<usize> = plan.batches.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..plan.n).collect::<Vec<_>>());
        for batch in &plan.batches {
            assert_eq!(batch.len(), CHUNK);
            let count = |k: i32| batch.iter().filter(|i| all[**i] == k).count();
            assert!((0..10).all(|k| count(k) <= 7), "{batch:?}");
        }
        assert!(plan.batches.iter().all(|b| b.iter().any(|i| *i < n)), "a batch of companions only");
    }
    // And they are left out of the results and of trajectories.
    let (m, labels) = (model(), vec![3; 20]);
    let o = SampleOptions { labels: Some(labels.clone()), start: Start::Noise, ..options(20) };
    let mut trajectory = Trajectory::new(1);
    let s = sample_with_trajectory(&m, &o, Some(&mut trajectory), &mut |_, _| true).unwrap();
    assert_eq!((s.labels, s.images.len()), (labels, 20 * 64));
    assert_eq!(trajectory.frames.last(), Some(&s.images));
}
