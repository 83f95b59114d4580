//! Perturbations: one thing in a clip is changed, so that the model can drive again and show what moved.

pub mod measure;
