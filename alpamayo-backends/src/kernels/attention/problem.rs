//! Which queries meet which keys: the part of a problem that one cube works on.

use cubecl::prelude::*;

use super::element::Chunk;

/// Keys and values `[entries, heads, positions, head_dim]`; strides in chunks.
#[derive(CubeType, CubeLaunch)]
pub(super) struct KeyValues {
    pub key: Array<Chunk>,
    pub value: Array<Chunk>,
    pub entry_stride: u32,
    pub head_stride: u32,
    pub row_stride: u32,
}

/// The keys of a problem: the prompt of a clip, then the tail of a row (its suffix, then its own fresh tokens).
#[derive(CubeType, CubeLaunch)]
pub(super) struct Sources {
    pub prompt: KeyValues,
    pub suffix: KeyValues,
    pub own: KeyValues,
    /// Visible suffix tokens per row; or how many tokens every row's suffix holds before the new ones; or the first token of each image
    /// and, last, their total.
    pub lengths: Array<i32>,
}

/// The extents of a problem. An entry is a clip or an image; a row is a sample of a clip.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Extents {
    /// Rows per entry.
    pub samples: u32,
    /// Queries per row and head.
    pub tokens: u32,
    /// Keys in an entry's prompt.
    pub prompt: u32,
    /// New tokens of every row that its suffix holds, where rows have no lengths of their own.
    pub appended: u32,
    /// Own fresh keys per row.
    pub own: u32,
    /// Parts that a prompt is split into.
    pub prompt_splits: u32,
    /// Prompt keys per part.
    pub split_keys: u32,
    /// Keys per part of a tail.
    pub tail_keys: u32,
    /// Parts of every query's result: those of the prompt and those of a tail.
    pub slots: u32,
}

/// What is fixed about a problem when its kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub key_value_heads: usize,
    /// Features per head, a multiple of eight.
    pub head_dim: usize,
    /// Whether keys and values are bf16 pairs.
    pub packed: bool,
    /// Whether a causal mask covers the prompt (prefill) or, in a split problem, the tail.
    pub causal: bool,
    /// Whether the keys are split over cubes: parts of the prompt, then parts of every row's tail, which is one for most kernels.
    pub split: bool,
    /// Whether each row has its own suffix length.
    pub row_lengths: bool,
    /// Whether there are own fresh keys.
    pub own: bool,
    /// Whether entries are images of unequal lengths.
    pub ragged: bool,
}

impl Problem {
    /// Query heads that share a key-value head.
    pub fn group(&self) -> usize {
        self.heads / self.key_value_heads
    }
}

/// The queries of one cube that serves all query heads of a key-value head: query `i` is head `i % group` of token `i / group`.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Queries {
    /// Clip or image.
    pub entry: usize,
    /// Key-value head.
    pub head: usize,
    /// Sample of a tail.
    pub sample: usize,
    /// First query of the cube.
    pub first: usize,
    /// One past the last query.
    pub last: usize,
    /// The entry's first token.
    pub token: usize,
    /// Queries per row and head.
    pub tokens: usize,
    /// Which of the parts of the result this cube writes.
    pub slot: usize,
}

#[cube]
impl Queries {
    /// The queries of the current cube `(block, entry · key-value heads, part)`, so many per block.
    pub fn of_cube(
        sources: &Sources,
        extents: &Extents,
        #[comptime] block: usize,
        #[comptime] problem: Problem,
    ) -> Queries {
        let entry = CUBE_POS_Y as usize / problem.key_value_heads;
        let head = CUBE_POS_Y as usize % problem.key_value_heads;
        let split = CUBE_POS_Z as usize;
        let parts = extents.prompt_splits as usize;
        let tokens = tokens_of(sources, extents, entry, problem);
        let row = tokens * comptime!(problem.group());
        let mut first = CUBE_POS_X as usize * block;
        let mut last = row * extents.samples as usize;
        let mut sample = 0usize;
        let mut slot = 0usize;
        if comptime!(problem.split) {
            slot = split.min(parts);
            if split >= parts {
                sample = split - parts;
                first += sample * row;
                last = (sample + 1) * row;
            }
        }
        let token = first_token(sources, extents, entry, problem);
        Queries {
            entry,
            head,
            sample,
            first,
            last,
            token,
            tokens,
            slot,
        }
    }

