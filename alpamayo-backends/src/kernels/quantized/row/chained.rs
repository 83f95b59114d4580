//! Products of one row, one behind the other: what the next one reads, the one in front has prepared.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::config::{CubeLimits, Held, Prepares, RowConfig, RowShape};
use super::{Next, launch, limits, prepared, row_of, row_with};
use crate::instances::KernelRuntime;
use crate::kernels::product::Product;
use crate::kernels::tensors::{convert, extents};
use crate::layers::Quantization;

/// The product of a prepared row, or `None` where `x` is none for the codes of this weight.
pub fn multiply_prepared<R: KernelRuntime>(x: &CubeTensor<R>, product: &Product<R>) -> Option<CubeTensor<R>> {
    let quantization = prepared::scheme(x).filter(|scheme| product.weight.element.quantization() == Some(*scheme))?;
    let extents = (product.weight.rows, product.weight.columns);
    let shape = RowShape::choose(limits(&x.client)?, extents, quantization, Held::Prepared)?;
    Some(row_with(x, product, quantization, shape))
}

/// The product `first` of one row, whatever its element type, with its residual, in f32, and that of its norm with the weight of `second`:
/// prepared where it is gated, in f32 otherwise. `None` where rows aren't whole groups of columns, or cubes within these limits, those of
/// [a device that multiplies bytes](super::limits_of_bytes), can't hold them.
pub fn add_and_multiply<R: KernelRuntime>(
    limits: CubeLimits,
    x: &CubeTensor<R>,
    first: &Product<R>,
    second: &Product<R>,
) -> Option<[CubeTensor<R>; 2]> {
    let scheme = first.weight.element.quantization()?;
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
    let (x, held) = if prepared::scheme(x) == Some(scheme) {
        (x.clone(), Held::Prepared)
    } else {
        (convert(x.clone(), DType::F32), Held::Bytes)
    };
    let shape = shape_of(limits, first, scheme, held, true)?;
    let next_shape = shape_of(limits, second, next, Held::Prepared, second.gated)?;
    let sum = row_of(&x, features);
    let row = multiply_and_prepare(&x, first, (scheme, shape), next, Some((&sum, norm)));
    // Only another product reads what is gated.
    let output = if second.gated {
        multiply_and_prepare(&row, second, (next, next_shape), next, None)
    } else {
        row_with(&row, second, next, next_shape)
    };
    Some([sum, output])
}

/// The product, prepared for a weight of the scheme `next`, or with a norm in between: then it is written to `sum` as it is, too.
fn multiply_and_prepare<R: KernelRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    (scheme, shape): (Quantization, RowShape),
    next: Quantization,
    sum_and_norm: Option<(&CubeTensor<R>, &CubeTensor<R>)>,
) -> CubeTensor<R> {
    let row = prepared::room(x, product.out_features(), next);
    let prepares = Prepares {
        quantization: next,
        normed: sum_and_norm.is_some(),
    };
    let config = RowConfig::new(&x.client, shape, product, scheme, Some(prepares));
    let left = Next {
        row: &row,
        norm: sum_and_norm.map(|(_, norm)| norm),
    };
    launch(x, product, sum_and_norm.map(|(sum, _)| sum), Some(&left), config);
    row
}

/// The cut of a product, in whole sets of outputs where these are prepared.
fn shape_of<R: CubeRuntime>(
    limits: CubeLimits,
    product: &Product<R>,
    scheme: Quantization,
    held: Held,
    prepares: bool,
) -> Option<RowShape> {
    let (rows, outputs) = (product.weight.rows, product.out_features());
    let shape = RowShape::choose(limits, (rows, product.weight.columns), scheme, held)?;
    if !prepares {
        return Some(shape);
    }
    let is_whole = outputs.is_multiple_of(Quantization::GROUP);
    let rows_per_output = if product.gated { 2 } else { 1 };
    shape
        .of_sets(limits, (rows, rows_per_output), scheme)
        .filter(|_| is_whole)
}
