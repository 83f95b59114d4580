//! SPIR-V modules as the instructions that they are.

use spirv::{MAGIC_NUMBER, Op};

/// Words in front of a module's instructions.
pub(super) const HEADER: usize = 5;

/// A module's instructions, `None` where they aren't all whole.
pub(super) fn instructions(code: &[u32]) -> Option<Vec<&[u32]>> {
    let (header, mut rest) = code.split_at_checked(HEADER)?;
    if header[0] != MAGIC_NUMBER {
        return None;
    }
    let mut instructions = Vec::new();
    while let Some(&first) = rest.first() {
        let (instruction, behind) = rest.split_at_checked((first >> 16) as usize)?;
        if instruction.is_empty() {
            return None;
        }
        instructions.push(instruction);
        rest = behind;
    }
    Some(instructions)
}

/// What an instruction does, [`Op::Nop`] where that isn't known.
pub(super) fn op(instruction: &[u32]) -> Op {
    Op::from_u32(instruction[0] & 0xffff).unwrap_or(Op::Nop)
}

/// What an instruction of so many words begins with.
pub(super) fn first_word(op: Op, words: usize) -> u32 {
    (words as u32) << 16 | op as u32
}
