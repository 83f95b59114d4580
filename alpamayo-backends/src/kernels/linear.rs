//! Which kernel takes a product with a stored weight.
//!
//! A few rows go to the matrix-vector kernel, which fuses everything around the product, or with tensor cores to the streamed
//! one. More rows go to the platform's own library where there is one, and to the register-blocked kernel otherwise.

use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::finish::{Finish, finish};
use super::gate::gate;
use super::matmul::{cooperative, matmul};
use super::matvec::{MAX_TOKENS, matvec};
use super::norm::{normalize, normalize_rows};
use super::product::{Element, Product};
use super::quantized;
use super::quantized::row::{add_and_multiply, limits_of_bytes, multiply_prepared};
use super::round::round;
use super::streamed::{self, streamed};
use super::tensors::{convert, extents, float, tensor};
use crate::definition;
use crate::instances::KernelRuntime;
use crate::layers::{Activation, Linear, Norm, Weight};

/// Rows up to which weights of few bits are read as they are where products have no matrix units: beyond, widening them once is
/// cheaper than in every tile.
const MAX_PACKED_TOKENS: usize = 128;

type Cube<R, F, I, BT> = CubeBackend<R, F, I, BT>;

/// What a platform's library is asked to compute: `residual + activation(x · weightᵀ + bias)`.
///
/// With bf16 weights `x` is bf16, and so it is with weights of few bits that can be widened to bf16, which the library does part by
/// part; otherwise both are f32. Sums are f32.
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
    let Some(product) = product_of(x.dims()[0], linear, activation) else {
        return definition::project(x, linear, activation);
    };
    tensor(multiply(float(x), &product))
}

/// See [`ModelBackend::norm_project`](crate::ModelBackend::norm_project).
pub fn norm_project<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    linear: &Linear<Cube<R, F, I, BT>>,
    activation: Activation,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let x = float(x);
    let Some(product) = product_of(extents(&x).0, linear, activation) else {
        return definition::project(definition::normalize(tensor(x), norm), linear, activation);
    };
    if let Some(product) = fused_norm(&x, norm, &product) {
        return tensor(multiply(convert(x, DType::F32), &product));
    }
    let dtype = operand_type(extents(&x).0, &product);
    tensor(multiply_into(normalize_rows(&x, norm, dtype), &product, dtype))
}

/// See [`ModelBackend::norm_logits`](crate::ModelBackend::norm_logits). The norm is fused where a block of a platform's own kernel
/// computes it once for many outputs: a common kernel's cubes, of which the vocabulary asks for many, would each compute it.
pub fn norm_logits<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    linear: &Linear<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let x = float(x);
    let is_few = extents(&x).0 <= MAX_TOKENS && R::has_native(&x.device);
    let product = is_few
        .then(|| product_of(extents(&x).0, linear, Activation::None))
        .flatten();
    match product.and_then(|product| fused_norm(&x, norm, &product)) {
        Some(product) => tensor(multiply(convert(x, DType::F32), &product)),
        None => project(normalize(tensor(x), norm), linear, Activation::None),
    }
}

/// See [`ModelBackend::project_add`](crate::ModelBackend::project_add).
pub fn project_add<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    linear: &Linear<Cube<R, F, I, BT>>,
    residual: Tensor<Cube<R, F, I, BT>, 2>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let Some(mut product) = product_of(x.dims()[0], linear, Activation::None) else {
        return residual + definition::project(x, linear, Activation::None);
    };
    product.residual = Some(full(residual));
    tensor(multiply(float(x), &product))
}

/// See [`ModelBackend::norm_gate_up`](crate::ModelBackend::norm_gate_up).
pub fn norm_gate_up<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    gate_up: &Linear<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let x = full(x);
    let Some(product) = product_of(extents(&x).0, gate_up, Activation::None) else {
        let projected = definition::project(definition::normalize(tensor(x), norm), gate_up, Activation::None);
        return definition::gate(projected);
    };
    let tokens = extents(&x).0;
    let gated = Product {
        gated: true,
        ..product.clone()
    };
    if let Some(gated) = fused_norm(&x, norm, &gated) {
        return tensor(multiply(x, &gated));
    }
    let dtype = operand_type(tokens, &product);
    tensor(gated_product(normalize_rows(&x, norm, dtype), product, dtype))
}

/// The gated product of normalised rows.
fn gated_product<R: KernelRuntime>(x: CubeTensor<R>, product: Product<R>, dtype: DType) -> CubeTensor<R> {
    let gated = Product {
        gated: true,
        ..product.clone()
    };
    match Kernel::choose(extents(&x).0, &product) {
        Kernel::Matvec => matvec(&x, &gated),
        Kernel::Streamed => streamed(&x, &gated, dtype),
        Kernel::Many if !R::has_library(&x.device) && is_cooperative(&x, &product) => {
            cooperative::matmul(&x, &gated, dtype)
        }
        Kernel::Many => {
            let projected = R::library_product(&LibraryProduct {
                x: &x,
                product: &product,
                dtype,
            });
            gate(&projected.unwrap_or_else(|| tiles(x, &product, dtype)))
        }
    }
}

