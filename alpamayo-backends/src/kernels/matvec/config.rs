//! How a matrix-vector product is cut into units.

use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use crate::kernels::product::{Element, Operands, Product};
use crate::kernels::tensors::{plane_size, vector};
use crate::layers::Activation;

/// The cut of a product: `groups` groups per cube, each of `splits` x `lanes` units over the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatvecShape {
    /// Weight rows per group.
    pub outputs: usize,
    /// Chunks of a weight row that a unit loads before it uses them.
    pub unroll: usize,
    /// Parts of the columns.
    pub splits: usize,
    /// Groups per cube.
    pub groups: usize,
    /// Units side by side over the columns, a plane where planes can sum.
    pub lanes: usize,
    /// Whether planes sum.
    pub planes: bool,
}

/// Everything that a compiled matrix-vector product depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatvecConfig {
    /// The cut.
    pub shape: MatvecShape,
    /// Rows of `x`.
    pub tokens: usize,
    /// The weight's elements.
    pub element: Element,
    /// Words per load.
    pub words: usize,
    /// Elements of `x` per load.
    pub x_vector: usize,
    /// Whether an RMSNorm is in front.
    pub norm: bool,
    /// What follows.
    pub activation: Activation,
    /// What is added.
    pub operands: Operands,
    /// Whether outputs are pairs of gate and up projection.
    pub gated: bool,
}

impl MatvecConfig {
    /// The configuration that measured best for the device and the product's extents.
    pub fn choose<R: CubeRuntime>(client: &ComputeClient<R>, tokens: usize, product: &Product<R>) -> Self {
        Self::new(MatvecShape::choose(client, tokens, product), tokens, product)
    }

    /// A product in a given cut.
    pub fn new<R: CubeRuntime>(shape: MatvecShape, tokens: usize, product: &Product<R>) -> Self {
        let element = product.weight.element;
        let words = vector(product.weight.words());
        Self {
            shape,
            tokens,
            element,
            words,
            x_vector: (words * element.per_word()).min(4),
            norm: product.norm.is_some(),
            activation: product.activation,
            operands: product.operands(),
            gated: product.gated,
        }
    }

    /// Vectors of `x` per chunk of weights.
    pub(super) fn x_vectors(&self) -> usize {
        self.words * self.element.per_word() / self.x_vector
    }

    /// Outputs per group: a gated pair is one.
    pub fn outputs_per_group(&self) -> usize {
        self.shape.outputs / if self.gated { 2 } else { 1 }
    }

    /// Sums that a unit keeps: every output of every row, and the row's square where it is normalised.
    pub(crate) fn sums(&self) -> usize {
        self.tokens * (self.shape.outputs + usize::from(self.norm))
    }

    /// Parts of a group that the sums are collected from.
    pub(crate) fn parts(&self) -> usize {
        self.shape.splits * if self.shape.planes { 1 } else { self.shape.lanes }
    }
}

impl MatvecShape {
    /// The cut that measured best on an H100 for the product's extents, or one without planes that fits any device.
    pub fn choose<R: CubeRuntime>(client: &ComputeClient<R>, tokens: usize, product: &Product<R>) -> Self {
        let planes = plane_size(client);
        let tall = product.gated || product.weight.rows > 4096;
        let [outputs, unroll, splits, groups] = match (tokens, tall) {
            (1, true) => [2, 4, 4, 1],
            (1, false) => [1, 4, 4, 2],
            _ => [4, 2, 2, 4],
        };
        let shape = Self {
            outputs,
            unroll,
            splits,
            groups,
            lanes: planes.unwrap_or(32),
            planes: planes.is_some(),
        };
        match planes {
            Some(_) => shape,
            None => {
                let outputs = if product.gated { 2 } else { outputs };
                let whole = Self {
                    outputs,
                    unroll: 2,
                    splits: 1,
                    ..shape
                };
                whole.over_shared_memory(tokens * (outputs + usize::from(product.norm.is_some())))
            }
        }
    }

    /// As many groups as leave room for every unit's sums in half of the smallest shared memory around.
    fn over_shared_memory(self, sums: usize) -> Self {
        const BYTES: usize = 16 << 10;
        Self {
            groups: (BYTES / (4 * sums * self.lanes)).clamp(1, 8),
            ..self
        }
    }
}
