//! Adversarial training: the labelled images are attacked by PGD before the network learns from them.
//!
//! Invariants: the images are those of plain training, augmented in the same way; the attack uses the network as it is
//! evaluated, with running statistics, and does not change these; its random numbers are a function of (seed, iteration).

use super::program::augmentation;
use super::{TrainStep, labelled_size};
use crate::ball::Norm;
use crate::config::Adversary;
use crate::error::Result;
use crate::network::BnMode;
use crate::streams;
use engine::ops::reduce::SumAll;
use engine::ops::softmax_cross_entropy::SoftmaxCrossEntropy;
use engine::rng::Philox;
use engine::{DType, HostTensor, Plan, Spec, Tape, Var, grad};

/// The programs of a PGD attack on a labelled batch.
#[derive(Debug)]
pub(super) struct Attacker {
    norm: Norm,
    /// Computes augmented images from rows of the training images and the iteration.
    load: Plan,
    rows: [Var; 2],
    images: Var,
    /// Computes the gradient of the loss with respect to the images, from images and labels.
    input_grad: Plan,
    inputs: [Var; 2],
    gradient: Var,
}

impl Attacker {
    /// Floating-point operations of `steps` steps.
    pub(super) fn flops(&self, steps: usize) -> u64 {
        self.input_grad.cost().flops * steps as u64
    }
}

impl TrainStep {
    /// The attacker, if `train.adversary` names one. Without a data set there is none: the host gives attacked images.
    pub(super) fn attacker(&self) -> Result<Option<Attacker>> {
        let norm = match self.config.train.adversary {
            Adversary::None => return Ok(None),
            Adversary::Linf => Norm::Linf,
            Adversary::L2 => Norm::L2,
        };
        let Some(training) = self.training.filter(|_| self.options.dtype == DType::F32) else {
            return Ok(None);
        };
        let n = labelled_size(&self.config);
        let mut tape = Tape::new();
        let rows = [tape.input("rows", Spec::i32(&[n])), tape.input("step", Spec::i32(&[1]))];
        let (args, stream) = augmentation(&self.config.data, false);
        let images = training.batch(&mut tape, args, stream, rows[0], rows[1])?;
        let load = tape.plan(&self.device, &[images])?;
        let mut tape = Tape::new();
        let inputs = [tape.input("images", self.network.images(n)), tape.input("labels", Spec::i32(&[n]))];
        let f = self.network.forward(&mut tape, inputs[0], &BnMode::Running)?;
        let each = tape.one(SoftmaxCrossEntropy, &[f.heads.logits, inputs[1]])?;
        let total = tape.one(SumAll { factor: 1.0 }, &[each])?;
        let gradient = grad(&mut tape, total, &[inputs[0]])?[0];
        let input_grad = tape.plan(&self.device, &[gradient])?;
        Ok(Some(Attacker { norm, load, rows, images, input_grad, inputs, gradient }))
    }

    /// The attacked images of the labelled batch, m×H×W×C, given by its rows among the training images; `None` without an
    /// attacker.
    pub(super) fn attacked(&mut self, rows: &[i32], labels: &[i32]) -> Result<Option<Vec<f32>>> {
        let seed = self.noise_seed();
        let Some(a) = &mut self.adversary else { return Ok(None) };
        let (t, px) = (&self.config.train, self.network.pixels());
        let step = [self.counters.iteration as i32];
        a.load.run_shared(
            &self.state,
            &[(a.rows[0], HostTensor::I32(rows)), (a.rows[1], HostTensor::I32(&step))],
        )?;
        let mut clean = a.load.fetch::<f32>(a.images)?;
        // The noise of the augmentation may leave [−1, 1], in which attacked images stay.
        clean.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
        let (epsilon, length) = (2.0 * t.adversary_epsilon, 2.0 * t.adversary_step);
        let mut rng = Philox::new(seed, streams::ADVERSARY, step[0] as u32);
        let start = clean.chunks_exact(px).flat_map(|image| a.norm.random(image, epsilon, &mut rng));
        let mut x: Vec<f32> = start.collect();
        for _ in 0..t.adversary_steps {
            a.input_grad.run_shared(
                &self.state,
                &[(a.inputs[0], HostTensor::F32(&x)), (a.inputs[1], HostTensor::I32(labels))],
            )?;
            let g = a.input_grad.fetch::<f32>(a.gradient)?;
            for ((x, g), image) in x.chunks_exact_mut(px).zip(g.chunks_exact(px)).zip(clean.chunks_exact(px))
            {
                a.norm.step(x, g, length);
                a.norm.project(x, image, epsilon);
            }
        }
        Ok(Some(x))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::train::{BatchIndices, Options, TrainStep};
    use engine::Device;

    fn config(adversary: &str, steps: usize) -> Config {
        let keys = [
            "train.p_x_weight=0".into(),
            format!("train.adversary={adversary}"),
            format!("train.adversary_steps={steps}"),
            "train.adversary_epsilon=0.1".into(),
            "train.adversary_step=0.03".into(),
        ];
        Config::from_sources("digits", None, &keys).unwrap()
    }

    #[test]
    fn attacked_images_have_a_higher_loss_and_stay_near() {
        let (set, split) = jempp_data::digits::load().unwrap();
        let labelled = &split.train[..64];
        let losses = |adversary, steps| {
            let device = Device::cpu(2);
            let data = Some((&set, split.train.as_slice()));
            let mut t = TrainStep::new(&config(adversary, steps), &device, data, Options::default()).unwrap();
            let batch = BatchIndices { data: &[], labelled };
            (0..30).map(|_| t.step_on(&batch, 0.05).unwrap().ce).collect::<Vec<_>>()
        };
        let (clean, weak, strong) = (losses("none", 1), losses("linf", 1), losses("linf", 7));
        let last = |l: &[f64]| l[20..].iter().sum::<f64>() / 10.0;
        assert!(last(&clean) < last(&weak) && last(&weak) < last(&strong), "{clean:?} {weak:?} {strong:?}");
        assert_eq!(losses("l2", 3), losses("l2", 3));
    }

    #[test]
    fn attacks_of_radius_zero_are_plain_training() {
        let device = Device::cpu(2);
        let (set, split) = jempp_data::digits::load().unwrap();
        let run = |adversary: &str| {
            let mut c = config(adversary, 2);
            (c.train.adversary_epsilon, c.data.sigma) = (0.0, 0.0);
            let data = Some((&set, split.train.as_slice()));
            let mut t = TrainStep::new(&c, &device, data, Options::default()).unwrap();
            for labelled in split.train.chunks(c.train.batch_size).take(3) {
                t.step_on(&BatchIndices { data: &[], labelled }, 0.05).unwrap();
            }
            let slot = t.network().parameters[0].slot;
            t.state().fetch::<f32>(slot).unwrap()
        };
        assert_eq!(run("none"), run("linf"));
    }

    #[test]
    fn chains_and_attacks_exclude_each_other() {
        let keys = ["train.adversary=linf".to_string()];
        let e = Config::from_sources("digits", None, &keys).unwrap_err().to_string();
        assert!(e.contains("`train.adversary` = linf"), "{e}");
        assert!(Config::preset("pgd").is_ok());
    }
}
