//! Dot products of words' bytes in SPIR-V.
//!
//! CubeCL casts words to vectors of bytes, which a driver may take apart to multiply them one by one: on an H200 such products were slower
//! than those of floats. SPIR-V has the product of the words themselves, one instruction of GPUs that multiply bytes.

use std::collections::{HashMap, HashSet};

use spirv::{Capability, Op};

use super::spirv_words::{HEADER, first_word, instructions, op};

/// The capability of such products of words.
const OF_PACKED_BYTES: u32 = Capability::DotProductInput4x8BitPacked as u32;

/// The operand that tells that a word is four bytes.
const PACKED_BYTES: u32 = 0;

/// Takes the casts out of a module's products of words' bytes. What has none, or isn't understood, stays as it is.
pub(super) fn pack(code: &mut Vec<u32>) {
    if let Some(packed) = packed(code) {
        *code = packed;
    }
}

/// The module with products of words, where there are any.
fn packed(code: &[u32]) -> Option<Vec<u32>> {
    let instructions = instructions(code)?;
    if !instructions.iter().any(|instruction| is_dot(op(instruction))) {
        return None;
    }
    let casts = casts(&instructions);
    let capability = [first_word(Op::Capability, 2), OF_PACKED_BYTES];
    let mut packed = code[..HEADER].to_vec();
    if !instructions.contains(&capability.as_slice()) {
        packed.extend(capability);
    }
    let mut any = false;
    for instruction in instructions {
        if let Some(product) = of_words(instruction, &casts) {
            packed.extend(product);
            any = true;
        } else {
            packed.extend(instruction);
        }
    }
    any.then_some(packed)
}

/// Whether this is a product of signed bytes, of unsigned ones, or of signed with unsigned ones.
fn is_dot(op: Op) -> bool {
    matches!(op, Op::SDot | Op::UDot | Op::SUDot)
}

/// The product of the words that a product's operands are cast from.
fn of_words(instruction: &[u32], casts: &HashMap<u32, Word>) -> Option<[u32; 6]> {
    match *instruction {
        [_, of_type, id, first, second] if is_dot(op(instruction)) => {
            let (first, second) = (casts.get(&first)?, casts.get(&second)?);
            let start = first_word(op(instruction), 6);
            (first.of_type == second.of_type).then_some([start, of_type, id, first.id, second.id, PACKED_BYTES])
        }
        _ => None,
    }
}

/// A value that is an integer of 32 bits.
#[derive(Clone, Copy)]
struct Word {
    id: u32,
    of_type: u32,
}

