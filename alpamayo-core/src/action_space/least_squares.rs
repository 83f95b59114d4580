//! Small Tikhonov-regularised least squares, solved through their normal equations.

use nalgebra::{DMatrix, DVector};

use crate::{Error, Result};

/// Second difference of a sequence.
pub(super) const SECOND_DIFFERENCE: [f64; 3] = [1.0, -2.0, 1.0];
/// Third difference of a sequence.
pub(super) const THIRD_DIFFERENCE: [f64; 4] = [-1.0, 3.0, -3.0, 1.0];

/// How often the ridge may grow by ten before a problem counts as unsolvable.
const RIDGE_ESCALATIONS: usize = 30;

/// The normal equations of a sum of weighted squared residuals `(Σ cᵢ xᵢ - target)²`.
pub(super) struct NormalEquations {
    matrix: DMatrix<f64>,
    rhs: DVector<f64>,
}

impl NormalEquations {
    /// No residuals yet, for `n` unknowns.
    pub fn new(n: usize) -> Self {
        Self {
            matrix: DMatrix::zeros(n, n),
            rhs: DVector::zeros(n),
        }
    }

    /// Adds `(Σ coefficient · x[index] - target)²` for the given `(index, coefficient)` pairs.
    pub fn add_residual<const N: usize>(&mut self, terms: [(usize, f64); N], target: f64) {
        for (i, ci) in terms {
            for (j, cj) in terms {
                self.matrix[(i, j)] += ci * cj;
            }
            self.rhs[i] += ci * target;
        }
    }

    /// Adds `weight · Σ (difference of x)²` wherever the difference lies inside; no boundary rows.
    pub fn add_difference_penalty<const N: usize>(&mut self, difference: [f64; N], weight: f64) {
        for start in 0..(self.rhs.len() + 1).saturating_sub(N) {
            for (i, &ci) in difference.iter().enumerate() {
                for (j, &cj) in difference.iter().enumerate() {
                    self.matrix[(start + i, start + j)] += weight * ci * cj;
                }
            }
        }
    }

    /// Fixes the first unknown: what it contributes moves to the right-hand side, and one unknown less remains.
    pub fn with_first_fixed(self, value: f64) -> Self {
        let n = self.rhs.len() - 1;
        Self {
            rhs: self.rhs.rows(1, n) - self.matrix.view((1, 0), (n, 1)) * value,
            matrix: self.matrix.view((1, 1), (n, n)).into_owned(),
        }
    }

    /// Minimises the sum plus `ridge · Σ x²` by Cholesky's factorisation; where that fails, with ten times the ridge.
    ///
    /// # Errors
    /// [`Error::ActionSpace`] naming `problem` where no ridge helps, as with values that are not finite.
    pub fn solve(self, ridge: f64, problem: &str) -> Result<Vec<f64>> {
        let n = self.rhs.len();
        let mut ridge = ridge;
        for _ in 0..RIDGE_ESCALATIONS {
            let diagonal = DMatrix::from_diagonal_element(n, n, ridge);
            let regularised = &self.matrix + diagonal;
            if let Some(factor) = regularised.cholesky() {
                let solution = factor.solve(&self.rhs);
                if solution.iter().all(|value| value.is_finite()) {
                    return Ok(solution.as_slice().to_vec());
                }
            }
            ridge *= 10.0;
        }
        Err(Error::ActionSpace(format!(
            "the least squares for {problem} have no solution; positions and rotations must be finite"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_singular_problem_gets_a_larger_ridge() {
        // (x0 - x1 - 1)² alone leaves x0 + x1 free, and next to 10¹⁶ a ridge of 10⁻¹² is nothing.
        let build = || {
            let mut equations = NormalEquations::new(2);
            equations.add_residual([(0, 1e8), (1, -1e8)], 1e8);
            equations
        };
        assert!(build().matrix.cholesky().is_none());
        assert!(build().solve(0.0, "a singular matrix").is_err());
        let x = build().solve(1e-12, "a singular matrix").unwrap();
        assert!((x[0] - x[1] - 1.0).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn what_is_not_finite_is_an_error() {
        let mut equations = NormalEquations::new(1);
        equations.add_residual([(0, 1.0)], f64::NAN);
        let error = equations.solve(1e-4, "the speeds").unwrap_err();
        assert!(error.to_string().contains("the speeds"), "{error}");
    }
}
