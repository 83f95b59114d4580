//! Ranges and ticks of an axis.

/// An axis: its label, and which values it shows.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What is drawn along it, with its unit: `speed (m/s)`.
    pub label: String,
    /// Exactly these values are shown; otherwise the data decides.
    pub range: Option<[f64; 2]>,
    /// These values are shown whatever the data is.
    pub at_least: Option<[f64; 2]>,
}

impl Axis {
    /// An axis whose range the data decides.
    pub fn new(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..Self::default()
        }
    }

    /// Shows exactly `low` to `high`.
    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some([low, high]);
        self
    }

    /// Shows `low` to `high` and what lies outside of it.
    pub fn at_least(mut self, low: f64, high: f64) -> Self {
        self.at_least = Some([low, high]);
        self
    }

    /// The range for these values: five per cent wider than they are, never empty, always finite.
    pub fn resolve(&self, values: impl IntoIterator<Item = f64>) -> [f64; 2] {
        if let Some([low, high]) = self.range {
            return widened(low, high);
        }
        let [mut low, mut high] = span(values).unwrap_or(self.at_least.unwrap_or([0.0, 1.0]));
        let margin = 0.05 * (high - low);
        (low, high) = (low - margin, high + margin);
        if let Some([at_least_low, at_least_high]) = self.at_least {
            // Data that ends where the axis must begin anyway (at zero, mostly) needs no margin there.
            low = if low + margin >= at_least_low {
                at_least_low
            } else {
                low
            };
            high = if high - margin <= at_least_high {
                at_least_high
            } else {
                high
            };
        }
        widened(low, high)
    }
}

fn widened(low: f64, high: f64) -> [f64; 2] {
    if high - low > f64::EPSILON * low.abs().max(high.abs()) && high > low {
        [low, high]
    } else {
        let half = if low == 0.0 { 0.5 } else { 0.1 * low.abs() };
        [low - half, low + half]
    }
}

/// The smallest and the largest of the values that are finite.
pub fn span(values: impl IntoIterator<Item = f64>) -> Option<[f64; 2]> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold(None, |span: Option<[f64; 2]>, value| {
            let [low, high] = span.unwrap_or([value, value]);
            Some([low.min(value), high.max(value)])
        })
}

/// Round values inside `range` with their texts: about `count` of them, one, two or five times a power of ten apart.
pub fn ticks(range: [f64; 2], count: usize) -> Vec<(f64, String)> {
    let [low, high] = range;
    let rough = (high - low) / count.max(1) as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let magnitude = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .min_by(|a, b| f64::total_cmp(&(a * magnitude / rough).ln().abs(), &(b * magnitude / rough).ln().abs()))
        .unwrap_or(1.0);
    let step = factor * magnitude;
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize;
    let tolerance = 1e-6 * step;
    let first = ((low - tolerance) / step).ceil();
    (0..=4 * count.max(1))
        .map(|i| (first + i as f64) * step)
        .take_while(|value| *value <= high + tolerance)
        .map(|value| (value, plain_number(value, decimals)))
        .collect()
}

/// A number with `decimals` digits after the point, and with a real minus sign.
pub fn plain_number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let negative = value < 0.0 && text.chars().any(|c| ('1'..='9').contains(&c));
    if negative { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(range: [f64; 2], count: usize) -> Vec<String> {
        ticks(range, count).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(texts([0.0, 10.0], 5), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(texts([-0.02, 0.021], 4), ["−0.02", "−0.01", "0.00", "0.01", "0.02"]);
        assert_eq!(texts([-1.6, 6.4], 8), ["−1", "0", "1", "2", "3", "4", "5", "6"]);
        assert_eq!(texts([0.0, 2500.0], 5), ["0", "500", "1000", "1500", "2000", "2500"]);
    }

    #[test]
    fn ranges_hold_the_data_and_are_never_empty() {
        assert_eq!(Axis::new("x").at_least(0.0, 1.0).resolve([0.5, 0.2]), [0.0, 1.0]);
        let [low, high] = Axis::new("x").at_least(0.0, 1.0).resolve([0.0, 2.0]);
        assert!(low == 0.0 && high > 2.0 && high < 2.2);
        for values in [
            vec![],
            vec![3.0],
            vec![0.0, 0.0],
            vec![f64::NAN],
            vec![f64::INFINITY, -1.0],
        ] {
            let [low, high] = Axis::new("x").resolve(values);
            assert!(low < high && low.is_finite() && high.is_finite());
        }
    }

    proptest! {
        #[test]
        fn ticks_stay_in_range_and_number_as_asked(low in -1e6..1e6f64, width in 1e-3..1e6f64, count in 2usize..10) {
            let ticks = ticks([low, low + width], count);
            prop_assert!(!ticks.is_empty() && ticks.len() <= 2 * count + 1);
            for (value, _) in &ticks {
                prop_assert!(*value >= low - 1e-5 * width && *value <= low + width + 1e-5 * width);
            }
        }
    }
}
