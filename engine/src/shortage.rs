//! What memory was wanted for, when there was not enough of it.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::plan::{Home, Planner};
use crate::spec::Spec;
use crate::tape::Source;
use core::fmt;
use kernels::gpu::GpuError;
use kernels::memory::MemoryError;

/// How many of the largest values are named.
const NAMED: usize = 5;

/// Values of one op and spec that are alive at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// The op that makes them, `input NAME`, `slot NAME`, or `workspace of OP`.
    pub what: String,
    /// What one is; none for a workspace.
    pub spec: Option<Spec>,
    /// How many there are.
    pub count: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// An allocation that failed, and what takes the memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortage {
    /// Where.
    pub device: String,
    /// Bytes of the allocation.
    pub wanted: u64,
    /// Bytes that were free, where that is known.
    pub free: Option<u64>,
    /// Bytes of the program: its values and workspaces; 0 where state was to be made.
    pub program_bytes: u64,
    /// Bytes of state: of the slots that the program uses, or of all made so far.
    pub state_bytes: u64,
    /// What is largest when most is alive, largest first.
    pub largest: Vec<Holder>,
}

impl Shortage {
    /// The largest batch that would fit if the program's memory grows with it in proportion, given that `batch` did
    /// not. A quarter is left for programs planned later: a chain step takes about that beside a training step. None
    /// for state, and where not even one image would fit.
    pub fn batch_that_fits(&self, batch: usize) -> Option<usize> {
        let free = self.free.filter(|_| self.program_bytes > 0)?;
        let fits = (u128::from(free) * 3 * batch as u128 / (u128::from(self.wanted.max(1)) * 4)) as usize;
        let fits = fits.min(batch.saturating_sub(1));
        (fits > 0).then_some(if fits >= 16 { fits / 8 * 8 } else { fits })
    }
}

fn size(n: u64) -> String {
    match n {
        0..10_240 => format!("{n} B"),
        10_240..10_485_760 => format!("{:.0} KiB", n as f64 / 1024.0),
        10_485_760..10_737_418_240 => format!("{:.0} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out of memory on {}: {} wanted", self.device, size(self.wanted))?;
        if let Some(free) = self.free {
            write!(f, ", {} free", size(free))?;
        }
        match self.program_bytes {
            0 => write!(f, ", with {} of state made so far", size(self.state_bytes))?,
            n => write!(f, " for a program of {}; its state takes {}", size(n), size(self.state_bytes))?,
        }
        for (i, h) in self.largest.iter().enumerate() {
            f.write_str(if i == 0 { ". Largest: " } else { "; " })?;
            if h.count > 1 {
                write!(f, "{} × ", h.count)?;
            }
            f.write_str(&h.what)?;
            if let Some(spec) = h.spec {
                write!(f, " {spec}")?;
            }
            write!(f, ", {}", size(h.bytes))?;
        }
        Ok(())
    }
}

/// The largest of these: what, its spec, its bytes.
pub(crate) fn largest(all: impl Iterator<Item = (String, Option<Spec>, u64)>) -> Vec<Holder> {
    let mut holders: Vec<Holder> = Vec::new();
    for (what, spec, bytes) in all {
        match holders.iter_mut().find(|h| h.what == what && h.spec == spec) {
            Some(h) => (h.count, h.bytes) = (h.count + 1, h.bytes + bytes),
            None => holders.push(Holder { what, spec, count: 1, bytes }),
        }
    }
    holders.sort_by_key(|h| core::cmp::Reverse(h.bytes));
    holders.truncate(NAMED);
    holders
}

