//! What can be wrong with a checkpoint's tensors, all of it told at once.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with one tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TensorProblem {
    /// The model needs it, the checkpoint lacks it.
    Missing {
        /// The tensor's name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The most similar name that the checkpoint has and the model doesn't know.
        nearest: Option<String>,
    },
    /// The checkpoint has it, the model doesn't know it.
    Unexpected {
        /// The tensor's name.
        name: String,
        /// The file that holds it.
        file: String,
        /// The most similar name that the model knows.
        nearest: Option<String>,
    },
    /// Its shape differs from what the configuration asks for.
    Shape {
        /// The tensor's name.
        name: String,
        /// The file that holds it.
        file: String,
        /// What the configuration asks for.
        expected: Vec<usize>,
        /// What the file holds.
        actual: Vec<usize>,
    },
    /// Its element type can't be imported.
    UnsupportedType {
        /// The tensor's name.
        name: String,
        /// The file that holds it.
        file: String,
        /// Its element type, as safetensors spells it.
        dtype: String,
    },
    /// Two shards hold it.
    Repeated {
        /// The tensor's name.
        name: String,
        /// The shards that hold it.
        files: [String; 2],
    },
    /// The index names one shard, another holds it.
    WrongShard {
        /// The tensor's name.
        name: String,
        /// The shard that the index names.
        listed: String,
        /// The shard that holds it.
        found: String,
    },
    /// The index lists it, the shard it names doesn't hold it, nor does another.
    NotInShard {
        /// The tensor's name.
        name: String,
        /// The shard that the index names.
        listed: String,
    },
    /// A shard holds it, the index doesn't list it.
    NotInIndex {
        /// The tensor's name.
        name: String,
        /// The shard that holds it.
        file: String,
    },
}

impl TensorProblem {
    /// The tensor's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Missing { name, .. }
            | Self::Unexpected { name, .. }
            | Self::Shape { name, .. }
            | Self::UnsupportedType { name, .. }
            | Self::Repeated { name, .. }
            | Self::WrongShard { name, .. }
            | Self::NotInShard { name, .. }
            | Self::NotInIndex { name, .. } => name,
        }
    }
}

impl fmt::Display for TensorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, shape, nearest } => {
                write!(f, "`{name}` {shape:?} is missing")?;
                did_you_mean(f, "the checkpoint has", nearest.as_deref())
            }
            Self::Unexpected { name, file, nearest } => {
                write!(f, "`{name}` in {file} is not part of the model")?;
                did_you_mean(f, "the nearest known name is", nearest.as_deref())
            }
            Self::Shape {
                name,
                file,
                expected,
                actual,
            } => {
                write!(
                    f,
                    "`{name}` in {file} is {actual:?}, the configuration asks for {expected:?}"
                )
            }
            Self::UnsupportedType { name, file, dtype } => {
                write!(
                    f,
                    "`{name}` in {file} has element type {dtype}; BF16, F16 and F32 can be imported, and matrices that `quantize` wrote"
                )
            }
            Self::Repeated {
                name,
                files: [first, second],
            } => {
                write!(f, "`{name}` is in two shards, {first} and {second}")
            }
            Self::WrongShard { name, listed, found } => {
                write!(
                    f,
                    "`{name}` should be in {listed} by the index's `weight_map`, but is in {found}"
                )
            }
            Self::NotInShard { name, listed } => {
                write!(
                    f,
                    "`{name}` should be in {listed} by the index's `weight_map`, but is in no shard"
                )
            }
            Self::NotInIndex { name, file } => {
                write!(f, "`{name}` in {file} is not listed in the index's `weight_map`")
            }
        }
    }
}

fn did_you_mean(f: &mut fmt::Formatter<'_>, words: &str, nearest: Option<&str>) -> fmt::Result {
    match nearest {
        Some(nearest) => write!(f, "; {words} `{nearest}`"),
        None => Ok(()),
    }
}

/// All problems of a checkpoint's tensors, one per line when displayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TensorProblems(pub Vec<TensorProblem>);

impl fmt::Display for TensorProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}
