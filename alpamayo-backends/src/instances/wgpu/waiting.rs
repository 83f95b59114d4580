//! SPIR-V of kernels that [wait](crate::kernels::signals) for the launch in front by themselves, where that one runs meanwhile.
//!
//! CubeCL's kernels read as if nobody wrote meanwhile, so that a compiler may read anything later or earlier: it asks for the weights behind
//! the barrier. And each time it looks whether all are done it orders all that a processor does, which takes longer than looking. Here what
//! is read stays where the source has it, the atomics order nothing, what is written goes to where all processors see it, and one fence
//! orders it with the atomic behind it.
//!
//! Nothing is ordered behind the wait: a GPU doesn't read ahead of a branch, and a near cache has what was read before only
//! (`near_caches.rs`).

use std::collections::{HashMap, HashSet};

use spirv::{Decoration, MemoryAccess, MemorySemantics, Op, Scope, StorageClass};

use super::spirv_words::{HEADER, first_word, instructions, op};
use crate::kernels::signals::DONE;

/// The word of a module's header that is above all its ids.
const BOUND: usize = 3;

/// What a kernel does with the buffers that it binds, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Accesses {
    pub(super) loaded: HashSet<u32>,
    pub(super) stored: HashSet<u32>,
}

/// Has a kernel neither wait nor tell that it is done, where there are barriers between launches. What doesn't wait or isn't understood stays
/// as it is.
pub(super) fn part(code: &mut Vec<u32>) {
    if let Some(changed) = parted(code) {
        *code = changed;
    }
}

fn parted(code: &[u32]) -> Option<Vec<u32>> {
    let instructions = instructions(code)?;
    let module = Module::of(&instructions);
    let done = module.done?;
    let mut changed = code[..HEADER].to_vec();
    for instruction in instructions {
        match *instruction {
            [_, of_type, id, ..] if module.waits(instruction) => {
                changed.extend([first_word(Op::CopyObject, 4), of_type, id, done]);
            }
            _ if module.counts(instruction) || module.is_devices_barrier(instruction) => {}
            _ => changed.extend(instruction),
        }
    }
    Some(changed)
}

/// Changes a kernel that waits, and tells what it does; `None` where it doesn't wait or isn't understood: it stays as it is.
pub(super) fn overlap(code: &mut Vec<u32>) -> Option<Accesses> {
    let (changed, accesses) = changed(code)?;
    *code = changed;
    Some(accesses)
}

fn changed(code: &[u32]) -> Option<(Vec<u32>, Accesses)> {
    let instructions = instructions(code)?;
    let module = Module::of(&instructions);
    let device = module.device?;
    let number = *module.types.get(&device)?;
    let (nothing, release) = (code[BOUND], code[BOUND].checked_add(1)?);
    let mut changed = code[..HEADER].to_vec();
    changed[BOUND] = release.checked_add(1)?;
    let (mut declared, mut waited) = (false, false);
    for instruction in instructions {
        if op(instruction) == Op::Function && !declared {
            let orders = MemorySemantics::RELEASE | MemorySemantics::UNIFORM_MEMORY;
            for (id, value) in [(nothing, MemorySemantics::empty()), (release, orders)] {
                changed.extend([first_word(Op::Constant, 4), number, id, value.bits()]);
            }
            declared = true;
        }
        match *instruction {
            [start, of_type, id, pointer, scope, _] if module.waits(instruction) => {
                changed.extend([start, of_type, id, pointer, scope, nothing]);
                waited = true;
            }
            [start, of_type, id, pointer, scope, _, value] if module.counts(instruction) => {
                changed.extend([start, of_type, id, pointer, scope, release, value]);
            }
            // Units of a cube wait for each other only.
            [start, execution, _, semantics] if module.is_devices_barrier(instruction) => {
                changed.extend([start, execution, execution, semantics]);
            }
            [_, of_type, id, pointer, ref access @ ..] if module.loads(instruction, waited) => {
                let access = more(access, MemoryAccess::VOLATILE, None);
                changed.push(first_word(Op::Load, 4 + access.len()));
                changed.extend([of_type, id, pointer]);
                changed.extend(access);
            }
            [_, pointer, value, ref access @ ..] if module.stores(instruction) => {
                let kind = MemoryAccess::NON_PRIVATE_POINTER | MemoryAccess::MAKE_POINTER_AVAILABLE;
                let access = more(access, kind, Some(device));
                changed.push(first_word(Op::Store, 3 + access.len()));
                changed.extend([pointer, value]);
                changed.extend(access);
            }
            _ => changed.extend(instruction),
        }
    }
    Some((changed, module.accesses))
}

