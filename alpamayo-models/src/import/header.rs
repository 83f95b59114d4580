//! The header of one safetensors file: names, types, shapes and places of its tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, SafeTensorError};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

/// Bytes of the header's length, before the header.
const LENGTH_BYTES: usize = 8;

/// A checked header.
#[derive(Debug)]
pub(super) struct Header {
    /// Where the tensors' data begins in the file.
    pub data_start: usize,
    /// Names, types, shapes and places.
    pub metadata: Metadata,
}

/// Reads and checks the header of a safetensors file given as its bytes; the data is not looked at.
///
/// # Errors
/// When the header is no header, describes overlapping or missing data, names a tensor twice, or the file is truncated.
pub(super) fn read_header(path: &Path, bytes: &[u8]) -> Result<Header> {
    let fail = |reason: String| Error::checkpoint(path, reason);
    let described = describe(bytes).map_err(fail)?;
    if let Some(name) = described.repeated.first() {
        return Err(fail(format!(
            "the header lists tensor `{name}` twice; the file was not written by a sound program"
        )));
    }
    let expected = described.data_start as u64 + described.data_bytes;
    let actual = bytes.len() as u64;
    if actual < expected {
        return Err(fail(format!(
            "truncated: the header describes {expected} bytes, the file has {actual}; fetch it again"
        )));
    }
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| fail(explain(&error)))?;
    Ok(Header {
        data_start: described.data_start,
        metadata,
    })
}

/// What a header says about itself, before the tensors are checked one by one.
struct Description {
    data_start: usize,
    /// End of the last tensor's data, from `data_start`.
    data_bytes: u64,
    repeated: BTreeSet<String>,
}

fn describe(bytes: &[u8]) -> Result<Description, String> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(format!(
            "{} bytes are too few for a safetensors file; fetch it again",
            bytes.len()
        ));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length))
        .ok_or_else(|| {
            format!(
                "the header should have {length} bytes, but only {} follow: no safetensors file, or a truncated one",
                rest.len()
            )
        })?;
    let entries: Entries = serde_json::from_slice(header)
        .map_err(|error| format!("the header is not the JSON of a safetensors file: {error}"))?;
    let data_start = LENGTH_BYTES + header.len();
    if (data_start as u64).checked_add(entries.end).is_none() {
        return Err(format!(
            "the header describes {} bytes of data, which no file can hold",
            entries.end
        ));
    }
    Ok(Description {
        data_start,
        data_bytes: entries.end,
        repeated: entries.repeated,
    })
}

fn explain(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::InvalidOffset(name) => {
            format!("header: `data_offsets` of tensor `{name}` overlap or leave a gap to the tensor before")
        }
        SafeTensorError::TensorInvalidInfo => {
            "header: a tensor's `data_offsets` do not hold what its `shape` and `dtype` ask for".into()
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            "the file is longer than its header describes: two files run together, or a damaged header".into()
        }
        SafeTensorError::ValidationOverflow => "header: a tensor's `shape` has more values than can be counted".into(),
        SafeTensorError::InvalidHeaderDeserialization(error) => {
            format!("the header is not the JSON of a safetensors file: {error}")
        }
        SafeTensorError::HeaderTooLarge => "the header is larger than a safetensors header may be (100 MB)".into(),
        other => format!("damaged safetensors header: {other}"),
    }
}

/// The entries of a header, read for what the parser behind [`SafeTensors`] passes over: names given twice, and the end of the data.
struct Entries {
    end: u64,
    repeated: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Place {
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut seen = BTreeSet::new();
                let mut entries = Entries {
                    end: 0,
                    repeated: BTreeSet::new(),
                };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.end = entries.end.max(map.next_value::<Place>()?.data_offsets.1);
                    }
                    if let Some(name) = seen.replace(name) {
                        entries.repeated.insert(name);
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// `weight_map` of an index: which file holds each tensor, and the names that are given twice.
#[derive(Debug, Default)]
pub(super) struct WeightMap {
    /// File by tensor name.
    pub files: BTreeMap<String, String>,
    /// Names listed more than once.
    pub repeated: BTreeSet<String>,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WeightMapVisitor;
        impl<'de> Visitor<'de> for WeightMapVisitor {
            type Value = WeightMap;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut result = WeightMap::default();
                while let Some((name, file)) = map.next_entry::<String, String>()? {
                    if result.files.insert(name.clone(), file).is_some() {
                        result.repeated.insert(name);
                    }
                }
                Ok(result)
            }
        }
        deserializer.deserialize_map(WeightMapVisitor)
    }
}
