//! Runs that stop anywhere and go on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::error::Error;

/// What the items of these tests say: any words.
#[derive(Debug, Clone)]
struct Word(String);

impl Item for Word {
    fn key(&self) -> String {
        self.0.clone()
    }
}

fn words<S: AsRef<str>>(keys: &[S]) -> Vec<Word> {
    keys.iter().map(|key| Word(key.as_ref().to_owned())).collect()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/results.jsonl");
    (folder, path)
}

/// What the record of a word is.
fn record(key: &str) -> Vec<f64> {
    vec![key.len() as f64 / 3.0, 0.1]
}

/// Runs over `items`; also returns which were worked on.
fn run_over(path: &Path, items: &[Word], arguments: RunArguments) -> crate::Result<(Outcome, Vec<String>)> {
    let mut results = ResultFile::open(path, &json!({"samples": 6, "temperature": 0.6f32}))?;
    let pending = pending(items, &results, &arguments)?;
    let mut worked = Vec::new();
    let prepare = |item: &Word| Ok(record(&item.0));
    let outcome = run(
        &mut results,
        &pending,
        &Interrupt::default(),
        prepare,
        |item, prepared| {
            worked.push(item.0.clone());
            if item.0.contains('!') {
                Err("it was told to fail".into())
            } else {
                Ok(prepared)
            }
        },
    )?;
    Ok((outcome, worked))
}

fn contents(path: &Path) -> BTreeMap<String, Result<Vec<f64>, String>> {
    let results: ResultFile<Vec<f64>> = ResultFile::open(path, &json!({"samples": 6, "temperature": 0.6f32})).unwrap();
    results.records().map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However many bytes of the file are lost at its end, what is missing is done again and nothing else.
    #[test]
    fn a_run_goes_on_wherever_it_stopped(keys in prop::collection::btree_set("[a-zé!\"\\\\\n]{0,6}", 1..8), lost in 0.0f64..1.0) {
        let items = words(&keys.iter().collect::<Vec<_>>());
        let (_folder, path) = folder();
        let (outcome, worked) = run_over(&path, &items, RunArguments::default()).unwrap();
        prop_assert_eq!(worked.len(), items.len());
        prop_assert_eq!(outcome.done + outcome.failed, items.len());
        let whole = fs::read(&path).unwrap();
        let expected = contents(&path);
        for key in &keys {
            let is_there = if key.contains('!') { Err("it was told to fail".to_owned()) } else { Ok(record(key)) };
            prop_assert_eq!(&expected[key], &is_there);
        }

        let kept = (whole.len() as f64 * lost) as usize;
        fs::write(&path, &whole[..kept]).unwrap();
        // A line is whole where all of it but the line's end is there.
        let lines = whole.split_inclusive(|byte| *byte == b'\n');
        let ends: Vec<usize> = lines.scan(0, |end, line| { *end += line.len(); Some(*end) }).collect();
        let still_there = ends.iter().filter(|end| **end <= kept + 1).count();
        let (_, again) = run_over(&path, &items, RunArguments::default()).unwrap();
        prop_assert_eq!(again.len(), items.len() - still_there);
        prop_assert_eq!(fs::read(&path).unwrap(), whole);
        prop_assert_eq!(contents(&path), expected);
    }

    /// Shards are disjoint, together they are everything, and they differ in size by one at most.
    #[test]
    fn shards_share_the_work(count in 0usize..40, of in 1usize..9) {
        let items: Vec<usize> = (0..count).collect();
        let shards: Vec<Vec<usize>> = (1..=of)
            .map(|index| format!("{index}/{of}").parse::<Shard>().unwrap().of(&items).copied().collect())
            .collect();
        let mut all = shards.concat();
        all.sort_unstable();
        prop_assert_eq!(all, items);
        let sizes: Vec<usize> = shards.iter().map(Vec::len).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
    }
}

#[test]
fn shards_are_counted_from_one() {
    for wrong in ["0/2", "3/2", "1/0", "1", "1/2/3", "a/b", "-1/2"] {
        assert!(wrong.parse::<Shard>().unwrap_err().contains("1/8"), "{wrong}");
    }
    assert_eq!("2/3".parse::<Shard>().unwrap().to_string(), "2/3");
}

