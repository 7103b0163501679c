//! Constraints that involve several keys, which the range of a single key cannot express.

use super::{Config, EvalBn, NormKind, TrainBn};
use jempp_data::config::rows::{Range, check, refuse};

/// Checks the relations within each section and between sections.
///
/// # Errors
/// A message that names the key, its value and what it must be.
pub(super) fn check_relations(c: &Config) -> Result<(), String> {
    c.model.check_relations()?;
    c.train.check_relations()?;
    c.sampler.check_relations()?;
    c.data.check_relations()?;
    let (m, t) = (&c.model, &c.train);
    if m.energy_head && t.p_x_weight == 0.0 && t.p_x_y_weight == 0.0 {
        let why =
            "must be false while train.p_x_weight and train.p_x_y_weight are 0: nothing would train the head";
        return refuse("model.energy_head", true, why);
    }
    if t.bn == TrainBn::Frozen && m.norm != NormKind::Batch {
        let why = "must be \"batch\" unless model.norm is \"batch\": other norms have no running statistics";
        return refuse("train.bn", t.bn.name(), why);
    }
    if t.ema > 0.0 && c.eval.bn == EvalBn::Running && t.bn == TrainBn::Batch {
        let why = "must be 0 while eval.bn is \"running\": running statistics are those of the last weights, not of their \
                   average";
        return refuse("train.ema", t.ema, why);
    }
    if t.p_x_y_weight > 0.0 {
        // Chains of a class live in that class's part of the buffer.
        let range = Range::Whole(m.classes as u64, i32::MAX as u64);
        check("sampler.buffer_size", &c.sampler.buffer_size, &range)?;
    }
    // A reflection needs more pixels than it adds on a side.
    let side = m.image_size[0].min(m.image_size[1]);
    if c.data.pad >= side {
        return refuse("data.pad", c.data.pad, &format!("must be at least 0 and below {side}"));
    }
    Ok(())
}
