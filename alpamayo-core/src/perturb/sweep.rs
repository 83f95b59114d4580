//! A sweep: several experiments, each at several severities.

use std::fmt;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::severity::{LEVELS, Severity};
use super::spec::{Perturbation, PerturbationSpec};
use super::spec_file;
use crate::Result;

/// What is tried out, read from TOML, or from JSON with the same fields:
///
/// ```toml
/// seed = 7                          # of the perturbations' random draws; 0 if left out
/// repetitions = 2                   # drives of each pair, each with other seeds; 1 if left out
/// severities = [0.2, 0.6, 1.0]      # the five levels if left out
///
/// [[experiments]]
/// name = "dark front"
/// perturbations = [{ name = "black_camera", cameras = [1, 6] }]
///
/// [[experiments]]
/// name = "foggy night"
/// severities = [0.5, 1.0]           # instead of the sweep's
/// perturbations = [{ name = "night", severity = 0.4 }, { name = "fog" }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Where the perturbations' random streams start.
    #[serde(default)]
    pub seed: u64,
    /// How often each pair is driven, with other seeds of the model's draws each time.
    #[serde(default = "once", deserialize_with = "at_least_one")]
    pub repetitions: u32,
    /// The severities of the experiments that have none of their own, ascending.
    #[serde(default = "five_levels", deserialize_with = "ascending")]
    pub severities: Vec<Severity>,
    /// What is tried out; names differ.
    #[serde(deserialize_with = "distinct")]
    pub experiments: Vec<Experiment>,
}

/// Perturbations that are turned up together.
///
/// An experiment's severity multiplies the severities of its perturbations: 0 is the clean clip, 1 is what the file says. What can
/// only be on or off is on from anything above 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name in results.
    #[serde(deserialize_with = "not_blank")]
    pub name: String,
    /// Its own severities, ascending; the sweep's where it has none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "maybe_ascending"
    )]
    pub severities: Option<Vec<Severity>>,
    /// In the order of application.
    #[serde(deserialize_with = "not_empty")]
    pub perturbations: Vec<Perturbation>,
}

impl Sweep {
    /// Reads a sweep from a file: JSON where its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// Where the file cannot be read, and those of [`Self::from_toml`].
    pub fn read(path: &Path) -> Result<Self> {
        spec_file::read(path)
    }

    /// Reads a sweep from TOML; `path` is what errors call it.
    ///
    /// # Errors
    /// With the line, where the text is not TOML or names a perturbation, an option or a value that does not exist.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self> {
        spec_file::from_toml(text, path)
    }

    /// Reads a sweep from JSON; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        spec_file::from_json(text, path)
    }

    /// The severities at which an experiment is driven, ascending. One that can only be on or off is driven at 1, and at 0 where
    /// that is asked for.
    pub fn severities_of(&self, experiment: &Experiment) -> Vec<Severity> {
        let asked = experiment.severities.as_ref().unwrap_or(&self.severities);
        if !experiment.is_switch() {
            return asked.clone();
        }
        let zero = asked.iter().copied().filter(|severity| severity.is_zero());
        zero.chain([Severity::FULL]).collect()
    }

    /// What is applied to a clip: an experiment of this sweep at a severity.
    ///
    /// # Errors
    /// None that an experiment read from a file could cause; those of [`Perturbation::new`].
    pub fn spec(&self, experiment: &Experiment, severity: Severity) -> Result<PerturbationSpec> {
        let perturbations = experiment.perturbations.iter();
        Ok(PerturbationSpec {
            seed: self.seed,
            perturbations: perturbations.map(|one| turned(one, severity)).collect::<Result<_>>()?,
        })
    }
}

impl Experiment {
    /// Whether it can only be on or off.
    pub fn is_switch(&self) -> bool {
        self.perturbations.iter().all(|one| one.effect().is_switch())
    }
}

fn turned(one: &Perturbation, severity: Severity) -> Result<Perturbation> {
    let own = one.severity();
    if one.effect().is_switch() {
        return one.with_severity(if severity.is_zero() { Severity::ZERO } else { own });
    }
    one.with_severity(Severity::new(own.value() * severity.value())?)
}

fn once() -> u32 {
    1
}

