//! Derivatives of sampled signals by sliding least-squares polynomials (Savitzky and Golay's filter).

use nalgebra::{DMatrix, DVector};

/// The polynomial that is fitted around each point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalFit {
    /// Points per fit; point `i` is fitted over those from `clamp(i - window / 2, 0, n - window)` on.
    pub window: usize,
    /// Degree of the polynomial.
    pub degree: usize,
}

impl LocalFit {
    /// First derivative at every point, for points `spacing` apart.
    ///
    /// With fewer points than the window holds, all of them are fitted, and the degree shrinks to what they determine;
    /// a single point has derivative zero.
    pub fn derivative(self, values: &[f64], spacing: f64) -> Vec<f64> {
        let window = self.window.min(values.len());
        let degree = self.degree.min(window.saturating_sub(1));
        if degree == 0 {
            return vec![0.0; values.len()];
        }
        let last_start = values.len() - window;
        let mut weights: Vec<Option<DVector<f64>>> = vec![None; window];
        (0..values.len())
            .map(|i| {
                let start = i.saturating_sub(self.window / 2).min(last_start);
                let weights = weights[i - start].get_or_insert_with(|| derivative_weights(window, degree, i - start));
                let points = &values[start..start + window];
                // Differences to the point itself leave constants exactly without slope.
                let sum: f64 = points
                    .iter()
                    .zip(weights.iter())
                    .map(|(p, w)| (p - values[i]) * w)
                    .sum();
                sum / spacing
            })
            .collect()
    }
}

/// What each of `window` equidistant points (spacing 1) contributes to the derivative at point `at`.
fn derivative_weights(window: usize, degree: usize, at: usize) -> DVector<f64> {
    let scale = window as f64;
    let powers = DMatrix::from_fn(window, degree + 1, |row, power| {
        ((row as f64 - at as f64) / scale).powi(power as i32)
    });
    // The derivative at the origin is the linear coefficient of the least-squares solution Q R c = p.
    let qr = powers.qr();
    let mut unit = DVector::zeros(degree + 1);
    unit[1] = 1.0 / scale;
    // e1ᵀ R⁻¹ Qᵀ; R is regular, the points being distinct.
    let coefficients = qr
        .r()
        .tr_solve_upper_triangular(&unit)
        .unwrap_or_else(|| DVector::zeros(degree + 1));
    qr.q() * coefficients
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cubics_are_differentiated_exactly(c in prop::array::uniform4(-2.0f64..2.0), n in 4usize..40) {
            let fit = LocalFit { window: 10, degree: 3 };
            let time = |i: usize| i as f64 * 0.1;
            let values: Vec<f64> = (0..n).map(|i| c[0] + time(i) * (c[1] + time(i) * (c[2] + time(i) * c[3]))).collect();
            for (i, slope) in fit.derivative(&values, 0.1).into_iter().enumerate() {
                let truth = c[1] + time(i) * (2.0 * c[2] + time(i) * 3.0 * c[3]);
                prop_assert!((slope - truth).abs() < 1e-9, "{slope} {truth}");
            }
        }
    }

    #[test]
    fn few_points_lower_the_degree() {
        let fit = LocalFit { window: 10, degree: 3 };
        assert_eq!(fit.derivative(&[], 1.0), Vec::<f64>::new());
        assert_eq!(fit.derivative(&[5.0], 1.0), vec![0.0]);
        let slopes = fit.derivative(&[1.0, 3.0], 0.5);
        assert!(slopes.iter().all(|s| (s - 4.0).abs() < 1e-12), "{slopes:?}");
    }
}
