//! The section `train`: the training loop.

use core::ops::Bound::{Excluded, Included};
use jempp_data::config::rows::{self, Range};

const MILLION: u64 = 1_000_000;
/// Iterations are counted in 32 bits by the random streams.
const MAX_ITERATION: u64 = u32::MAX as u64;

rows::choice! {
    /// Where in an iteration log p(x) of the data is computed. `Alltrain1` and `Alltrain2` have equal gradients; they
    /// differ in the order in which batches update the running statistics.
    pub enum Plc {
        /// Before sampling, with batch statistics.
        Alltrain1 = "alltrain1",
        /// After sampling, with batch statistics.
        Alltrain2 = "alltrain2",
        /// After sampling, data and chains with running statistics.
        Eval = "eval",
    }
}

rows::choice! {
    /// Which statistics batch norm uses in training, in all passes and chain steps.
    pub enum TrainBn {
        /// Those of each batch; the running statistics follow them.
        Batch = "batch",
        /// The running statistics, which stay as they are.
        Frozen = "frozen",
    }
}

rows::choice! {
    /// How log p(x) of data and chains enters the loss.
    pub enum EnergyLoss {
        /// Contrastive divergence: mean f(chains) − mean f(data).
        Cd = "cd",
        /// Binary cross-entropy of f as the logit of "data": mean −log σ(f(data)) + mean −log σ(−f(chains)).
        Bce = "bce",
    }
}

rows::choice! {
    /// The optimiser.
    pub enum Optimizer {
        /// Stochastic gradient descent with momentum, as `torch.optim.SGD`.
        Sgd = "sgd",
        /// Adam, as `torch.optim.Adam`.
        Adam = "adam",
    }
}

rows::choice! {
    /// The learning-rate schedule after the warm-up.
    pub enum Schedule {
        /// Multiplied by `decay_rate` at each of `decay_epochs`.
        Steps = "steps",
        /// Cosine annealing to `lr_min` at the end of the run.
        Cosine = "cosine",
        /// Constant.
        Constant = "constant",
    }
}

rows::choice! {
    /// What to do when training diverges.
    pub enum OnDivergence {
        /// Go back to a good state and on from there, more carefully.
        Rollback = "rollback",
        /// End the run.
        Stop = "stop",
    }
}

rows::choice! {
    /// The threat model of adversarial training.
    pub enum Adversary {
        /// No adversarial training.
        None = "none",
        /// PGD in the L∞ ball.
        Linf = "linf",
        /// PGD in the L2 ball.
        L2 = "l2",
    }
}

