//! Specifications in TOML and JSON, and errors that name the line.

use std::fmt;
use std::path::Path;

use serde::de::value::{Error as NameError, StrDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::history::{HistoryKind, Reach};
use super::image::{Direction, ImageKind};
use super::language::LanguageKind;
use super::sensor::SensorKind;
use super::severity::Severity;
use super::spec::{Effect, Perturbation, PerturbationSpec, Target};
use crate::{Error, Result};

impl PerturbationSpec {
    /// Reads a specification from a file: JSON where its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// Where the file cannot be read, and those of [`Self::from_toml`].
    pub fn read(path: &Path) -> Result<Self> {
        read(path)
    }

    /// Reads a specification from TOML; `path` is what errors call it.
    ///
    /// # Errors
    /// With the line, where the text is not TOML or names a perturbation, an option or a value that does not exist.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self> {
        from_toml(text, path)
    }

    /// Reads a specification from JSON; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        from_json(text, path)
    }
}

/// Anything from a file: JSON where its name ends in `.json`, else TOML.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    match path.extension().is_some_and(|extension| extension == "json") {
        true => from_json(&text, path),
        false => from_toml(&text, path),
    }
}

/// Anything from JSON; `path` is what errors call it, with the line where it is wrong.
pub(super) fn from_json<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        // The message repeats the place.
        let place = format!(" at line {} column {}", error.line(), error.column());
        Error::PerturbationSpec {
            path: path.to_path_buf(),
            line: error.line(),
            column: error.column(),
            reason: error.to_string().replace(&place, ""),
        }
    })
}

/// Anything from TOML; `path` is what errors call it, with the line where it is wrong.
pub(super) fn from_toml<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let before = &text.as_bytes()[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        Error::PerturbationSpec {
            path: path.to_path_buf(),
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: before.len() - line_start + 1,
            reason: error.message().to_owned(),
        }
    })
}

/// A perturbation as it is written: a flat table, whose values are checked where they stand so that errors find their
/// line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    name: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    #[serde(skip_serializing, default)]
    level: Option<Level>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cameras: Option<Vec<Camera>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reaches: Option<Reach>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Entry {
    /// An effect's name.
    pub(crate) fn name_of(effect: &Effect) -> String {
        match effect {
            Effect::Image { kind, .. } => Name::Image(*kind),
            Effect::Sensor(kind) => Name::Sensor(*kind),
            Effect::History { kind, .. } => Name::History(*kind),
            Effect::Language { kind, .. } => Name::Language(*kind),
        }
        .to_string()
    }

    /// Refuses options that the kind does not know.
    fn check_options(&self) -> Result<()> {
        let has_direction = match self.name {
            Name::Image(kind) => kind.has_direction(),
            Name::History(kind) => kind.has_direction(),
            Name::Sensor(_) | Name::Language(_) => false,
        };
        for (option, given, known) in [
            ("direction", self.direction.is_some(), has_direction),
            ("reaches", self.reaches.is_some(), matches!(self.name, Name::History(_))),
            ("text", self.text.is_some(), matches!(self.name, Name::Language(_))),
        ] {
            if given && !known {
                let name = &self.name;
                return Err(Error::Perturbation(format!(
                    "`{name}` has no option `{option}`; leave it out"
                )));
            }
        }
        Ok(())
    }
}

impl TryFrom<Entry> for Perturbation {
    type Error = Error;

    fn try_from(entry: Entry) -> Result<Self> {
        entry.check_options()?;
        let name = &entry.name;
        let severity = match (entry.severity, entry.level) {
            (Some(_), Some(_)) => {
                return Err(Error::Perturbation(format!(
                    "`{name}` has both `severity` and `level`; give one"
                )));
            }
            (Some(severity), None) => severity,
            (None, Some(Level(severity))) => severity,
            (None, None) => Severity::default(),
        };
        let direction = entry.direction.unwrap_or_default();
        let effect = match entry.name {
            Name::Image(kind) => Effect::Image { kind, direction },
            Name::Sensor(kind) => Effect::Sensor(kind),
            Name::History(kind) => Effect::History {
                kind,
                direction,
                reaches: entry.reaches.unwrap_or_default(),
            },
            Name::Language(kind) => Effect::Language {
                kind,
                text: entry
                    .text
                    .ok_or_else(|| Error::Perturbation(format!("`{name}` needs `text`")))?,
            },
        };
        let target = Target {
            cameras: entry
                .cameras
                .map(|cameras| cameras.iter().map(|camera| camera.0).collect()),
            frames: entry.frames,
        };
        Self::new(effect, severity, target)
    }
}

impl From<Perturbation> for Entry {
    fn from(perturbation: Perturbation) -> Self {
        let (mut direction, mut reaches, mut text) = (None, None, None);
        let name = match perturbation.effect() {
            Effect::Image { kind, direction: way } => {
                direction = kind.has_direction().then_some(*way);
                Name::Image(*kind)
            }
            Effect::Sensor(kind) => Name::Sensor(*kind),
            Effect::History {
                kind,
                direction: way,
                reaches: reach,
            } => {
                direction = kind.has_direction().then_some(*way);
                reaches = Some(*reach);
                Name::History(*kind)
            }
            Effect::Language { kind, text: words } => {
                text = Some(words.clone());
                Name::Language(*kind)
            }
        };
        let Target { cameras, frames } = perturbation.target().clone();
        Self {
            name,
            severity: Some(perturbation.severity()),
            level: None,
            cameras: cameras.map(|cameras| cameras.into_iter().map(Camera).collect()),
            frames,
            direction,
            reaches,
            text,
        }
    }
}

/// The name of any perturbation.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum Name {
    Image(ImageKind),
    Sensor(SensorKind),
    History(HistoryKind),
    Language(LanguageKind),
}

impl Name {
    fn all() -> impl Iterator<Item = Self> {
        let image = ImageKind::ALL.into_iter().map(Self::Image);
        let sensor = SensorKind::ALL.into_iter().map(Self::Sensor);
        let history = HistoryKind::ALL.into_iter().map(Self::History);
        let language = LanguageKind::ALL.into_iter().map(Self::Language);
        image.chain(sensor).chain(history).chain(language)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn named<'a, T: Deserialize<'a>>(name: &'a str) -> Option<T> {
            let name: StrDeserializer<'a, NameError> = name.into_deserializer();
            T::deserialize(name).ok()
        }
        let name = String::deserialize(deserializer)?;
        named(&name)
            .map(Self::Image)
            .or_else(|| named(&name).map(Self::Sensor))
            .or_else(|| named(&name).map(Self::History))
            .or_else(|| named(&name).map(Self::Language))
            .ok_or_else(|| {
                let known: Vec<String> = Self::all().map(|name| name.to_string()).collect();
                D::Error::custom(format!("unknown perturbation `{name}`; known: {}", known.join(", ")))
            })
    }
}

/// A severity given as one of the five levels.
#[derive(Clone, Copy, Debug)]
struct Level(Severity);

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let level = u8::deserialize(deserializer)?;
        Severity::level(level).map(Self).map_err(D::Error::custom)
    }
}

/// The index of a camera of the platform.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
struct Camera(usize);

impl<'de> Deserialize<'de> for Camera {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            camera @ 0..=6 => Ok(Self(camera)),
            camera => Err(D::Error::custom(format!(
                "there is no camera {camera}; cameras are 0 to 6"
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
