//! What to change in a configuration whose training does not fit in memory.

use super::Config;
use crate::error::Error;

/// Returns `error`; if memory ran out while training with `config`, it also suggests a batch size that would fit.
#[must_use]
pub fn with_advice(error: Error, config: &Config) -> Error {
    let Error::Engine(engine::Error::OutOfMemory(memory)) = error else { return error };
    let mut text = format!("{memory}.");
    let batch = config.train.batch_size.max(config.train.labelled_batch_size);
    match memory.batch_that_fits(batch) {
        Some(fits) => {
            text +=
                &format!("\nMemory grows with the batch: train.batch_size={fits} may fit (it is {batch})");
            text += if config.train.labelled_batch_size > 0 {
                "; lower train.labelled_batch_size too."
            } else {
                "."
            };
        }
        None if memory.program_bytes == 0 => {
            text += "\nState holds weights, optimiser, images and replay buffer: lower sampler.buffer_size or \
                     model.widen_factor, or use another device.";
        }
        None => text += "\nNo batch would fit: use a smaller model or another device.",
    }
    Error::OutOfMemory(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_comes_with_a_batch_that_fits() {
        let config = Config::from_sources("jempp", None, &[]).unwrap();
        let out_of_memory = |program_bytes, free| engine::OutOfMemory {
            device: "it".into(),
            wanted: 800,
            free: Some(free),
            program_bytes,
            state_bytes: 1,
            largest: Vec::new(),
        };
        let said = |s| with_advice(Error::Engine(engine::Error::OutOfMemory(Box::new(s))), &config);
        let text = said(out_of_memory(800, 400)).to_string();
        assert!(
            text.contains("800 B wanted, 400 B free") && text.contains("train.batch_size=24 may fit"),
            "{text}"
        );
        assert!(said(out_of_memory(0, 400)).to_string().contains("sampler.buffer_size"));
        assert!(said(out_of_memory(800, 1)).to_string().contains("No batch would fit"));
        assert_eq!(said(out_of_memory(0, 1)).exit_code(), 4);
        assert!(matches!(with_advice(Error::Cancelled, &config), Error::Cancelled));
    }
}
