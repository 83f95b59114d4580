//! A checkpoint's bytes as numbers, looked at by all cores.

use alpamayo_backends::layers::SourceType;
use half::{bf16, f16};
use rayon::prelude::*;

/// Bytes that one core takes at a time; a multiple of every element's size.
const CHUNK: usize = 256 << 10;

/// The position of the first NaN or infinity among the elements, if there is one. Reads every byte.
pub(super) fn first_non_finite(bytes: &[u8], source_type: SourceType) -> Option<usize> {
    let size = size(source_type);
    bytes
        .par_chunks(CHUNK)
        .enumerate()
        .filter(|(_, chunk)| any_non_finite(chunk, source_type))
        .find_map_first(|(number, chunk)| {
            let position = chunk
                .chunks_exact(size)
                .position(|element| any_non_finite(element, source_type))?;
            Some(number * CHUNK / size + position)
        })
}

/// As [`first_non_finite`], in slabs of `slab` bytes (a multiple of every element's size), with a call after each.
pub(super) fn first_non_finite_in_slabs(
    bytes: &[u8],
    source_type: SourceType,
    slab: usize,
    read: impl Fn(&[u8]),
) -> Option<usize> {
    bytes.chunks(slab).enumerate().find_map(|(number, bytes)| {
        let found = first_non_finite(bytes, source_type);
        read(bytes);
        found.map(|position| number * slab / size(source_type) + position)
    })
}

/// Bytes of an element, or of a word of few bits.
fn size(source_type: SourceType) -> usize {
    match source_type {
        SourceType::Bf16 | SourceType::F16 => 2,
        SourceType::F32 | SourceType::Quantized(_) => 4,
    }
}

/// Whether any element's exponent is all ones. Without early exit, so that the loop becomes vector instructions.
fn any_non_finite(bytes: &[u8], source_type: SourceType) -> bool {
    match source_type {
        SourceType::Bf16 => any_with_all_bits::<2>(bytes, 0x7f80),
        SourceType::F16 => any_with_all_bits::<2>(bytes, 0x7c00),
        SourceType::F32 => any_with_all_bits::<4>(bytes, 0x7f80_0000),
        // Codes are whatever they are; a matrix's steps are looked at when it is stored.
        SourceType::Quantized(_) => false,
    }
}

fn any_with_all_bits<const SIZE: usize>(bytes: &[u8], mask: u32) -> bool {
    bytes.chunks_exact(SIZE).fold(false, |found, element| {
        let bits = element
            .iter()
            .rev()
            .fold(0, |bits, &byte| (bits << 8) | u32::from(byte));
        found | (bits & mask == mask)
    })
}

/// The elements as f32, exactly.
pub(crate) fn to_f32(bytes: &[u8], source_type: SourceType) -> Vec<f32> {
    match source_type {
        SourceType::Bf16 => bytes
            .chunks_exact(2)
            .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        SourceType::F16 => bytes
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        SourceType::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        // A vector of few bits is refused before anything is read.
        SourceType::Quantized(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(values: &[f32], source_type: SourceType) -> Vec<u8> {
        values
            .iter()
            .flat_map(|&value| match source_type {
                SourceType::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
                SourceType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                SourceType::F32 | SourceType::Quantized(_) => value.to_le_bytes().to_vec(),
            })
            .collect()
    }

    fn any_type() -> impl Strategy<Value = SourceType> {
        prop_oneof![Just(SourceType::Bf16), Just(SourceType::F16), Just(SourceType::F32)]
    }

    proptest! {
        #[test]
        fn finds_exactly_what_is_not_finite(bits in prop::collection::vec(any::<u32>(), 0..300), source_type in any_type()) {
            let bytes: Vec<u8> =
                bits.iter().flat_map(|bits| bits.to_le_bytes()[4 - size(source_type)..].to_vec()).collect();
            let wanted = to_f32(&bytes, source_type).iter().position(|value| !value.is_finite());
            prop_assert_eq!(first_non_finite(&bytes, source_type), wanted);
        }

        #[test]
        fn slabs_are_read_one_by_one(
            bits in prop::collection::vec(any::<u32>(), 0..300), slab in 1..50usize, source_type in any_type(),
        ) {
            let bytes: Vec<u8> =
                bits.iter().flat_map(|bits| bits.to_le_bytes()[4 - size(source_type)..].to_vec()).collect();
            let read = std::cell::RefCell::new(Vec::<u8>::new());
            let found = first_non_finite_in_slabs(&bytes, source_type, 4 * slab, |bytes| read.borrow_mut().extend(bytes));
            prop_assert_eq!(found, first_non_finite(&bytes, source_type));
            let read = read.into_inner();
            prop_assert_eq!(&read, &bytes[..read.len()]);
            prop_assert!(found.is_some() || read.len() == bytes.len());
        }

        #[test]
        fn finds_the_first_across_chunks(
            length in CHUNK..2 * CHUNK, at in 0.0..1.0f64, later in 0.0..1.0f64, source_type in any_type(),
        ) {
            let mut values = vec![0.5; length];
            let at = (at * length as f64) as usize;
            let later = at + (later * (length - at) as f64) as usize;
            values[later] = f32::INFINITY;
            values[at] = f32::NAN;
            prop_assert_eq!(first_non_finite(&bytes_of(&values, source_type), source_type), Some(at));
        }
    }
}
