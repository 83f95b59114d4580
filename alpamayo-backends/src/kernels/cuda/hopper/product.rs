//! Products of up to 64 rows with a weight of bf16 or of few bits, by `product.cu` and `quantized_product.cu`.

use burn::tensor::DType;
use cubecl::cuda::CudaRuntime;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::tensor_map::bf16_map;
use super::{Queue, Tensor, queue};
use crate::kernels::linear::LibraryProduct;
use crate::kernels::product::{Element, Product, StoredWeight};
use crate::kernels::round::round;
use crate::kernels::tensors::{empty, extents};
use crate::layers::{Activation, Quantization};

/// Most rows of `x` of a launch.
const MAX_TOKENS: usize = 64;

/// Fewest rows that this kernel is better for than those which read `x` in f32.
const MIN_TOKENS: usize = 9;

/// Columns of a stage: a row of 128 bytes.
const BLOCK: usize = 64;

/// Blocks that fill the chip.
const BLOCKS: usize = 132;

/// Rows of the weight of a group of four warps.
const GROUP_ROWS: usize = 64;

/// Stages of `x` in shared memory.
const X_STAGES: usize = 6;

/// Bytes of a weight row in a stage.
const STAGE_BYTES: usize = 128;

/// Groups of columns that blocks' parts are multiples of: the copy engine begins at multiples of 16 bytes, two groups' steps.
const PART_GROUPS: usize = 2;

/// Groups of columns whose steps are copied at once.
const BOX_GROUPS: usize = 16;

/// Shared memory that a block can have.
const SHARED: usize = 227 << 10;

/// How the work is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cut {
    /// Groups of four warps, each with 64 rows of the weight.
    warpgroups: usize,
    /// Blocks over the columns of the same rows.
    split: usize,
    /// Stages of the weight in shared memory.
    stages: usize,
    /// Boxes of steps in shared memory, of a weight of few bits.
    step_boxes: usize,
}

impl Cut {
    /// What measured best on an H100 with 64 rows of bf16: where there are too few rows for all processors, blocks share columns.
    fn choose(rows: usize) -> Self {
        let tiles = rows.div_ceil(GROUP_ROWS);
        let split = (BLOCKS / tiles).clamp(1, 8);
        let (warpgroups, split, stages) = if tiles >= BLOCKS {
            (2, 1, 8)
        } else {
            (1, 1 << split.ilog2(), 12)
        };
        Self {
            warpgroups,
            split,
            stages,
            step_boxes: 0,
        }
    }

    /// The same for a weight of few bits, whose steps take room too: `None` where they leave none.
    fn choose_quantized(rows: usize, columns: usize, quantization: Quantization) -> Option<Self> {
        let cut = Self::choose(rows);
        let groups = quantization.groups(columns).div_ceil(PART_GROUPS).div_ceil(cut.split) * PART_GROUPS;
        let cut = Self {
            step_boxes: groups.div_ceil(BOX_GROUPS),
            ..cut
        };
        (2..=cut.stages)
            .rev()
            .map(|stages| Self { stages, ..cut })
            .find(|cut| cut.shared(MAX_TOKENS) <= SHARED)
    }

    fn of(weight: &StoredWeight<CudaRuntime>) -> Option<Self> {
        match weight.element {
            Element::Bf16 => Some(Self::choose(weight.rows)),
            element => Self::choose_quantized(weight.rows, weight.columns, element.quantization()?),
        }
    }

    /// Weight rows of a block.
    fn rows(self) -> usize {
        GROUP_ROWS * self.warpgroups
    }

    fn shared(self, tokens: usize) -> usize {
        let steps = self.step_boxes * STAGE_BYTES * self.rows() + if self.step_boxes > 0 { 8 } else { 0 };
        self.stages * (STAGE_BYTES * self.rows() + 16) + X_STAGES * (2 * BLOCK * tokens + 16) + steps
    }

    /// Bytes by which the blocks of the same rows exchange their sums.
    fn exchange(self, tokens: usize, rows: usize) -> usize {
        4 * self.split * tokens * self.rows() * rows.div_ceil(self.rows())
    }
}

/// The weight as the copy engine reads it: of a gated product eight rows of the gate, then the same ones of the up projection.
fn weight_map(queue: &Queue<'_>, product: &Product<CudaRuntime>, cut: Cut) -> Option<Argument> {
    // Of few bits too as if it were bf16.
    let (rows, columns) = (product.weight.rows, 2 * product.weight.words());
    let address = queue.address(&product.weight.values.handle)?;
    let map = if product.gated {
        let extents = [columns, 8, 2, rows / 16];
        let strides = [1, columns, rows / 2 * columns, 8 * columns];
        bf16_map(address, extents, strides, [BLOCK, 8, 2, cut.rows() / 16])?
    } else {
        bf16_map(address, [columns, rows], [1, columns], [BLOCK, cut.rows()])?
    };
    Some(Argument::map(map))
}

