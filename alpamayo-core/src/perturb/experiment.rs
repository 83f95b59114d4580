//! An experiment of a sweep, read so that a mistake is found at its own line.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::severity::Severity;
use super::spec::Perturbation;

/// Perturbations that are turned up together.
///
/// An experiment's severity multiplies the severities of its perturbations: 0 is the clean clip, 1 is what the file says. What can
/// only be on or off is on from anything above 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Experiment {
    /// Its name in results.
    pub name: String,
    /// Its own severities, ascending; the sweep's where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severities: Option<Vec<Severity>>,
    /// In the order of application.
    pub perturbations: Vec<Perturbation>,
}

impl Experiment {
    /// Whether it can only be on or off.
    pub fn is_switch(&self) -> bool {
        self.perturbations.iter().all(|one| one.effect().is_switch())
    }
}

impl<'de> Deserialize<'de> for Experiment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OneOf(&[]).deserialize(deserializer)
    }
}

const FIELDS: &[&str] = &["name", "severities", "perturbations"];

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Name,
    Severities,
    Perturbations,
}

/// An experiment whose name is none of these. The name is compared where it is read: what reads the text knows that line, but not
/// those of experiments that it has read before.
struct OneOf<'a>(&'a [Experiment]);

impl<'de> DeserializeSeed<'de> for OneOf<'_> {
    type Value = Experiment;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Experiment, D::Error> {
        deserializer.deserialize_struct("Experiment", FIELDS, self)
    }
}

impl<'de> Visitor<'de> for OneOf<'_> {
    type Value = Experiment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an experiment")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Experiment, A::Error> {
        let (mut name, mut severities, mut perturbations) = (None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Name if name.is_none() => name = Some(map.next_value_seed(NameOf(self.0))?),
                Field::Severities if severities.is_none() => severities = Some(map.next_value::<Ascending>()?.0),
                Field::Perturbations if perturbations.is_none() => {
                    perturbations = Some(map.next_value::<NotEmpty>()?.0);
                }
                Field::Name => return Err(A::Error::duplicate_field("name")),
                Field::Severities => return Err(A::Error::duplicate_field("severities")),
                Field::Perturbations => return Err(A::Error::duplicate_field("perturbations")),
            }
        }
        Ok(Experiment {
            name: name.ok_or_else(|| A::Error::missing_field("name"))?,
            severities,
            perturbations: perturbations.ok_or_else(|| A::Error::missing_field("perturbations"))?,
        })
    }
}

/// The name of an experiment that is none of these.
struct NameOf<'a>(&'a [Experiment]);

impl<'de> DeserializeSeed<'de> for NameOf<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return Err(D::Error::custom(
                "an experiment's name stands in tables and charts; give it one line of text",
            ));
        }
        if self.0.iter().any(|other| other.name == name) {
            return Err(D::Error::custom(format!(
                "two experiments are called `{name}`; give each a name of its own"
            )));
        }
        Ok(name)
    }
}

/// A sweep's experiments: at least one, names differ.
pub(super) fn distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Experiment>, D::Error> {
    struct Distinct;

    impl<'de> Visitor<'de> for Distinct {
        type Value = Vec<Experiment>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of experiments")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Experiment>, A::Error> {
            let mut experiments = Vec::new();
            while let Some(experiment) = list.next_element_seed(OneOf(&experiments))? {
                experiments.push(experiment);
            }
            if experiments.is_empty() {
                return Err(A::Error::custom("there are no experiments; give at least one"));
            }
            Ok(experiments)
        }
    }

    deserializer.deserialize_seq(Distinct)
}

#[derive(Deserialize)]
struct Ascending(#[serde(deserialize_with = "ascending")] Vec<Severity>);

/// Severities in ascending order, each once.
pub(super) fn ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Severity>, D::Error> {
    let mut severities = Vec::<Severity>::deserialize(deserializer)?;
    severities.sort_by(|a, b| a.value().total_cmp(&b.value()));
    if severities.is_empty() {
        return Err(D::Error::custom(
            "`severities` is empty; leave it out for the five levels",
        ));
    }
    match severities.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(D::Error::custom(format!("severity {} is there twice", pair[0]))),
        None => Ok(severities),
    }
}

struct NotEmpty(Vec<Perturbation>);

impl<'de> Deserialize<'de> for NotEmpty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let perturbations = Vec::<Perturbation>::deserialize(deserializer)?;
        if perturbations.is_empty() {
            return Err(D::Error::custom(
                "`perturbations` is empty; the clean clip is driven anyway",
            ));
        }
        Ok(Self(perturbations))
    }
}
