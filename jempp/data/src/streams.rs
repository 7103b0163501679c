//! The uses of random numbers, each with a stream of its own: drawing more numbers for one leaves all others unchanged.
//!
//! The numbers are part of the checkpoint format: a run that is resumed draws the same numbers. Never reuse one.

use engine::rng::Stream;

/// Initial weights; the step is the parameter's index.
pub const INIT: Stream = Stream::new(1);
/// Order of the images for p(x); the step is the epoch.
pub const SHUFFLE_UNLABELLED: Stream = Stream::new(2);
/// Order of the labelled images; the step is the epoch.
pub const SHUFFLE_LABELLED: Stream = Stream::new(3);
/// Crops, flips and noise of the images for p(x); the step is the iteration.
pub const AUGMENT_UNLABELLED: Stream = Stream::new(4);
/// Crops, flips and noise of the labelled images; the step is the iteration.
pub const AUGMENT_LABELLED: Stream = Stream::new(5);
/// Buffer indices, restarts and classes of the chains; the step is the sampling round.
pub const CHAINS: Stream = Stream::new(6);
/// Informative and uniform restarts; the step is the sampling round.
pub const RESTART: Stream = Stream::new(7);
/// Langevin noise; the step is the global chain step.
pub const LANGEVIN: Stream = Stream::new(8);
/// Initial content of the replay buffer; the step is the chunk.
pub const BUFFER_FILL: Stream = Stream::new(9);
/// Dropout masks of the training pass; the step is the iteration.
pub const DROPOUT: Stream = Stream::new(10);
/// Evaluation: shuffled pixels, noise sets, attacks, bootstrap.
pub const EVAL: Stream = Stream::new(11);
/// Sampling from a trained model.
pub const SAMPLE: Stream = Stream::new(12);
/// Dropout masks of the chains; the step is the global chain step.
pub const CHAIN_DROPOUT: Stream = Stream::new(13);
/// Random starts of the attacks in adversarial training; the step is the iteration.
pub const ADVERSARY: Stream = Stream::new(14);
