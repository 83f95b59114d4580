//! Members of zip files.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::ops::Range;
use std::path::Path;

use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::{Error, Result};

/// The bytes of a member.
pub(super) fn read_member(path: &Path, member: &str) -> Result<Vec<u8>> {
    with_member(path, member, |mut file| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map(|_| bytes)
    })
}

/// Copies a member into `to`.
pub(super) fn copy_member(path: &Path, member: &str, to: &mut impl Write) -> Result<u64> {
    with_member(path, member, |mut file| {
        let copied = std::io::copy(&mut file, to)?;
        to.flush().map(|()| copied)
    })
}

/// Where in the archive the bytes of a member lie as they are, compared with its checksum; `None` where they are
/// compressed.
pub(super) fn stored_bytes(path: &Path, member: &str) -> Result<Option<Range<u64>>> {
    with_member(path, member, |mut file| match (file.compression(), file.data_start()) {
        (CompressionMethod::Stored, Some(start)) => {
            let length = std::io::copy(&mut file, &mut std::io::sink())?;
            Ok(Some(start..start + length))
        }
        _ => Ok(None),
    })
}

fn with_member<T>(
    path: &Path,
    member: &str,
    read: impl FnOnce(ZipFile<'_, BufReader<File>>) -> std::io::Result<T>,
) -> Result<T> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let error = |reason: String| Error::DataFile {
        path: path.to_path_buf(),
        field: format!("member `{member}`"),
        reason,
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|cause| error(format!("no zip file: {cause}")))?;
    let members = archive.len();
    let file = archive.by_name(member).map_err(|cause| match cause {
        ZipError::FileNotFound => error(format!("the archive has {members} members, but not this one")),
        other => error(other.to_string()),
    })?;
    // The end of a member is where its checksum is compared.
    read(file).map_err(|cause| error(cause.to_string()))
}
