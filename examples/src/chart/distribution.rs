//! How values are spread: histograms, and cumulative shares for a line chart.

use super::Chart;
use super::axis::{Axis, span, ticks};
use super::frame::{Frame, LegendItem, Surroundings};
use crate::scene::color::{self, Color};
use crate::scene::node::{Node, Paint, Stroke};
use crate::scene::{Point, Rect};

/// Values of one kind.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The kind's name in the legend.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// The values; those that are not finite are left out.
    pub values: Vec<f64>,
}

/// Counts of values in equal bins, several kinds over each other.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Title; may be empty.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis; counts begin at zero.
    pub y: Axis,
    /// The values by kind; a legend is drawn where there is more than one.
    pub samples: Vec<Sample>,
    /// Number of bins; 0 chooses by the number of values (Rice's rule, at most 40).
    pub bins: usize,
}

impl Histogram {
    /// The bins' edges: round numbers that hold every value.
    fn edges(&self) -> Vec<f64> {
        let values = || self.samples.iter().flat_map(|sample| sample.values.iter().copied());
        let most = self.samples.iter().map(|sample| sample.values.len()).max().unwrap_or(0);
        let rice = (2.0 * (most as f64).cbrt()).ceil().clamp(4.0, 40.0) as usize;
        let bins = if self.bins == 0 { rice } else { self.bins };
        let [low, high] = self.x.range.or_else(|| span(values())).unwrap_or([0.0, 1.0]);
        let [low, high] = Axis::default().range(low, high).resolve([]);
        let inner = ticks([low, high], bins);
        let step = match inner.as_slice() {
            [first, second, ..] => second.0 - first.0,
            _ => return vec![low, high],
        };
        let first = (low / step + 1e-9).floor();
        let count = (high / step - 1e-9).ceil() - first;
        (0..=count.max(1.0) as usize)
            .map(|i| (first + i as f64) * step)
            .collect()
    }
}

/// How many finite values lie in each bin; the last bin holds its upper edge too, values outside are in none.
pub fn counts(values: &[f64], edges: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; edges.len().saturating_sub(1)];
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else {
        return counts;
    };
    for value in values.iter().filter(|value| *value >= first && *value <= last) {
        let bin = edges.partition_point(|edge| edge <= value).max(1) - 1;
        if let Some(count) = counts.get_mut(bin.min(edges.len().saturating_sub(2))) {
            *count += 1;
        }
    }
    counts
}

/// The share of values at or below each value, as steps for a [`super::Line`].
pub fn cumulative(values: &[f64]) -> Vec<Point> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let total = sorted.len() as f64;
    let step = |(i, value): (usize, &f64)| [[*value, i as f64 / total], [*value, (i + 1) as f64 / total]];
    sorted.iter().enumerate().flat_map(step).collect()
}

impl Chart for Histogram {
    fn draw(&self, area: Rect) -> Vec<Node> {
        let edges = self.edges();
        let counted: Vec<Vec<usize>> = self
            .samples
            .iter()
            .map(|sample| counts(&sample.values, &edges))
            .collect();
        let highest = counted.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
        let several = self.samples.len() > 1;
        let items = self.samples.iter().filter(|_| several).map(|sample| LegendItem {
            name: sample.name.clone(),
            stroke: Stroke::new(sample.color, 2.0),
            filled: true,
        });
        let y = self.y.clone().at_least(0.0, 0.0);
        let around = Surroundings {
            title: &self.title,
            x: &self.x,
            y: &self.y,
            categories: &[],
            legend: &items.collect::<Vec<_>>(),
        };
        let x_range = [edges[0], edges[edges.len() - 1]];
        let frame = Frame::new(area, around, x_range, y.resolve([0.0, highest]));
        let mut nodes = Vec::new();
        for (sample, counted) in self.samples.iter().zip(&counted) {
            let fill = sample.color.with_alpha(if several { 0.45 } else { 0.75 });
            for (bin, count) in edges.windows(2).zip(counted).filter(|(_, count)| **count > 0) {
                let [left, top] = frame.place([bin[0], *count as f64]);
                let [right, bottom] = frame.place([bin[1], 0.0]);
                let bar = Rect::new(left, top, right - left, bottom - top);
                let paint = Paint::fill(fill).outlined(Stroke::new(color::PAPER, 1.0));
                nodes.push(Node::rectangle(bar, paint).titled(count.to_string()));
            }
        }
        frame.around(nodes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cumulative_shares_end_at_one() {
        let steps = cumulative(&[3.0, 1.0, f64::NAN, 2.0, 2.0]);
        assert_eq!(steps.first(), Some(&[1.0, 0.0]));
        assert_eq!(steps.last(), Some(&[3.0, 1.0]));
        assert!(steps.contains(&[2.0, 0.75]));
        assert!(cumulative(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn every_finite_value_is_in_one_bin(values in prop::collection::vec(-1e4..1e4f64, 0..80), bins in 0usize..30) {
            let sample = Sample { name: String::new(), color: color::INK, values: values.clone() };
            let edges = Histogram { samples: vec![sample], bins, ..Histogram::default() }.edges();
            prop_assert!(edges.windows(2).all(|edge| edge[0] < edge[1]));
            prop_assert_eq!(counts(&values, &edges).iter().sum::<usize>(), values.len());
        }
    }
}
