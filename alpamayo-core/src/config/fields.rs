//! JSON objects read field by field, so that every complaint names the file and the field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// One JSON object of a configuration file, and where it stands.
pub(super) struct Fields<'a> {
    path: &'a Path,
    prefix: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The whole file.
    pub fn root(path: &'a Path, document: &'a Value) -> Result<Self> {
        let object = document.as_object().ok_or_else(|| Error::Config {
            path: path.to_path_buf(),
            field: "(the whole file)".into(),
            reason: format!("is {}, but must be an object", kind(document)),
        })?;
        Ok(Self {
            path,
            prefix: String::new(),
            object,
        })
    }

    /// An object inside this one.
    pub fn object(&self, name: &str) -> Result<Self> {
        self.optional_object(name)?.ok_or_else(|| self.missing(name))
    }

    /// An object inside this one, which may be left out or null.
    pub fn optional_object(&self, name: &str) -> Result<Option<Self>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Self {
                path: self.path,
                prefix: format!("{}{name}.", self.prefix),
                object,
            })),
            Some(other) => Err(self.wrong_kind(name, other, "an object")),
        }
    }

    /// A whole number between `min` and `max`.
    pub fn integer(&self, name: &str, min: usize, max: usize) -> Result<usize> {
        self.optional_integer(name, min, max)?.ok_or_else(|| self.missing(name))
    }

    /// A whole number between `min` and `max`, which may be left out or null.
    pub fn optional_integer(&self, name: &str, min: usize, max: usize) -> Result<Option<usize>> {
        self.get(name)
            .map(|value| self.to_integer(name, value, min, max))
            .transpose()
    }

    /// A list of whole numbers up to `max`.
    pub fn integers(&self, name: &str, max: usize) -> Result<Vec<usize>> {
        match self.get(name) {
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| self.to_integer(name, value, 0, max))
                .collect(),
            Some(other) => Err(self.wrong_kind(name, other, "a list of whole numbers")),
            None => Err(self.missing(name)),
        }
    }

    /// A finite number.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.optional_number(name)?.ok_or_else(|| self.missing(name))
    }

    /// A finite number, which may be left out or null.
    pub fn optional_number(&self, name: &str) -> Result<Option<f64>> {
        self.get(name).map(|value| self.to_number(name, value)).transpose()
    }

    /// A list of exactly `N` finite numbers, which may be left out or null.
    pub fn optional_numbers<const N: usize>(&self, name: &str) -> Result<Option<[f64; N]>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wanted = || self.wrong_kind(name, value, &format!("a list of {N} numbers"));
        let list = value.as_array().ok_or_else(wanted)?;
        let numbers = list
            .iter()
            .map(|value| self.to_number(name, value))
            .collect::<Result<Vec<_>>>()?;
        numbers.try_into().map(Some).map_err(|_| wanted())
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<&'a str> {
        self.optional_text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A text, which may be left out or null.
    pub fn optional_text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_kind(name, other, "a text")),
        }
    }

    /// `true` or `false`, which may be left out or null.
    pub fn optional_flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong_kind(name, other, "true or false")),
        }
    }

    /// The error for this object's field `name`.
    pub fn error(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::Config {
            path: self.path.to_path_buf(),
            field: format!("{}{name}", self.prefix),
            reason: reason.into(),
        }
    }

    /// Where this object stands in its file: `action_space_cfg`.
    pub fn location(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }

    /// The file.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn to_integer(&self, name: &str, value: &Value, min: usize, max: usize) -> Result<usize> {
        match value.as_u64().and_then(|value| usize::try_from(value).ok()) {
            Some(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(self.wrong_kind(name, value, &format!("a whole number between {min} and {max}"))),
        }
    }

    fn to_number(&self, name: &str, value: &Value) -> Result<f64> {
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(number),
            _ => Err(self.wrong_kind(name, value, "a finite number")),
        }
    }

    fn missing(&self, name: &str) -> Error {
        self.error(name, "is missing")
    }

    fn wrong_kind(&self, name: &str, value: &Value, wanted: &str) -> Error {
        self.error(name, format!("is {}, but must be {wanted}", kind(value)))
    }
}

/// What a JSON value is, in words; short enough for an error message.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text {:?}", text.chars().take(60).collect::<String>()),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(_) => "an object".into(),
    }
}
