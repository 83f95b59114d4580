//! A weight's bytes on the host, before they are stored.

use std::fmt;
use std::ops::Range;

use super::quantized::Quantization;
use crate::error::{Error, Result};

/// The element type of a weight in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceType {
    /// bfloat16, two bytes, little-endian.
    Bf16,
    /// IEEE half precision, two bytes, little-endian.
    F16,
    /// IEEE single precision, four bytes, little-endian.
    F32,
    /// Rows of few bits, as [`Quantization`] lays them out, in little-endian words.
    Quantized(Quantization),
}

impl SourceType {
    /// Bytes of a row of so many elements.
    pub fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2 * columns,
            Self::F32 => 4 * columns,
            Self::Quantized(quantization) => 4 * quantization.row_words(columns),
        }
    }

    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::Quantized(quantization) => quantization.name(),
        }
    }
}

/// The bytes of a matrix `[rows, columns]` = `[out, in]` on the host, row-major, as a checkpoint holds them.
#[derive(Debug, Clone)]
pub struct WeightSource<'a> {
    /// The rows' bytes, in order; several pieces are stacked (q, k and v of one layer become one matrix).
    pub pieces: Vec<&'a [u8]>,
    /// The element type of all pieces.
    pub source_type: SourceType,
    /// Output features, all pieces together.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    release: Release<'a>,
}

impl<'a> WeightSource<'a> {
    /// A source from its pieces.
    pub fn new(pieces: Vec<&'a [u8]>, source_type: SourceType, rows: usize, columns: usize) -> Self {
        Self {
            pieces,
            source_type,
            rows,
            columns,
            release: Release(None),
        }
    }

    /// The source, with whom to tell of bytes that have been read. They may be read again, but not soon: behind a mapped file their
    /// memory can be given back.
    pub fn releasing(self, release: &'a Listener<'a>) -> Self {
        Self {
            release: Release(Some(release)),
            ..self
        }
    }

    /// Some of the rows.
    ///
    /// # Errors
    /// When the bytes end before these rows do.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        let row_bytes = self.source_type.row_bytes(self.columns);
        let (mut skip, mut take) = (rows.start * row_bytes, rows.len() * row_bytes);
        let mut pieces = Vec::new();
        for &piece in &self.pieces {
            let start = skip.min(piece.len());
            let end = piece.len().min(start + take);
            pieces.push(&piece[start..end]);
            skip -= start;
            take -= end - start;
        }
        if take > 0 {
            return Err(Error::WeightSize {
                rows: self.rows,
                columns: self.columns,
                format: self.source_type.name(),
                expected: self.rows * row_bytes,
                actual: self.pieces.iter().map(|piece| piece.len()).sum(),
            });
        }
        Ok(Self {
            pieces,
            source_type: self.source_type,
            rows: rows.len(),
            columns: self.columns,
            release: self.release,
        })
    }

    /// The rows in slabs of so many, in order; a slab that is past the bytes is an error. What is asked for a slab has read those
    /// before: they are released.
    pub fn slabs(&self, rows: usize) -> impl Iterator<Item = Result<Self>> {
        let rows = rows.max(1);
        let mut starts = (0..self.rows).step_by(rows);
        let mut before: Option<Self> = None;
        std::iter::from_fn(move || {
            if let (Some(Self { pieces, .. }), Release(Some(release))) = (before.take(), self.release) {
                pieces.into_iter().for_each(release);
            }
            let start = starts.next()?;
            let slab = self.rows(start..self.rows.min(start + rows));
            before = slab.as_ref().ok().cloned();
            Some(slab)
        })
    }

    /// How many rows have about so many bytes, at least one.
    pub fn rows_of(&self, bytes: usize) -> usize {
        (bytes / self.source_type.row_bytes(self.columns).max(1)).max(1)
    }
}

/// Who is told of bytes.
type Listener<'a> = dyn Fn(&[u8]) + Sync + 'a;

/// Whom to tell of bytes that have been read.
#[derive(Clone, Copy)]
struct Release<'a>(Option<&'a Listener<'a>>);

impl fmt::Debug for Release<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "told" } else { "nobody" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn slabs_are_released_in_order_once_the_next_is_asked_for() {
        let bytes: Vec<u8> = (0..20).collect();
        let released = Mutex::new(Vec::new());
        let release = |bytes: &[u8]| released.lock().unwrap().extend_from_slice(bytes);
        // Five rows of two elements, stacked from two and three.
        let source = WeightSource::new(vec![&bytes[..8], &bytes[8..]], SourceType::Bf16, 5, 2).releasing(&release);
        let mut seen = 0;
        for slab in source.slabs(2) {
            let slab = slab.unwrap();
            assert_eq!(*released.lock().unwrap(), bytes[..seen]);
            let own: Vec<u8> = slab.pieces.concat();
            assert_eq!(own, bytes[seen..seen + own.len()]);
            assert_eq!(own.len(), 4 * slab.rows);
            seen += own.len();
        }
        assert_eq!(seen, 20);
        assert_eq!(*released.lock().unwrap(), bytes);
    }

    #[test]
    fn slabs_of_a_source_that_ends_early_are_errors() {
        let source = WeightSource::new(vec![&[0; 6]], SourceType::Bf16, 3, 2);
        let sound: Vec<bool> = source.slabs(1).map(|slab| slab.is_ok()).collect();
        assert_eq!(sound, [true, false, false]);
    }
}
