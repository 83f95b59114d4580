//! A weight matrix as it is stored on the device.
//!
//! Storage and arithmetic are two things: whatever the format, a product with the weight accumulates in f32.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, backend::Backend};

use crate::error::{Error, Result};

/// The element type of a weight in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceType {
    /// bfloat16, two bytes, little-endian.
    Bf16,
    /// IEEE half precision, two bytes, little-endian.
    F16,
    /// IEEE single precision, four bytes, little-endian.
    F32,
}

impl SourceType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }
}

/// The bytes of a matrix `[rows, columns]` = `[out, in]` on the host, row-major, as a checkpoint holds them.
#[derive(Debug, Clone)]
pub struct WeightSource<'a> {
    /// The rows' bytes, in order; several pieces are stacked (q, k and v of one layer become one matrix).
    pub pieces: Vec<&'a [u8]>,
    /// The element type of all pieces.
    pub source_type: SourceType,
    /// Output features, all pieces together.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
}

impl<'a> WeightSource<'a> {
    /// Some of the rows.
    ///
    /// # Errors
    /// When the bytes end before these rows do.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        let row_bytes = self.columns * self.source_type.size();
        let (mut skip, mut take) = (rows.start * row_bytes, rows.len() * row_bytes);
        let mut pieces = Vec::new();
        for &piece in &self.pieces {
            let start = skip.min(piece.len());
            let end = piece.len().min(start + take);
            pieces.push(&piece[start..end]);
            skip -= start;
            take -= end - start;
        }
        if take > 0 {
            return Err(Error::WeightSize {
                rows: self.rows,
                columns: self.columns,
                format: self.source_type.name(),
                expected: self.rows * row_bytes,
                actual: self.pieces.iter().map(|piece| piece.len()).sum(),
            });
        }
        Ok(Self {
            pieces,
            source_type: self.source_type,
            rows: rows.len(),
            columns: self.columns,
        })
    }
}

/// How a weight is stored on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// f32 elements: exact for every source.
    F32,
    /// f16 elements, for devices that store them but know no bf16. Rounds bf16 sources (range, not precision, is lost).
    F16,
    /// The checkpoint's own bf16 bits, two per 32-bit word.
    Bf16,
}

impl WeightFormat {
    /// The float element type that holds the format's values.
    pub fn float_dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// A weight as float elements.
#[derive(Module, Debug)]
pub struct FloatWeight<B: Backend> {
    /// `[out, in]`, or `[in, out]` where [`transposed`](Self::transposed).
    pub values: Param<Tensor<B, 2>>,
    /// Whether the matrix is stored with its input features first, which some backends multiply by without a copy.
    pub transposed: bool,
}

/// A weight as bf16 bits, two per word: element `2j` in the low half, `2j + 1` in the high half.
#[derive(Module, Debug)]
pub struct PackedWeight<B: Backend> {
    /// `[out, in / 2]`, 32-bit words.
    pub words: Param<Tensor<B, 2, Int>>,
}

/// A stored weight matrix.
#[derive(Module, Debug)]
pub enum Weight<B: Backend> {
    /// Float elements (f32 or f16).
    Float(FloatWeight<B>),
    /// Packed bf16 bits.
    Bf16(PackedWeight<B>),
}

impl<B: Backend> Weight<B> {
    /// `(out, in)`: output and input features.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Float(weight) => {
                let [first, second] = weight.values.shape().dims();
                if weight.transposed {
                    (second, first)
                } else {
                    (first, second)
                }
            }
            Self::Bf16(weight) => {
                let [rows, words] = weight.words.shape().dims();
                (rows, words * 2)
            }
        }
    }
}
