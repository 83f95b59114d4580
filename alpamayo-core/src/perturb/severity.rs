//! How strong a perturbation is, and the tables that turn it into parameters.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The number of severity levels that the corruption literature counts (Hendrycks and Dietterich, arXiv 1903.12261).
pub const LEVELS: u8 = 5;

/// The strength of a perturbation, from 0 (nothing happens, to the bit) to 1 (the literature's level 5).
///
/// Level k of the five usual ones is severity k/5; in between, the parameters are interpolated linearly.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Severity(f64);

impl Severity {
    /// Nothing happens.
    pub const ZERO: Self = Self(0.0);
    /// The literature's level 5.
    pub const FULL: Self = Self(1.0);

    /// A continuous severity.
    ///
    /// # Errors
    /// Where `value` is not within 0..=1.
    pub fn new(value: f64) -> Result<Self> {
        if (0.0..=1.0).contains(&value) {
            // The sum turns -0 into 0, so that equal severities are written alike.
            Ok(Self(value + 0.0))
        } else {
            Err(Error::Perturbation(format!(
                "severity {value} is outside 0..=1 (level k of the usual five is severity k/5)"
            )))
        }
    }

    /// One of the five levels of the literature; 0 is the clean clip.
    ///
    /// # Errors
    /// Where `level` is above 5.
    pub fn level(level: u8) -> Result<Self> {
        if level <= LEVELS {
            Ok(Self(f64::from(level) / f64::from(LEVELS)))
        } else {
            Err(Error::Perturbation(format!("level {level} is outside 0..=5")))
        }
    }

    /// The number in 0..=1.
    pub fn value(self) -> f64 {
        self.0
    }

    /// Whether nothing happens.
    pub fn is_zero(self) -> bool {
        self.0 == 0.0
    }

    /// The parameter at this severity, given its values at the clean clip and at levels 1 to 5.
    pub(crate) fn interpolate(self, clean: f64, levels: [f64; LEVELS as usize]) -> f64 {
        let position = self.0 * f64::from(LEVELS);
        let upper = (position.ceil() as usize).clamp(1, levels.len());
        let below = if upper == 1 { clean } else { levels[upper - 2] };
        below + (levels[upper - 1] - below) * (position - (upper - 1) as f64)
    }
}

impl Default for Severity {
    fn default() -> Self {
        Self::FULL
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Severity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: [f64; 5] = [25.0, 18.0, 15.0, 10.0, 7.0];

    #[test]
    fn levels_are_the_tables_entries() {
        for (level, expected) in (0..=LEVELS).zip([100.0, 25.0, 18.0, 15.0, 10.0, 7.0]) {
            let severity = Severity::level(level).unwrap();
            assert_eq!(severity.interpolate(100.0, TABLE), expected);
        }
        assert_eq!(Severity::new(0.7).unwrap().interpolate(100.0, TABLE), 12.5);
        assert!(Severity::level(6).is_err());
    }

    #[test]
    fn numbers_outside_the_range_are_refused() {
        for value in [-0.1, 1.000_001, 2.0, f64::NAN, f64::INFINITY] {
            assert!(Severity::new(value).is_err(), "{value}");
        }
        assert_eq!(Severity::new(-0.0).unwrap().to_string(), "0");
    }

    proptest! {
        #[test]
        fn interpolation_follows_a_monotone_table(a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
            let at = |severity| Severity::new(severity).unwrap().interpolate(100.0, TABLE);
            prop_assert!((at(a) >= at(b)) == (a <= b) || at(a) == at(b));
        }
    }
}