/// How memory is accessed, and more: a scope is behind all that was said.
fn more(said: &[u32], kind: MemoryAccess, scope: Option<u32>) -> Vec<u32> {
    let mut access = match said {
        [] => vec![MemoryAccess::NONE.bits()],
        said => said.to_vec(),
    };
    access[0] |= kind.bits();
    access.extend(scope);
    access
}

/// What ids stand for.
#[derive(Default)]
struct Module {
    constants: HashMap<u32, u32>,
    /// The constants' types.
    types: HashMap<u32, u32>,
    /// What buffers are bound as.
    bindings: HashMap<u32, u32>,
    /// The buffers that pointers lead into.
    buffers: HashMap<u32, u32>,
    /// The buffer of the words that it waits for, if it does, the id of what nobody waits for, and that of the scope of looking at it.
    words: Option<u32>,
    done: Option<u32>,
    device: Option<u32>,
    /// Buffers whose loads may come from before the wait: those behind it are in a loop, and are asked for early enough as they are.
    early: HashSet<u32>,
    accesses: Accesses,
}

impl Module {
    fn of(instructions: &[&[u32]]) -> Self {
        let mut module = Self::default();
        // By its id, a number that was looked at, the buffer that it is from, and the scope.
        let mut looked_at = HashMap::new();
        for &instruction in instructions {
            match (op(instruction), instruction) {
                (Op::Constant, &[_, of_type, id, value]) => {
                    module.constants.insert(id, value);
                    module.types.insert(id, of_type);
                }
                (Op::Decorate, &[_, id, kind, number]) if kind == Decoration::Binding as u32 => {
                    module.bindings.insert(id, number);
                }
                (Op::Variable, &[_, _, id, class, ..]) if class == StorageClass::StorageBuffer as u32 => {
                    module.buffers.insert(id, id);
                }
                (Op::AccessChain | Op::InBoundsAccessChain, &[_, _, id, base, ..]) => {
                    if let Some(&buffer) = module.buffers.get(&base) {
                        module.buffers.insert(id, buffer);
                    }
                }
                (Op::Load, &[_, _, _, pointer, ..]) => {
                    module.accesses.loaded.extend(module.binding(pointer));
                    if looked_at.is_empty() {
                        module.early.extend(module.buffers.get(&pointer));
                    }
                }
                (Op::Store, &[_, pointer, ..]) => module.accesses.stored.extend(module.binding(pointer)),
                (Op::AtomicLoad, &[_, _, id, pointer, scope, _]) => {
                    if let Some(&buffer) = module.buffers.get(&pointer) {
                        looked_at.insert(id, (buffer, scope));
                    }
                }
                (Op::ULessThan, &[_, _, _, number, most]) if module.constants.get(&most) == Some(&DONE) => {
                    if let Some(&(buffer, scope)) = looked_at.get(&number) {
                        (module.words, module.done, module.device) = (Some(buffer), Some(most), Some(scope));
                    }
                }
                _ => {}
            }
        }
        module
    }

    /// What the buffer that a pointer leads into is bound as.
    fn binding(&self, pointer: u32) -> Option<u32> {
        self.bindings.get(self.buffers.get(&pointer)?).copied()
    }

    fn is_word(&self, pointer: u32) -> bool {
        self.words.is_some() && self.buffers.get(&pointer) == self.words.as_ref()
    }

    /// Whether this looks whether the launch in front is done.
    fn waits(&self, instruction: &[u32]) -> bool {
        matches!(*instruction, [_, _, _, pointer, ..] if op(instruction) == Op::AtomicLoad && self.is_word(pointer))
    }

    /// Whether this tells the next launch that a cube is done.
    fn counts(&self, instruction: &[u32]) -> bool {
        matches!(*instruction, [_, _, _, pointer, ..] if op(instruction) == Op::AtomicIAdd && self.is_word(pointer))
    }

