//! What a sweep's page shows.

use super::*;
use crate::perturb::page::{Sources, ToBeDrawn, page, to_be_drawn};

#[test]
fn a_page_shows_of_each_clip_what_moved_most() {
    let (sweep, clips) = (sweep(SWEEP), clips());
    let items = grid(&sweep, &clips).unwrap();
    let (_folder, results) = run(&items);
    let rows = Rows::read(&results, &items).unwrap();
    let summary = Summary::new(&rows).unwrap();
    let flips = flips();
    let sources = |clips| Sources {
        results: &results,
        clips,
        rows: &rows,
        summary: &summary,
        flips: Some((IntentKind::Stated, &flips)),
        drawn_per_clip: 1,
    };
    let page_of_all = page(&sources(&clips)).unwrap();
    let titles: Vec<&str> = page_of_all.comparisons.iter().map(|one| one.title.as_str()).collect();
    let expected = ["barriers", "right_curve", "red_light"].map(|clip| format!("{clip}: {FOG} at severity 1"));
    assert_eq!(titles, expected);
    let first = &page_of_all.comparisons[0];
    assert!((first.effects[0].1 - 6.0).abs() < 1e-5);
    assert_eq!(
        (first.clean_reasoning.as_str(), first.perturbed_reasoning.as_str()),
        (STOP, KEEP)
    );
    assert!(
        first.facts.contains(&("words".into(), "stop → keep".into())),
        "{:?}",
        first.facts
    );
    assert!(
        first
            .facts
            .contains(&("displacement with another seed".into(), "0.30 m".into()))
    );
    // The second time it was driven; the flip is that of the first time.
    assert!(!first.facts.iter().any(|(name, _)| name.starts_with("flips")));
    let html = page_of_all.to_html();
    for words in [
        "<h2>Experiments</h2>",
        "<h2>Where the stated intent flips</h2>",
        "with another seed",
        "<h2>All pairs</h2>",
        "<del>Stop",
    ] {
        assert!(html.contains(words), "{words}");
    }
    // Clips that are gone are not drawn.
    assert!(page(&sources(&[])).unwrap().comparisons.is_empty());
}

/// Clips that move by their number in fog and by half of that in rain.
fn rows_of(clips: usize) -> Rows {
    let row = |clip: usize, experiment: &str, moved: f64| {
        let mut values = vec![None; measure::ALL.len()];
        let place = measure::ALL
            .iter()
            .position(|measure| measure.key == "mean_displacement");
        values[place.unwrap()] = Some(moved);
        rows::Row {
            key: format!("{clip} | {experiment}"),
            clip: clip.to_string(),
            repetition: 1,
            condition: Some((experiment.to_owned(), 1.0)),
            values,
            drives: Default::default(),
        }
    };
    let both = |clip: usize| [row(clip, "fog", clip as f64), row(clip, "rain", clip as f64 / 2.0)];
    Rows {
        rows: (0..clips).flat_map(both).collect(),
        ..Rows::default()
    }
}

#[test]
fn every_clip_is_drawn_however_many_there_are() {
    let found = rows_of(130);
    let keys = |drawn: &ToBeDrawn<'_>| drawn.drawn.iter().map(|row| row.key.clone()).collect::<Vec<_>>();
    let all = to_be_drawn(&found, 2, 120);
    let expected: Vec<String> = (0..130).rev().map(|clip| format!("{clip} | fog")).collect();
    assert_eq!((keys(&all), all.others, all.left_out), (expected, 0, 130));

    // There is room for 5 others: those that moved most, among the rest by how much they moved.
    let found = rows_of(10);
    let some = to_be_drawn(&found, 2, 15);
    assert_eq!((some.drawn.len(), some.others, some.left_out), (15, 5, 5));
    let keys = keys(&some);
    let at = |key: &str| keys.iter().position(|known| known == key);
    assert!((0..10).all(|clip| at(&format!("{clip} | fog")).is_some()));
    assert!((5..10).all(|clip| at(&format!("{clip} | rain")).is_some()), "{keys:?}");
    assert!(
        at("5 | fog") < at("9 | rain") && at("9 | rain") < at("4 | fog"),
        "{keys:?}"
    );

    assert!(to_be_drawn(&found, 0, 120).drawn.is_empty());
}

#[test]
fn a_page_says_what_is_not_drawn() {
    let (sweep, clips) = (sweep(SWEEP), clips());
    let items = grid(&sweep, &clips).unwrap();
    let (_folder, results) = run(&items);
    let found = rows_of(130);
    let summary = Summary::new(&found).unwrap();
    let sources = Sources {
        results: &results,
        clips: &clips,
        rows: &found,
        summary: &summary,
        flips: None,
        drawn_per_clip: 2,
    };
    let introduction = page(&sources).unwrap().introduction.join("\n");
    assert!(
        introduction.contains("130 more are in the table only"),
        "{introduction}"
    );
    // None of these clips has a line.
    assert!(introduction.contains("130 pairs are not drawn"), "{introduction}");
}

#[test]
fn nothing_is_a_page_too() {
    let folder = tempfile::tempdir().unwrap();
    let (sweep, clips) = (sweep(SWEEP), clips());
    let items = grid(&sweep, &clips).unwrap();
    let results = ResultFile::open(&folder.path().join("results.jsonl"), &()).unwrap();
    let rows = Rows::read(&results, &items).unwrap();
    assert_eq!((rows.rows.len(), rows.missing), (0, items.len()));
    let summary = Summary::new(&rows).unwrap();
    assert!(curves::severity_curves(&summary).is_empty());
    let sources = Sources {
        results: &results,
        clips: &clips,
        rows: &rows,
        summary: &summary,
        flips: None,
        drawn_per_clip: 2,
    };
    let page = page(&sources).unwrap();
    assert!(page.comparisons.is_empty() && page.charts.is_empty());
}