/// See [`ModelBackend::project_add_norm_project`](crate::ModelBackend::project_add_norm_project).
pub fn project_add_norm_project<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    linear: &Linear<Cube<R, F, I, BT>>,
    residual: Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    next: &Linear<Cube<R, F, I, BT>>,
) -> [Tensor<Cube<R, F, I, BT>, 2>; 2] {
    if let Some(results) = in_one_row(&x, linear, &residual, norm, (next, false)) {
        return results.map(tensor);
    }
    if let Some(([sum, normalised], product)) = added_and_normalised(&x, linear, &residual, norm, next) {
        return [tensor(sum), tensor(multiply_into(normalised, &product, DType::BF16))];
    }
    let sum = project_add(x, linear, residual);
    let projected = norm_project(sum.clone(), norm, next, Activation::None);
    [sum, projected]
}

/// See [`ModelBackend::project_add_norm_gate_up`](crate::ModelBackend::project_add_norm_gate_up).
pub fn project_add_norm_gate_up<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
    linear: &Linear<Cube<R, F, I, BT>>,
    residual: Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    gate_up: &Linear<Cube<R, F, I, BT>>,
) -> [Tensor<Cube<R, F, I, BT>, 2>; 2] {
    if let Some(results) = in_one_row(&x, linear, &residual, norm, (gate_up, true)) {
        return results.map(tensor);
    }
    if let Some(([sum, normalised], product)) = added_and_normalised(&x, linear, &residual, norm, gate_up) {
        return [tensor(sum), tensor(gated_product(normalised, product, DType::BF16))];
    }
    let sum = project_add(x, linear, residual);
    let gated = norm_gate_up(sum.clone(), norm, gate_up);
    [sum, gated]
}

/// The first product of one row with its residual, and the second one of its norm, gated or not, where their weights have few bits that are
/// multiplied as bytes.
fn in_one_row<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: &Tensor<Cube<R, F, I, BT>, 2>,
    linear: &Linear<Cube<R, F, I, BT>>,
    residual: &Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    (next, gated): (&Linear<Cube<R, F, I, BT>>, bool),
) -> Option<[CubeTensor<R>; 2]> {
    if x.dims()[0] != 1 || !matches!(next.weight, Weight::Quantized(_)) {
        return None;
    }
    let x = float(x.clone());
    let limits = limits_of_bytes(&x.client)?;
    let first = Product {
        residual: Some(full(residual.clone())),
        ..Product::new(linear, Activation::None)?
    };
    let second = Product {
        gated,
        ..Product::new(next, Activation::None)?.with_norm(norm)?
    };
    add_and_multiply(limits, &x, &first, &second)
}

/// The first product with its residual and, as bf16, its rows normalised, where cooperative matrices leave it in parts to be summed;
/// and the second product.
fn added_and_normalised<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: &Tensor<Cube<R, F, I, BT>, 2>,
    linear: &Linear<Cube<R, F, I, BT>>,
    residual: &Tensor<Cube<R, F, I, BT>, 2>,
    norm: &Norm<Cube<R, F, I, BT>>,
    next: &Linear<Cube<R, F, I, BT>>,
) -> Option<([CubeTensor<R>; 2], Product<R>)> {
    let Norm::Rms(norm) = norm else { return None };
    let tokens = x.dims()[0];
    if tokens == 1 || R::has_library(&x.device()) {
        return None;
    }
    let of_many = |linear| {
        Product::new(linear, Activation::None)
            .filter(|it| Kernel::choose(tokens, it) == Kernel::Many && cooperative::takes(tokens, it))
    };
    let first = Product {
        residual: Some(full(residual.clone())),
        ..of_many(linear)?
    };
    let second = of_many(next)?;
    let x = operand(float(x.clone()), &first);
    let weight = float(norm.weight.val());
    Some((cooperative::matmul_norm(&x, &first, &weight, norm.epsilon)?, second))
}

/// The product of a linear layer with so many rows; a weight of few bits is widened first where neither its kernels nor a library
/// take it.
fn product_of<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    tokens: usize,
    linear: &Linear<Cube<R, F, I, BT>>,
    activation: Activation,
) -> Option<Product<R>> {
    let product = Product::new(linear, activation)?;
    let values = &product.weight.values;
    let (library, units) = (
        R::has_library(&values.device),
        cooperative::is_available(&values.client),
    );
    Some(match Kernel::choose(tokens, &product) {
        Kernel::Many if library || cooperative::takes(tokens, &product) => product,
        Kernel::Many if units || tokens > MAX_PACKED_TOKENS => quantized::widened(product),
        _ => product,
    })
}

/// Which kernel takes a product with so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// A few rows in f32.
    Matvec,
    /// Up to 64 rows on tensor cores, at memory speed.
    Streamed,
    /// The platform's library, or our own tiles.
    Many,
}

