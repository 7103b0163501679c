//! Diagnostics of a replay buffer: ages of its chains, saturation, and how far chains still move.

use engine::ops::replay::RestartKind;
use engine::rng::Philox;
use jempp::Result;
use jempp::config::Config;
use jempp::model::Model;
use jempp::sampling::RoundPlan;
use jempp::sampling::draw::{SampleOptions, Start, sample};
use jempp::streams;
use serde::{Deserialize, Serialize};

/// Chains that are continued to measure how far they move.
const CONTINUED: usize = 256;
/// Values of at least this magnitude count as saturated.
const SATURATED: f32 = 0.999;
/// Step of the random stream `Sample` at which these chains are drawn; steps of chains stay below it.
const CHOICE: u32 = u32::MAX - 3;

/// Ages of the chains of a replay buffer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainAges {
    /// Mean number of iterations since a chain was started.
    pub mean: f64,
    /// Median number of iterations since a chain was started.
    pub median: u32,
    /// Largest number of iterations since a chain was started.
    pub oldest: u32,
    /// Mean number of rounds, of M outer steps each, that a chain has run.
    pub rounds: f64,
    /// Fraction of chains that have never been picked.
    pub untouched: f64,
}

/// Diagnostics of the replay buffer at the end of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BufferDiagnostics {
    /// Number of chains.
    pub n: usize,
    /// Fraction of values within 0.001 of −1 or 1.
    pub saturation: f64,
    /// Ages of the chains; absent if class-conditional chains share the buffer, as which of them are picked depends on labels.
    pub ages: Option<ChainAges>,
    /// Root mean square change of a value, in [−1, 1], in one more round.
    pub displacement: f64,
    /// Mean unnormalised log p(x) before and after that round.
    pub log_density: [f64; 2],
}

/// Fraction of values within 0.001 of −1 or 1.
fn saturation(images: &[f32]) -> f64 {
    images.iter().filter(|v| v.abs() >= SATURATED).count() as f64 / images.len().max(1) as f64
}

/// Ages of the chains after a number of iterations. Which chains a round picks and which of them restart depends only on the
/// seed and the round, so the rounds are replayed; ages are not stored.
fn chain_ages(config: &Config, iterations: u32) -> ChainAges {
    let (s, n) = (&config.sampler, config.train.batch_size);
    // The classes of restarts do not matter here, but their number determines the sequence of random numbers.
    let offsets = vec![0; config.model.classes].into_iter().chain([1]).collect::<Vec<i32>>();
    let mut born = vec![0u32; s.buffer_size];
    let mut rounds = vec![0u32; s.buffer_size];
    for round in 0..iterations {
        let plan = RoundPlan::new(s, n, config.seed, round, &offsets, None);
        let outcome = |(row, kind): (&i32, &i32)| {
            let row = *row as usize;
            if *kind == RestartKind::Keep as i32 { (born[row], rounds[row] + 1) } else { (round, 1) }
        };
        let outcomes: Vec<(u32, u32)> = plan.index.iter().zip(&plan.kind).map(outcome).collect();
        // If a row is picked twice, the later chain is written last, as in the scatter of the training program.
        for (row, (b, r)) in plan.index.iter().zip(outcomes) {
            (born[*row as usize], rounds[*row as usize]) = (b, r);
        }
    }
    let mut age: Vec<u32> = born.iter().map(|b| iterations - b).collect();
    age.sort_unstable();
    let rows = age.len().max(1) as f64;
    ChainAges {
        mean: age.iter().map(|a| f64::from(*a)).sum::<f64>() / rows,
        median: age.get(age.len() / 2).copied().unwrap_or(0),
        oldest: age.last().copied().unwrap_or(0),
        rounds: rounds.iter().map(|r| f64::from(*r)).sum::<f64>() / rows,
        untouched: rounds.iter().filter(|r| **r == 0).count() as f64 / rows,
    }
}

/// Diagnoses the chains of a model's replay buffer, n×H×W×C.
pub(super) fn diagnose(
    model: &Model,
    config: &Config,
    buffer: &[f32],
    seed: u64,
) -> Result<BufferDiagnostics> {
    let px = model.network().pixels();
    let n = buffer.len() / px;
    let mut order: Vec<usize> = (0..n).collect();
    Philox::new(seed, streams::SAMPLE, CHOICE).shuffle(&mut order);
    let some: Vec<f32> =
        order.iter().take(CONTINUED).flat_map(|i| buffer[i * px..(i + 1) * px].iter().copied()).collect();
    let options =
        SampleOptions { n: some.len() / px, start: Start::Images(&some), seed, ..SampleOptions::new(config) };
    let after = sample(model, &options, &mut |_, _| true)?;
    let squares: f64 = some.iter().zip(&after.images).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len().max(1) as f64;
    let done = model.metadata.get("step").and_then(|s| s.parse().ok());
    Ok(BufferDiagnostics {
        n,
        saturation: saturation(buffer),
        ages: done.filter(|_| config.train.p_x_y_weight == 0.0).map(|done| chain_ages(config, done)),
        displacement: (squares / some.len().max(1) as f64).sqrt(),
        log_density: [mean(&model.log_density(&some)?), mean(&after.log_density)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_follow_from_the_restart_rates() {
        let mut c = Config::preset("digits").unwrap();
        (c.sampler.buffer_size, c.train.batch_size) = (200, 40);
        let a = chain_ages(&c, 3000);
        // Each iteration picks 40 of 200 rows and restarts a tenth of them: on average a row waits 5 iterations between
        // rounds, and a chain lives 10 rounds.
        assert!((a.mean - 50.0).abs() < 12.0 && (a.rounds - 10.0).abs() < 2.5, "{a:?}");
        assert!((f64::from(a.median) - 35.0).abs() < 12.0 && a.oldest > 150 && a.untouched == 0.0, "{a:?}");
        let young = chain_ages(&c, 2);
        assert!(young.untouched > 0.5 && young.oldest == 2, "{young:?}");
        (c.sampler.reinit_freq, c.sampler.uniform_reinit_freq) = (0.0, 0.0);
        let never = chain_ages(&c, 50);
        assert_eq!((never.mean, never.oldest), (50.0, 50));
        // A row that is picked twice in an iteration loses one of the chains; no chain runs two rounds in one iteration.
        assert!(never.rounds > 8.0 && never.rounds <= 10.0, "{never:?}");
        assert!((saturation(&[1.0, -1.0, 0.5, 0.9995]) - 0.75).abs() < 1e-12);
    }
}
