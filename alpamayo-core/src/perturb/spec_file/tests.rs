use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = r#"
seed = 7

[[perturbations]]
name = "fog"
level = 3
cameras = [1]
frames = [2, 3]

[[perturbations]]
name = "speed_scale"
direction = "down"
reaches = "integrator"
severity = 0.25

[[perturbations]]
name = "instruction"
text = "stop at once."
"#;

fn toml_error(text: &str) -> String {
    PerturbationSpec::from_toml(text, Path::new("sweep.toml"))
        .unwrap_err()
        .to_string()
}

fn json_error(text: &str) -> String {
    PerturbationSpec::from_json(text, Path::new("sweep.json"))
        .unwrap_err()
        .to_string()
}

#[test]
fn the_canonical_form_says_everything() {
    let spec = PerturbationSpec::from_toml(EXAMPLE, Path::new("sweep.toml")).unwrap();
    assert_eq!(
        spec.canonical(),
        concat!(
            r#"{"seed":7,"perturbations":[{"name":"fog","severity":0.6,"cameras":[1],"frames":[2,3]},"#,
            r#"{"name":"speed_scale","severity":0.25,"direction":"down","reaches":"integrator"},"#,
            r#"{"name":"instruction","severity":1.0,"text":"stop at once."}]}"#
        )
    );
    assert_eq!(
        PerturbationSpec::from_json(&spec.canonical(), Path::new("-")).unwrap(),
        spec
    );
    assert_eq!(
        PerturbationSpec::from_toml("", Path::new("-")).unwrap(),
        PerturbationSpec::default()
    );
}

#[test]
fn files_are_read_by_their_extension() {
    let dir = tempfile::tempdir().unwrap();
    let spec = PerturbationSpec::from_toml(EXAMPLE, Path::new("-")).unwrap();
    for (name, text) in [("a.toml", EXAMPLE.to_owned()), ("a.json", spec.canonical())] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        assert_eq!(PerturbationSpec::read(&path).unwrap(), spec);
    }
    let missing = PerturbationSpec::read(&dir.path().join("b.toml"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("b.toml"), "{missing}");
}

#[test]
fn every_name_belongs_to_one_kind() {
    let names: Vec<String> = Name::all().map(|name| name.to_string()).collect();
    let distinct: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    for name in names {
        let found: Name = serde_json::from_str(&format!("\"{name}\"")).unwrap();
        assert_eq!(found.to_string(), name);
    }
}

#[test]
fn errors_name_the_line_and_what_would_be_right() {
    for (line, text, message) in [
        (
            5,
            "seed = 1\n\n[[perturbations]]\n\nname = \"fogg\"\n",
            "unknown perturbation `fogg`; known: brightness, ",
        ),
        (
            3,
            "[[perturbations]]\nname = \"fog\"\nseverity = 2\n",
            "severity 2 is outside 0..=1",
        ),
        (
            3,
            "[[perturbations]]\nname = \"fog\"\nseverity = nan\n",
            "severity NaN is outside 0..=1",
        ),
        (
            3,
            "[[perturbations]]\nname = \"fog\"\nlevel = 6\n",
            "level 6 is outside 0..=5",
        ),
        (
            3,
            "[[perturbations]]\nname = \"fog\"\ncameras = [1,\n  9]\n",
            "there is no camera 9; cameras are 0 to 6",
        ),
        (
            3,
            "[[perturbations]]\nname = \"fog\"\nfrms = [1]\n",
            "unknown field `frms`",
        ),
        (
            3,
            "[[perturbations]]\nname = \"fog\"\nframes = [-1]\n",
            "expected usize",
        ),
        (2, "seed = 1\nseeed = 1\n", "unknown field `seeed`"),
        (1, "seed = -1\n", "expected u64"),
        (4, "\n\n[[perturbations]]\nname = fog\n", ""),
        // What contradicts itself over several lines is found where its table begins.
        (
            2,
            "\n[[perturbations]]\nname = \"fog\"\nlevel = 1\nseverity = 0.2\n",
            "both `severity` and `level`",
        ),
        (
            2,
            "\n[[perturbations]]\nname = \"fog\"\ntext = \"no\"\n",
            "`fog` has no option `text`",
        ),
        (
            2,
            "\n[[perturbations]]\nname = \"fog\"\ndirection = \"down\"\n",
            "`fog` has no option `direction`",
        ),
        (
            2,
            "\n[[perturbations]]\nname = \"fog\"\ncameras = []\n",
            "has an empty `cameras`",
        ),
        (
            2,
            "\n[[perturbations]]\nname = \"fog\"\ncameras = [1, 1]\n",
            "names 1 twice",
        ),
        (
            2,
            "\n[[perturbations]]\nname = \"instruction\"\n",
            "`instruction` needs `text`",
        ),
        (
            2,
            "\n[[perturbations]]\nname = \"instruction\"\ntext = \"a\"\nseverity = 0.5\n",
            "is on (severity 1) or off",
        ),
        (2, "\n[[perturbations]]\nname = \"removed_camera\"\n", "at least 1"),
        (
            2,
            "\n[[perturbations]]\nname = \"swapped_cameras\"\ncameras = [1]\n",
            "at least 2",
        ),
        (
            2,
            "\n[[perturbations]]\nname = \"latency\"\nframes = [1]\n",
            "not aimed at frames",
        ),
        (
            2,
            "\n[[perturbations]]\nname = \"stationary\"\ncameras = [1]\n",
            "not aimed at cameras",
        ),
    ] {
        let error = toml_error(text);
        assert!(error.starts_with(&format!("sweep.toml:{line}:")), "{text}\n{error}");
        assert!(error.contains(message), "{text}\n{error}");
    }
}

