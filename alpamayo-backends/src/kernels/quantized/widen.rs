//! Weights of few bits as bf16, for products of so many rows that widening once is cheaper than widening in each tile.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::codes::read_quad;
use crate::kernels::bits;
use crate::kernels::product::{Element, Product, StoredWeight};
use crate::kernels::tensors::{array, cubes, empty};

const UNITS: usize = 256;

/// The product with its weight's values rounded to bf16, in a buffer that lives as long as the product; as it is where its weight
/// isn't of few bits, or its rows don't end on four values.
pub fn widened<R: CubeRuntime>(product: Product<R>) -> Product<R> {
    let StoredWeight {
        values,
        element,
        rows,
        columns,
    } = &product.weight;
    let (rows, columns) = (*rows, *columns);
    if element.quantization().is_none() || !columns.is_multiple_of(4) {
        return product;
    }
    let words = empty(values, rows, columns / 2, DType::I32);
    let quads = columns / 4;
    // SAFETY: positions are checked against the output's length.
    unsafe {
        widen_rows::launch_unchecked::<R>(
            &values.client,
            cubes((rows * quads).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            1,
            2,
            array(values),
            array(&words),
            quads as u32,
            *element,
        );
    }
    Product {
        weight: StoredWeight {
            values: words,
            element: Element::Bf16,
            rows,
            columns,
        },
        ..product
    }
}

#[cube(launch_unchecked)]
fn widen_rows<W: Size, P: Size>(
    weight: &Array<Vector<u32, W>>,
    out: &mut Array<Vector<u32, P>>,
    quads: u32,
    #[comptime] element: Element,
) {
    let quads = quads as usize;
    if ABSOLUTE_POS < out.len() {
        let row = ABSOLUTE_POS / quads;
        let column = ABSOLUTE_POS % quads * 4;
        let quad = read_quad::<W>(weight, row, column, quads * 4, element);
        let mut pair = Vector::<u32, P>::empty();
        pair[0] = bits::pack(quad[0], quad[1]);
        pair[1] = bits::pack(quad[2], quad[3]);
        out[ABSOLUTE_POS] = pair;
    }
}
