//! A file mapped into memory.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};

/// A file's bytes, read from disk when they are looked at.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    bytes: Mmap,
}

impl MappedFile {
    /// Maps a file.
    pub fn open(path: PathBuf) -> Result<Self> {
        let io = |source| Error::CheckpointIo {
            path: path.clone(),
            source,
        };
        let file = File::open(&path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(Error::checkpoint(&path, "is no regular file"));
        }
        // SAFETY: the mapping is read-only and every bit pattern is a valid `u8`. What no program can rule out is that another one
        // shortens or rewrites the file while it is mapped: checkpoints are not written in place, and values read from one are
        // only ever used as numbers.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path, bytes })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As [`release`](Self::release), of bytes that are this file's; others are left alone.
    pub fn release_bytes(&self, bytes: &[u8]) {
        let own = self.bytes.as_ptr_range();
        let given = bytes.as_ptr_range();
        if own.contains(&given.start) && given.end <= own.end {
            let start = given.start.addr() - own.start.addr();
            self.release(start..start + bytes.len());
        }
    }

    /// Lets the system take back the pages of `range`. Looking at them again reads them again.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            // Only whole pages inside the range are given back: its ends may belong to neighbours.
            let page = PAGE_SIZE;
            let start = range.start.next_multiple_of(page);
            let end = range.end / page * page;
            if start < end {
                // SAFETY: the mapping is read-only and backed by a file, so dropped pages come back with the same bytes.
                // A failure only means that the pages stay, so it is ignored.
                let _ = unsafe {
                    self.bytes
                        .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
                };
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// The largest page size in common use (Apple and some ARM servers); a multiple of all smaller ones.
#[cfg(unix)]
const PAGE_SIZE: usize = 64 << 10;
