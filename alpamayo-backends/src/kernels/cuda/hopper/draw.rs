//! The next token of each row in one launch, by `draw.cu`.

use burn::tensor::DType;
use cubecl::cuda::CudaRuntime;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::{Tensor, processors, queue};
use crate::kernels::native::DrawWork;
use crate::kernels::sample::fraction;
use crate::kernels::tensors::{empty, extents};
use crate::sampling::TokenSampling;

/// Threads of a block.
const THREADS: usize = 512;

/// Most tokens of a thread, which its registers have room for.
const MAX_ROUNDS: usize = 20;

/// Most blocks of a clip: with more of them each has less to do, and all wait for more.
const MAX_BLOCKS: usize = 64;

/// Most rows of a launch.
const MAX_ROWS: usize = 8;

/// Levels of histograms, and all their bins.
const LEVELS: usize = 3;
const BINS: usize = 1282 + 1024 + 256;

/// How a clip's vocabulary is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// Tokens of a thread.
    rounds: usize,
    /// Blocks of a clip.
    blocks: usize,
}

impl Cut {
    /// As many blocks as can be there at once, since they wait for each other; `None` where their registers don't hold the vocabulary.
    fn choose(vocabulary: usize, clips: usize, processors: usize) -> Option<Self> {
        let most = processors.checked_div(clips)?.min(MAX_BLOCKS);
        let rounds = vocabulary.div_ceil((most * THREADS).max(1));
        let blocks = vocabulary.div_ceil((rounds * THREADS).max(1));
        (most > 0 && (1..=MAX_ROUNDS).contains(&rounds)).then_some(Self { rounds, blocks })
    }

    /// Bytes by which the blocks of so many clips exchange sums, best tokens and histograms.
    fn exchanged_bytes(self, clips: usize) -> usize {
        8 * clips * (2 * self.blocks * self.blocks + self.blocks + BINS)
    }
}

/// Ids and faults `[2, rows]`, or `None` where the kernel doesn't take the draw.
pub(super) fn run(work: &DrawWork<'_, CudaRuntime>) -> Option<Tensor> {
    let (logits, sampling) = (work.logits, work.sampling);
    let (clips, vocabulary) = extents(logits);
    let rows = sampling.uniforms.len();
    let takes = logits.dtype == DType::F32 && clips > 0 && (1..=MAX_ROWS).contains(&rows) && rows.is_multiple_of(clips);
    if !takes {
        return None;
    }
    let cut = Cut::choose(vocabulary, clips, processors(&logits.client))?;
    let function = kernel(cut.rounds, sampling.greedy).function(&logits.device)?;
    let out = empty(logits, 2, rows, DType::I32);
    queue(&logits.client, &logits.device, &[&logits.handle], |queue| {
        let mut arguments = vec![
            queue.argument(&logits.handle)?,
            queue.argument(&out.handle)?,
            queue.counters(LEVELS * clips)?,
            queue.exchange(cut.exchanged_bytes(clips))?,
            Argument::int(vocabulary)?,
            Argument::int(vocabulary.min(sampling.masked.start as usize))?,
            Argument::int(vocabulary.min(sampling.masked.end as usize))?,
            Argument::int(rows / clips)?,
            Argument::Float(sampling.temperature),
        ];
        arguments.extend(shares(sampling).map(|share| Argument::Int(share.cast_signed())));
        let grid = Grid {
            blocks: [cut.blocks, clips, 1],
            threads: THREADS,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(out)
}

/// The share that is dropped, and the rows' numbers, zeros behind them.
fn shares(sampling: &TokenSampling) -> [u32; 1 + MAX_ROWS] {
    let mut shares = [0; 1 + MAX_ROWS];
    let numbers = std::iter::once(1.0 - sampling.top_p).chain(sampling.uniforms.iter().copied());
    for (share, number) in shares.iter_mut().zip(numbers) {
        *share = fraction(number);
    }
    shares
}

fn kernel(rounds: usize, greedy: bool) -> Kernel<3> {
    Kernel {
        source: include_str!("draw.cu"),
        entry: "draw",
        definitions: [
            ("THREADS", THREADS),
            ("ROUNDS", rounds),
            ("GREEDY", usize::from(greedy)),
        ],
        shared: 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn drawn_and_most_likely_tokens_of_any_vocabulary_compile() {
        for rounds in [1, 5, MAX_ROUNDS] {
            for greedy in [false, true] {
                assert_compiles(&kernel(rounds, greedy));
            }
        }
    }

    proptest! {
        #[test]
        fn all_blocks_fit_the_device_and_hold_the_vocabulary(
            vocabulary in 1..400_000_usize,
            clips in 1..=MAX_ROWS,
            processors in 1..200_usize,
        ) {
            match Cut::choose(vocabulary, clips, processors) {
                Some(Cut { rounds, blocks }) => {
                    prop_assert!(clips * blocks <= processors && (1..=MAX_BLOCKS).contains(&blocks));
                    prop_assert!(rounds * blocks * THREADS >= vocabulary && rounds * (blocks - 1) * THREADS < vocabulary);
                    prop_assert!((1..=MAX_ROUNDS).contains(&rounds));
                }
                None => prop_assert!((processors / clips).min(MAX_BLOCKS) * MAX_ROUNDS * THREADS < vocabulary),
            }
        }
    }

    #[test]
    fn the_model_s_vocabulary_is_cut_up_for_one_clip_and_for_eight() {
        assert_eq!(Cut::choose(155_697, 1, 132), Some(Cut { rounds: 5, blocks: 61 }));
        assert_eq!(Cut::choose(155_697, 8, 132), Some(Cut { rounds: 20, blocks: 16 }));
        assert_eq!(Cut::choose(0, 1, 132), None);
        assert_eq!(Cut::choose(155_697, 0, 132), None);
    }

    #[test]
    fn what_is_exchanged_has_room_for_every_block_s_sums() {
        let cut = Cut { rounds: 5, blocks: 61 };
        assert_eq!(cut.exchanged_bytes(1), 16 * 61 * 61 + 8 * 61 + 8 * 2562);
    }

    #[test]
    fn shares_have_32_bits() {
        let sampling = TokenSampling {
            masked: 0..0,
            greedy: false,
            temperature: 1.0,
            top_p: 0.75,
            uniforms: vec![0.5, 0.0],
        };
        assert_eq!(shares(&sampling), [1 << 30, 1 << 31, 0, 0, 0, 0, 0, 0, 0]);
    }
}
