//! From `--device`, `--precision`, `--batch-norm` and `--threads` to a device.

use crate::args::{BatchNorm, Global, Precision};
use jempp::engine::gpu::probe;
use jempp::engine::{self, BatchNormBy, Debugging, Device, Products};
use jempp::{Error, Result};

impl Global {
    /// Why these options contradict each other, if they do: wrong usage.
    pub(crate) fn conflict(&self) -> Option<String> {
        let on_cpu = matches!(self.device.as_str(), "auto" | "cpu");
        let (option, computes, drop) = match (self.precision, self.batch_norm) {
            _ if !on_cpu => return None,
            (Precision::Tf32, _) => ("--precision tf32", ", in f32 or bf16", "--precision"),
            (_, BatchNorm::Cudnn) => ("--batch-norm cudnn", "", "--batch-norm"),
            _ => return None,
        };
        Some(format!(
            "{option} needs a GPU, but --device {} computes on the CPU{computes}\n\nName a GPU, such as --device cuda:0 \
             (`jempp-cli devices` lists what is available), or drop {drop}",
            self.device
        ))
    }

    /// The device asked for. `auto` is the CPU: the CUDA backend has been tested by emulation only, so a GPU must be
    /// named. With -v it says which GPU could be named.
    ///
    /// # Errors
    /// [`Error::Device`] for a GPU that is not there, or an unknown device name.
    pub(crate) fn device(&self) -> Result<Device> {
        if self.device == "auto" && self.verbose > 0 {
            match probe().devices {
                Ok(found) if !found.is_empty() => {
                    eprintln!("Computing on the CPU; use --device cuda:0 to try {}", found[0].name);
                }
                Ok(_) => eprintln!("Computing on the CPU: no GPU found"),
                Err(why) => eprintln!("Computing on the CPU: {}", why.brief()),
            }
        }
        let name = self.device.as_str();
        if let "auto" | "cpu" = name {
            return self.cpu();
        }
        let precision = match self.precision {
            Precision::F32 => engine::Precision::F32,
            Precision::Tf32 => engine::Precision::Tf32,
            Precision::Bf16 => engine::Precision::Bf16,
        };
        match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(ordinal)) => {
                let debug = Debugging::from_env().map_err(Error::Config)?;
                let device = Device::cuda(ordinal, precision, debug).map_err(|why| no_gpu(name, &why))?;
                device.set_batch_norm(match self.batch_norm {
                    BatchNorm::Own => BatchNormBy::Own,
                    BatchNorm::Cudnn => BatchNormBy::Cudnn,
                });
                jempp::devices::warn_of_notes(&device);
                Ok(device.with_branches(!self.one_stream))
            }
            _ => Err(Error::Device(format!("--device {name}: use auto, cpu or cuda:N, such as cuda:0"))),
        }
    }

    fn cpu(&self) -> Result<Device> {
        let cpu = Device::cpu_from_env(self.threads).map_err(Error::Config)?;
        if self.precision != Precision::Bf16 {
            return Ok(cpu);
        }
        let cpu = cpu.with_products(Products::Bf16);
        if cpu.emulates_products() && !self.quiet {
            eprintln!(
                "This CPU has no AVX512_BF16, so bf16 products are emulated: slower than --precision f32. Use f32 unless \
                 you need bf16 results"
            );
        }
        Ok(cpu)
    }
}

/// Why `cuda:N` cannot be used.
fn no_gpu(name: &str, why: &impl std::fmt::Display) -> Error {
    Error::Device(format!(
        "--device {name}: {why}\nUse --device cpu or auto; `jempp-cli devices` lists what was found."
    ))
}
