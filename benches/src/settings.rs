//! Which backend and which size.

use std::env::{self, VarError};
use std::fmt;
use std::str::FromStr;

use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_backends::{Device, DeviceVisitor};
use alpamayo_models::LoadOptions;

/// A size of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The bundled miniature.
    Nano,
    /// Alpamayo-R1-10B.
    R1,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nano => "nano",
            Self::R1 => "r1-10b",
        })
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "nano" => Ok(Self::Nano),
            "r1-10b" => Ok(Self::R1),
            other => Err(format!("there is no size `{other}`; known are nano, r1-10b")),
        }
    }
}

/// What a run of benches measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub device: Device,
    /// The model's size.
    pub size: Size,
    /// How weights are stored; the backend's choice where not given.
    pub weights: Option<WeightFormat>,
    /// How the cache is stored; the backend's choice where not given.
    pub cache: Option<CacheFormat>,
}

impl Settings {
    /// The settings that the environment asks for.
    ///
    /// # Errors
    /// The variable and what is wrong with it.
    pub fn from_environment() -> Result<Self, String> {
        Ok(Self {
            device: variable("ALPAMAYO_BACKEND", |name| {
                name.parse()
                    .map_err(|error: alpamayo_backends::Error| error.to_string())
            })?
            .unwrap_or(Device::new(alpamayo_backends::BackendKind::Cpu)),
            size: variable("ALPAMAYO_SIZE", str::parse)?.unwrap_or(Size::Nano),
            weights: variable("ALPAMAYO_WEIGHTS", |name| {
                let known = WeightFormat::ALL;
                let format = known.into_iter().find(|format| format.name() == name);
                format.ok_or_else(|| {
                    let known = known.map(WeightFormat::name).join(", ");
                    format!("there is no weight format `{name}`; known are {known}")
                })
            })?,
            cache: variable("ALPAMAYO_CACHE", |name| match name {
                "f32" => Ok(CacheFormat::F32),
                "bf16" => Ok(CacheFormat::Bf16),
                other => Err(format!("there is no cache format `{other}`; known are f32, bf16")),
            })?,
        })
    }

    /// The name of a group of benches.
    pub fn group(&self, name: &str) -> String {
        format!("{name} {} {}", self.size, self.device)
    }

    /// The storage formats as a model is loaded with.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            weight_format: self.weights,
            cache_format: self.cache,
            ..LoadOptions::default()
        }
    }

    /// Runs benches as the environment asks; what fails is said and ends the program.
    pub fn run<V: DeviceVisitor<Output = Result<(), String>>>(visitor: impl FnOnce(Self) -> V) {
        let run = Self::from_environment().and_then(|settings| {
            let outcome = settings.device.run(visitor(settings));
            outcome.map_err(|error| error.to_string()).flatten()
        });
        if let Err(message) = run {
            eprintln!("error: {message}");
            std::process::exit(1);
        }
    }
}

fn variable<T>(name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    match env::var(name) {
        Ok(value) => parse(&value).map(Some).map_err(|reason| format!("{name}: {reason}")),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_by_name() {
        for size in [Size::Nano, Size::R1] {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert!("r1".parse::<Size>().unwrap_err().contains("r1-10b"));
    }
}
