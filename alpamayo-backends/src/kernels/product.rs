//! What a product with a stored weight reads.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::tensors::{extents, float, int};
use crate::layers::{Activation, Linear, Norm, Quantization, Weight};

/// How a weight's elements lie in 32-bit words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// One f32.
    F32,
    /// Two f16.
    F16,
    /// Two bf16.
    Bf16,
    /// Four codes of 8 bits; the steps follow a row's codes.
    Int8,
    /// Eight codes of 4 bits; the steps follow a row's codes.
    Int4,
}

impl Element {
    /// Elements per word, steps not counted.
    pub fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::Int8 => 4,
            Self::Int4 => 8,
        }
    }

    /// The scheme of few bits.
    pub fn quantization(self) -> Option<Quantization> {
        match self {
            Self::Int8 => Some(Quantization::Int8),
            Self::Int4 => Some(Quantization::Int4),
            Self::F32 | Self::F16 | Self::Bf16 => None,
        }
    }
}

/// A weight `[rows, columns]` = `[out, in]` in device memory, rows one after another.
#[derive(Clone)]
pub struct StoredWeight<R: CubeRuntime> {
    /// The buffer.
    pub values: CubeTensor<R>,
    /// The element format.
    pub element: Element,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
}

impl<R: CubeRuntime> StoredWeight<R> {
    /// The weight's buffer, or `None` where the kernels can't read its layout: stored input first, in parts, or rows that don't
    /// end on a word.
    pub fn new<F: FloatElement, I: IntElement, BT: BoolElement>(
        weight: &Weight<CubeBackend<R, F, I, BT>>,
    ) -> Option<Self> {
        let (rows, columns) = weight.shape();
        let (values, element) = match weight {
            Weight::Float(weight) if weight.transposed => return None,
            Weight::Split(_) => return None,
            Weight::Float(weight) => {
                let values = float(weight.values.val());
                let element = match values.dtype {
                    DType::F32 => Element::F32,
                    DType::F16 => Element::F16,
                    DType::BF16 => Element::Bf16,
                    _ => return None,
                };
                (values, element)
            }
            Weight::Bf16(weight) => (int(weight.words.val()), Element::Bf16),
            Weight::Quantized(weight) => {
                let element = match weight.quantization {
                    Quantization::Int8 => Element::Int8,
                    Quantization::Int4 => Element::Int4,
                };
                (int(weight.words.val()), element)
            }
        };
        let padded = element.quantization().is_some();
        (padded || columns.is_multiple_of(element.per_word())).then_some(Self {
            values,
            element,
            rows,
            columns,
        })
    }

    /// Words per row.
    pub fn words(&self) -> usize {
        match self.element.quantization() {
            Some(quantization) => quantization.row_words(self.columns),
            None => self.columns / self.element.per_word(),
        }
    }
}

/// A product with a stored weight and what is fused around it:
/// `residual + activation(norm(x) · weightᵀ + bias)`, or `silu(g) · u` of its halves where `gated`.
#[derive(Clone)]
pub struct Product<R: CubeRuntime> {
    /// The weight.
    pub weight: StoredWeight<R>,
    /// RMSNorm in front: its weight and epsilon.
    pub norm: Option<(CubeTensor<R>, f64)>,
    /// `[out]`, f32.
    pub bias: Option<CubeTensor<R>>,
    /// After the bias.
    pub activation: Activation,
    /// `[tokens, out]`, f32.
    pub residual: Option<CubeTensor<R>>,
    /// Whether the weight's rows are a gate, then an up projection.
    pub gated: bool,
}

/// Which optional operands a compiled product has.
///
/// They are part of a kernel's configuration, although its arguments tell them too: the key under which CubeCL 0.10 keeps a compiled
/// kernel counts optional arguments without saying which ones they are (its `ComptimeOption` hashes nothing where there is none), so that a
/// kernel with a bias would be taken for the same one with a residual by the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operands {
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether there is a residual.
    pub residual: bool,
}

/// What a kernel does after its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Following {
    /// After the bias.
    pub activation: Activation,
    /// What is added before and after it.
    pub operands: Operands,
}

impl<R: CubeRuntime> Product<R> {
    /// The plain product of a linear layer.
    pub fn new<F: FloatElement, I: IntElement, BT: BoolElement>(
        linear: &Linear<CubeBackend<R, F, I, BT>>,
        activation: Activation,
    ) -> Option<Self> {
        Some(Self {
            weight: StoredWeight::new(&linear.weight)?,
            norm: None,
            bias: linear.bias.as_ref().map(|bias| float(bias.val())),
            activation,
            residual: None,
            gated: false,
        })
    }

    /// With an RMSNorm in front; other norms aren't fused.
    pub fn with_norm<F: FloatElement, I: IntElement, BT: BoolElement>(
        mut self,
        norm: &Norm<CubeBackend<R, F, I, BT>>,
    ) -> Option<Self> {
        let Norm::Rms(norm) = norm else { return None };
        self.norm = Some((float(norm.weight.val()), norm.epsilon));
        Some(self)
    }

    /// The optional operands that there are.
    pub fn operands(&self) -> Operands {
        Operands {
            bias: self.bias.is_some(),
            residual: self.residual.is_some(),
        }
    }

    /// Output features.
    pub fn out_features(&self) -> usize {
        self.weight.rows / if self.gated { 2 } else { 1 }
    }

    /// Whether `x` is a matrix of the weight's input features.
    pub fn takes(&self, x: &CubeTensor<R>) -> bool {
        self.takes_features(extents(x).1)
    }

    /// Whether the weight has so many input features.
    pub fn takes_features(&self, features: usize) -> bool {
        features == self.weight.columns
    }
}
