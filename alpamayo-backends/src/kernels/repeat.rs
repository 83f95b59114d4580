//! Repeated work by what a platform records of it.

use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};

use super::tensors::{empty, extents, float, tensor};
use crate::instances::{KernelRuntime, Recorded, Recording};
use crate::repetition::Repetition;

type Cube<R, F, I, BT> = CubeBackend<R, F, I, BT>;

/// Runs work once, records it the second time, and repeats it from then on.
pub struct Repeat<R: KernelRuntime>(State<R>);

enum State<R: KernelRuntime> {
    /// Nothing has run yet.
    New,
    /// The work has run, so that its kernels are compiled and its memory is there; that of `x` and of the result among it, which
    /// are kept until the work is recorded.
    Warm([CubeTensor<R>; 2]),
    /// The work is recorded.
    Recorded(Repeatable<R>),
    /// It can't be.
    Plain,
}

impl<R: KernelRuntime> Default for Repeat<R> {
    /// Nothing recorded yet.
    fn default() -> Self {
        Self(State::New)
    }
}

impl<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement> Repetition<Cube<R, F, I, BT>> for Repeat<R> {
    fn run(
        &mut self,
        x: Tensor<Cube<R, F, I, BT>, 2>,
        work: &mut dyn FnMut(Tensor<Cube<R, F, I, BT>, 2>) -> Tensor<Cube<R, F, I, BT>, 2>,
    ) -> Tensor<Cube<R, F, I, BT>, 2> {
        let x = float(x);
        let mut work = |x: &CubeTensor<R>| float(work(tensor(x.clone())));
        let result = match std::mem::replace(&mut self.0, State::Plain) {
            State::New => {
                let output = work(&x);
                self.0 = State::Warm([x, output.clone()]);
                output
            }
            State::Warm(kept) => {
                drop(kept);
                let (output, next) = record(x, &mut work);
                self.0 = next;
                output
            }
            State::Recorded(recorded) => match recorded.replay(&x) {
                Some(output) => {
                    self.0 = State::Recorded(recorded);
                    output
                }
                None => work(&x),
            },
            State::Plain => work(&x),
        };
        tensor(result)
    }
}

/// The work's result, and what can be done the next time.
fn record<R: KernelRuntime>(
    x: CubeTensor<R>,
    work: &mut dyn FnMut(&CubeTensor<R>) -> CubeTensor<R>,
) -> (CubeTensor<R>, State<R>) {
    let mut output = None;
    let recorded = R::record(&x.client, &x.device, &mut || output = Some(work(&x)));
    match (recorded, output) {
        (Recorded::Once, Some(output)) => (output, State::Plain),
        (Recorded::Repeatable(recording), Some(output)) => {
            let repeatable = Repeatable {
                recording,
                input: x.clone(),
                output,
            };
            match repeatable.result() {
                Some(result) => (result, State::Recorded(repeatable)),
                None => (work(&x), State::Plain),
            }
        }
        _ => (work(&x), State::Plain),
    }
}

/// Recorded work between two buffers.
struct Repeatable<R: KernelRuntime> {
    recording: Box<dyn Recording<R>>,
    input: CubeTensor<R>,
    output: CubeTensor<R>,
}

impl<R: KernelRuntime> Repeatable<R> {
    /// The result for `x`, `None` where it has other extents or the device refuses.
    fn replay(&self, x: &CubeTensor<R>) -> Option<CubeTensor<R>> {
        let fits = extents(x) == extents(&self.input) && x.dtype == self.input.dtype;
        (fits && self.recording.copy(x, &self.input))
            .then(|| self.result())
            .flatten()
    }

    /// The result for what the input holds, in a buffer of its own: the next time overwrites the output.
    fn result(&self) -> Option<CubeTensor<R>> {
        let (rows, columns) = extents(&self.output);
        let result = empty(&self.output, rows, columns, self.output.dtype);
        (self.recording.replay() && self.recording.copy(&self.output, &result)).then_some(result)
    }
}