fn five_levels() -> Vec<Severity> {
    (1..=LEVELS).filter_map(|level| Severity::level(level).ok()).collect()
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(D::Error::custom("0 repetitions drive nothing; give 1 or more")),
        repetitions => Ok(repetitions),
    }
}

fn ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Severity>, D::Error> {
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

fn maybe_ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Severity>>, D::Error> {
    ascending(deserializer).map(Some)
}

fn not_blank<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(D::Error::custom(
            "an experiment's name stands in tables and charts; give it one line of text",
        ));
    }
    Ok(name)
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Perturbation>, D::Error> {
    let perturbations = Vec::<Perturbation>::deserialize(deserializer)?;
    if perturbations.is_empty() {
        return Err(D::Error::custom(
            "`perturbations` is empty; the clean clip is driven anyway",
        ));
    }
    Ok(perturbations)
}

fn distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Experiment>, D::Error> {
    let experiments = deserializer.deserialize_seq(Experiments)?;
    if experiments.is_empty() {
        return Err(D::Error::custom("there are no experiments; give at least one"));
    }
    Ok(experiments)
}

/// Reads experiments one by one, so that a name that is there twice is told by the second one's line.
struct Experiments;

impl<'de> Visitor<'de> for Experiments {
    type Value = Vec<Experiment>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of experiments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut experiments = Vec::new();
        while let Some(experiment) = list.next_element_seed(NextExperiment(&experiments))? {
            experiments.push(experiment);
        }
        Ok(experiments)
    }
}

/// Reads an experiment that must not be called as one of these.
struct NextExperiment<'a>(&'a [Experiment]);

