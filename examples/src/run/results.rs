//! The file of a run: one line per item, found by key.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::line::{Head, NewLine, Record, differences, round_trip};
use super::runner::Item;
use crate::error::{Error, Result};

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its line has a result.
    Done,
    /// Its line has an error.
    Failed,
}

/// Where a line is.
#[derive(Clone, Copy, Debug)]
struct Place {
    state: State,
    line: usize,
    offset: u64,
    length: usize,
}

/// An item's key, and its record or the words of its error.
pub type Entry<R> = (String, std::result::Result<R, String>);

/// A file of results with records `R`, open for more. In memory are the keys alone.
#[derive(Debug)]
pub struct ResultFile<R> {
    path: PathBuf,
    file: File,
    options: Value,
    places: HashMap<String, Place>,
    /// Where the next line begins, and its number.
    end: u64,
    lines: usize,
    records: PhantomData<fn() -> R>,
}

impl<R: Serialize + DeserializeOwned> ResultFile<R> {
    /// Opens or creates the file at `path` for results that depend on `options`, with the folders above it.
    ///
    /// A last line that was torn by a stop in the middle of writing is completed or cut off. The file is locked until this is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::OtherOptions`] where a line was written with others, [`Error::ResultLine`] where one is none of a run's,
    /// [`Error::ResultsInUse`], [`Error::Io`].
    pub fn open(path: &Path, options: &impl Serialize) -> Result<Self> {
        let options = round_trip(options).map_err(|error| Error::io("describe the options in", path)(error.into()))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(Error::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::ResultsInUse(path.to_path_buf())),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
        }
        let mut results = Self {
            path: path.to_path_buf(),
            file,
            options,
            places: HashMap::new(),
            end: 0,
            lines: 0,
            records: PhantomData,
        };
        results.scan()?;
        Ok(results)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The options that every line holds.
    pub fn options(&self) -> &Value {
        &self.options
    }

    /// What became of an item; `None` where it is still to be done.
    pub fn state(&self, key: &str) -> Option<State> {
        self.places.get(key).map(|place| place.state)
    }

    /// Adds an item's line. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append(&mut self, key: &str, outcome: std::result::Result<&R, &str>) -> Result<()> {
        let line = NewLine {
            key,
            options: &self.options,
            result: outcome.ok(),
            error: outcome.err(),
        };
        let mut bytes = serde_json::to_vec(&line).map_err(|error| Error::io("write", &self.path)(error.into()))?;
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        written.map_err(Error::io("write", &self.path))?;
        let state = if outcome.is_ok() { State::Done } else { State::Failed };
        self.found(key.to_owned(), state, bytes.len());
        Ok(())
    }

    /// The record of every item, or the words of its error, in the order of the file. Records are read one by one.
    ///
    /// # Errors
    /// Each may be [`Error::Io`], or [`Error::ResultLine`] where a result is none of this program's.
    pub fn records(&self) -> impl Iterator<Item = Result<Entry<R>>> {
        self.in_order(self.places.values().copied().collect())
    }

    /// Those of `items` alone, in the order of the file: lines of items that a run had before and has no more are left out.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn records_of<I: Item>(&self, items: &[I]) -> impl Iterator<Item = Result<Entry<R>>> {
        let places = items.iter().filter_map(|item| self.places.get(&item.key()).copied());
        self.in_order(places.collect())
    }

    fn in_order(&self, mut places: Vec<Place>) -> impl Iterator<Item = Result<Entry<R>>> {
        places.sort_unstable_by_key(|place| place.line);
        places.into_iter().map(|place| self.record_at(place))
    }

    /// The record of one item, or the words of its error; `None` where it is still to be done.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn record(&self, key: &str) -> Result<Option<std::result::Result<R, String>>> {
        let place = self.places.get(key);
        place.map(|&place| Ok(self.record_at(place)?.1)).transpose()
    }

    fn record_at(&self, place: Place) -> Result<Entry<R>> {
        let mut bytes = vec![0; place.length];
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(place.offset));
        let read = read.and_then(|_| file.read_exact(&mut bytes));
        read.map_err(Error::io("read", &self.path))?;
        let record: Record<R> = serde_json::from_slice(&bytes).map_err(|error| {
            let reason = format!("it holds no result of this program ({error}); was it written by another version?");
            self.bad_line(place.line, reason)
        })?;
        Ok((record.key.clone(), record.outcome()))
    }

    /// Finds every line, and repairs the last one.
    fn scan(&mut self) -> Result<()> {
        let file = self.file.try_clone().map_err(Error::io("read", &self.path))?;
        let mut reader = BufReader::new(file);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let length = reader
                .read_until(b'\n', &mut bytes)
                .map_err(Error::io("read", &self.path))?;
            if length == 0 {
                return Ok(());
            }
            let torn = bytes.last() != Some(&b'\n');
            match self.head(&bytes) {
                Ok(head) => {
                    let state = if head.1 { State::Failed } else { State::Done };
                    if torn {
                        self.file.write_all(b"\n").map_err(Error::io("repair", &self.path))?;
                    }
                    self.found(head.0, state, length + usize::from(torn));
                }
                Err(Error::ResultLine { .. }) if torn => {
                    return self.file.set_len(self.end).map_err(Error::io("repair", &self.path));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A line's key, and whether it is a failure's.
    fn head(&self, bytes: &[u8]) -> Result<(String, bool)> {
        let line = self.lines + 1;
        let foreign = |reason: String| {
            let advice = "remove that line, and its item is done again, or give another file";
            self.bad_line(line, format!("it is no result of a run ({reason}); {advice}"))
        };
        let head: Head = serde_json::from_slice(bytes).map_err(|error| foreign(error.to_string()))?;
        let is_failure = head.is_failure().map_err(foreign)?;
        if head.options != self.options {
            return Err(Error::OtherOptions {
                path: self.path.clone(),
                line,
                differences: differences(&head.options, &self.options),
            });
        }
        Ok((head.key, is_failure))
    }

    /// Notes a line that ends the file.
    fn found(&mut self, key: String, state: State, length: usize) {
        self.lines += 1;
        let place = Place {
            state,
            line: self.lines,
            offset: self.end,
            length,
        };
        self.end += length as u64;
        self.places.insert(key, place);
    }

    fn bad_line(&self, line: usize, reason: String) -> Error {
        Error::ResultLine {
            path: self.path.clone(),
            line,
            reason,
        }
    }
}
