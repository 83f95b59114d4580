//! Products of one row, one behind the other: what the next one reads, the one in front has prepared.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::config::{CubeLimits, Held, Prepares, RowConfig, RowShape};
use super::{Next, launch, limits, prepared, row_with};
use crate::instances::KernelRuntime;
use crate::kernels::product::Product;
use crate::kernels::tensors::{convert, empty, extents};
use crate::layers::Quantization;

/// The product of a prepared row, or `None` where `x` is none for the codes of this weight.
pub fn multiply_prepared<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>) -> Option<CubeTensor<R>> {
    let quantization = prepared::scheme(x).filter(|scheme| product.weight.element.quantization() == Some(*scheme))?;
    let extents = (product.weight.rows, product.weight.columns);
    let shape = RowShape::choose(limits(&x.client)?, extents, quantization, Held::Prepared)?;
    Some(row_with(x, product, quantization, shape))
}

/// The product `first` of one row, whatever its element type, with its residual, in f32, and that of its norm with the weight of `second`:
/// prepared where it is gated, in f32 otherwise. `None` where the device multiplies no bytes, or rows aren't whole groups of columns.
pub fn add_and_multiply<R: KernelRuntime>(
    x: &CubeTensor<R>,
    first: &Product<R>,
    second: &Product<R>,
) -> Option<[CubeTensor<R>; 2]> {
    let limits = limits(&x.client).filter(|_| R::multiplies_bytes(&x.client))?;
    add_and_multiply_within(limits, x, first, second)
}

/// As [`add_and_multiply`], with cubes within the given limits.
pub fn add_and_multiply_within<R: CubeRuntime>(
    limits: CubeLimits,
    x: &CubeTensor<R>,
    first: &Product<R>,
    second: &Product<R>,
) -> Option<[CubeTensor<R>; 2]> {
    let first_scheme = first.weight.element.quantization()?;
    let next = second.weight.element.quantization()?;
    let (norm, _) = second.norm.as_ref()?;
    let features = first.out_features();
    let takes = extents(x).0 == 1
        && first.norm.is_none()
        && !first.gated
        && features.is_multiple_of(Quantization::GROUP)
        && second.takes_features(features);
    if !takes {
        return None;
    }
    let x = if prepared::scheme(x) == Some(first_scheme) {
        x.clone()
    } else {
        convert(x.clone(), DType::F32)
    };
    let shape = shape_of(limits, &x, first, first_scheme, true)?;
    let sum = empty(&x, 1, features, DType::F32);
    let row = prepared::room(&x, features, next);
    let second_shape = shape_of(limits, &row, second, next, second.gated)?;
    let prepares = Prepares {
        quantization: next,
        normed: true,
    };
    let config = RowConfig::new(&x.client, shape, first, first_scheme, Some(prepares));
    let left = Next {
        row: &row,
        norm: Some(norm),
    };
    launch(&x, first, Some(&sum), Some(&left), config);
    Some([sum, normed_product(&row, second, next, second_shape)])
}

/// The product of a prepared row, prepared itself where it is gated: only another product reads it then.
fn normed_product<R: CubeRuntime>(
    row: &CubeTensor<R>,
    product: &Product<R>,
    scheme: Quantization,
    shape: RowShape,
) -> CubeTensor<R> {
    if !product.gated {
        return row_with(row, product, scheme, shape);
    }
    let gated = prepared::room(row, product.out_features(), scheme);
    let prepares = Prepares {
        quantization: scheme,
        normed: false,
    };
    let config = RowConfig::new(&row.client, shape, product, scheme, Some(prepares));
    let next = Next {
        row: &gated,
        norm: None,
    };
    launch(row, product, None, Some(&next), config);
    gated
}

/// The cut of a product, in whole sets of outputs where these are prepared.
fn shape_of<R: CubeRuntime>(
    limits: CubeLimits,
    x: &CubeTensor<R>,
    product: &Product<R>,
    scheme: Quantization,
    prepares: bool,
) -> Option<RowShape> {
    let held = prepared::scheme(x).map_or(Held::Bytes, |_| Held::Prepared);
    let rows = product.weight.rows;
    let shape = RowShape::choose(limits, (rows, product.weight.columns), scheme, held)?;
    if !prepares {
        return Some(shape);
    }
    let rows_per_output = rows / product.out_features();
    let is_whole = product.out_features().is_multiple_of(Quantization::GROUP);
    shape.of_sets(limits, rows, rows_per_output).filter(|_| is_whole)
}