    /// The head of query `index` among the heads of all tokens.
    pub fn place(&self, index: usize, #[comptime] problem: Problem) -> usize {
        let group = comptime!(problem.group());
        (self.token + index / group) * problem.heads + self.head * group + index % group
    }

    /// The token of query `index` within its row.
    pub fn token_of(&self, index: usize, #[comptime] problem: Problem) -> usize {
        (index / comptime!(problem.group())) % self.tokens
    }
}

/// The queries of one cube that serves a query head, or several of one key-value head, and their keys.
#[derive(CubeType, Clone, Copy)]
pub(super) struct HeadQueries {
    /// First query head.
    pub head: usize,
    /// The row's first token among all.
    pub start: usize,
    /// First query of the cube.
    pub first: usize,
    /// Queries of the row.
    pub tokens: usize,
    /// Part of the keys.
    pub split: usize,
    /// Whether the row has no queries for this cube.
    pub is_empty: bool,
    /// The cube's keys.
    pub keys: Keys,
}

#[cube]
impl HeadQueries {
    /// The queries of the current cube `(row · groups of heads, block of queries from the last, part of the keys)`, so many heads per
    /// group, so many queries per block: the longest rows of a causal mask first.
    pub fn of_cube(
        sources: &Sources,
        extents: &Extents,
        #[comptime] heads: usize,
        #[comptime] block: usize,
        #[comptime] problem: Problem,
    ) -> HeadQueries {
        let groups = comptime!(problem.heads / heads);
        let row = CUBE_POS_X as usize / groups;
        let head = CUBE_POS_X as usize % groups * heads;
        let entry = row / extents.samples as usize;
        let sample = row % extents.samples as usize;
        let tokens = tokens_of(sources, extents, entry, problem);
        let from_last = CUBE_POS_Y as usize * block;
        let split = CUBE_POS_Z as usize;
        let head_keys = head / comptime!(problem.group());
        let mut keys = keys_of(sources, extents, entry, head_keys, split, sample, problem);
        if comptime!(problem.split) && keys.tail {
            keys.begin = (split - extents.prompt_splits as usize) * extents.tail_keys as usize;
            keys.end = keys.end.min(keys.begin + extents.tail_keys as usize);
        }
        HeadQueries {
            head,
            start: first_token(sources, extents, entry, problem) + sample * tokens,
            // Nonsense where it is empty.
            first: ((tokens - 1) - from_last) / block * block,
            tokens,
            split,
            is_empty: from_last >= tokens,
            keys,
        }
    }
}

/// The keys of one cube.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Keys {
    /// Clip or image.
    pub entry: usize,
    /// Key-value head.
    pub head: usize,
    /// Row of the tail.
    pub row: usize,
    /// Whether these are a row's tail.
    pub tail: bool,
    /// Tokens of the suffix in a tail.
    pub suffix: usize,
    /// First key in the prompt.
    pub offset: usize,
    /// First key.
    pub begin: usize,
    /// One past the last key.
    pub end: usize,
}

/// The first token of an entry's queries.
#[cube]
pub(super) fn first_token(sources: &Sources, extents: &Extents, entry: usize, #[comptime] problem: Problem) -> usize {
    if comptime!(problem.ragged) {
        sources.lengths[entry] as usize
    } else {
        entry * extents.samples as usize * extents.tokens as usize
    }
}

/// Queries of a row and head.
#[cube]
pub(super) fn tokens_of(sources: &Sources, extents: &Extents, entry: usize, #[comptime] problem: Problem) -> usize {
    if comptime!(problem.ragged) {
        (sources.lengths[entry + 1] - sources.lengths[entry]) as usize
    } else {
        extents.tokens as usize
    }
}

