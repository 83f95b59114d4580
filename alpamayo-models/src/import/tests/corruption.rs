//! Whatever bytes a file holds, opening it returns: a sound checkpoint or an error, never a panic.

use std::sync::LazyLock;

use proptest::prelude::*;
use safetensors::Dtype;
use tempfile::tempdir;

use super::super::header::{WeightMap, read_header};
use super::super::{Checkpoint, problems};
use super::{safetensors, small_config, small_tensors, write_single};

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| safetensors(&small_tensors(Dtype::BF16)));

fn header_length() -> usize {
    8 + usize::try_from(u64::from_le_bytes(SMALL[..8].try_into().unwrap())).unwrap()
}

/// Opens the bytes as a checkpoint of the small model; whether it was accepted.
fn accepted(bytes: &[u8]) -> bool {
    let directory = tempdir().unwrap();
    std::fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    Checkpoint::open(directory.path()).is_ok_and(|checkpoint| problems(&checkpoint, &small_config()).is_empty())
}

/// Names, types, shapes and contents, if the header is sound.
type Contents = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn contents(bytes: &[u8]) -> Option<Contents> {
    let header = read_header("file".as_ref(), bytes).ok()?;
    let mut tensors: Contents = header
        .metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (start, end) = info.data_offsets;
            let data = bytes[header.data_start + start..header.data_start + end].to_vec();
            (name, info.dtype, info.shape.clone(), data)
        })
        .collect();
    tensors.sort_by(|first, second| first.0.cmp(&second.0));
    Some(tensors)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!accepted(&bytes));
    }

    #[test]
    fn arbitrary_headers_do_not_panic(json in "\\PC{0,80}", data in prop::collection::vec(any::<u8>(), 0..20)) {
        let bytes = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &data].concat();
        prop_assert!(!accepted(&bytes));
    }

    #[test]
    fn arbitrary_places_do_not_panic(
        shape in prop::collection::vec(prop_oneof![0..5u64, any::<u64>()], 0..4),
        places in prop::collection::vec((prop_oneof![0..40u64, any::<u64>()], prop_oneof![0..40u64, any::<u64>()]), 1..4),
        data in 0..40usize,
    ) {
        let entries: serde_json::Map<String, serde_json::Value> = places
            .iter()
            .enumerate()
            .map(|(number, (start, end))| {
                (format!("t{number}"), serde_json::json!({ "dtype": "U8", "shape": shape, "data_offsets": [start, end] }))
            })
            .collect();
        let json = serde_json::Value::Object(entries).to_string();
        let bytes = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat();
        prop_assert!(!accepted(&bytes));
    }

    #[test]
    fn truncated_files_are_refused(length in 0..SMALL.len()) {
        prop_assert!(!accepted(&SMALL[..length]));
    }

    #[test]
    fn a_changed_header_is_refused_or_says_the_same(at in 0..header_length(), byte in any::<u8>()) {
        let mut bytes = SMALL.clone();
        bytes[at] = byte;
        if accepted(&bytes) {
            prop_assert_eq!(contents(&bytes), contents(&SMALL));
        }
    }

    #[test]
    fn arbitrary_indexes_do_not_panic(text in "\\PC{0,80}", files in prop::collection::vec("\\PC{0,12}", 0..3)) {
        let directory = tempdir().unwrap();
        write_single(directory.path(), &[]);
        super::write_index(directory.path(), &text);
        prop_assert!(Checkpoint::open(directory.path()).is_err());
        let map: serde_json::Map<String, serde_json::Value> =
            files.iter().enumerate().map(|(number, file)| (number.to_string(), file.clone().into())).collect();
        super::write_index(directory.path(), &serde_json::json!({ "weight_map": map }).to_string());
        prop_assert!(Checkpoint::open(directory.path()).is_err());
    }

    #[test]
    fn a_weight_map_keeps_every_name(names in prop::collection::vec("[ab]{1,2}", 0..6)) {
        let text: Vec<String> = names.iter().map(|name| format!("{name:?}: \"file\"")).collect();
        let map: WeightMap = serde_json::from_str(&format!("{{{}}}", text.join(","))).unwrap();
        for name in &names {
            prop_assert!(map.files.contains_key(name));
            prop_assert_eq!(map.repeated.contains(name), names.iter().filter(|other| *other == name).count() > 1);
        }
    }
}
