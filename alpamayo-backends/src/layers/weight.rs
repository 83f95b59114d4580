//! A weight matrix as it is stored on the device.
//!
//! Storage and arithmetic are two things: whatever the format, a product with the weight accumulates in f32.

use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, backend::Backend};

use super::quantized::{Quantization, QuantizedWeight};

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
    /// 8 bits per element and a step per 32 of them: [`Quantization::Int8`].
    Int8,
    /// 4 bits per element and a step per 32 of them: [`Quantization::Int4`].
    Int4,
}

impl WeightFormat {
    /// Every format, the most exact first.
    pub const ALL: [Self; 5] = [Self::F32, Self::Bf16, Self::F16, Self::Int8, Self::Int4];

    /// The name shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => Quantization::Int8.name(),
            Self::Int4 => Quantization::Int4.name(),
        }
    }

    /// Bytes that a weight takes on the device, padding of rows not counted.
    pub fn bytes_per_weight(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::F16 | Self::Bf16 => 2.0,
            Self::Int8 => 8.5 / 8.0,
            Self::Int4 => 4.5 / 8.0,
        }
    }

    /// The float element type that holds the format's values.
    pub fn float_dtype(self) -> DType {
        match self {
            Self::F32 | Self::Int8 | Self::Int4 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// The scheme of a format of few bits.
    pub fn quantization(self) -> Option<Quantization> {
        match self {
            Self::Int8 => Some(Quantization::Int8),
            Self::Int4 => Some(Quantization::Int4),
            Self::F32 | Self::F16 | Self::Bf16 => None,
        }
    }

    /// How tables of rows are stored beside matrices of this format: bf16 beside few bits, which are for products.
    pub fn of_tables(self) -> Self {
        match self {
            Self::Int8 | Self::Int4 => Self::Bf16,
            float => float,
        }
    }

    /// Bytes of a row of so many elements on the device.
    pub fn row_bytes(self, columns: usize) -> usize {
        match self.quantization() {
            Some(quantization) => 4 * quantization.row_words(columns),
            None => self.float_dtype().size() * columns,
        }
    }
}

impl From<Quantization> for WeightFormat {
    fn from(quantization: Quantization) -> Self {
        match quantization {
            Quantization::Int8 => Self::Int8,
            Quantization::Int4 => Self::Int4,
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

/// A weight in parts of consecutive rows, in their order, where the device can't read it as one buffer.
#[derive(Module, Debug)]
pub enum WeightParts<B: Backend> {
    /// Parts of float elements.
    Float(Vec<FloatWeight<B>>),
    /// Parts of packed bf16 bits.
    Bf16(Vec<PackedWeight<B>>),
    /// Parts of few bits per element.
    Quantized(Vec<QuantizedWeight<B>>),
}

impl<B: Backend> WeightParts<B> {
    /// Every part as a weight of its own.
    pub fn weights(&self) -> Vec<Weight<B>> {
        match self {
            Self::Float(parts) => parts.iter().cloned().map(Weight::Float).collect(),
            Self::Bf16(parts) => parts.iter().cloned().map(Weight::Bf16).collect(),
            Self::Quantized(parts) => parts.iter().cloned().map(Weight::Quantized).collect(),
        }
    }
}

/// A stored weight matrix.
#[derive(Module, Debug)]
pub enum Weight<B: Backend> {
    /// Float elements (f32 or f16).
    Float(FloatWeight<B>),
    /// Packed bf16 bits.
    Bf16(PackedWeight<B>),
    /// Few bits per element.
    Quantized(QuantizedWeight<B>),
    /// Any of these in parts.
    Split(WeightParts<B>),
}

impl<B: Backend> Weight<B> {
    /// A weight from parts of its rows, which were stored one like the other.
    pub fn from_parts(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let (mut floats, mut packed, mut quantized) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::Float(part) => floats.push(part),
                Self::Bf16(part) => packed.push(part),
                Self::Quantized(part) => quantized.push(part),
                Self::Split(WeightParts::Float(parts)) => floats.extend(parts),
                Self::Split(WeightParts::Bf16(parts)) => packed.extend(parts),
                Self::Split(WeightParts::Quantized(parts)) => quantized.extend(parts),
            }
        }
        if !packed.is_empty() {
            Self::Split(WeightParts::Bf16(packed))
        } else if !quantized.is_empty() {
            Self::Split(WeightParts::Quantized(quantized))
        } else {
            Self::Split(WeightParts::Float(floats))
        }
    }

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
            Self::Quantized(weight) => {
                let [rows, _] = weight.words.shape().dims();
                (rows, weight.columns)
            }
            Self::Split(parts) => {
                let shapes: Vec<_> = parts.weights().iter().map(Self::shape).collect();
                let columns = shapes.first().map_or(0, |&(_, columns)| columns);
                (shapes.iter().map(|(rows, _)| rows).sum(), columns)
            }
        }
    }
}
