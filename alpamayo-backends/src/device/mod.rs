//! Choosing a device by name: `cpu`, `cuda:0`, `vulkan`, `metal`, `candle` …
//!
//! [`Device::available`] lists what this build and machine can run; [`Device::run`] calls a [`DeviceVisitor`] with the Burn
//! backend behind the name, so that a program names its backend at run time and the model stays generic.

mod found;
mod kind;
mod limits;
mod run;

pub use found::Found;
pub use kind::BackendKind;
pub use limits::Limits;
pub use run::DeviceVisitor;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A backend and the index of one of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The backend.
    pub kind: BackendKind,
    /// Which of the backend's devices, from 0.
    pub index: usize,
}

impl Device {
    /// The first device of a backend.
    pub fn new(kind: BackendKind) -> Self {
        Self { kind, index: 0 }
    }

    /// Every device that this build and this machine can run, the fastest kind first.
    pub fn available() -> Vec<Found> {
        BackendKind::ALL.iter().flat_map(|kind| kind.list()).collect()
    }

    /// The first of [`available`](Self::available): a GPU if there is one, else the CPU.
    ///
    /// # Errors
    /// When the build has no backend at all.
    pub fn best() -> Result<Self> {
        Self::available()
            .first()
            .map(|found| found.device)
            .ok_or(Error::NoBackend)
    }

    /// Checks that the device can be opened.
    ///
    /// # Errors
    /// When the build lacks the backend (naming the feature to enable) or the machine lacks the device (naming what it has).
    pub fn check(&self) -> Result<Found> {
        if !self.kind.is_compiled() {
            return Err(Error::NotCompiled {
                backend: self.kind.name(),
                feature: self.kind.feature(),
            });
        }
        if let Some(kind) = self.kind.called_instead() {
            return Err(Error::OtherName {
                device: self.to_string(),
                name: Self { kind, ..*self }.to_string(),
            });
        }
        let found = self.kind.list();
        let names = found.iter().map(ToString::to_string).collect::<Vec<_>>();
        found
            .into_iter()
            .find(|found| found.device == *self)
            .ok_or_else(|| Error::NoDevice {
                device: self.to_string(),
                found: if names.is_empty() {
                    "none".into()
                } else {
                    names.join(", ")
                },
                hint: self.kind.hint(),
            })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.name())?;
        if self.kind.is_numbered() {
            write!(f, ":{}", self.index)
        } else {
            Ok(())
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownDevice {
            name: text.into(),
            known: BackendKind::ALL.map(BackendKind::name).join(", "),
        };
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse::<usize>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let kind = BackendKind::from_name(name).ok_or_else(unknown)?;
        if index.is_some_and(|index| index > 0) && !kind.is_numbered() {
            return Err(unknown());
        }
        Ok(Self {
            kind,
            index: index.unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_backend_is_found_by_its_name() {
        for kind in BackendKind::ALL {
            let device = Device::new(kind);
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
            assert_eq!(kind.name().parse::<Device>().unwrap(), device);
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        let cpu: Device = "cpu".parse().unwrap();
        assert_eq!(cpu.check().unwrap().device, cpu);
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        for kind in BackendKind::ALL {
            match (Device { kind, index: 60_000 }).check() {
                Err(Error::NotCompiled { feature, .. }) => {
                    assert!(!kind.is_compiled());
                    assert!(!feature.is_empty());
                }
                Err(error) => assert!(error.to_string().contains(kind.name()), "{error}"),
                Ok(found) => panic!("{found} is not there"),
            }
        }
    }

    #[cfg(all(feature = "vulkan", target_os = "linux"))]
    #[test]
    fn adapters_have_one_name_which_is_told() {
        let error = "wgpu:1".parse::<Device>().unwrap().check().unwrap_err();
        assert!(matches!(error, Error::OtherName { .. }), "{error}");
        assert!(error.to_string().contains("ask for `vulkan:1`"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_device_or_an_error(text in ".{0,12}") {
            match text.parse::<Device>() {
                Ok(device) => prop_assert_eq!(device.to_string().parse::<Device>().unwrap(), device),
                Err(error) => prop_assert!(error.to_string().contains(&text)),
            }
        }
    }
}