impl<'de> DeserializeSeed<'de> for NextExperiment<'_> {
    type Value = Experiment;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Experiment, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NextExperiment<'_> {
    type Value = Experiment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an experiment")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Experiment, A::Error> {
        let experiment = Experiment::deserialize(MapAccessDeserializer::new(fields))?;
        if self.0.iter().any(|other| other.name == experiment.name) {
            let name = &experiment.name;
            return Err(A::Error::custom(format!(
                "two experiments are called `{name}`; give each a name of its own"
            )));
        }
        Ok(experiment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
seed = 7
severities = [1.0, 0.5, 0]

[[experiments]]
name = "dark front"
perturbations = [{ name = "black_camera", cameras = [1, 6] }]

[[experiments]]
name = "blind on the left"
perturbations = [{ name = "removed_camera", cameras = [0] }]

[[experiments]]
name = "foggy night"
severities = [0.25]
perturbations = [
  { name = "night", level = 2 },
  { name = "fog" },
  { name = "instruction", text = "stop." },
]
"#;

    fn read(text: &str) -> Sweep {
        Sweep::from_toml(text, Path::new("sweep.toml")).unwrap()
    }

    fn severity(value: f64) -> Severity {
        Severity::new(value).unwrap()
    }

    #[test]
    fn an_experiment_is_turned_up_as_a_whole() {
        let sweep = read(EXAMPLE);
        let night = &sweep.experiments[2];
        let at = |value| sweep.spec(night, severity(value)).unwrap();
        assert_eq!(
            at(0.5).canonical(),
            concat!(
                r#"{"seed":7,"perturbations":[{"name":"night","severity":0.2},{"name":"fog","severity":0.5},"#,
                r#"{"name":"instruction","severity":1.0,"text":"stop."}]}"#
            )
        );
        assert_eq!(at(1.0).perturbations, night.perturbations);
        assert!(at(0.0).perturbations.iter().all(|one| one.severity().is_zero()));
    }

    #[test]
    fn severities_are_those_asked_for() {
        let sweep = read(EXAMPLE);
        let of = |index: usize| -> Vec<f64> {
            let severities = sweep.severities_of(&sweep.experiments[index]);
            severities.into_iter().map(Severity::value).collect()
        };
        assert_eq!([of(0), of(1), of(2)], [vec![0.0, 0.5, 1.0], vec![0.0, 1.0], vec![0.25]]);
        let short = "[[experiments]]\nname = \"a\"\nperturbations = [{ name = \"fog\" }]\n";
        let short = read(short);
        assert_eq!((short.seed, short.repetitions), (0, 1));
        let levels: Vec<f64> = short.severities.iter().map(|severity| severity.value()).collect();
        assert_eq!(levels, [0.2, 0.4, 0.6, 0.8, 1.0]);
    }

    #[test]
    fn sweeps_round_trip() {
        let sweep = read(EXAMPLE);
        let json = serde_json::to_string(&sweep).unwrap();
        assert_eq!(serde_json::from_str::<Sweep>(&json).unwrap(), sweep);
        let toml = toml::to_string(&sweep).unwrap();
        assert_eq!(read(&toml), sweep);
    }

    #[test]
    fn files_are_json_by_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let sweep = read(EXAMPLE);
        std::fs::write(path("sweep.json"), serde_json::to_string_pretty(&sweep).unwrap()).unwrap();
        std::fs::write(path("sweep.toml"), EXAMPLE).unwrap();
        for name in ["sweep.json", "sweep.toml"] {
            assert_eq!(Sweep::read(&path(name)).unwrap(), sweep, "{name}");
        }
        let error = Sweep::read(&path("nothing.json")).unwrap_err().to_string();
        assert!(error.contains("nothing.json"), "{error}");
    }

    #[test]
    fn errors_in_json_name_the_line() {
        const FINE: &str = r#"{
  "severities": [0.5],
  "experiments": [
    {"name": "a", "perturbations": [{"name": "fog"}]},
    {"name": "b", "perturbations": [{"name": "rain"}]}
  ]
}"#;
        assert_eq!(
            Sweep::from_json(FINE, Path::new("sweep.json"))
                .unwrap()
                .experiments
                .len(),
            2
        );
        for (line, from, to, message) in [
            (5, "rain", "rainn", "unknown perturbation `rainn`"),
            (2, "0.5", "1.5", "severity 1.5 is outside 0..=1"),
            (5, "\"b\"", "\"a\"", "two experiments are called `a`"),
            (5, "\"b\"", "\"\"", "give it one line"),
            (4, "\"name\": \"a\", ", "", "missing field `name`"),
            (2, "severities", "severity", "unknown field `severity`"),
            (5, "]},", "]", "expected"),
        ] {
            let text = FINE.replacen(from, to, 1);
            let error = Sweep::from_json(&text, Path::new("sweep.json"))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&format!("sweep.json:{line}:")), "{text}\n{error}");
            assert!(error.contains(message), "{text}\n{error}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        let fine = "[[experiments]]\nname = \"a\"\nperturbations = [{ name = \"fog\" }]\n";
        for (line, text, message) in [
            (3, fine.replace("fog", "fogg"), "unknown perturbation `fogg`"),
            (
                3,
                fine.replace("\"fog\"", "\"fog\", severity = 2"),
                "severity 2 is outside 0..=1",
            ),
            (
                3,
                fine.replace("\"fog\"", "\"fog\", cameras = [9]"),
                "there is no camera 9",
            ),
            (3, fine.replace("{ name = \"fog\" }", ""), "`perturbations` is empty"),
            (2, fine.replace("\"a\"", "\" \""), "give it one line"),
            (1, fine.replace("name = \"a\"\n", ""), "missing field `name`"),
            (4, format!("{fine}seed = 1\n"), "unknown field `seed`"),
            (1, format!("repetitions = 0\n{fine}"), "0 repetitions"),
            (1, format!("severities = []\n{fine}"), "`severities` is empty"),
            (
                2,
                format!("seed = 3\nseverities = [0.2, 0.2]\n{fine}"),
                "severity 0.2 is there twice",
            ),
            // A list is told by the line that it begins on.
            (
                2,
                format!("seed = 3\nseverities = [0.2,\n 1.2]\n{fine}"),
                "severity 1.2 is outside",
            ),
            (4, format!("{fine}severities = [-1]\n"), "severity -1 is outside"),
            (1, "seed = 1\n".to_owned(), "missing field `experiments`"),
            (1, "experiments = []\n".to_owned(), "there are no experiments"),
            (5, format!("{fine}\n{fine}"), "two experiments are called `a`"),
            (
                3,
                "experiments = [\n {name = \"a\", perturbations = [{name = \"fog\"}]},\n {name = \"a\", \
                 perturbations = [{name = \"rain\"}]},\n]\n"
                    .to_owned(),
                "two experiments are called `a`",
            ),
        ] {
            let error = Sweep::from_toml(&text, Path::new("sweep.toml"))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&format!("sweep.toml:{line}:")), "{text}\n{error}");
            assert!(error.contains(message), "{text}\n{error}");
        }
    }
}