/// The product, or `None` where the kernel doesn't take it.
pub fn run(request: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
    let product = request.product;
    let (tokens, columns) = extents(request.x);
    let rows = product.weight.rows;
    let takes = product.norm.is_none()
        && (MIN_TOKENS..=MAX_TOKENS).contains(&tokens)
        && rows.is_multiple_of(if product.gated { 16 } else { 1 })
        && columns.is_multiple_of(8);
    if !takes {
        return None;
    }
    let cut = Cut::of(&product.weight)?;
    let variant = Variant::of(request, tokens)?;
    let (room, function) = (variant.room, variant.kernel(cut).function(&request.x.device)?);
    let x = match request.x.dtype {
        DType::BF16 => request.x.clone(),
        DType::F32 => round(request.x),
        _ => return None,
    };
    let out = empty(&x, tokens, product.out_features(), request.dtype);
    let inputs: Vec<_> = [Some(&x), product.residual.as_ref()]
        .into_iter()
        .flatten()
        .map(|input| &input.handle)
        .collect();
    queue(&x.client, &x.device, &inputs, |queue| {
        let x_map = bf16_map(
            queue.address(&x.handle)?,
            [columns, tokens],
            [1, columns],
            [BLOCK, room],
        )?;
        let arguments = [
            weight_map(queue, product, cut)?,
            Argument::map(x_map),
            queue.optional(product.bias.as_ref())?,
            queue.optional(product.residual.as_ref())?,
            queue.argument(&out.handle)?,
            Argument::int(tokens)?,
            Argument::int(rows)?,
            Argument::int(columns)?,
            queue.exchange(cut.exchange(room, rows))?,
        ];
        let grid = Grid {
            blocks: [cut.split * rows.div_ceil(cut.rows()), 1, 1],
            threads: 128 * cut.warpgroups + 64,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(out)
}

/// What is compiled for a product besides its cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    quantization: Option<Quantization>,
    gated: bool,
    activation: usize,
    bf16: bool,
    /// Most rows of `x`.
    room: usize,
}

impl Variant {
    /// `None` where the kernel lacks the activation or the element type.
    fn of(request: &LibraryProduct<'_, CudaRuntime>, tokens: usize) -> Option<Self> {
        Some(Self {
            quantization: request.product.weight.element.quantization(),
            gated: request.product.gated,
            activation: match request.product.activation {
                Activation::None => 0,
                Activation::GeluTanh => 1,
                Activation::Silu => 2,
                Activation::GeluErf => return None,
            },
            bf16: match request.dtype {
                DType::F32 => false,
                DType::BF16 => true,
                _ => return None,
            },
            room: tokens.next_power_of_two().max(16),
        })
    }

    pub(super) fn kernel(self, cut: Cut) -> Kernel<9> {
        let (source, entry) = match self.quantization {
            None => (
                concat!(include_str!("few_tokens.cu"), include_str!("product.cu")),
                "product",
            ),
            Some(_) => (
                concat!(include_str!("few_tokens.cu"), include_str!("quantized_product.cu")),
                "quantized_product",
            ),
        };
        Kernel {
            source,
            entry,
            definitions: [
                ("BITS", self.quantization.map_or(16, Quantization::bits)),
                ("TOKENS", self.room),
                ("WARPGROUPS", cut.warpgroups),
                ("SPLIT", cut.split),
                ("STAGES", cut.stages),
                ("X_STAGES", X_STAGES),
                ("GATED", usize::from(self.gated)),
                ("ACTIVATION", self.activation),
                ("OUT_BF16", usize::from(self.bf16)),
            ],
            shared: cut.shared(self.room),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn every_cut_compiles() {
        for (rows, gated, activation) in [(16_512, true, 0), (4096, false, 2), (2048, false, 1), (256, false, 0)] {
            for (room, bf16) in [(16, false), (32, true), (64, false)] {
                let variant = Variant {
                    quantization: None,
                    gated,
                    activation,
                    bf16,
                    room,
                };
                assert_compiles(&variant.kernel(Cut::choose(rows)));
            }
        }
    }

    #[test]
    fn every_cut_of_few_bits_compiles() {
        for quantization in [Quantization::Int8, Quantization::Int4] {
            for (rows, columns, gated, room) in [
                (16_512, 2048, true, 64),
                (2048, 8256, false, 32),
                (4096, 12_288, false, 16),
            ] {
                let variant = Variant {
                    quantization: Some(quantization),
                    gated,
                    activation: 0,
                    bf16: gated,
                    room,
                };
                let cut = Cut::choose_quantized(rows, columns, quantization).unwrap();
                assert_compiles(&variant.kernel(cut));
            }
            assert_eq!(Cut::choose_quantized(16_512, 100_000, quantization), None);
        }
    }

    #[test]
    fn blocks_fill_the_chip_without_too_many_waiting_for_each_other() {
        for rows in [16, 256, 2048, 4096, 6144, 8256, 16_512, 155_696] {
            let cut = Cut::choose(rows);
            let blocks = cut.split * rows.div_ceil(cut.rows());
            assert!(cut.split == 1 || blocks <= BLOCKS, "{rows}: {cut:?}");
            assert!(cut.shared(MAX_TOKENS) <= 227 << 10, "{rows}: {cut:?}");
        }
    }
}
