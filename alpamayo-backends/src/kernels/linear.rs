//! Which kernel takes a product with a stored weight.
//!
//! A few rows go to the matrix-vector kernel, which fuses everything around the product. More rows go to the platform's own
//! library where there is one, and to the register-blocked kernel otherwise.

use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::finish::finish;
use super::gate::gate;
use super::matmul::matmul;
use super::matvec::{MAX_TOKENS, matvec};
use super::norm::normalize_rows;
use super::product::{Element, Product};
use super::round::round;
use super::tensors::{convert, extents, float, tensor};
use crate::definition;
use crate::instances::KernelRuntime;
use crate::layers::{Activation, Linear, Norm};

type Cube<R, F, I, BT> = CubeBackend<R, F, I, BT>;

/// What a platform's library is asked to compute: `residual + activation(x · weightᵀ + bias)`.
///
/// With bf16 weights `x` is bf16, otherwise both are f32; sums are f32.
pub struct LibraryProduct<'a, R: CubeRuntime> {
    /// `[tokens, in]`.
    pub x: &'a CubeTensor<R>,
    /// The product. Its norm and gate are not the library's to compute.
    pub product: &'a Product<R>,
    /// Element type of the result.
    pub dtype: DType,
}

/// See [`ModelBackend::project`](crate::ModelBackend::project).
pub fn project<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    linear: &Linear<Cube<R, F, I, BT>>,
    activation: Activation,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let Some(product) = Product::new(linear, activation) else {
        return definition::project(x, linear, activation);
    };
    if x.dims()[0] <= MAX_TOKENS {
        return tensor(matvec(&full(x), &product));
    }
    tensor(many(float(x), &product))
}

/// See [`ModelBackend::norm_project`](crate::ModelBackend::norm_project).
pub fn norm_project<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    linear: &Linear<Cube<R, F, I, BT>>,
    activation: Activation,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let few = x.dims()[0] <= MAX_TOKENS;
    let x = full(x);
    let Some(product) = Product::new(linear, activation) else {
        return definition::project(definition::normalize(tensor(x), norm), linear, activation);
    };
    if few {
        return match product.clone().with_norm(norm) {
            Some(product) => tensor(matvec(&x, &product)),
            None => tensor(matvec(&normalize_rows(&x, norm, DType::F32), &product)),
        };
    }
    tensor(many(normalize_rows(&x, norm, operand_type(&product)), &product))
}

/// See [`ModelBackend::project_add`](crate::ModelBackend::project_add).
pub fn project_add<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    linear: &Linear<Cube<R, F, I, BT>>,
    residual: Tensor<Cube<R, F, I, BT>, 2>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let Some(mut product) = Product::new(linear, Activation::None) else {
        return residual + definition::project(x, linear, Activation::None);
    };
    product.residual = Some(full(residual));
    if x.dims()[0] <= MAX_TOKENS {
        return tensor(matvec(&full(x), &product));
    }
    tensor(many(float(x), &product))
}

/// See [`ModelBackend::norm_gate_up`](crate::ModelBackend::norm_gate_up).
pub fn norm_gate_up<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    gate_up: &Linear<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let few = x.dims()[0] <= MAX_TOKENS;
    let x = full(x);
    let Some(mut product) = Product::new(gate_up, Activation::None) else {
        let projected = definition::project(definition::normalize(tensor(x), norm), gate_up, Activation::None);
        return definition::gate(projected);
    };
    if few {
        product.gated = true;
        return match product.clone().with_norm(norm) {
            Some(product) => tensor(matvec(&x, &product)),
            None => tensor(matvec(&normalize_rows(&x, norm, DType::F32), &product)),
        };
    }
    let dtype = operand_type(&product);
    let x = normalize_rows(&x, norm, dtype);
    let projected = R::library_product(&LibraryProduct {
        x: &x,
        product: &product,
        dtype,
    });
    tensor(gate(
        &projected.unwrap_or_else(|| matmul(&convert(x, DType::F32), &product)),
    ))
}

/// A product of many rows: by the platform's library, whose epilogues take a bias, a residual and the tanh GELU, or by our own
/// kernel.
fn many<R: KernelRuntime>(x: CubeTensor<R>, product: &Product<R>) -> CubeTensor<R> {
    let x = operand(x, product);
    library(&x, product).unwrap_or_else(|| matmul(&convert(x, DType::F32), product))
}

fn library<R: KernelRuntime>(x: &CubeTensor<R>, product: &Product<R>) -> Option<CubeTensor<R>> {
    let by_library = |product: &Product<R>, dtype| R::library_product(&LibraryProduct { x, product, dtype });
    match product.activation {
        Activation::None => by_library(product, DType::F32),
        Activation::GeluTanh => by_library(product, x.dtype),
        activation => {
            let plain = Product {
                activation: Activation::None,
                ..product.clone()
            };
            Some(finish(&by_library(&plain, DType::F32)?, None, activation))
        }
    }
}

/// The element type in which a product of many rows reads them: with bf16 weights, what tensor cores take.
fn operand_type<R: KernelRuntime>(product: &Product<R>) -> DType {
    match product.weight.element {
        Element::Bf16 if R::has_library(&product.weight.values.device) => DType::BF16,
        _ => DType::F32,
    }
}

fn operand<R: KernelRuntime>(x: CubeTensor<R>, product: &Product<R>) -> CubeTensor<R> {
    match (x.dtype, operand_type(product)) {
        (from, to) if from == to => x,
        (DType::F32, DType::BF16) if extents(&x).1.is_multiple_of(2) => round(&x),
        (_, to) => convert(x, to),
    }
}

/// The rows in f32.
fn full<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
) -> CubeTensor<R> {
    float(x.cast(DType::F32))
}
