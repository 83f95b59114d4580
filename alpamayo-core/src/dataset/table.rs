//! Columns of Parquet files.

use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use crate::{Error, Result};

/// A Parquet file of plain columns, as pandas writes it; cells that hold nothing are refused.
pub(super) struct Table {
    path: PathBuf,
    reader: Box<dyn FileReader>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        Self::new(path.to_path_buf(), file)
    }

    /// A file that is held in memory; `path` is for messages.
    pub(super) fn from_bytes(path: PathBuf, bytes: Vec<u8>) -> Result<Self> {
        Self::new(path, Bytes::from(bytes))
    }

    fn new(path: PathBuf, chunks: impl ChunkReader + 'static) -> Result<Self> {
        let reader = SerializedFileReader::new(chunks).map_err(|error| Error::DataFile {
            path: path.clone(),
            field: "Parquet".into(),
            reason: error.to_string(),
        })?;
        let reader = Box::new(reader);
        Ok(Self { path, reader })
    }

    pub(super) fn rows(&self) -> usize {
        let rows = self.reader.metadata().file_metadata().num_rows();
        usize::try_from(rows).unwrap_or(0)
    }

    pub(super) fn columns(&self) -> Vec<String> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(|column| column.path().string()).collect()
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns().iter().any(|name| name == column)
    }

    /// The columns that are pandas' index, which the file's footer names; `clip_id` where it names none.
    pub(super) fn index_columns(&self) -> Vec<String> {
        let pairs = self.reader.metadata().file_metadata().key_value_metadata();
        let pandas = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == "pandas"));
        let footer: Option<serde_json::Value> =
            pandas.and_then(|pair| serde_json::from_str(pair.value.as_deref().unwrap_or_default()).ok());
        let listed = footer
            .as_ref()
            .and_then(|footer| footer.get("index_columns")?.as_array());
        // A plain range of row numbers is an object there, not a name.
        let names = listed.into_iter().flatten().filter_map(|entry| entry.as_str());
        let names: Vec<String> = names.filter(|name| self.has(name)).map(str::to_owned).collect();
        if names.is_empty() && self.has("clip_id") {
            return vec!["clip_id".into()];
        }
        names
    }

    /// A column of whole numbers.
    pub(super) fn integers(&self, column: &str) -> Result<Vec<i64>> {
        self.read(column, "whole numbers", |reader, rows, values| match reader {
            ColumnReader::Int64ColumnReader(reader) => fill(reader, rows, values, Some),
            ColumnReader::Int32ColumnReader(reader) => fill(reader, rows, values, |value| Some(i64::from(value))),
            _ => Ok(false),
        })
    }

    /// A column of numbers.
    pub(super) fn numbers(&self, column: &str) -> Result<Vec<f64>> {
        self.read(column, "numbers", |reader, rows, values| match reader {
            ColumnReader::DoubleColumnReader(reader) => fill(reader, rows, values, Some),
            ColumnReader::FloatColumnReader(reader) => fill(reader, rows, values, |value| Some(f64::from(value))),
            ColumnReader::Int64ColumnReader(reader) => fill(reader, rows, values, |value| Some(value as f64)),
            ColumnReader::Int32ColumnReader(reader) => fill(reader, rows, values, |value| Some(f64::from(value))),
            _ => Ok(false),
        })
    }

    /// A column of strings.
    pub(super) fn strings(&self, column: &str) -> Result<Vec<String>> {
        self.read(column, "strings", |reader, rows, values| match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                fill(reader, rows, values, |value| value.as_utf8().ok().map(str::to_owned))
            }
            _ => Ok(false),
        })
    }

    /// A column of true and false.
    pub(super) fn booleans(&self, column: &str) -> Result<Vec<bool>> {
        self.read(column, "booleans", |reader, rows, values| match reader {
            ColumnReader::BoolColumnReader(reader) => fill(reader, rows, values, Some),
            _ => Ok(false),
        })
    }

    /// Applies `fill` to every row group; it answers whether the column has the wanted type.
    fn read<T>(
        &self,
        column: &str,
        what: &str,
        mut fill: impl FnMut(ColumnReader, usize, &mut Vec<T>) -> ParquetResult<bool>,
    ) -> Result<Vec<T>> {
        let Some(index) = self.columns().iter().position(|name| name == column) else {
            return Err(self.error(
                column,
                format!("there is no such column; there are {}", self.columns().join(", ")),
            ));
        };
        let mut values = Vec::new();
        let mut read_all = || -> ParquetResult<bool> {
            for group in 0..self.reader.num_row_groups() {
                let group = self.reader.get_row_group(group)?;
                let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
                if !fill(group.get_column_reader(index)?, rows, &mut values)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        match read_all() {
            Err(error) => Err(self.error(column, error.to_string())),
            Ok(false) => Err(self.error(column, format!("the column must hold {what}"))),
            Ok(true) if values.len() != self.rows() => {
                let reason = format!(
                    "{} of {} rows hold a value; none may be empty",
                    values.len(),
                    self.rows()
                );
                Err(self.error(column, reason))
            }
            Ok(true) => Ok(values),
        }
    }

    fn error(&self, column: &str, reason: String) -> Error {
        Error::DataFile {
            path: self.path.clone(),
            field: format!("column `{column}`"),
            reason,
        }
    }
}

/// Appends one row group's values, leaving out empty cells.
fn fill<D: DataType, T>(
    mut reader: ColumnReaderImpl<D>,
    rows: usize,
    values: &mut Vec<T>,
    convert: impl Fn(D::T) -> Option<T>,
) -> ParquetResult<bool> {
    let (mut raw, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        let (records, ..) =
            reader.read_records(rows - done, Some(&mut definitions), Some(&mut repetitions), &mut raw)?;
        if records == 0 {
            return Err(ParquetError::EOF(format!("{done} of {rows} rows are there")));
        }
        done += records;
    }
    values.extend(raw.into_iter().filter_map(convert));
    Ok(true)
}