rows::section! {
    /// The training loop.
    pub struct TrainConfig, "train." {
        /// Batch size for log p(x), and the number of chains, per iteration.
        batch_size: usize = 64, in Range::Whole(1, MILLION), unit "images";
        /// Batch size of the labelled images; 0: train.batch_size.
        labelled_batch_size: usize = 0, in Range::Whole(0, MILLION), unit "images";
        /// Number of epochs, which are passes over the images for log p(x).
        epochs: usize = 150, in Range::Whole(1, MILLION), unit "epochs";
        /// Maximum number of iterations of the whole run; 0: no limit.
        max_iters: usize = 0, in Range::Whole(0, MAX_ITERATION), unit "iterations";
        /// Model whose weights the training starts from: a run or checkpoint folder, a .pt or a .safetensors file; empty:
        /// fresh weights.
        from: String = String::new(), unit "path";
        /// Optimiser; each behaves as in torch.optim.
        optimizer: Optimizer = Optimizer::Sgd;
        /// Learning rate after the warm-up.
        lr: f64 = 0.1, in Range::POSITIVE, unit "per unit of gradient";
        /// Momentum of SGD.
        momentum: f64 = 0.9, in Range::BELOW_ONE, unit "fraction";
        /// β₁ of Adam: decay rate of the first-moment estimate.
        beta1: f64 = 0.9, in Range::BELOW_ONE, unit "fraction";
        /// β₂ of Adam: decay rate of the second-moment estimate.
        beta2: f64 = 0.999, in Range::BELOW_ONE, unit "fraction";
        /// Weight decay of all parameters, added to their gradients (L2 regularisation, not decoupled).
        weight_decay: f64 = 4e-4, in Range::NON_NEGATIVE, unit "gradient per unit of weight";
        /// Bound on the L2 norm of the gradient of all parameters together, to which a longer gradient is scaled down; 0:
        /// none.
        clip_grad_norm: f64 = 0.0, in Range::NON_NEGATIVE, unit "nats per unit of weight";
        /// Radius ρ of adaptive sharpness-aware minimisation (ASAM; SADA-JEM uses 2): the gradient is taken at w +
        /// ρ·w²·g/‖w·g‖ instead of at w, which costs a second training pass; 0: off.
        sam_rho: f64 = 0.0, in Range::NON_NEGATIVE, also "0 while train.plc is \"eval\"", unit "fraction of the weights";
        /// Interval between iterations with ASAM; those between them are ordinary.
        sam_every: usize = 1, in Range::Whole(1, MAX_ITERATION), unit "iterations";
        /// Length of the linear warm-up of the learning rate from 0.
        warmup_iters: usize = 1000, in Range::Whole(0, MAX_ITERATION), unit "iterations";
        /// Learning-rate schedule after the warm-up: decay at decay_epochs, cosine annealing to lr_min, or constant.
        schedule: Schedule = Schedule::Steps;
        /// Learning rate at the end of the cosine schedule.
        lr_min: f64 = 0.0, in Range::NON_NEGATIVE, also "at most train.lr", unit "per unit of gradient";
        /// Epochs, counted from 0, at whose start the schedule `steps` lowers the learning rate.
        decay_epochs: Vec<usize> = vec![50, 100, 125], also "strictly increasing", unit "epochs";
        /// Factor by which the schedule `steps` multiplies the learning rate.
        decay_rate: f64 = 0.2, in Range::Real(Excluded(0.0), Included(1.0)), unit "factor";
        /// Decay d of an exponential moving average of the weights, a ← d·a + (1 − d)·w, which evaluation and inference
        /// then use; 0: none.
        ema: f64 = 0.0, in Range::BELOW_ONE,
            also "0 while eval.bn is \"running\" and train.bn \"batch\"", unit "fraction";
        /// Weight of log p(x) in the objective.
        p_x_weight: f64 = 1.0, in Range::NON_NEGATIVE, unit "factor";
        /// Length of the linear ramp of the weight of log p(x) from 0 to train.p_x_weight.
        p_x_warmup_iters: usize = 0, in Range::Whole(0, MAX_ITERATION), unit "iterations";
        /// How log p(x) enters the loss: contrastive divergence, or the cross-entropy between data and chains, whose gradient
        /// is bounded.
        energy_loss: EnergyLoss = EnergyLoss::Cd;
        /// Weight of log p(y|x), the negative cross-entropy, in the objective.
        p_y_given_x_weight: f64 = 1.0, in Range::NON_NEGATIVE, unit "factor";
        /// Weight of log p(x, y) in the objective.
        p_x_y_weight: f64 = 0.0, in Range::NON_NEGATIVE, unit "factor";
        /// Adversarial training (Madry et al., ICLR 2018): the norm of the PGD attack on the labelled images.
        adversary: Adversary = Adversary::None, also "none where log p(x) or log p(x, y) is trained";
        /// Radius ε of the attack's ball.
        adversary_epsilon: f64 = 8.0 / 255.0, in Range::Real(Included(0.0), Included(1000.0)),
            unit "pixel values in [0, 1]";
        /// Step size of the attack.
        adversary_step: f64 = 2.0 / 255.0, in Range::POSITIVE, unit "pixel values in [0, 1]";
        /// Number of steps of the attack.
        adversary_steps: usize = 7, in Range::Whole(1, 10_000), unit "steps";
        /// When log p(x) of the data is computed: before sampling, after it, or after it with running statistics.
        plc: Plc = Plc::Alltrain1;
        /// Batch-norm statistics of all training passes and chain steps: of each batch, or the running ones, which then stay
        /// as they are and are also evaluated with (for networks that have been trained before).
        bn: TrainBn = TrainBn::Batch, also "\"batch\" unless model.norm is \"batch\"";
        /// Weight of an L2 penalty on the energies, mean f(data)² + mean f(chains)² (over images), where log p(x) is
        /// trained.
        energy_l2: f64 = 0.0, in Range::NON_NEGATIVE, unit "loss per nat²";
        /// Gap |mean f(data) − mean f(chains)| above which training counts as collapsing; 0: not monitored.
        collapse_gap: f64 = 100.0, in Range::NON_NEGATIVE, unit "nats";
        /// Number of consecutive iterations above collapse_gap that counts as divergence.
        collapse_iters: usize = 20, in Range::Whole(1, MAX_ITERATION), unit "iterations";
        /// Bound on |loss| above which training counts as diverged.
        loss_limit: f64 = 1e8, in Range::POSITIVE, unit "nats";
        /// When training diverges: go back to a good state and on with a lower learning rate, or end the run.
        on_divergence: OnDivergence = OnDivergence::Rollback;
        /// Maximum number of rollbacks of a run.
        max_rollbacks: usize = 8, in Range::Whole(0, 1000), unit "rollbacks";
        /// Factor by which a rollback multiplies the learning rate or, where steps were too long, twice the step size.
        rollback_factor: f64 = 0.5, in Range::Real(Excluded(0.0), Included(1.0)), unit "factor";
        /// Interval between evaluations on the validation images.
        eval_every: usize = 1, in Range::Whole(1, MILLION), unit "epochs";
        /// Early stopping: end the run after this many evaluations in a row without a better accuracy on the validation
        /// images, counted anew in each stage; 0: never. `ckpt/best` is the best checkpoint either way.
        early_stop_patience: usize = 0, in Range::Whole(0, MILLION), unit "evaluations";
        /// Interval between checkpoints.
        checkpoint_every: usize = 10, in Range::Whole(1, MILLION), unit "epochs";
        /// Interval between image grids of samples; 0: none.
        sample_every: usize = 1, in Range::Whole(0, MILLION), unit "epochs";
        /// Interval between lines of metrics.
        log_every: usize = 10, in Range::Whole(1, MILLION), unit "iterations";
        /// Write TensorBoard event files to the folder `tb` of the run.
        tensorboard: bool = true;
    }
}

