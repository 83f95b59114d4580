//! Weights of few bits as bf16, for products of so many rows that widening once is cheaper than widening in each tile.

use std::ops::Range;

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codes::read_quad;
use crate::kernels::bits;
use crate::kernels::product::{Element, Product, StoredWeight};
use crate::kernels::tensors::{array, cubes, empty};

const UNITS: usize = 256;

/// Bytes of the buffer that a weight's parts are widened into, the same for every weight, so that one serves them all: 4224 rows of
/// 4096 columns, 1408 of 12,288.
const PART: usize = 33 << 20;
/// Bytes of the buffer that a weight of [`SMALL`] to so many bytes is widened into as a whole: gate and up of the released size.
const WHOLE: usize = 192 << 20;
/// Smaller weights have buffers of their own.
const SMALL: usize = 24 << 20;
/// Parts are of whole tiles of a library's kernels, wherever they begin their results are as aligned as the whole.
const TILE: usize = 128;

/// Whether the weight is of few bits that can be widened: its rows end on four values.
pub fn widens<R: CubeRuntime>(weight: &StoredWeight<R>) -> bool {
    weight.element.quantization().is_some() && weight.columns.is_multiple_of(4)
}

/// The product with its weight's values rounded to bf16, in a buffer that lives as long as the product; as it is where its weight
/// can't be [widened](widens).
pub fn widened<R: CubeRuntime>(product: Product<R>) -> Product<R> {
    if !widens(&product.weight) {
        return product;
    }
    let StoredWeight {
        values, rows, columns, ..
    } = &product.weight;
    let largest = values.client.properties().memory.max_page_size;
    let words = empty(values, 1, whole_bytes(2 * rows * columns, largest) / 4, DType::I32);
    let weight = widened_rows(&product.weight, 0..*rows, &words);
    Product { weight, ..product }
}

/// Bytes of the buffer for a whole weight of so many, where the device has none larger than `largest`. A stage keeps a buffer of every size
/// that it asks for.
fn whole_bytes(used: usize, largest: u64) -> usize {
    let shares = (SMALL..=WHOLE).contains(&used) && WHOLE as u64 <= largest;
    if shares { WHOLE } else { used }
}

/// Rows of a weight of so many rows and columns that are widened at a time, in order.
pub fn parts(rows: usize, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let part = part_rows(columns);
    (0..rows).step_by(part).map(move |start| start..rows.min(start + part))
}

fn part_rows(columns: usize) -> usize {
    (PART / (2 * columns.max(1)) / TILE * TILE).max(TILE)
}

/// A buffer for [parts] of the weight.
pub fn part_buffer<R: CubeRuntime>(weight: &StoredWeight<R>) -> CubeTensor<R> {
    let bytes = PART.max(2 * weight.columns * part_rows(weight.columns));
    empty(&weight.values, 1, bytes / 4, DType::I32)
}

/// Some rows of a weight that [can be widened](widens), in bf16 at the beginning of a buffer that has room for them.
pub fn widened_rows<R: CubeRuntime>(
    weight: &StoredWeight<R>,
    rows: Range<usize>,
    buffer: &CubeTensor<R>,
) -> StoredWeight<R> {
    let (values, quads) = (&weight.values, weight.columns / 4);
    let (reserved, used) = (buffer.handle.size_in_used(), (8 * rows.len() * quads) as u64);
    let words = CubeTensor::new_contiguous(
        buffer.client.clone(),
        buffer.device.clone(),
        Shape::new([rows.len(), 2 * quads]),
        // No more is bound than is used: a device may not take the whole buffer.
        buffer.handle.clone().offset_end(reserved - used),
        DType::I32,
    );
    // SAFETY: positions are checked against the output's length, which the buffer has room for.
    unsafe {
        widen_rows::launch_unchecked::<R>(
            &values.client,
            cubes((rows.len() * quads).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            1,
            2,
            array(values),
            array(&words),
            rows.start as u32,
            quads as u32,
            weight.element,
        );
    }
    StoredWeight {
        values: words,
        element: Element::Bf16,
        rows: rows.len(),
        columns: weight.columns,
    }
}

#[cube(launch_unchecked)]
fn widen_rows<W: Size, P: Size>(
    weight: &Array<Vector<u32, W>>,
    out: &mut Array<Vector<u32, P>>,
    first_row: u32,
    quads: u32,
    #[comptime] element: Element,
) {
    let quads = quads as usize;
    if ABSOLUTE_POS < out.len() {
        let row = first_row as usize + ABSOLUTE_POS / quads;
        let column = ABSOLUTE_POS % quads * 4;
        let quad = read_quad::<W>(weight, row, column, quads * 4, element);
        let mut pair = Vector::<u32, P>::empty();
        pair[0] = bits::pack(quad[0], quad[1]);
        pair[1] = bits::pack(quad[2], quad[3]);
        out[ABSOLUTE_POS] = pair;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_all_rows_and_fit_the_buffer(rows in 1..200_000_usize, quads in 1..40_000_usize) {
            let columns = 4 * quads;
            let (mut end, mut count) = (0, 0);
            for part in parts(rows, columns) {
                prop_assert_eq!(part.start, end);
                prop_assert!(part.start.is_multiple_of(TILE) && !part.is_empty());
                prop_assert!(2 * columns * part.len() <= PART || part.len() <= TILE);
                (end, count) = (part.end, count + 1);
            }
            prop_assert_eq!(end, rows);
            // No more parts than their bytes ask for, but for what ends within a tile.
            prop_assert!(count <= 1 + rows.div_ceil((PART / (2 * columns)).saturating_sub(TILE - 1).max(1)));
        }
    }

    #[test]
    fn the_released_decoder_shares_one_buffer_for_whole_weights() {
        let bytes = |rows: usize, columns: usize| whole_bytes(2 * rows * columns, 1 << 31);
        for (rows, columns) in [(24_576, 4096), (6144, 4096), (4096, 4096), (4096, 12_288)] {
            assert_eq!(bytes(rows, columns), WHOLE);
        }
        // The vision tower's, and what is larger than any.
        assert_eq!([bytes(4304, 1152), bytes(155_697, 4096)], [9_916_416, 1_275_469_824]);
        // A browser's device has no buffer of that size, and smaller weights.
        assert_eq!(whole_bytes(2 * 6144 * 4096, 128 << 20), 2 * 6144 * 4096);
    }

    #[test]
    fn the_released_shapes_are_few_parts() {
        let count = |rows, columns| parts(rows, columns).count();
        assert_eq!([count(24_576, 4096), count(6144, 4096), count(4096, 4096)], [6, 2, 1]);
        assert_eq!([count(4096, 12_288), count(4304, 1152), count(4608, 4608)], [3, 1, 2]);
    }
}