#[test]
fn files_of_shards_are_put_together() {
    let items = words(&["a", "b", "c", "d!", "e"]);
    let (folder, path) = folder();
    let mut together = Vec::new();
    for index in 1..=2 {
        let own = folder.path().join(format!("{index}.jsonl"));
        let shard = format!("{index}/2").parse().unwrap();
        run_over(
            &own,
            &items,
            RunArguments {
                shard,
                retry_failed: false,
            },
        )
        .unwrap();
        together.extend(fs::read(own).unwrap());
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, together).unwrap();
    assert_eq!(run_over(&path, &items, RunArguments::default()).unwrap().1, [""; 0]);
    assert_eq!(contents(&path).len(), 5);
}

#[test]
fn failures_are_lines_and_done_again_only_when_asked() {
    let items = words(&["a", "b!", "c"]);
    let (_folder, path) = folder();
    let (outcome, _) = run_over(&path, &items, RunArguments::default()).unwrap();
    assert_eq!(
        outcome,
        Outcome {
            done: 2,
            failed: 1,
            interrupted: false
        }
    );
    assert_eq!(run_over(&path, &items, RunArguments::default()).unwrap().1, [""; 0]);
    let retry = RunArguments {
        retry_failed: true,
        ..RunArguments::default()
    };
    assert_eq!(run_over(&path, &items, retry).unwrap().1, ["b!"]);

    // Of two lines the later one counts.
    let mut results: ResultFile<Vec<f64>> =
        ResultFile::open(&path, &json!({"samples": 6, "temperature": 0.6f32})).unwrap();
    assert_eq!(results.state("b!"), Some(State::Failed));
    results.append("b!", Ok(&vec![1.0])).unwrap();
    assert_eq!(results.record("b!").unwrap(), Some(Ok(vec![1.0])));
    drop(results);
    assert_eq!(contents(&path)["b!"], Ok(vec![1.0]));
    assert_eq!(run_over(&path, &items, retry).unwrap().1, [""; 0]);
}

#[test]
fn errors_and_panics_of_any_stage_are_lines() {
    let (_folder, path) = folder();
    let items = words(&[
        "fine",
        "prepare error",
        "prepare panic",
        "work error",
        "work panic",
        "last",
    ]);
    let mut results: ResultFile<usize> = ResultFile::open(&path, &()).unwrap();
    let pending = pending(&items, &results, &RunArguments::default()).unwrap();
    let fail = |stage: &str, item: &Word| match item.0.strip_prefix(stage) {
        Some(" error") => Err(std::io::Error::other(format!("{stage} failed")).into()),
        Some(" panic") => panic!("{stage} panicked"),
        _ => Ok(item.0.len()),
    };
    let work = |item: &Word, _| fail("work", item);
    let outcome = run(
        &mut results,
        &pending,
        &Interrupt::default(),
        |item| fail("prepare", item),
        work,
    )
    .unwrap();
    assert_eq!(
        outcome,
        Outcome {
            done: 2,
            failed: 4,
            interrupted: false
        }
    );
    let found: Vec<Result<usize, String>> = results.records().map(|record| record.unwrap().1).collect();
    let error = |words: &str| Err(words.to_owned());
    assert_eq!(
        found,
        [
            Ok(4),
            error("prepare failed"),
            error("a panic: prepare panicked"),
            error("work failed"),
            error("a panic: work panicked"),
            Ok(4),
        ]
    );
}

#[test]
fn an_interrupt_stops_behind_the_current_item() {
    let (_folder, path) = folder();
    let items = words(&["a", "b", "c", "d", "e"]);
    let interrupt = Interrupt::default();
    let mut results: ResultFile<usize> = ResultFile::open(&path, &()).unwrap();
    let all = pending(&items, &results, &RunArguments::default()).unwrap();
    let outcome = run(
        &mut results,
        &all,
        &interrupt,
        |_| Ok(()),
        |item, ()| {
            if item.0 == "b" {
                interrupt.request();
            }
            Ok(1)
        },
    );
    assert_eq!(
        outcome.unwrap(),
        Outcome {
            done: 2,
            failed: 0,
            interrupted: true
        }
    );
    let left = pending(&items, &results, &RunArguments::default()).unwrap();
    assert_eq!(
        left.iter().map(|item| item.0.as_str()).collect::<Vec<_>>(),
        ["c", "d", "e"]
    );
}

