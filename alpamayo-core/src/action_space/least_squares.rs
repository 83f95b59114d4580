//! Small Tikhonov-regularised least squares, solved through their normal equations.

use std::cmp::Ordering;

use nalgebra::{DMatrix, DVector};

use crate::{Error, Result, Scalar};

/// Second difference of a sequence.
pub(super) const SECOND_DIFFERENCE: [i8; 3] = [1, -2, 1];
/// Third difference of a sequence.
pub(super) const THIRD_DIFFERENCE: [i8; 4] = [-1, 3, -3, 1];

/// How often the ridge may grow by ten before a problem counts as unsolvable.
const RIDGE_ESCALATIONS: usize = 30;

/// Columns that are factored together.
const BLOCK: usize = 8;

/// The normal equations of a sum of weighted squared residuals `(Σ cᵢ xᵢ - target)²`.
pub(super) struct NormalEquations<T: Scalar> {
    matrix: DMatrix<T>,
    rhs: DVector<T>,
}

impl<T: Scalar> NormalEquations<T> {
    /// No residuals yet, for `n` unknowns.
    pub fn new(n: usize) -> Self {
        Self {
            matrix: DMatrix::zeros(n, n),
            rhs: DVector::zeros(n),
        }
    }

    /// Adds `(Σ coefficient · x[index] - target)²` for the given `(index, coefficient)` pairs.
    pub fn add_residual<const N: usize>(&mut self, terms: [(usize, T); N], target: T) {
        for (i, ci) in terms {
            for (j, cj) in terms {
                // The reference's matrix product rounds once per step, its product with a vector twice.
                self.matrix[(i, j)] = ci.mul_add(cj, self.matrix[(i, j)]);
            }
            self.rhs[i] += ci * target;
        }
    }

    /// Adds `weight · Σ (difference of x)²` wherever the difference lies inside; no boundary rows.
    pub fn add_difference_penalty<const N: usize>(&mut self, difference: [i8; N], weight: f64) {
        let n = self.rhs.len();
        // Whole numbers first, so that each element is rounded once.
        let mut squares = DMatrix::<T>::zeros(n, n);
        for start in 0..(n + 1).saturating_sub(N) {
            for (i, &ci) in difference.iter().enumerate() {
                for (j, &cj) in difference.iter().enumerate() {
                    squares[(start + i, start + j)] += T::from_double(f64::from(ci) * f64::from(cj));
                }
            }
        }
        self.matrix += squares * T::from_double(weight);
    }

    /// Fixes the first unknown: what it contributes moves to the right-hand side, and one unknown less remains.
    pub fn with_first_fixed(self, value: T) -> Self {
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
    pub fn solve(self, ridge: f64, problem: &str) -> Result<Vec<T>> {
        let n = self.rhs.len();
        let mut ridge = ridge;
        for _ in 0..RIDGE_ESCALATIONS {
            let diagonal = DMatrix::from_diagonal_element(n, n, T::from_double(ridge));
            if let Some(factor) = cholesky(&self.matrix + diagonal) {
                let solution = substitute(&factor, self.rhs.clone());
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

/// The lower factor of a positive definite matrix, or `None` where it isn't one.
///
/// In f32 the order of the operations decides the last digits, and this is the order of the reference's library (oneMKL for 16
/// unknowns; the elements further than three from the diagonal are zero): every product is rounded before it is subtracted, the first
/// column's first, and columns are scaled by a [reciprocal](Scalar::reciprocal_root).
fn cholesky<T: Scalar>(mut matrix: DMatrix<T>) -> Option<DMatrix<T>> {
    let n = matrix.nrows();
    for j in 0..n {
        let pivot = pivot(&matrix, j);
        if pivot.partial_cmp(&T::zero()) != Some(Ordering::Greater) {
            return None;
        }
        let reciprocal = pivot.reciprocal_root();
        matrix[(j, j)] = pivot.sqrt();
        for i in j + 1..n {
            let rest = (0..j).fold(matrix[(i, j)], |rest, k| rest - matrix[(i, k)] * matrix[(j, k)]);
            matrix[(i, j)] = rest * reciprocal;
        }
    }
    Some(matrix)
}

/// What a diagonal element is before its root is taken: the squares of earlier blocks of columns are subtracted as a sum, whose odd
/// and even columns are summed apart; those of its own block one by one, from the nearest.
fn pivot<T: Scalar>(matrix: &DMatrix<T>, j: usize) -> T {
    let square = |k: usize| matrix[(j, k)] * matrix[(j, k)];
    let block = j - j % BLOCK;
    let every_other = |first: usize| (first..block).step_by(2).fold(T::zero(), |sum, k| sum + square(k));
    let rest = matrix[(j, j)] - (every_other(1) + every_other(0));
    (block..j).rev().fold(rest, |rest, k| rest - square(k))
}

/// Solves `L Lᵀ x = b` for the lower factor, whose upper half is not looked at.
fn substitute<T: Scalar>(factor: &DMatrix<T>, mut x: DVector<T>) -> DVector<T> {
    let n = x.len();
    for i in 0..n {
        let rest = (0..i).fold(x[i], |rest, k| rest - factor[(i, k)] * x[k]);
        x[i] = rest / factor[(i, i)];
    }
    for i in (0..n).rev() {
        let rest = (i + 1..n).fold(x[i], |rest, k| rest - factor[(k, i)] * x[k]);
        x[i] = rest / factor[(i, i)];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_singular_problem_gets_a_larger_ridge() {
        // (x0 - x1 - 1)² alone leaves x0 + x1 free, and next to 10¹⁶ a ridge of 10⁻¹² is nothing.
        let build = || {
            let mut equations = NormalEquations::<f64>::new(2);
            equations.add_residual([(0, 1e8), (1, -1e8)], 1e8);
            equations
        };
        assert!(cholesky(build().matrix).is_none());
        assert!(build().solve(0.0, "a singular matrix").is_err());
        let x = build().solve(1e-12, "a singular matrix").unwrap();
        assert!((x[0] - x[1] - 1.0).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn what_is_not_finite_is_an_error() {
        let mut equations = NormalEquations::<f64>::new(1);
        equations.add_residual([(0, 1.0)], f64::NAN);
        let error = equations.solve(1e-4, "the speeds").unwrap_err();
        assert!(error.to_string().contains("the speeds"), "{error}");
    }
}