impl TrainConfig {
    /// Checks the relations between values of this section.
    pub(super) fn check_relations(&self) -> Result<(), String> {
        rows::check("train.lr_min", &self.lr_min, &Range::Real(Included(0.0), Included(self.lr)))?;
        if !self.decay_epochs.is_sorted_by(|a, b| a < b) {
            let shown = format!("{:?}", self.decay_epochs);
            return rows::refuse("train.decay_epochs", shown, "must rise from each epoch to the next");
        }
        let trains_p_x = self.p_x_weight > 0.0 || self.p_x_y_weight > 0.0;
        if !trains_p_x && self.p_y_given_x_weight == 0.0 {
            let why = "must be above 0 when the other two weights are 0: nothing is trained";
            return rows::refuse("train.p_x_weight", 0, why);
        }
        if self.sam_rho > 0.0 && self.plc == Plc::Eval {
            let why =
                "must be 0 while train.plc is \"eval\": the second pass has no running statistics of its own";
            return rows::refuse("train.sam_rho", self.sam_rho, why);
        }
        if self.adversary != Adversary::None && trains_p_x {
            let why = "must be \"none\" while train.p_x_weight or train.p_x_y_weight is above 0: JEM and adversarial \
                       training cannot be combined";
            return rows::refuse("train.adversary", self.adversary.name(), why);
        }
        Ok(())
    }
}
