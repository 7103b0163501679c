//! Human-readable sizes in bytes.

/// Formats a size for messages and tables in the largest binary unit of which there are at least ten: `9000 B`,
/// `781 KiB`, `3072 MiB`, `12.5 GiB`.
pub fn format_bytes(n: u64) -> String {
    match n {
        0..10_240 => format!("{n} B"),
        10_240..10_485_760 => format!("{:.0} KiB", n as f64 / 1024.0),
        10_485_760..10_737_418_240 => format!("{:.0} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_largest_with_ten_or_more() {
        for (n, text) in [
            (0, "0 B"),
            (10_239, "10239 B"),
            (10_240, "10 KiB"),
            (800_000, "781 KiB"),
            (10_485_760, "10 MiB"),
            (3 << 30, "3072 MiB"),
            (10 << 30, "10.0 GiB"),
        ] {
            assert_eq!(format_bytes(n), text);
        }
    }
}
