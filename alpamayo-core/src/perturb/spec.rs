//! The specification of an experiment: which perturbations, how strong, aimed at what.

use serde::{Deserialize, Serialize};

use super::history::{HistoryKind, Reach};
use super::image::{Direction, ImageKind};
use super::language::LanguageKind;
use super::sensor::SensorKind;
use super::severity::Severity;
use super::spec_file::Entry;
use crate::{Error, Result};

/// A seed and the perturbations to apply in order. An empty list is the clean clip.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerturbationSpec {
    /// Where the random streams start; 0 if left out.
    #[serde(default)]
    pub seed: u64,
    /// In the order of application.
    #[serde(default)]
    pub perturbations: Vec<Perturbation>,
}

impl PerturbationSpec {
    /// One line of JSON with everything that decides the outcome: defaults are written out, levels as severities. Equal
    /// specifications have equal lines.
    pub fn canonical(&self) -> String {
        // Numbers, strings and lists: nothing that JSON could refuse.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One perturbation with its strength and its target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Entry", into = "Entry")]
pub struct Perturbation {
    effect: Effect,
    severity: Severity,
    target: Target,
}

/// What a perturbation does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Corrupts images.
    Image {
        /// How.
        kind: ImageKind,
        /// Which way; [`Direction::Up`] for kinds that know only one.
        direction: Direction,
    },
    /// Disturbs cameras and their frames in time.
    Sensor(SensorKind),
    /// Changes the ego history.
    History {
        /// How.
        kind: HistoryKind,
        /// Which way; [`Direction::Up`] for kinds that know only one.
        direction: Direction,
        /// What gets to see the changed history.
        reaches: Reach,
    },
    /// Changes what is said.
    Language {
        /// Which part.
        kind: LanguageKind,
        /// The words.
        text: String,
    },
}

/// The images a perturbation is aimed at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// Camera indices (0 to 6), or `None` for all.
    pub cameras: Option<Vec<usize>>,
    /// Frames of each camera, 0 the oldest, or `None` for all.
    pub frames: Option<Vec<usize>>,
}

impl Target {
    /// All frames of these cameras.
    pub fn cameras(cameras: impl Into<Vec<usize>>) -> Self {
        Self {
            cameras: Some(cameras.into()),
            frames: None,
        }
    }
}

impl Effect {
    /// An image corruption the usual way.
    pub fn image(kind: ImageKind) -> Self {
        Self::Image {
            kind,
            direction: Direction::Up,
        }
    }

    /// Whether it knows only severity 0 and 1.
    pub fn is_switch(&self) -> bool {
        match self {
            Self::Sensor(kind) => kind.is_switch(),
            Self::Language { .. } => true,
            Self::Image { .. } | Self::History { .. } => false,
        }
    }

    /// The kind's name in a specification.
    pub fn name(&self) -> String {
        Entry::name_of(self)
    }
}

impl Perturbation {
    /// Puts a perturbation together.
    ///
    /// # Errors
    /// Where the effect cannot have this severity (some are on or off), this direction or this target.
    pub fn new(effect: Effect, severity: Severity, target: Target) -> Result<Self> {
        let name = effect.name();
        let wrong = |reason: String| Error::Perturbation(format!("`{name}` {reason}"));
        if effect.is_switch() && !severity.is_zero() && severity != Severity::FULL {
            return Err(wrong(format!("is on (severity 1) or off (severity 0), not {severity}")));
        }
        let (takes_cameras, takes_frames, min_named, direction) = match &effect {
            Effect::Image { kind, direction } => (true, true, 0, (kind.has_direction(), *direction)),
            Effect::Sensor(kind) => (
                true,
                kind.takes_frames(),
                kind.min_named_cameras(),
                (false, Direction::Up),
            ),
            Effect::History { kind, direction, .. } => (false, false, 0, (kind.has_direction(), *direction)),
            Effect::Language { .. } => (false, false, 0, (false, Direction::Up)),
        };
        if direction == (false, Direction::Down) {
            return Err(wrong("has no direction; leave `direction` out".into()));
        }
        if target.cameras.is_some() && !takes_cameras {
            return Err(wrong("is not aimed at cameras; leave `cameras` out".into()));
        }
        if target.frames.is_some() && !takes_frames {
            return Err(wrong("is not aimed at frames; leave `frames` out".into()));
        }
        if target.cameras.as_ref().map_or(0, Vec::len) < min_named {
            return Err(wrong(format!("needs `cameras` with at least {min_named} of them")));
        }
        check_target("cameras", target.cameras.as_deref(), Some(6)).map_err(&wrong)?;
        check_target("frames", target.frames.as_deref(), None).map_err(&wrong)?;
        Ok(Self {
            effect,
            severity,
            target,
        })
    }

    /// What it does.
    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    /// How strong it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What it is aimed at.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The same at another severity.
    ///
    /// # Errors
    /// Where the effect is on or off and the severity neither.
    pub fn with_severity(&self, severity: Severity) -> Result<Self> {
        Self::new(self.effect.clone(), severity, self.target.clone())
    }
}

/// A list that is there must name something, nothing twice, and nothing above `max`.
fn check_target(field: &str, list: Option<&[usize]>, max: Option<usize>) -> Result<(), String> {
    let Some(list) = list else { return Ok(()) };
    if list.is_empty() {
        return Err(format!("has an empty `{field}`; leave it out to mean all"));
    }
    for (place, index) in list.iter().enumerate() {
        if max.is_some_and(|max| *index > max) {
            return Err(format!("names {index} in `{field}`; there are 0 to 6"));
        }
        if list[..place].contains(index) {
            return Err(format!("names {index} twice in `{field}`"));
        }
    }
    Ok(())
}
