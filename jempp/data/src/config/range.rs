//! Ranges of numbers, from which both validation and descriptions are derived.

use core::fmt::{self, Display, Formatter};
use core::ops::Bound::{self, Excluded, Included, Unbounded};
use core::ops::RangeBounds;

/// The values allowed for a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Every value of the key's kind.
    Any,
    /// Whole numbers between these, both included.
    Whole(u64, u64),
    /// Finite numbers between these bounds.
    Real(Bound<f64>, Bound<f64>),
    /// A list whose values lie between these, both included.
    Each(&'static [(u64, u64)]),
}

impl Range {
    /// Numbers above 0.
    pub const POSITIVE: Self = Self::Real(Excluded(0.0), Unbounded);
    /// Numbers from 0.
    pub const NON_NEGATIVE: Self = Self::Real(Included(0.0), Unbounded);
    /// Numbers in [0, 1].
    pub const FRACTION: Self = Self::Real(Included(0.0), Included(1.0));
    /// Numbers in [0, 1).
    pub const BELOW_ONE: Self = Self::Real(Included(0.0), Excluded(1.0));

    /// Whether `value` lies in a range of whole numbers.
    pub fn has_whole(&self, value: u64) -> bool {
        matches!(*self, Self::Whole(low, high) if (low..=high).contains(&value))
    }

    /// Whether `value` is finite and lies in a range of real numbers.
    pub fn has_real(&self, value: f64) -> bool {
        matches!(*self, Self::Real(low, high) if value.is_finite() && (low, high).contains(&value))
    }

    /// The requirement as error messages state it: `must be at least 1 and at most 64`.
    pub fn demand(&self) -> String {
        match *self {
            Self::Whole(low, u64::MAX) => format!("must be {}", bounds(Included(low), Unbounded)),
            Self::Whole(low, high) => format!("must be {}", bounds(Included(low), Included(high))),
            Self::Real(low, high) => format!("must be a finite number {}", bounds(low, high)),
            Self::Each(_) => format!("must be within {self}"),
            Self::Any => "must be of another kind".to_string(),
        }
    }
}

/// The range as the description of a key states it: `1 to 64`, `above 0`.
impl Display for Range {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => Ok(()),
            Self::Whole(low, u64::MAX) => write!(f, "{low} or more"),
            Self::Whole(low, high) => write!(f, "{low} to {high}"),
            Self::Real(Included(low), Unbounded) => write!(f, "{low} or more"),
            Self::Real(Included(low), Included(high)) => write!(f, "{low} to {high}"),
            Self::Real(low, high) => f.write_str(&bounds(low, high)),
            Self::Each(all) => {
                let all: Vec<String> = all.iter().map(|(low, high)| format!("{low} to {high}")).collect();
                f.write_str(&all.join(", "))
            }
        }
    }
}

/// Bounds in words: `at least 0 and below 1`.
fn bounds<T: Display>(low: Bound<T>, high: Bound<T>) -> String {
    let low = match low {
        Included(a) => format!("at least {a}"),
        Excluded(a) => format!("above {a}"),
        Unbounded => String::new(),
    };
    let high = match high {
        Included(b) => format!("at most {b}"),
        Excluded(b) => format!("below {b}"),
        Unbounded => String::new(),
    };
    let and = if low.is_empty() || high.is_empty() { "" } else { " and " };
    format!("{low}{and}{high}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_words() {
        for (range, shown, demand) in [
            (Range::Whole(1, 64), "1 to 64", "must be at least 1 and at most 64"),
            (Range::Whole(2, u64::MAX), "2 or more", "must be at least 2"),
            (Range::POSITIVE, "above 0", "must be a finite number above 0"),
            (Range::NON_NEGATIVE, "0 or more", "must be a finite number at least 0"),
            (Range::FRACTION, "0 to 1", "must be a finite number at least 0 and at most 1"),
            (Range::BELOW_ONE, "at least 0 and below 1", "must be a finite number at least 0 and below 1"),
            (Range::Each(&[(4, 8), (1, 2)]), "4 to 8, 1 to 2", "must be within 4 to 8, 1 to 2"),
        ] {
            assert_eq!((range.to_string().as_str(), range.demand().as_str()), (shown, demand));
        }
    }

    #[test]
    fn no_range_contains_non_finite_values() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!Range::Real(Unbounded, Unbounded).has_real(value));
        }
        assert!(Range::Real(Unbounded, Excluded(1.0)).has_real(-1e300));
        assert!(
            !Range::Whole(0, 3).has_real(1.0) && !Range::FRACTION.has_whole(1) && !Range::Any.has_whole(1)
        );
    }
}