/// The keys of part `split` for an entry's head; `sample` is the row of a tail.
#[cube]
pub(super) fn keys_of(
    sources: &Sources,
    extents: &Extents,
    entry: usize,
    head: usize,
    split: usize,
    sample: usize,
    #[comptime] problem: Problem,
) -> Keys {
    let prompt = tokens_of_prompt(sources, extents, entry, problem);
    let row = entry * extents.samples as usize + sample;
    let mut offset = 0usize;
    if comptime!(problem.ragged) {
        offset = sources.lengths[entry] as usize;
    }
    let mut begin = 0usize;
    let mut end = prompt;
    let mut suffix = 0usize;
    let tail = comptime!(problem.split) && split >= extents.prompt_splits as usize;
    if comptime!(problem.split) {
        if tail {
            suffix = if comptime!(problem.row_lengths) {
                sources.lengths[row] as usize
            } else {
                sources.lengths[0] as usize + extents.appended as usize
            };
            end = suffix + extents.own as usize;
        } else {
            begin = split * extents.split_keys as usize;
            end = prompt.min(begin + extents.split_keys as usize);
        }
    }
    Keys {
        entry,
        head,
        row,
        tail,
        suffix,
        offset,
        begin,
        end,
    }
}

#[cube]
fn tokens_of_prompt(sources: &Sources, extents: &Extents, entry: usize, #[comptime] problem: Problem) -> usize {
    if comptime!(problem.ragged) {
        tokens_of(sources, extents, entry, problem)
    } else {
        extents.prompt as usize
    }
}

/// What is read of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Key,
    Value,
}

#[cube]
impl KeyValues {
    fn chunk(&self, place: usize, #[comptime] side: Side) -> Chunk {
        if comptime!(side == Side::Key) {
            self.key[place]
        } else {
            self.value[place]
        }
    }
}

/// Chunk `column` of a key or value.
#[cube]
pub(super) fn read(
    sources: &Sources,
    keys: &Keys,
    index: usize,
    column: usize,
    #[comptime] side: Side,
    #[comptime] problem: Problem,
) -> Chunk {
    if keys.tail {
        read_tail(sources, keys, index, column, side, problem)
    } else {
        read_prompt(sources, keys, index, column, side)
    }
}

/// Chunk `column` of a key or value of a row's tail.
#[cube]
pub(super) fn read_tail(
    sources: &Sources,
    keys: &Keys,
    index: usize,
    column: usize,
    #[comptime] side: Side,
    #[comptime] problem: Problem,
) -> Chunk {
    if comptime!(problem.own) && index >= keys.suffix {
        let place = at(&sources.own, keys.row, keys.head, index - keys.suffix) + column;
        sources.own.chunk(place, side)
    } else {
        let place = at(&sources.suffix, keys.row, keys.head, index) + column;
        sources.suffix.chunk(place, side)
    }
}

/// Chunk `column` of a key or value of the prompt.
#[cube]
pub(super) fn read_prompt(
    sources: &Sources,
    keys: &Keys,
    index: usize,
    column: usize,
    #[comptime] side: Side,
) -> Chunk {
    let place = at(&sources.prompt, keys.entry, keys.head, keys.offset + index) + column;
    sources.prompt.chunk(place, side)
}

/// The first chunk of a position.
#[cube]
pub(super) fn at(part: &KeyValues, entry: usize, head: usize, position: usize) -> usize {
    entry * part.entry_stride as usize + head * part.head_stride as usize + position * part.row_stride as usize
}

/// How many of the cube's keys the query of a token may see, counted from its part's first.
#[cube]
pub(super) fn visible_keys(extents: &Extents, keys: &Keys, token: usize, #[comptime] problem: Problem) -> usize {
    let mut visible = keys.end;
    if comptime!(problem.causal) {
        if comptime!(problem.split) {
            // The new tokens are the suffix's last ones.
            if keys.tail {
                visible = visible.min(keys.suffix + token + 1 - extents.tokens as usize);
            }
        } else {
            visible = visible.min(token + 1);
        }
    }
    visible
}
