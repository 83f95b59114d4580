//! One line of a file of results.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line to be written.
#[derive(Serialize)]
pub(super) struct NewLine<'a, R> {
    pub key: &'a str,
    pub options: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<&'a R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
}

/// What resuming needs of a line; its result is checked to be JSON and skipped.
#[derive(Deserialize)]
pub(super) struct Head {
    pub key: String,
    pub options: Value,
    result: Option<IgnoredAny>,
    error: Option<String>,
}

impl Head {
    /// Whether the line is that of a failure.
    pub fn is_failure(&self) -> Result<bool, String> {
        match (&self.result, &self.error) {
            (Some(_), None) => Ok(false),
            (None, Some(_)) => Ok(true),
            _ => Err("it needs either a `result` or an `error`".into()),
        }
    }
}

/// What came out of an item.
#[derive(Deserialize)]
pub(super) struct Record<R> {
    pub key: String,
    result: Option<R>,
    error: Option<String>,
}

impl<R> Record<R> {
    /// The result, or the error's words.
    pub fn outcome(self) -> Result<R, String> {
        self.result.ok_or(self.error.unwrap_or_default())
    }
}

/// Options as they come back from a file: a number of 32 bits is written shorter than it is.
pub(super) fn round_trip<O: Serialize>(options: &O) -> serde_json::Result<Value> {
    serde_json::from_str(&serde_json::to_string(options)?)
}

/// What differs between two lines' options: `samples: 6 there, 3 now`.
pub(super) fn differences(there: &Value, now: &Value) -> String {
    let mut all = Vec::new();
    compare("", there, now, &mut all);
    all.join("; ")
}

fn compare(name: &str, there: &Value, now: &Value, all: &mut Vec<String>) {
    if there == now {
        return;
    }
    if let (Value::Object(a), Value::Object(b)) = (there, now) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let name = if name.is_empty() {
                key.clone()
            } else {
                format!("{name}.{key}")
            };
            let of = |options: &serde_json::Map<String, Value>| options.get(key).cloned().unwrap_or_default();
            compare(&name, &of(a), &of(b), all);
        }
        return;
    }
    let name = if name.is_empty() { "options" } else { name };
    all.push(format!("{name}: {there} there, {now} now"));
}
