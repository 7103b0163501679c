//! Numbers as people write them: decimal, or as a fraction such as 8/255.

/// Reads a decimal number or a fraction of two of them; `None` for anything else, and for a denominator of 0.
pub fn number(text: &str) -> Option<f64> {
    let decimal = |t: &str| t.trim().parse::<f64>().ok();
    match text.split_once('/') {
        None => decimal(text),
        Some((above, below)) => {
            let below = decimal(below).filter(|b| *b != 0.0)?;
            decimal(above).map(|above| above / below)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_fractions() {
        for (text, want) in
            [("0.1", 0.1), ("8/255", 8.0 / 255.0), (" 1 / 4 ", 0.25), ("-2/8", -0.25), ("1e-3", 1e-3)]
        {
            assert_eq!(number(text), Some(want), "{text}");
        }
        for text in ["", "8/", "/255", "8/0", "1/2/3", "8:255", "a/b"] {
            assert_eq!(number(text), None, "{text}");
        }
        assert!(number("nan").unwrap().is_nan());
    }
}
