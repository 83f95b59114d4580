//! The two float types that the action space computes in.

use nalgebra::RealField;

use crate::action_space::reciprocal_root;

/// `f32` (what the model's reference computes in) or `f64`.
///
/// Trigonometry comes from [`RealField`]; long sums and the least squares of actions are always formed in `f64`, through the two
/// conversions here, and the initial speed's in the type itself, as the reference does.
pub trait Scalar: RealField + Copy {
    /// The nearest value of this type.
    fn from_double(value: f64) -> Self;
    /// The same value in double precision.
    fn to_double(self) -> f64;
    /// 1/√x of a positive number; in f32 with the reference's last digit.
    fn reciprocal_root(self) -> Self;
}

impl Scalar for f32 {
    fn from_double(value: f64) -> Self {
        value as f32
    }
    fn to_double(self) -> f64 {
        f64::from(self)
    }
    fn reciprocal_root(self) -> Self {
        reciprocal_root(self)
    }
}

impl Scalar for f64 {
    fn from_double(value: f64) -> Self {
        value
    }
    fn to_double(self) -> f64 {
        self
    }
    fn reciprocal_root(self) -> Self {
        1.0 / self.sqrt()
    }
}