    fn is_devices_barrier(&self, instruction: &[u32]) -> bool {
        let [_, _, scope, semantics] = *instruction else {
            return false;
        };
        let is_devices = self.constants.get(&scope) == Some(&(Scope::Device as u32));
        let of_buffers = MemorySemantics::UNIFORM_MEMORY.bits();
        let orders_buffers = (self.constants.get(&semantics)).is_some_and(|orders| orders & of_buffers != 0);
        op(instruction) == Op::ControlBarrier && is_devices && orders_buffers
    }

    /// The buffer that is accessed, where more can be said of how.
    fn buffer(&self, pointer: u32, access: &[u32]) -> Option<u32> {
        let known = MemoryAccess::VOLATILE | MemoryAccess::ALIGNED | MemoryAccess::NONTEMPORAL;
        let is_plain = access.first().is_none_or(|said| said & !known.bits() == 0);
        self.buffers.get(&pointer).copied().filter(|_| is_plain)
    }

    /// Whether this load must stay on its side of the wait.
    fn loads(&self, instruction: &[u32], waited: bool) -> bool {
        match *instruction {
            [_, _, _, pointer, ref access @ ..] if op(instruction) == Op::Load => {
                let buffer = self.buffer(pointer, access);
                buffer.is_some_and(|buffer| !(waited && self.early.contains(&buffer)))
            }
            _ => false,
        }
    }