#[test]
fn json_errors_name_the_line_too() {
    for (line, text, message) in [
        (
            2,
            "{\"perturbations\": [\n{\"name\": \"fogg\"}]}",
            "unknown perturbation `fogg`",
        ),
        (
            3,
            "{\"perturbations\": [\n{\"name\": \"fog\",\n\"severity\": 2}]}",
            "severity 2 is outside 0..=1",
        ),
        (
            3,
            "{\"perturbations\": [\n{\"name\": \"fog\",\n\"cameras\": [9]}]}",
            "there is no camera 9",
        ),
        (
            2,
            "{\"perturbations\": [\n{\"name\": \"instruction\"}]}",
            "`instruction` needs `text`",
        ),
        (2, "{\n\"seed\": 1,,\n}", ""),
    ] {
        let error = json_error(text);
        assert!(error.starts_with(&format!("sweep.json:{line}:")), "{text}\n{error}");
        assert!(
            error.contains(message) && !error.contains(" at line "),
            "{text}\n{error}"
        );
    }
}

fn any_perturbation() -> impl Strategy<Value = Perturbation> {
    let direction = prop::sample::select(vec![Direction::Up, Direction::Down]);
    let reaches = prop::sample::select(vec![Reach::HistoryTokens, Reach::Integrator, Reach::Both]);
    let name = prop::sample::select(Name::all().collect::<Vec<_>>());
    let cameras = prop::option::of(prop::sample::subsequence((0..=6).collect::<Vec<usize>>(), 2..=7).prop_shuffle());
    let frames = prop::option::of(prop::sample::subsequence((0..4).collect::<Vec<usize>>(), 1..=4).prop_shuffle());
    (name, 0.0..=1.0f64, cameras, frames, direction, reaches, any::<String>()).prop_filter_map(
        "a combination that makes sense",
        |(name, severity, cameras, frames, direction, reaches, text)| {
            let effect = match name {
                Name::Image(kind) => Effect::Image { kind, direction },
                Name::Sensor(kind) => Effect::Sensor(kind),
                Name::History(kind) => Effect::History {
                    kind,
                    direction,
                    reaches,
                },
                Name::Language(kind) => Effect::Language { kind, text },
            };
            let severity = if effect.is_switch() { severity.round() } else { severity };
            Perturbation::new(effect, Severity::new(severity).unwrap(), Target { cameras, frames }).ok()
        },
    )
}

proptest! {
    #[test]
    fn specifications_round_trip(
        seed in 0..=i64::MAX as u64,
        perturbations in prop::collection::vec(any_perturbation(), 0..4),
    ) {
        let spec = PerturbationSpec { seed, perturbations };
        let again = PerturbationSpec::from_json(&spec.canonical(), Path::new("-")).unwrap();
        prop_assert_eq!(&again, &spec);
        prop_assert_eq!(again.canonical(), spec.canonical());
        let toml = toml::to_string(&spec).unwrap();
        prop_assert_eq!(PerturbationSpec::from_toml(&toml, Path::new("-")).unwrap(), spec);
    }
}
