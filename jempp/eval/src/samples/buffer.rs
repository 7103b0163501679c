//! What the chains of a replay buffer are like: how old, how saturated, how far they still move.

use engine::ops::replay::RestartKind;
use engine::rng::Philox;
use jempp::Result;
use jempp::config::Config;
use jempp::model::Model;
use jempp::sampling::Draw;
use jempp::sampling::draw::{SampleOptions, Start, sample};
use jempp::streams;
use serde::{Deserialize, Serialize};

/// Chains that are moved on to see how far they go.
const MOVED: usize = 256;
/// A value this near to the box's face counts as saturated.
const FACE: f32 = 0.999;

/// Ages of chains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ages {
    /// Mean iterations since a chain was begun.
    pub mean: f64,
    /// The median.
    pub median: u32,
    /// The largest.
    pub oldest: u32,
    /// Mean rounds, of M outer steps each, that a chain has gone.
    pub rounds: f64,
    /// Share of chains that have never been picked.
    pub untouched: f64,
}

/// The replay buffer at a run's end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// Chains.
    pub n: usize,
    /// Share of their values at a face of the box.
    pub saturation: f64,
    /// Their ages; absent where labelled chains share the buffer, whose rows depend on the labels.
    pub ages: Option<Ages>,
    /// How far a chain moves in one more round, root mean square over values in [−1, 1].
    pub displacement: f64,
    /// Mean unnormalised log p(x) before that round, and after.
    pub log_density: [f64; 2],
}

/// Share of values within a thousandth of −1 or 1.
pub fn saturation(images: &[f32]) -> f64 {
    images.iter().filter(|v| v.abs() >= FACE).count() as f64 / images.len().max(1) as f64
}

/// The ages of the chains after so many iterations. Which rows a round takes and which of them restart follows from seed
/// and round alone, so the rounds are gone through again; nothing had to be stored.
pub fn ages(config: &Config, iterations: u32) -> Ages {
    let (s, n) = (&config.sampler, config.train.batch_size);
    // Classes of restarts do not matter here, but their number does for the order of the draws.
    let offsets = vec![0; config.model.classes].into_iter().chain([1]).collect::<Vec<i32>>();
    let mut born = vec![0u32; s.buffer_size];
    let mut rounds = vec![0u32; s.buffer_size];
    for round in 0..iterations {
        let draw = Draw::new(s, n, config.seed, round, &offsets, None);
        let fate = |(row, kind): (&i32, &i32)| {
            let row = *row as usize;
            if *kind == RestartKind::Keep as i32 { (born[row], rounds[row] + 1) } else { (round, 1) }
        };
        let fates: Vec<(u32, u32)> = draw.index.iter().zip(&draw.kind).map(fate).collect();
        // Of a row picked twice the later chain stays, as in the scatter.
        for (row, (b, r)) in draw.index.iter().zip(fates) {
            (born[*row as usize], rounds[*row as usize]) = (b, r);
        }
    }
    let mut age: Vec<u32> = born.iter().map(|b| iterations - b).collect();
    age.sort_unstable();
    let rows = age.len().max(1) as f64;
    Ages {
        mean: age.iter().map(|a| f64::from(*a)).sum::<f64>() / rows,
        median: age.get(age.len() / 2).copied().unwrap_or(0),
        oldest: age.last().copied().unwrap_or(0),
        rounds: rounds.iter().map(|r| f64::from(*r)).sum::<f64>() / rows,
        untouched: rounds.iter().filter(|r| **r == 0).count() as f64 / rows,
    }
}

/// Describes the buffer of a model.
pub(super) fn describe(model: &Model, config: &Config, buffer: &[f32], seed: u64) -> Result<Buffer> {
    let px = model.network().pixels();
    let n = buffer.len() / px;
    let mut order: Vec<usize> = (0..n).collect();
    Philox::new(seed, streams::SAMPLE, u32::MAX - 3).shuffle(&mut order);
    let some: Vec<f32> =
        order.iter().take(MOVED).flat_map(|i| buffer[i * px..(i + 1) * px].iter().copied()).collect();
    let options =
        SampleOptions { n: some.len() / px, start: Start::Images(&some), seed, ..SampleOptions::new(config) };
    let after = sample(model, &options, &mut |_, _| true)?;
    let squares: f64 = some.iter().zip(&after.images).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len().max(1) as f64;
    let done = model.metadata.get("step").and_then(|s| s.parse().ok());
    Ok(Buffer {
        n,
        saturation: saturation(buffer),
        ages: done.filter(|_| config.train.p_x_y_weight == 0.0).map(|done| ages(config, done)),
        displacement: (squares / some.len().max(1) as f64).sqrt(),
        log_density: [mean(&model.log_density(&some)?), mean(&after.log_density)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_follow_the_restarts() {
        let mut c = Config::preset("digits").unwrap();
        (c.sampler.buffer_size, c.train.batch_size) = (200, 40);
        let a = ages(&c, 3000);
        // Each iteration takes 40 of 200 rows and restarts a tenth of them: in the long run a row waits 5 iterations and
        // lives 10 rounds.
        assert!((a.mean - 50.0).abs() < 12.0 && (a.rounds - 10.0).abs() < 2.5, "{a:?}");
        assert!((f64::from(a.median) - 35.0).abs() < 12.0 && a.oldest > 150 && a.untouched == 0.0, "{a:?}");
        let young = ages(&c, 2);
        assert!(young.untouched > 0.5 && young.oldest == 2, "{young:?}");
        (c.sampler.reinit_freq, c.sampler.uniform_reinit_freq) = (0.0, 0.0);
        let never = ages(&c, 50);
        assert_eq!((never.mean, never.oldest), (50.0, 50));
        // Of rows picked twice in a round one chain is lost, but a row never goes two rounds in one iteration.
        assert!(never.rounds > 8.0 && never.rounds <= 10.0, "{never:?}");
        assert!((saturation(&[1.0, -1.0, 0.5, 0.9995]) - 0.75).abs() < 1e-12);
    }
}