    fn stores(&self, instruction: &[u32]) -> bool {
        match *instruction {
            [_, pointer, _, ref access @ ..] => op(instruction) == Op::Store && self.buffer(pointer, access).is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spirv::MAGIC_NUMBER;

    use super::*;

    /// Ids of the test's modules: types, constants, the words' buffer; others are buffers and what points to them.
    const NUMBER: u32 = 1;
    const WORKGROUP: u32 = 2;
    const DEVICE: u32 = 3;
    const OF_BUFFERS: u32 = 4;
    const OF_SHARED: u32 = 5;
    const NOBODY: u32 = 6;
    const WORDS: u32 = 10;
    const BOUND_ID: u32 = 100;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Load(u32, bool),
        Store(u32, bool),
        CubeBarrier,
        /// Adds to what isn't waited for.
        Count,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..4_u32, any::<bool>()).prop_map(|(buffer, aligned)| Step::Load(buffer, aligned)),
            (1..4_u32, any::<bool>()).prop_map(|(buffer, aligned)| Step::Store(buffer, aligned)),
            Just(Step::CubeBarrier),
            Just(Step::Count),
        ]
    }

    /// What a module is to be.
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Written,
        BetweenBarriers,
        Overlapping,
    }

    fn push(code: &mut Vec<u32>, op: Op, operands: &[u32]) {
        code.push(first_word(op, operands.len() + 1));
        code.extend(operands);
    }

    /// A module of steps in front of a wait, steps behind it and what tells that it is done; or one that doesn't wait.
    fn module(before: &[Step], behind: &[Step], waits: bool, kind: Kind) -> Vec<u32> {
        let overlaps = kind == Kind::Overlapping && waits;
        let mut code = vec![MAGIC_NUMBER, 0x0001_0600, 0, BOUND_ID + if overlaps { 2 } else { 0 }, 0];
        for buffer in 0..4 {
            push(
                &mut code,
                Op::Decorate,
                &[WORDS + buffer, Decoration::Binding as u32, buffer],
            );
        }
        for (id, value) in [
            (WORKGROUP, 2),
            (DEVICE, 1),
            (OF_BUFFERS, 0x48),
            (OF_SHARED, 0x108),
            (NOBODY, DONE),
        ] {
            push(&mut code, Op::Constant, &[NUMBER, id, value]);
        }
        for buffer in 0..4 {
            push(
                &mut code,
                Op::Variable,
                &[NUMBER, WORDS + buffer, StorageClass::StorageBuffer as u32],
            );
        }
        if overlaps {
            push(&mut code, Op::Constant, &[NUMBER, BOUND_ID, 0]);
            push(&mut code, Op::Constant, &[NUMBER, BOUND_ID + 1, 0x44]);
        }
        push(&mut code, Op::Function, &[NUMBER, 20, 0, NUMBER]);
        for buffer in 0..4 {
            push(
                &mut code,
                Op::InBoundsAccessChain,
                &[NUMBER, 30 + buffer, WORDS + buffer, WORKGROUP],
            );
        }
        let early = |buffer| {
            before
                .iter()
                .any(|step| matches!(*step, Step::Load(other, _) if other == buffer))
        };
        let step = |code: &mut Vec<u32>, step: Step, waited: bool| {
            let access = |aligned: bool, more: u32, scope: Option<u32>| {
                let mut access = if aligned { vec![2, 16] } else { vec![] };
                if more != 0 {
                    access = if access.is_empty() { vec![0] } else { access };
                    access[0] |= more;
                    access.extend(scope);
                }
                access
            };
            match step {
                Step::Load(buffer, aligned) => {
                    let stays = overlaps && !(waited && early(buffer));
                    let access = access(aligned, u32::from(stays), None);
                    push(code, Op::Load, &[vec![NUMBER, 40, 30 + buffer], access].concat());
                }
                Step::Store(buffer, aligned) => {
                    let access = access(aligned, if overlaps { 0x28 } else { 0 }, Some(DEVICE));
                    push(code, Op::Store, &[vec![30 + buffer, 40], access].concat());
                }
                Step::CubeBarrier => push(code, Op::ControlBarrier, &[WORKGROUP, WORKGROUP, OF_SHARED]),
                Step::Count => push(code, Op::AtomicIAdd, &[NUMBER, 42, 33, DEVICE, OF_BUFFERS, 40]),
            }
        };
        let barrier = |code: &mut Vec<u32>| {
            let memory = if overlaps { WORKGROUP } else { DEVICE };
            push(code, Op::ControlBarrier, &[WORKGROUP, memory, OF_BUFFERS]);
        };
        before.iter().for_each(|it| step(&mut code, *it, false));
        if waits {
            match kind {
                Kind::BetweenBarriers => push(&mut code, Op::CopyObject, &[NUMBER, 41, NOBODY]),
                _ => {
                    let orders = if overlaps { BOUND_ID } else { OF_BUFFERS };
                    push(&mut code, Op::AtomicLoad, &[NUMBER, 41, 30, DEVICE, orders]);
                }
            }
            push(&mut code, Op::ULessThan, &[NUMBER, 43, 41, NOBODY]);
            if kind != Kind::BetweenBarriers {
                barrier(&mut code);
            }
        }
        behind.iter().for_each(|it| step(&mut code, *it, true));
        if waits && kind != Kind::BetweenBarriers {
            barrier(&mut code);
            let orders = if overlaps { BOUND_ID + 1 } else { OF_BUFFERS };
            push(&mut code, Op::AtomicIAdd, &[NUMBER, 44, 30, DEVICE, orders, WORKGROUP]);
        }
        code
    }

    proptest! {
        #[test]
        fn kernels_that_wait_are_changed_and_others_stay(
            before in prop::collection::vec(step(), 0..9), behind in prop::collection::vec(step(), 0..9), waits in any::<bool>(), cut in 1..4_usize,
        ) {
            let written = module(&before, &behind, waits, Kind::Written);
            let mut parted = written.clone();
            part(&mut parted);
            prop_assert_eq!(&parted, &module(&before, &behind, waits, Kind::BetweenBarriers));
            let mut overlapping = written.clone();
            let accesses = overlap(&mut overlapping);
            prop_assert_eq!(&overlapping, &module(&before, &behind, waits, Kind::Overlapping));
            let all = || before.iter().chain(&behind);
            let expected = Accesses {
                loaded: all().filter_map(|step| match *step { Step::Load(buffer, _) => Some(buffer), _ => None }).collect(),
                stored: all().filter_map(|step| match *step { Step::Store(buffer, _) => Some(buffer), _ => None }).collect(),
            };
            prop_assert_eq!(accesses, waits.then_some(expected));
            // What is no module stays.
            let torn = written[..written.len() - cut].to_vec();
            let mut others = [torn.clone(), torn.clone()];
            part(&mut others[0]);
            prop_assert!(overlap(&mut others[1]).is_none());
            prop_assert_eq!(others, [torn.clone(), torn]);
        }
    }
}