impl Planner<'_> {
    /// What is largest where most is alive.
    pub(crate) fn holders(&self, live: &[usize], work: &[usize]) -> Vec<Holder> {
        let most = live.iter().enumerate().max_by_key(|(_, bytes)| **bytes).map_or(0, |(i, _)| i + 1);
        let mut names = vec![(String::new(), None); self.storages.len()];
        for (value, home) in self.tape.values.iter().zip(&self.homes) {
            let Home::Arena(s) = *home else { continue };
            let what = match &value.source {
                Source::Input(name) => format!("input {name}"),
                Source::Node { node } => self.tape.nodes[*node].op.name().to_owned(),
                Source::Slot => continue,
            };
            names[s] = (what, Some(value.spec));
        }
        for (&n, &s) in self.order.iter().zip(work) {
            names[s] = (format!("workspace of {}", self.tape.nodes[n].op.name()), None);
        }
        let alive =
            self.storages.iter().zip(names).filter(|(s, _)| s.bytes > 0 && s.first <= most && most <= s.last);
        largest(alive.map(|(s, (what, spec))| (what, spec, s.bytes as u64)))
    }
}

/// The result of an allocation, with what it was for if it failed for want of memory.
pub(crate) fn explain<T>(
    result: Result<T>,
    device: impl fmt::Display,
    (program_bytes, state_bytes): (usize, usize),
    holders: impl FnOnce() -> Vec<Holder>,
) -> Result<T> {
    let (wanted, free) = match &result {
        Err(Error::Gpu(GpuError::OutOfMemory { wanted, free })) => (*wanted, Some(*free)),
        Err(Error::Memory(MemoryError::OutOfMemory { bytes })) => (*bytes as u64, available()),
        _ => return result,
    };
    Err(Error::OutOfMemory(Box::new(Shortage {
        device: device.to_string(),
        wanted,
        free,
        program_bytes: program_bytes as u64,
        state_bytes: state_bytes as u64,
        largest: holders(),
    })))
}

/// Free memory of the device of programs and state, in bytes, where that is known.
pub fn free_bytes(device: &Device) -> Option<u64> {
    match device.as_gpu() {
        Some(gpu) => gpu.memory_free().ok(),
        None => available(),
    }
}

/// What Linux says a process can have without swapping.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_says_what_is_large_and_what_would_fit() {
        let values = [("conv2d", 64), ("add", 8), ("conv2d", 64), ("a", 1), ("b", 2), ("c", 3), ("d", 4)];
        let of = |(what, n): &(&str, usize)| (what.to_string(), Some(Spec::f32(&[*n, 4])), 16 * *n as u64);
        let largest = largest(values.iter().map(of));
        assert_eq!(largest.len(), NAMED);
        assert_eq!((largest[0].count, largest[0].bytes), (2, 2048));
        let s = Shortage {
            device: "a device".into(),
            wanted: 3 << 30,
            free: Some(1 << 30),
            program_bytes: 3 << 30,
            state_bytes: 5 << 20,
            largest,
        };
        let text = s.to_string();
        for part in [
            "a device: 3072 MiB wanted, 1024 MiB free",
            "state takes 5120 KiB",
            "2 × conv2d f32[64×4], 2048 B",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!([64, 6, 2].map(|b| s.batch_that_fits(b)), [Some(16), Some(1), None]);
        assert_eq!(Shortage { program_bytes: 0, ..s }.batch_that_fits(64), None);
    }

    /// More than any address space holds, so that no system tries.
    #[test]
    fn the_cpu_says_it_too() {
        let device = Device::cpu(1);
        let mut tape = crate::Tape::new();
        let x = tape.input("x", Spec::f32(&[1 << 24, 1 << 24]));
        let y = tape.one(crate::ops::elementwise::Identity, &[x]).unwrap();
        match tape.plan(&device, &[y]) {
            Err(Error::OutOfMemory(s)) => {
                // The input is kept beside the result.
                assert_eq!(s.wanted, 1 << 51);
                assert!(s.to_string().contains("f32[16777216×16777216], 1048576.0 GiB"), "{s}");
            }
            other => panic!("{other:?}"),
        }
        match crate::State::new().add("huge", Spec::f32(&[1 << 24, 1 << 24])) {
            Err(e @ Error::OutOfMemory(_)) => assert!(e.to_string().contains("slot huge"), "{e}"),
            other => panic!("{other:?}"),
        }
    }
}
