//! Dot products of bytes, which GPUs take four at a time.

use cubecl::ir::{Arithmetic, BinaryOperator, Instruction};
use cubecl::prelude::*;

type Bytes = Vector<i8, Const<4>>;

/// The sum of the four products of two words' signed bytes.
///
/// For kernels of runtimes that [multiply bytes](crate::instances::KernelRuntime::multiplies_bytes): there it is one instruction, with the
/// addition of the sum to another one; elsewhere it doesn't compile.
#[cube]
pub(crate) fn dot_bytes(first: u32, second: u32) -> i32 {
    sum_of_products(Bytes::reinterpret(first), Bytes::reinterpret(second))
}

/// CubeCL's `dot` has a result of its operands' type, in which a sum of products of bytes doesn't fit; the instruction behind it writes
/// whatever integer it is given.
#[cube]
#[allow(unused_variables, reason = "they are used where the function is expanded")]
fn sum_of_products(first: Bytes, second: Bytes) -> i32 {
    intrinsic!(|scope| {
        let sum = scope.create_local(i32::as_type(scope));
        let operands = BinaryOperator {
            lhs: *first.expand,
            rhs: *second.expand,
        };
        scope.register(Instruction::new(Arithmetic::Dot(operands), *sum));
        sum.into()
    })
}

#[cfg(all(test, feature = "wgpu", feature = "flex"))]
mod tests {
    use burn::tensor::{DType, Int, Tensor, TensorData};
    use proptest::prelude::*;

    use super::*;
    use crate::instances::{KernelRuntime, Wgpu, WgpuDevice, WgpuRuntime};
    use crate::kernels::tensors::{array, cubes, empty, int};

    #[cube(launch_unchecked)]
    fn dots(first: &Array<u32>, second: &Array<u32>, sums: &mut Array<i32>) {
        if ABSOLUTE_POS < sums.len() {
            sums[ABSOLUTE_POS] = dot_bytes(first[ABSOLUTE_POS], second[ABSOLUTE_POS]);
        }
    }

    /// The device's sums, or `None` where it takes none.
    fn sums(words: &[(u32, u32)]) -> Option<Vec<i32>> {
        let device = WgpuDevice::default();
        let count = words.len();
        let upload = |words: Vec<i32>| {
            let data = TensorData::new(words, [1, count]);
            int(Tensor::<Wgpu, 2, Int>::from_data(data, (&device, DType::I32)))
        };
        let first = upload(words.iter().map(|word| word.0 as i32).collect());
        let second = upload(words.iter().map(|word| word.1 as i32).collect());
        if !WgpuRuntime::multiplies_bytes(&first.client) {
            eprintln!("skipped: this device multiplies no bytes");
            return None;
        }
        let out = empty(&first, 1, count, DType::I32);
        // SAFETY: no unit is past the end of the three of them.
        unsafe {
            dots::launch_unchecked::<WgpuRuntime>(
                &first.client,
                cubes(count.div_ceil(32)),
                CubeDim::new_1d(32),
                array(&first),
                array(&second),
                array(&out),
            );
        }
        let bytes = out.client.read_one(out.handle).unwrap();
        let words = bytes[..4 * count].chunks_exact(4);
        Some(
            words
                .map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]))
                .collect(),
        )
    }

    fn expected(&(first, second): &(u32, u32)) -> i32 {
        let [first, second] = [first, second].map(|word| word.to_le_bytes().map(|byte| i32::from(byte as i8)));
        first.iter().zip(&second).map(|(first, second)| first * second).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn sums_of_products_of_signed_bytes(mut words in prop::collection::vec(any::<(u32, u32)>(), 1..200)) {
            words.push((0x8080_8080, 0x8080_8080));
            words.push((0x8080_8080, 0x7f7f_7f7f));
            if let Some(sums) = sums(&words) {
                prop_assert_eq!(sums, words.iter().map(expected).collect::<Vec<_>>());
            }
        }
    }
}