/// Words by the vectors of four bytes that they are cast to. What a module uses stands behind what defines it.
fn casts(instructions: &[&[u32]]) -> HashMap<u32, Word> {
    let (mut bytes, mut vectors, mut integers) = (HashSet::new(), HashSet::new(), HashSet::new());
    let (mut words, mut casts) = (HashMap::new(), HashMap::new());
    for &instruction in instructions {
        let code = op(instruction);
        match *instruction {
            [_, id, 8, _] if code == Op::TypeInt => _ = bytes.insert(id),
            [_, id, 32, _] if code == Op::TypeInt => _ = integers.insert(id),
            [_, id, of, 4] if code == Op::TypeVector && bytes.contains(&of) => _ = vectors.insert(id),
            [_, of_type, id, from] if code == Op::Bitcast && vectors.contains(&of_type) => {
                if let Some(&word) = words.get(&from) {
                    casts.insert(id, word);
                }
            }
            // Behind a type, all instructions that begin with it have a result.
            [_, of_type, id, ..] if integers.contains(&of_type) => {
                words.insert(id, Word { id, of_type });
            }
            _ => {}
        }
    }
    casts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spirv::MAGIC_NUMBER;

    use super::*;

    const CAPABILITY: u32 = Op::Capability as u32;
    const TYPE_INT: u32 = Op::TypeInt as u32;
    const TYPE_VECTOR: u32 = Op::TypeVector as u32;
    const BITCAST: u32 = Op::Bitcast as u32;
    const DOT: u32 = Op::SDot as u32;
    const DOTS: [Op; 3] = [Op::SDot, Op::UDot, Op::SUDot];
    const DOT_CAPABILITY: [u32; 3] = [CAPABILITY, 2, Capability::DotProduct as u32];

    /// What an instruction of so many words begins with.
    fn first_word(opcode: u32, words: u32) -> u32 {
        words << 16 | opcode
    }

    /// A module of instructions, each of them an opcode, a count of words and operands.
    fn module(instructions: &[&[u32]]) -> Vec<u32> {
        let mut code = vec![MAGIC_NUMBER, 0x0001_0600, 0, 100, 0];
        for &instruction in instructions {
            code.push(first_word(instruction[0], instruction[1]));
            code.extend(&instruction[2..]);
        }
        code
    }

    /// Types 1 and 2 are integers, signed and not, 3 a float, 5 and 6 vectors of bytes and of pairs of them; 7 is a constant, and 10, 11, 12
    /// and 13 are values in a function, of type 1, 1, 2 and 3.
    const KNOWN: [&[u32]; 14] = [
        &[TYPE_INT, 4, 1, 32, 1],
        &[TYPE_INT, 4, 2, 32, 0],
        &[22, 3, 3, 32],
        &[TYPE_INT, 4, 4, 8, 1],
        &[TYPE_VECTOR, 4, 5, 4, 4],
        &[TYPE_INT, 4, 8, 16, 1],
        &[TYPE_VECTOR, 4, 6, 8, 2],
        &[43, 4, 1, 7, 99],
        &[54, 5, 9, 20, 0, 21],
        &[248, 2, 22],
        &[61, 4, 1, 10, 23],
        &[61, 4, 1, 11, 24],
        &[61, 4, 2, 12, 25],
        &[61, 4, 3, 13, 26],
    ];

    /// Casts of those values, as 30 and on.
    const CASTS: [&[u32]; 6] = [
        &[BITCAST, 4, 5, 30, 10],
        &[BITCAST, 4, 5, 31, 11],
        &[BITCAST, 4, 5, 32, 12],
        &[BITCAST, 4, 5, 33, 13],
        &[BITCAST, 4, 5, 34, 7],
        &[BITCAST, 4, 6, 35, 10],
    ];

    fn with(capabilities: &[&[u32]], rest: &[&[u32]]) -> Vec<u32> {
        module(&[capabilities, &KNOWN, &CASTS, rest].concat())
    }

    fn of(mut code: Vec<u32>) -> Vec<u32> {
        pack(&mut code);
        code
    }

    #[test]
    fn products_of_cast_words_are_products_of_words() {
        for dot in DOTS.map(|dot| dot as u32) {
            let cast: [&[u32]; 3] = [
                &[dot, 5, 1, 40, 30, 31],
                &[128, 5, 1, 41, 40, 10],
                &[dot, 5, 1, 42, 34, 30],
            ];
            let packed: [&[u32]; 3] = [
                &[dot, 6, 1, 40, 10, 11, PACKED_BYTES],
                cast[1],
                &[dot, 6, 1, 42, 7, 10, PACKED_BYTES],
            ];
            let capability: &[u32] = &[CAPABILITY, 2, OF_PACKED_BYTES];
            let expected = with(&[capability, &DOT_CAPABILITY], &packed);
            assert_eq!(of(with(&[&DOT_CAPABILITY], &cast)), expected);
            // Where it is there, the capability isn't asked for twice; what is packed stays so.
            assert_eq!(of(with(&[capability, &DOT_CAPABILITY], &cast)), expected);
            assert_eq!(of(expected.clone()), expected);
        }
    }

    #[test]
    fn other_products_stay() {
        let same = |rest: &[&[u32]]| {
            let code = with(&[&DOT_CAPABILITY], rest);
            assert_eq!(of(code.clone()), code, "{rest:?}");
        };
        same(&[]);
        // With what is no cast, with a word of another type, a float, two integers of 16 bits, and of floats.
        for operands in [[10, 11], [30, 50], [30, 32], [30, 33], [33, 33], [35, 35]] {
            same(&[&[DOT, 5, 1, 40, operands[0], operands[1]]]);
        }
        same(&[&[148, 5, 3, 40, 30, 31]]);
    }

    #[test]
    fn what_is_no_module_stays() {
        let code = with(&[&DOT_CAPABILITY], &[&[DOT, 5, 1, 40, 30, 31]]);
        assert_ne!(of(code.clone()), code);
        let mut other = code.clone();
        other[0] = MAGIC_NUMBER.swap_bytes();
        assert_eq!(of(other.clone()), other);
        // No last instruction is whole.
        for end in (0..HEADER).chain(code.len() - 4..code.len()) {
            assert_eq!(of(code[..end].to_vec()), code[..end]);
        }
        for words in [0, 0xffff] {
            let mut code = code.clone();
            let last = code.len() - 5;
            code[last] = first_word(DOT, words);
            assert_eq!(of(code.clone()), code);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_over_nothing_is_read_past_the_end(at in 0..80usize, word in any::<u32>(), few in 0..9u32) {
            let code = with(&[&DOT_CAPABILITY], &[&[DOT, 5, 1, 40, 30, 31]]);
            for word in [word, few, word & 0x000f_ffff] {
                let mut code = code.clone();
                let at = at % code.len();
                code[at] = word;
                prop_assert!(of(code.clone()).len() <= code.len() + 3);
            }
        }
    }
}
