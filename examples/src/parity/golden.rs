//! Golden tensors on disk.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::Result;

/// A tensor's elements.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Floating point, compared by relative L2 error.
    Float(Vec<f64>),
    /// Integers and bytes, equal or not.
    Integer(Vec<i64>),
}

/// A golden tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// Its extents.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub values: Values,
}

impl Golden {
    /// Reads all tensors of a file.
    pub fn read(path: &Path) -> Result<BTreeMap<String, Self>> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        file.iter()
            .map(|(name, view)| {
                Ok((
                    name.to_owned(),
                    Self::new(name, view.dtype(), view.shape(), view.data())?,
                ))
            })
            .collect()
    }

    fn new(name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Result<Self> {
        let values = match dtype {
            Dtype::F32 => Values::Float(elements(data, |b| f64::from(f32::from_le_bytes(b)))),
            Dtype::F64 => Values::Float(elements(data, f64::from_le_bytes)),
            Dtype::I64 => Values::Integer(elements(data, i64::from_le_bytes)),
            Dtype::I32 => Values::Integer(elements(data, |b| i64::from(i32::from_le_bytes(b)))),
            Dtype::U8 | Dtype::BOOL => Values::Integer(data.iter().map(|&byte| i64::from(byte)).collect()),
            other => return Err(format!("{name} is {other:?}, which no golden tensor is").into()),
        };
        Ok(Self {
            shape: shape.to_vec(),
            values,
        })
    }

    /// The elements as f32.
    pub fn floats(&self) -> Vec<f32> {
        match &self.values {
            Values::Float(values) => values.iter().map(|&value| value as f32).collect(),
            Values::Integer(values) => values.iter().map(|&value| value as f32).collect(),
        }
    }

    /// The elements as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.values {
            Values::Float(values) => values.iter().map(|&value| value as u8).collect(),
            Values::Integer(values) => values.iter().map(|&value| value as u8).collect(),
        }
    }
}

fn elements<const N: usize, T>(data: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)).collect()
}
