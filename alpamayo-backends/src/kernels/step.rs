//! What changes from one decoded token to the next, and from one plan's action tokens to the next one's, in memory that stays.

use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::prelude::*;

use super::copy::copy;
use super::tensors::{array, cubes, empty, extents, float, int, tensor};
use crate::definition;
use crate::instances::KernelRuntime;
use crate::layers::{ActionTokens, DecodeStep, Rotary, SuffixPosition};

type Cube<R, F, I, BT> = CubeBackend<R, F, I, BT>;

const UNITS: usize = 256;

/// Whether the backend's own element types are those that steps are moved in.
pub fn moves_steps<F: FloatElement, I: IntElement>() -> bool {
    F::dtype() == DType::F32 && I::dtype() == DType::I32
}

/// See [`ModelBackend::decode_step`](crate::ModelBackend::decode_step).
pub fn decode_step<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    table: &Rotary<Cube<R, F, I, BT>>,
    rows: usize,
    position: usize,
    previous: Option<DecodeStep<Cube<R, F, I, BT>>>,
) -> DecodeStep<Cube<R, F, I, BT>> {
    if !moves_steps::<F, I>() {
        return definition::decode_step(table, rows, position);
    }
    let [cos, sin] = [&table.cos, &table.sin].map(|part| float(part.clone()));
    let place = match previous {
        Some(step) => Place {
            position: int(step.position.device().clone()),
            cos: float(step.rotary.cos),
            sin: float(step.rotary.sin),
        },
        None => Place::new(&cos, rows),
    };
    place.write(&cos, &sin, position);
    DecodeStep {
        position: SuffixPosition::of(position, Tensor::<_, 1, Int>::from_primitive(place.position)),
        rotary: Rotary {
            cos: tensor(place.cos),
            sin: tensor(place.sin),
        },
    }
}

/// See [`ModelBackend::move_action_tokens`](crate::ModelBackend::move_action_tokens).
pub fn move_action_tokens<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    tokens: ActionTokens<Cube<R, F, I, BT>>,
    previous: ActionTokens<Cube<R, F, I, BT>>,
) -> Option<ActionTokens<Cube<R, F, I, BT>>> {
    let rotaries = [
        (&tokens.rotary.cos, &previous.rotary.cos),
        (&tokens.rotary.sin, &previous.rotary.sin),
    ];
    let lengths = [&tokens, &previous].map(|tokens| int(tokens.suffix_lengths.device().clone()));
    let moved = tokens.is_like(&previous)
        && (rotaries.into_iter()).all(|(from, to)| copy(&float(from.clone()), &float(to.clone())))
        && copy(&lengths[0], &lengths[1]);
    moved.then(|| ActionTokens {
        suffix_lengths: (tokens.suffix_lengths).moved_to(previous.suffix_lengths.device().clone()),
        rotary: previous.rotary,
    })
}

/// A step's memory.
struct Place<R: KernelRuntime> {
    position: CubeTensor<R>,
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
}

impl<R: KernelRuntime> Place<R> {
    /// For so many rows of a table.
    fn new(table: &CubeTensor<R>, rows: usize) -> Self {
        let half = extents(table).1;
        let mut position = empty(table, 1, 1, DType::I32);
        position.meta.shape = Shape::new([1]);
        Self {
            position,
            cos: empty(table, rows, half, DType::F32),
            sin: empty(table, rows, half, DType::F32),
        }
    }

    fn write(&self, cos: &CubeTensor<R>, sin: &CubeTensor<R>, position: usize) {
        let elements = self.cos.meta.num_elements();
        // SAFETY: positions are checked against the step's and the table's lengths.
        unsafe {
            write_step::launch_unchecked::<R>(
                &cos.client,
                cubes(elements.div_ceil(UNITS).max(1)),
                CubeDim::new_1d(UNITS as u32),
                array(cos),
                array(sin),
                array(&self.cos),
                array(&self.sin),
                array(&self.position),
                position as u32,
            );
        }
    }
}

#[cube(launch_unchecked)]
fn write_step(
    table_cos: &Array<f32>,
    table_sin: &Array<f32>,
    cos: &mut Array<f32>,
    sin: &mut Array<f32>,
    place: &mut Array<i32>,
    position: u32,
) {
    if ABSOLUTE_POS == 0 {
        place[0] = position as i32;
    }
    let from = position as usize * cos.len() + ABSOLUTE_POS;
    if ABSOLUTE_POS < cos.len() && from < table_cos.len() {
        cos[ABSOLUTE_POS] = table_cos[from];
        sin[ABSOLUTE_POS] = table_sin[from];
    }
}

#[cfg(all(test, feature = "wgpu", feature = "flex"))]
mod tests {
    use burn::tensor::{Distribution, backend::Backend};
    use proptest::prelude::*;

    use super::*;
    use crate::ModelBackend;
    use crate::instances::{Flex, Wgpu};

    fn table<B: Backend>(values: &[Vec<f32>; 2], shape: [usize; 2]) -> Rotary<B> {
        let [cos, sin] = values.each_ref().map(|values| {
            Tensor::from_data(
                burn::tensor::TensorData::new(values.clone(), shape),
                &Default::default(),
            )
        });
        Rotary { cos, sin }
    }

    fn host<B: Backend>(step: &DecodeStep<B>) -> (i64, Vec<f32>, Vec<f32>) {
        let read = |part: &Tensor<B, 2>| part.to_data().to_vec::<f32>().unwrap();
        let position = step.position.device().to_data().iter::<i64>().next().unwrap();
        (position, read(&step.rotary.cos), read(&step.rotary.sin))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn a_step_moves_in_its_memory(rows in 1usize..=6, half in 1usize..=80, positions in prop::collection::vec(0usize..9, 1..5)) {
            let shape = [9 * rows, half];
            let random = || {
                let values = Tensor::<Flex, 2>::random(shape, Distribution::Default, &Default::default());
                values.into_data().to_vec::<f32>().unwrap()
            };
            let values = [random(), random()];
            let (actual, expected) = (table::<Wgpu>(&values, shape), table::<Flex>(&values, shape));
            let mut step: Option<DecodeStep<Wgpu>> = None;
            let mut kept = None;
            for position in positions {
                let moved = Wgpu::decode_step(&actual, rows, position, step.take());
                let expected = Flex::decode_step(&expected, rows, position, None);
                prop_assert_eq!(moved.position.host(), position);
                prop_assert_eq!(host(&moved), host(&expected));
                // What was recorded with the first step reads the present one.
                let first = kept.get_or_insert_with(|| moved.clone());
                prop_assert_eq!(host(first), host(&moved));
                step = Some(moved);
            }
        }
    }
}