#[test]
fn work_that_is_stopped_half_way_leaves_no_line() {
    let (_folder, path) = folder();
    let items = words(&["a", "b", "c"]);
    let interrupt = Interrupt::default();
    let mut results: ResultFile<usize> = ResultFile::open(&path, &()).unwrap();
    let all = pending(&items, &results, &RunArguments::default()).unwrap();
    let outcome = run(
        &mut results,
        &all,
        &interrupt,
        |_| Ok(()),
        |item, ()| {
            if item.0 == "b" {
                interrupt.request();
                return Err(Interrupted.into());
            }
            Ok(1)
        },
    );
    let outcome = outcome.unwrap();
    assert_eq!((outcome.done, outcome.failed, outcome.interrupted), (1, 0, true));
    let left = pending(&items, &results, &RunArguments::default()).unwrap();
    assert_eq!(left.iter().map(|item| item.0.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(results.records().count(), 1);
}

#[test]
fn the_next_item_is_prepared_meanwhile_and_no_more_than_two_wait() {
    let (_folder, path) = folder();
    let items = words(&["a", "b", "c", "d", "e", "f"]);
    let (prepared, worked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let most = Mutex::new(0);
    let mut results: ResultFile<usize> = ResultFile::open(&path, &()).unwrap();
    let all = pending(&items, &results, &RunArguments::default()).unwrap();
    let prepare = |_: &Word| {
        let ahead = prepared.fetch_add(1, Ordering::SeqCst) + 1 - worked.load(Ordering::SeqCst);
        let mut most = most.lock().unwrap();
        *most = ahead.max(*most);
        Ok(())
    };
    let outcome = run(&mut results, &all, &Interrupt::default(), prepare, |item, ()| {
        // Ends only when the next one is prepared, which shows that both happen at once.
        while prepared.load(Ordering::SeqCst) < (worked.load(Ordering::SeqCst) + 2).min(items.len()) {
            std::thread::yield_now();
        }
        worked.fetch_add(1, Ordering::SeqCst);
        Ok(item.0.len())
    });
    assert_eq!(outcome.unwrap().done, 6);
    // One worked on, one in the channel, one waiting for its place there.
    assert!((2..=3).contains(&*most.lock().unwrap()));
}

#[test]
fn other_options_are_refused_with_what_differs() {
    let (_folder, path) = folder();
    run_over(&path, &words(&["a"]), RunArguments::default()).unwrap();
    let now = json!({"samples": 3, "temperature": 0.6f32, "seed": 1});
    let error = ResultFile::<usize>::open(&path, &now).unwrap_err();
    let Error::OtherOptions {
        line: 1, differences, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(differences, "samples: 6 there, 3 now; seed: null there, 1 now");
}

#[test]
fn foreign_files_are_refused_and_left_alone() {
    let (_folder, path) = folder();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for foreign in [
        "{\"name\": 1}\n",
        "torn{\"key\":\"a\"}\n",
        "\n",
        "{\"key\":\"a\",\"options\":null}\n",
    ] {
        fs::write(&path, foreign).unwrap();
        let error = ResultFile::<usize>::open(&path, &()).unwrap_err();
        assert!(matches!(error, Error::ResultLine { line: 1, .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
    }
    fs::write(&path, "{\"key\":\"a\",\"options\":null,\"result\":\"words\"}\n").unwrap();
    let results = ResultFile::<usize>::open(&path, &()).unwrap();
    let error = results.record("a").unwrap_err();
    assert!(matches!(error, Error::ResultLine { line: 1, .. }), "{error}");
}

#[test]
fn one_run_per_file() {
    let (_folder, path) = folder();
    let first = ResultFile::<usize>::open(&path, &()).unwrap();
    assert!(matches!(
        ResultFile::<usize>::open(&path, &()),
        Err(Error::ResultsInUse(_))
    ));
    drop(first);
    assert!(ResultFile::<usize>::open(&path, &()).is_ok());
}

#[test]
fn keys_are_unique() {
    let (_folder, path) = folder();
    let error = run_over(&path, &words(&["a", "b", "a"]), RunArguments::default()).unwrap_err();
    assert!(matches!(error, Error::DuplicateKey(key) if key == "a"));
}

#[test]
fn a_torn_line_may_hold_anything() {
    let (_folder, path) = folder();
    run_over(&path, &words(&["a"]), RunArguments::default()).unwrap();
    let whole = fs::read(&path).unwrap();
    for tail in [&b"\xff\xfe"[..], b"\0\0\0\0", b"{\"key\":\"b", b"nul"] {
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(tail).unwrap();
        drop(file);
        assert_eq!(contents(&path).len(), 1);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