impl Kernel {
    fn choose<R: KernelRuntime>(tokens: usize, product: &Product<R>) -> Self {
        if tokens > 1 && streamed::takes(tokens, product) {
            Self::Streamed
        } else if tokens <= MAX_TOKENS {
            Self::Matvec
        } else {
            Self::Many
        }
    }
}

/// The product with the norm fused in front, where its kernel can.
fn fused_norm<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: &CubeTensor<R>,
    norm: &Norm<Cube<R, F, I, BT>>,
    product: &Product<R>,
) -> Option<Product<R>> {
    (extents(x).0 <= MAX_TOKENS.min(streamed::MAX_NORMALIZED_TOKENS))
        .then(|| product.clone().with_norm(norm))
        .flatten()
}

/// The product by its kernel, in f32.
fn multiply<R: KernelRuntime>(x: CubeTensor<R>, product: &Product<R>) -> CubeTensor<R> {
    multiply_into(x, product, DType::F32)
}

/// The product by its kernel, where the kernel can in the given element type, otherwise in f32.
fn multiply_into<R: KernelRuntime>(x: CubeTensor<R>, product: &Product<R>, dtype: DType) -> CubeTensor<R> {
    match Kernel::choose(extents(&x).0, product) {
        Kernel::Matvec => multiply_prepared(&x, product).unwrap_or_else(|| matvec(&convert(x, DType::F32), product)),
        Kernel::Streamed => {
            let x = if x.dtype == DType::F16 {
                convert(x, DType::F32)
            } else {
                x
            };
            streamed(&x, product, dtype)
        }
        Kernel::Many => {
            let x = operand(x, product);
            library(&x, product, dtype).unwrap_or_else(|| tiles(x, product, dtype))
        }
    }
}

/// A product of many rows by our own tiles: on matrix units where rows are bf16 and there are any, otherwise in f32.
fn tiles<R: KernelRuntime>(x: CubeTensor<R>, product: &Product<R>, dtype: DType) -> CubeTensor<R> {
    if x.dtype != DType::BF16 {
        return matmul(&convert(x, DType::F32), product);
    }
    if is_cooperative(&x, product) {
        return cooperative::matmul(&x, product, dtype);
    }
    // Few bits that a library was to widen, and did not.
    let product = quantized::widened(product.clone());
    if is_cooperative(&x, &product) {
        cooperative::matmul(&x, &product, dtype)
    } else {
        matmul(&convert(x, DType::F32), &product)
    }
}

/// Whether cooperative matrices multiply rows in their element type.
fn is_cooperative<R: KernelRuntime>(x: &CubeTensor<R>, product: &Product<R>) -> bool {
    x.dtype == DType::BF16 && cooperative::takes(extents(x).0, product)
}

/// A product of many rows by the platform's library, whose epilogues take a bias, a residual and the tanh GELU.
fn library<R: KernelRuntime>(x: &CubeTensor<R>, product: &Product<R>, dtype: DType) -> Option<CubeTensor<R>> {
    let by_library = |product: &Product<R>, dtype| R::library_product(&LibraryProduct { x, product, dtype });
    match product.activation {
        Activation::None | Activation::GeluTanh => by_library(product, dtype),
        activation => {
            let plain = Product {
                activation: Activation::None,
                ..product.clone()
            };
            let after = Finish {
                parts: 1,
                bias: None,
                activation,
                residual: None,
                dtype: DType::F32,
            };
            Some(finish(&by_library(&plain, DType::F32)?, &after))
        }
    }
}

/// The element type in which a product reads its rows: with weights that are bf16 or become it, what tensor cores take.
fn operand_type<R: KernelRuntime>(tokens: usize, product: &Product<R>) -> DType {
    match Kernel::choose(tokens, product) {
        Kernel::Streamed => DType::BF16,
        Kernel::Many if many_read_bf16(tokens, product) => DType::BF16,
        _ => DType::F32,
    }
}

/// Whether products of many rows read them as bf16.
fn many_read_bf16<R: KernelRuntime>(tokens: usize, product: &Product<R>) -> bool {
    let library = R::has_library(&product.weight.values.device);
    let of_library = product.weight.element == Element::Bf16 || quantized::widens(&product.weight);
    library && of_library || cooperative::takes(tokens, product)
}

fn operand<R: KernelRuntime>(x: CubeTensor<R>, product: &Product<R>) -> CubeTensor<R> {
    match (x.dtype, operand_type(extents(&x).0, product)) {
        (from, to) if from == to => x,
        (DType::F32, DType::BF16) if extents(&x).1.is_multiple_of(2) => round(&x),
        (_, to) => convert(x, to),
    }
}

/// The rows in f32.
fn full<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<Cube<R, F, I, BT>, 2>,
) -> CubeTensor<R> {
    convert(float(x), DType::F32)
}
