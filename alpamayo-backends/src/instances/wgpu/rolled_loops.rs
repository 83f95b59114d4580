//! Loops as they are written, in SPIR-V: what a kernel is to do without a loop its source unrolls.
//!
//! A driver that unrolls them once more makes code that a processor's caches don't hold together with the next kernels'. Then each launch
//! reads its instructions from memory: on an H200 15 KB of them take 3.7 µs.

use spirv::{LoopControl, Op};

use super::spirv_words::{HEADER, instructions, op};

/// Which word of a loop's instruction tells how to compile it.
const CONTROL: usize = 3;

/// Has a driver leave a module's loops as they are. What isn't understood stays as it is.
pub(super) fn keep(code: &mut [u32]) {
    let Some(instructions) = instructions(code) else {
        return;
    };
    let mut start = HEADER;
    let mut controls = Vec::new();
    for instruction in instructions {
        if op(instruction) == Op::LoopMerge && instruction.get(CONTROL) == Some(&LoopControl::NONE.bits()) {
            controls.push(start + CONTROL);
        }
        start += instruction.len();
    }
    for control in controls {
        code[control] = LoopControl::DONT_UNROLL.bits();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spirv::MAGIC_NUMBER;

    use super::*;
    use crate::instances::wgpu::spirv_words::first_word;

    /// A module of loops and of other instructions with as many operands.
    fn module(controls: &[Option<u32>]) -> Vec<u32> {
        let mut code = vec![MAGIC_NUMBER, 0x0001_0600, 0, 100, 0];
        for control in controls {
            let op = if control.is_some() {
                Op::LoopMerge
            } else {
                Op::BranchConditional
            };
            code.extend([first_word(op, 4), 7, 8, control.unwrap_or_default()]);
        }
        code
    }

    proptest! {
        #[test]
        fn loops_that_say_nothing_are_left_rolled(
            controls in prop::collection::vec(prop::option::of(0..5_u32), 0..20), end in 0..4_usize, word in any::<u32>(),
        ) {
            let mut code = module(&controls);
            keep(&mut code);
            let kept: Vec<Option<u32>> = controls
                .iter()
                .map(|control| control.map(|control| if control == 0 { LoopControl::DONT_UNROLL.bits() } else { control }))
                .collect();
            prop_assert_eq!(&code, &module(&kept));
            // What is no module stays: it begins with another number, an even one, or ends within an instruction.
            let mut others = [module(&controls), module(&controls)];
            others[0][0] = word & !1;
            let whole = others[1].len();
            others[1].truncate(if controls.is_empty() { HEADER - 1 } else { whole - end.max(1) });
            for mut other in others {
                let before = other.clone();
                keep(&mut other);
                prop_assert_eq!(other, before);
            }
        }
    }
}
