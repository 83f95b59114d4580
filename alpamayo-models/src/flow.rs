//! Flow matching: from noise to actions along the expert's velocity (arXiv 2511.00088, action decoding by flow matching).

use burn::tensor::{Tensor, backend::Backend};

use crate::error::Result;
use crate::linspace::linspace;
use crate::observer::{Event, Observer};
use crate::pipeline::check;

/// Euler steps over the flow's time, from 0 (noise) to 1 (actions).
#[derive(Debug, Clone)]
pub struct EulerFlow {
    times: Vec<f32>,
}

impl EulerFlow {
    /// `steps` steps of equal length.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for no step, or more than 100,000.
    pub fn new(steps: usize) -> Result<Self> {
        check::count("flow_steps", steps, "steps leave the noise as it is")?;
        Ok(Self {
            times: linspace(0.0, 1.0, steps + 1),
        })
    }

    /// The times that the steps start at, and 1 at the end; f32.
    pub fn times(&self) -> &[f32] {
        &self.times
    }

    /// Follows `velocity(step, x, time)` from `x` `[rows · waypoints, 2]` at time 0 to time 1.
    pub fn integrate<B: Backend>(
        &self,
        mut x: Tensor<B, 2>,
        observer: &mut dyn Observer<B>,
        mut velocity: impl FnMut(usize, Tensor<B, 2>, f32, &mut dyn Observer<B>) -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        for (step, interval) in self.times.windows(2).enumerate() {
            observer.observe(Event::FlowState(step, &x));
            let v = velocity(step, x.clone(), interval[0], observer);
            observer.observe(Event::FlowVelocity(step, &v));
            x = x + v * (interval[1] - interval[0]);
        }
        x
    }
}
