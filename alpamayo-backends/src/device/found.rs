//! A device that was found.

use std::fmt;

use super::{BackendKind, Device};

/// A device of this machine that this build can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name for [`Device`]'s text form.
    pub device: Device,
    /// What the driver calls it.
    pub description: String,
}

impl Found {
    pub(crate) fn new(kind: BackendKind, index: usize, description: impl Into<String>) -> Self {
        Self {
            device: Device { kind, index },
            description: description.into(),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device, self.description)
    }
}
