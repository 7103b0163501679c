//! Which allocation failed because memory ran out, and which tensors take most of it.

use crate::bytes::format_bytes;
use crate::spec::Spec;
use core::fmt;

/// How many of the largest allocations an error names.
const NAMED: usize = 5;

/// Tensors of one op and spec that are alive at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The op that makes them, `input NAME`, `slot NAME`, or `workspace of OP`.
    pub name: String,
    /// The spec of each of them; `None` for a workspace.
    pub spec: Option<Spec>,
    /// Number of tensors.
    pub count: usize,
    /// Bytes of all of them together.
    pub bytes: u64,
}

/// An allocation that failed, and what takes the memory.
#[derive(Clone, Debug, PartialEq)]
pub struct OutOfMemory {
    /// The device.
    pub device: String,
    /// Bytes of the allocation that failed.
    pub wanted: u64,
    /// Bytes that were free, where that is known.
    pub free: Option<u64>,
    /// Bytes of the program (its values and workspaces); 0 if a slot of the state was to be allocated.
    pub program_bytes: u64,
    /// Bytes of state: of the slots that the program uses, or of all slots allocated so far.
    pub state_bytes: u64,
    /// The largest allocations at the program's peak, largest first.
    pub largest: Vec<Allocation>,
}

impl OutOfMemory {
    /// The largest batch size that should fit, given that `batch` did not, if the program's memory is proportional to
    /// the batch size. A quarter of the free memory is left for programs planned later: a chain step takes about that
    /// much besides a training step. `None` for state, and if not even a batch of one would fit.
    pub fn batch_that_fits(&self, batch: usize) -> Option<usize> {
        let free = self.free.filter(|_| self.program_bytes > 0)?;
        let fits = (u128::from(free) * 3 * batch as u128 / (u128::from(self.wanted.max(1)) * 4)) as usize;
        let fits = fits.min(batch.saturating_sub(1));
        (fits > 0).then_some(if fits >= 16 { fits / 8 * 8 } else { fits })
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out of memory on {}: {} wanted", self.device, format_bytes(self.wanted))?;
        if let Some(free) = self.free {
            write!(f, ", {} free", format_bytes(free))?;
        }
        match self.program_bytes {
            0 => write!(f, ", with {} of state allocated so far", format_bytes(self.state_bytes))?,
            n => write!(
                f,
                " for a program of {}; its state takes {}",
                format_bytes(n),
                format_bytes(self.state_bytes)
            )?,
        }
        for (i, a) in self.largest.iter().enumerate() {
            f.write_str(if i == 0 { ". Largest: " } else { "; " })?;
            if a.count > 1 {
                write!(f, "{} × ", a.count)?;
            }
            f.write_str(&a.name)?;
            if let Some(spec) = a.spec {
                write!(f, " {spec}")?;
            }
            write!(f, ", {}", format_bytes(a.bytes))?;
        }
        Ok(())
    }
}

/// The largest of these tensors (name, spec, bytes), those of equal name and spec counted together.
pub(crate) fn largest(tensors: impl Iterator<Item = (String, Option<Spec>, u64)>) -> Vec<Allocation> {
    let mut all: Vec<Allocation> = Vec::new();
    for (name, spec, bytes) in tensors {
        match all.iter_mut().find(|a| a.name == name && a.spec == spec) {
            Some(a) => (a.count, a.bytes) = (a.count + 1, a.bytes + bytes),
            None => all.push(Allocation { name, spec, count: 1, bytes }),
        }
    }
    all.sort_by_key(|a| core::cmp::Reverse(a.bytes));
    all.truncate(NAMED);
    all
}

/// Bytes of host memory that a process can allocate without swapping, as Linux estimates it; `None` elsewhere.
pub(crate) fn free_host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_largest_tensors_and_suggests_a_batch_size() {
        let values = [("conv2d", 64), ("add", 8), ("conv2d", 64), ("a", 1), ("b", 2), ("c", 3), ("d", 4)];
        let of = |(name, n): &(&str, usize)| (name.to_string(), Some(Spec::f32(&[*n, 4])), 16 * *n as u64);
        let largest = largest(values.iter().map(of));
        assert_eq!(largest.len(), NAMED);
        assert_eq!((largest[0].count, largest[0].bytes), (2, 2048));
        let error = OutOfMemory {
            device: "a device".into(),
            wanted: 3 << 30,
            free: Some(1 << 30),
            program_bytes: 3 << 30,
            state_bytes: 5 << 20,
            largest,
        };
        let text = error.to_string();
        for part in [
            "a device: 3072 MiB wanted, 1024 MiB free",
            "state takes 5120 KiB",
            "2 × conv2d f32[64×4], 2048 B",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!([64, 6, 2].map(|b| error.batch_that_fits(b)), [Some(16), Some(1), None]);
        assert_eq!(OutOfMemory { program_bytes: 0, ..error }.batch_that_fits(64), None);
    }
}
