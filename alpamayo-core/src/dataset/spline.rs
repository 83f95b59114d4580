//! Not-a-knot cubic splines.

/// A cubic spline through points of three coordinates, twice continuously differentiable, whose first two pieces are
/// one polynomial, and whose last two are one ("not a knot"; de Boor, A Practical Guide to Splines, chapter IV).
///
/// Two points make a line and three a parabola.
#[derive(Debug, Clone)]
pub struct CubicSpline {
    knots: Vec<f64>,
    values: Vec<[f64; 3]>,
    slopes: Vec<[f64; 3]>,
}

impl CubicSpline {
    /// The spline through `values` at `knots`; `None` unless both have the same length of at least two, every number
    /// is finite and the knots increase.
    pub fn new(knots: Vec<f64>, values: Vec<[f64; 3]>) -> Option<Self> {
        let finite = knots
            .iter()
            .chain(values.iter().flatten())
            .all(|value| value.is_finite());
        let increasing = knots.windows(2).all(|pair| pair[0] < pair[1]);
        if !finite || !increasing || knots.len() < 2 || knots.len() != values.len() {
            return None;
        }
        let slopes = slopes(&knots, &values);
        Some(Self { knots, values, slopes })
    }

    /// Its value; `None` outside of the knots.
    pub fn at(&self, x: f64) -> Option<[f64; 3]> {
        let (piece, _) = locate(&self.knots, x)?;
        let step = self.knots[piece + 1] - self.knots[piece];
        let t = (x - self.knots[piece]) / step;
        Some(std::array::from_fn(|i| {
            let (from, to) = (self.values[piece][i], self.values[piece + 1][i]);
            let (leave, arrive) = (self.slopes[piece][i] * step, self.slopes[piece + 1][i] * step);
            let rise = to - from;
            // Hermite's form, by powers of t.
            let (quadratic, cubic) = (3.0 * rise - 2.0 * leave - arrive, leave + arrive - 2.0 * rise);
            from + t * (leave + t * (quadratic + t * cubic))
        }))
    }

    /// Its first derivative at every knot.
    pub fn slopes(&self) -> &[[f64; 3]] {
        &self.slopes
    }
}

/// The piece of increasing `knots` that holds `x`, and how far into it `x` is, 0 to 1; `None` outside.
pub(super) fn locate(knots: &[f64], x: f64) -> Option<(usize, f64)> {
    let (&first, &last) = (knots.first()?, knots.last()?);
    if !(first..=last).contains(&x) || knots.len() < 2 {
        return None;
    }
    let piece = knots.partition_point(|&knot| knot <= x).clamp(1, knots.len() - 1) - 1;
    Some((piece, (x - knots[piece]) / (knots[piece + 1] - knots[piece])))
}

/// The derivative at every knot: a tridiagonal system that forward elimination and back substitution solve.
fn slopes(knots: &[f64], values: &[[f64; 3]]) -> Vec<[f64; 3]> {
    let n = knots.len();
    let step: Vec<f64> = knots.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let secant: Vec<[f64; 3]> = (0..n - 1)
        .map(|k| std::array::from_fn(|i| (values[k + 1][i] - values[k][i]) / step[k]))
        .collect();
    match n {
        2 => return vec![secant[0]; 2],
        3 => return parabola_slopes(&step, &secant),
        _ => {}
    }
    let (first, last) = (step[0] + step[1], step[n - 3] + step[n - 2]);
    let mut diagonal = vec![0.0; n];
    let mut above = vec![0.0; n];
    let mut right = vec![[0.0; 3]; n];
    (diagonal[0], above[0]) = (step[1], first);
    right[0] = std::array::from_fn(|i| {
        ((step[0] + 2.0 * first) * step[1] * secant[0][i] + step[0] * step[0] * secant[1][i]) / first
    });
    for k in 1..n {
        let below;
        let value: [f64; 3];
        if k < n - 1 {
            (below, diagonal[k], above[k]) = (step[k], 2.0 * (step[k - 1] + step[k]), step[k - 1]);
            value = std::array::from_fn(|i| 3.0 * (step[k] * secant[k - 1][i] + step[k - 1] * secant[k][i]));
        } else {
            (below, diagonal[k]) = (last, step[n - 3]);
            let (before, end) = (step[n - 3], step[n - 2]);
            value = std::array::from_fn(|i| {
                (end * end * secant[n - 3][i] + (2.0 * last + end) * before * secant[n - 2][i]) / last
            });
        }
        let factor = below / diagonal[k - 1];
        diagonal[k] -= factor * above[k - 1];
        right[k] = std::array::from_fn(|i| value[i] - factor * right[k - 1][i]);
    }
    for k in (0..n).rev() {
        let next = right.get(k + 1).copied().unwrap_or_default();
        right[k] = std::array::from_fn(|i| (right[k][i] - above[k] * next[i]) / diagonal[k]);
    }
    right
}

/// The derivatives at three knots of the parabola through them.
fn parabola_slopes(step: &[f64], secant: &[[f64; 3]]) -> Vec<[f64; 3]> {
    let bend: [f64; 3] = std::array::from_fn(|i| (secant[1][i] - secant[0][i]) / (step[0] + step[1]));
    let slope = |from: [f64; 3], distance: f64| std::array::from_fn(|i| from[i] + bend[i] * distance);
    vec![
        slope(secant[0], -step[0]),
        slope(secant[0], step[0]),
        slope(secant[1], step[1]),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_knots_make_no_spline() {
        let points = |n: usize| vec![[0.0; 3]; n];
        assert!(CubicSpline::new(vec![0.0], points(1)).is_none());
        assert!(CubicSpline::new(vec![0.0, 1.0, 1.0, 2.0], points(4)).is_none());
        assert!(CubicSpline::new(vec![0.0, f64::NAN, 1.0], points(3)).is_none());
        assert!(CubicSpline::new(vec![0.0, 1.0], points(3)).is_none());
    }

    #[test]
    fn nothing_is_extrapolated() {
        let spline = CubicSpline::new(vec![1.0, 2.0, 4.0], vec![[0.0; 3]; 3]).unwrap();
        assert!(spline.at(0.999).is_none() && spline.at(4.001).is_none() && spline.at(f64::NAN).is_none());
        assert_eq!(spline.at(1.0), Some([0.0; 3]));
        assert_eq!(spline.at(4.0), Some([0.0; 3]));
    }

    proptest! {
        /// A cubic is its own not-a-knot spline.
        #[test]
        fn cubics_are_reproduced(
            coefficients in prop::array::uniform4(-2.0..2.0f64),
            steps in prop::collection::vec(0.1..1.0f64, 3..20),
            share in 0.0..1.0f64,
        ) {
            let mut knots = vec![-1.0];
            for step in &steps {
                knots.push(knots[knots.len() - 1] + step);
            }
            let cubic = |x: f64| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
            let values = knots.iter().map(|&x| [cubic(x), -cubic(x), 1.0]).collect();
            let (first, last) = (knots[0], knots[knots.len() - 1]);
            let x = first + share * (last - first);
            let found = CubicSpline::new(knots, values).unwrap().at(x).unwrap();
            let scale = 1.0 + cubic(last).abs() + cubic(x).abs();
            prop_assert!((found[0] - cubic(x)).abs() < 1e-10 * scale, "{found:?} {}", cubic(x));
            prop_assert!((found[1] + cubic(x)).abs() < 1e-10 * scale);
            prop_assert!((found[2] - 1.0).abs() < 1e-12);
        }
    }
}
