//! How the cameras are mounted and what they see.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::index::clip_ids;
use super::table::Table;
use crate::Result;

/// A clip's rows of a calibration table: numbers by column, by sensor where there is a row for each sensor (by an
/// empty name otherwise).
pub(super) type Rows = BTreeMap<String, BTreeMap<String, f64>>;

/// The rows of `clip_id`, with the columns that hold numbers; `None` where the table has none of it.
pub(super) fn rows(path: &Path, clip_id: &str) -> Result<Option<Rows>> {
    let table = Table::open(path)?;
    let clips = clip_ids(&table, path)?;
    let index = table.index_columns();
    // The sensor's name is the index's second level, or else an ordinary column of names.
    let others = table.columns().into_iter().filter(|column| !index.contains(column));
    let named = index.get(1).cloned().into_iter().chain(others.clone());
    let sensors = named.into_iter().find_map(|column| table.strings(&column).ok());
    let numbers: Vec<(String, Vec<f64>)> = others
        .filter_map(|column| table.numbers(&column).ok().map(|values| (column, values)))
        .collect();
    let mut rows = Rows::new();
    for (row, _) in clips.iter().enumerate().filter(|(_, clip)| *clip == clip_id) {
        let sensor = sensors
            .as_ref()
            .map_or_else(String::new, |sensors| sensors[row].clone());
        rows.insert(
            sensor,
            numbers
                .iter()
                .map(|(name, values)| (name.clone(), values[row]))
                .collect(),
        );
    }
    Ok((!rows.is_empty()).then_some(rows))
}

/// The rows of the cameras as JSON, by camera index.
pub(super) fn by_camera(rows: &Rows, cameras: &[(usize, &str)]) -> Value {
    let camera = |(index, name): &(usize, &str)| rows.get(*name).map(|row| (index.to_string(), json!(row)));
    Value::Object(cameras.iter().filter_map(camera).collect::<Map<_, _>>())
}
