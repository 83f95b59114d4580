//! The pipeline against the reference, and what callers can do with its stages.

mod bad_arguments;
mod golden;
mod nano;
mod placement;
mod stages;
mod views;
