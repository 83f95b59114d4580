//! Weights of 8 and 4 bits.
//!
//! Symmetric and in blocks: 32 consecutive input features of a row share one step, an f16; a value is its code, an integer,
//! times that step. The step is the block's largest magnitude over the largest code, rounded up to the next f16, so that no value
//! is beyond the largest code; a code is `value / step` in f32, rounded to nearest even. Every value is thus at most half a step off.
//!
//! Rows are padded with zeros to 128 input features, four blocks. Of such a group the codes come in as many *chunks* of four
//! 32-bit words as make 128 codes, word `w` of every chunk holding codes of block `w`. Chunk `c` holds input features from `8 · (c % 4)` of
//! each block on, eight in one word of four bits, four in each of the words of eight bits in chunks `c` and `c + 4`: a lane of a tensor
//! core then has eight neighbouring features of every block in 16 or 32 bytes, and four lanes have all of them. Within a word, features
//! `2 i` and `2 i + 1` are 16 bits apart, so that both are widened at once. The codes of all groups are followed by all steps, two per word.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, backend::Backend};

/// A scheme of weights with few bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantization {
    /// Codes of 8 bits, from -127 to 127; 8.5 bits per value.
    Int8,
    /// Codes of 4 bits, from -7 to 7; 4.5 bits per value.
    Int4,
}

impl Quantization {
    /// Input features that share a step.
    pub const BLOCK: usize = 32;
    /// Input features that a row is padded to multiples of.
    pub const GROUP: usize = 128;
    /// Blocks of a group, and words of a chunk.
    pub const BLOCKS: usize = Self::GROUP / Self::BLOCK;
    /// The number of the layout of rows, which files carry: it counts up when codes or steps move.
    pub const LAYOUT: u32 = 2;
    /// Words that a row is padded to multiples of: rows begin where memory is read from.
    const ROW_WORDS: usize = 8;

    /// The name in a checkpoint and on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// The scheme of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Int8, Self::Int4]
            .into_iter()
            .find(|scheme| scheme.name() == name)
    }

    /// Bits of a code.
    pub fn bits(self) -> usize {
        match self {
            Self::Int8 => 8,
            Self::Int4 => 4,
        }
    }

    /// Codes per word.
    pub fn per_word(self) -> usize {
        32 / self.bits()
    }

    /// What is added to a code to store it without a sign.
    pub fn offset(self) -> i32 {
        1 << (self.bits() - 1)
    }

    /// The largest code.
    pub fn largest(self) -> i32 {
        self.offset() - 1
    }

    /// A word of zeros: the offset in every place.
    pub fn zeros(self) -> u32 {
        match self {
            Self::Int8 => 0x8080_8080,
            Self::Int4 => 0x8888_8888,
        }
    }

    /// Chunks of a group.
    pub fn chunks(self) -> usize {
        Self::GROUP / Self::BLOCKS / self.per_word()
    }

    /// Runs of four consecutive codes in a word.
    pub fn runs(self) -> usize {
        self.per_word() / 4
    }

    /// Groups of a row.
    pub fn groups(self, columns: usize) -> usize {
        columns.div_ceil(Self::GROUP)
    }

    /// Words of a row's codes.
    pub fn code_words(self, columns: usize) -> usize {
        self.groups(columns) * self.chunks() * Self::BLOCKS
    }

    /// Words of a row's steps.
    pub fn step_words(self, columns: usize) -> usize {
        self.groups(columns) * Self::BLOCKS / 2
    }

    /// Words of a row.
    pub fn row_words(self, columns: usize) -> usize {
        (self.code_words(columns) + self.step_words(columns)).next_multiple_of(Self::ROW_WORDS)
    }

    /// The word of a row that holds a column's code, and the place of the code's lowest bit in it.
    pub fn place(self, column: usize) -> (usize, usize) {
        let (group, block, within) = (
            column / Self::GROUP,
            column % Self::GROUP / Self::BLOCK,
            column % Self::BLOCK,
        );
        let (eight, within) = (within / 8, within % 8);
        let (part, within) = (within / self.per_word(), within % self.per_word());
        let chunk = group * self.chunks() + 4 * part + eight;
        let place = within / 2 + self.per_word() / 2 * (within % 2);
        (chunk * Self::BLOCKS + block, self.bits() * place)
    }
}

/// A weight of few bits.
#[derive(Module, Debug)]
pub struct QuantizedWeight<B: Backend> {
    /// `[out, row words]`, 32-bit words: codes, then steps.
    pub words: Param<Tensor<B, 2, Int>>,
    /// Input features.
    pub columns: usize,
    /// The scheme.
    #[module(skip)]
    pub quantization: Quantization,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_code_has_a_place_of_its_own() {
        for scheme in [Quantization::Int8, Quantization::Int4] {
            let columns = 3 * Quantization::GROUP;
            let places: BTreeSet<_> = (0..columns).map(|column| scheme.place(column)).collect();
            assert_eq!(places.len(), columns);
            assert_eq!(places.len() / scheme.per_word(), scheme.code_words(columns));
            assert!(
                places
                    .iter()
                    .all(|(word, shift)| *word < scheme.code_words(columns) && *shift < 32)
            );
        }
    }

    proptest! {
        #[test]
        fn a_word_holds_codes_of_one_block(column in 0..10_000_usize) {
            for scheme in [Quantization::Int8, Quantization::Int4] {
                let (word, _) = scheme.place(column);
                prop_assert_eq!(word % Quantization::BLOCKS, column / Quantization::BLOCK % Quantization::BLOCKS);
            }
        }

        #[test]
        fn four_lanes_hold_eight_neighbours_each(block in 0..40_usize, lane in 0..4_usize, pair in 0..4_usize) {
            for scheme in [Quantization::Int8, Quantization::Int4] {
                let column = block * Quantization::BLOCK + 8 * lane + 2 * pair;
                let ((word, shift), (other, after)) = (scheme.place(column), scheme.place(column + 1));
                prop_assert_eq!((other, after), (word, shift + 16));
                prop_assert_eq!(word / Quantization::BLOCKS % 4, lane);
            }
        }

        #[test]
        fn rows_take_the_bits_that_are_promised(groups in 1..200_usize) {
            let columns = groups * Quantization::GROUP;
            for (scheme, bits) in [(Quantization::Int8, 8.5), (Quantization::Int4, 4.5)] {
                let taken = 32.0 * scheme.row_words(columns) as f64;
                let promised = bits * columns as f64;
                prop_assert!(taken >= promised && taken < promised + 32.0 * 8.0);
            }
        }
    }
}
