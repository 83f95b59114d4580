//! Repeated work by what a platform records of it.

use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};

use super::apart::Arena;
use super::copy::copy;
use super::tensors::{empty, extents, float, tensor};
use crate::instances::{KernelRuntime, Recorded, Recording};
use crate::repetition::{Parts, Repetition};

type Cube<R, F, I, BT> = CubeBackend<R, F, I, BT>;

/// A part of the work over the runtime's tensors.
type Work<'a, R> = dyn FnMut(usize, &CubeTensor<R>) -> CubeTensor<R> + 'a;

/// Records work when it is done the first time, where a platform does [while it runs](KernelRuntime::RECORDS_WHILE_RUNNING), or the
/// second time, and repeats it from then on.
///
/// A part that is recorded and has not run is launched at once, so that the device is busy while the next one is recorded.
pub struct Repeat<R: KernelRuntime> {
    state: State<R>,
    /// What the work writes on the way.
    arena: Arena,
}

enum State<R: KernelRuntime> {
    /// Nothing has run yet.
    New,
    /// The work has run, so that its kernels are compiled and its memory is there; that of `x` and of the parts' results among it,
    /// which are kept until the work is recorded.
    Warm(Vec<CubeTensor<R>>),
    /// The work is recorded.
    Recorded(Box<Repeatable<R>>),
    /// It can't be.
    Plain,
}

impl<R: KernelRuntime> Default for Repeat<R> {
    /// Nothing recorded yet.
    fn default() -> Self {
        Self {
            state: State::New,
            arena: Arena::default(),
        }
    }
}

impl<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement> Repetition<Cube<R, F, I, BT>> for Repeat<R> {
    fn run(
        &mut self,
        x: Tensor<Cube<R, F, I, BT>, 2>,
        parts: usize,
        work: &mut Parts<'_, Cube<R, F, I, BT>>,
    ) -> Tensor<Cube<R, F, I, BT>, 2> {
        let x = float(x);
        let mut work = |part: usize, x: &CubeTensor<R>| float(work(part, tensor(x.clone())));
        let Self { state, arena } = self;
        let result = match std::mem::replace(state, State::Plain) {
            State::New if R::RECORDS_WHILE_RUNNING => {
                let mut whole = |_, x: &CubeTensor<R>| plainly(x.clone(), 0..parts, &mut work);
                let (output, next) = record(x, 1, arena, &mut whole);
                *state = next;
                output
            }
            State::New => {
                // A copy, as what is recorded will begin with one.
                let kept = arena.lend(|| run(same(&x).unwrap_or(x), parts, &mut work));
                let output = kept[kept.len() - 1].clone();
                *state = State::Warm(kept);
                output
            }
            State::Warm(kept) => {
                drop(kept);
                let (output, next) = record(x, parts, arena, &mut work);
                *state = next;
                output
            }
            State::Recorded(recorded) => match recorded.replay(&x) {
                Some(output) => {
                    *state = State::Recorded(recorded);
                    output
                }
                None => plainly(x, 0..parts, &mut work),
            },
            State::Plain => plainly(x, 0..parts, &mut work),
        };
        tensor(result)
    }
}

/// `x` and the results of all parts.
fn run<R: KernelRuntime>(x: CubeTensor<R>, parts: usize, work: &mut Work<'_, R>) -> Vec<CubeTensor<R>> {
    let mut results = vec![x];
    for part in 0..parts {
        results.push(work(part, &results[part]));
    }
    results
}

/// The result of the given parts.
fn plainly<R: KernelRuntime>(x: CubeTensor<R>, parts: std::ops::Range<usize>, work: &mut Work<'_, R>) -> CubeTensor<R> {
    parts.fold(x, |x, part| work(part, &x))
}

/// The work's result, and what can be done the next time.
fn record<R: KernelRuntime>(
    x: CubeTensor<R>,
    parts: usize,
    arena: &mut Arena,
    work: &mut Work<'_, R>,
) -> (CubeTensor<R>, State<R>) {
    let Some(input) = arena.lend(|| same(&x)) else {
        return (plainly(x, 0..parts, work), State::Plain);
    };
    let mut repeatable = Repeatable {
        output: input.clone(),
        recordings: Vec::with_capacity(parts),
        input,
    };
    for part in 0..parts {
        let x = repeatable.output.clone();
        let mut output = None;
        let recorded = R::record(&x.client, &x.device, &mut || {
            output = Some(arena.lend(|| work(part, &x)))
        });
        match (recorded, output) {
            (Recorded::RunAndRepeatable(recording), Some(output)) => {
                repeatable.recordings.push(recording);
                repeatable.output = output;
            }
            (Recorded::Repeatable(recording), Some(output)) if recording.replay() => {
                repeatable.recordings.push(recording);
                repeatable.output = output;
            }
            (Recorded::Once, Some(output)) => return (plainly(output, part + 1..parts, work), State::Plain),
            _ => return (plainly(x, part..parts, work), State::Plain),
        }
    }
    match repeatable.result() {
        Some(result) => (result, State::Recorded(Box::new(repeatable))),
        None => (repeatable.output, State::Plain),
    }
}

/// Recorded work between two buffers, each part of it from the buffer of the part before.
struct Repeatable<R: KernelRuntime> {
    input: CubeTensor<R>,
    recordings: Vec<Box<dyn Recording>>,
    output: CubeTensor<R>,
}

impl<R: KernelRuntime> Repeatable<R> {
    /// The result for `x`, `None` where it has other extents or the device refuses.
    fn replay(&self, x: &CubeTensor<R>) -> Option<CubeTensor<R>> {
        let fits = extents(x) == extents(&self.input) && x.dtype == self.input.dtype;
        let replayed = fits && copy(x, &self.input) && self.recordings.iter().all(|recording| recording.replay());
        replayed.then(|| self.result()).flatten()
    }

    /// What the output holds, in a buffer of its own: the next time overwrites it.
    fn result(&self) -> Option<CubeTensor<R>> {
        same(&self.output)
    }
}

/// The same values in a buffer of their own.
fn same<R: KernelRuntime>(x: &CubeTensor<R>) -> Option<CubeTensor<R>> {
    let (rows, columns) = extents(x);
    let result = empty(x, rows, columns, x.dtype);
    copy(x, &result).then_some(result)
}
