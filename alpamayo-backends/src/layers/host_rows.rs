//! Rows of a table that lie in the host's memory and are read by the device itself.

#[cfg(feature = "wgpu")]
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Bytes on the host, a mapped file's or the program's own.
pub type HostBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Rows `[rows, columns]` of bf16 in the host's memory, row-major and little-endian, that a device looks up by itself:
/// [`ModelBackend::lookup_host_rows`](crate::ModelBackend::lookup_host_rows).
///
/// Clones share the memory.
#[derive(Clone)]
pub struct HostRows {
    bytes: HostBytes,
    rows: usize,
    columns: usize,
    /// The number of the device that finds the bytes in its own address space, and their address there.
    mapped: Option<(usize, u64)>,
    /// A copy that a device reads, which is its runtime's to know.
    #[cfg(feature = "wgpu")]
    copy: Option<Arc<dyn Any + Send + Sync>>,
}

impl HostRows {
    /// Rows from their bytes; none where there are no rows or the bytes don't fill the shape `(rows, columns)`.
    pub fn new(bytes: HostBytes, (rows, columns): (usize, usize)) -> Option<Self> {
        let expected = rows.checked_mul(columns)?.checked_mul(2)?;
        let fills = rows > 0 && (*bytes).as_ref().len() == expected;
        fills.then_some(Self {
            bytes,
            rows,
            columns,
            mapped: None,
            #[cfg(feature = "wgpu")]
            copy: None,
        })
    }

    /// The rows, with the address at which a device finds them.
    ///
    /// # Safety
    /// The device of that number reads the bytes there for as long as they live, and what it was told to do with them is done
    /// before they are freed.
    #[cfg(feature = "cuda")]
    pub(crate) unsafe fn at(self, device: usize, address: u64) -> Self {
        Self {
            mapped: Some((device, address)),
            ..self
        }
    }

    /// Where a device finds the rows; none where they are not in its address space.
    #[cfg(feature = "cuda")]
    pub(crate) fn address(&self, device: usize) -> Option<u64> {
        self.mapped
            .filter(|&(owner, _)| owner == device)
            .map(|(_, address)| address)
    }

    /// The rows, with a copy that a device reads.
    #[cfg(feature = "wgpu")]
    pub(crate) fn with_copy(self, copy: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            copy: Some(copy),
            ..self
        }
    }

    /// The copy that a device reads; none where there is no such copy of that type.
    #[cfg(feature = "wgpu")]
    pub(crate) fn copy<T: Any>(&self) -> Option<&T> {
        self.copy.as_deref()?.downcast_ref()
    }

    /// `(rows, columns)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Bytes of the row of that number; of the last one where there is no such row.
    pub fn row(&self, number: u32) -> &[u8] {
        let row = (number as usize).min(self.rows - 1);
        &self.as_ref()[2 * row * self.columns..][..2 * self.columns]
    }
}

impl AsRef<[u8]> for HostRows {
    fn as_ref(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

impl fmt::Debug for HostRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostRows")
            .field("rows", &self.rows)
            .field("columns", &self.columns)
            .field("mapped", &self.mapped)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(bytes: usize, shape: (usize, usize)) -> Option<HostRows> {
        HostRows::new(Arc::new((0..bytes).map(|byte| byte as u8).collect::<Vec<_>>()), shape)
    }

    #[test]
    fn a_row_past_the_end_is_the_last() {
        let rows = rows(12, (3, 2)).unwrap();
        assert_eq!(rows.shape(), (3, 2));
        assert_eq!(rows.row(1), [4, 5, 6, 7]);
        for number in [2, 3, u32::MAX] {
            assert_eq!(rows.row(number), [8, 9, 10, 11]);
        }
        assert_eq!(rows.clone().as_ref().as_ptr(), rows.as_ref().as_ptr());
    }

    #[test]
    fn bytes_that_are_no_rows_are_refused() {
        for (bytes, shape) in [(11, (3, 2)), (13, (3, 2)), (0, (0, 2)), (4, (usize::MAX, 2))] {
            assert!(rows(bytes, shape).is_none(), "{bytes} bytes for {shape:?}");
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn a_copy_is_found_by_its_type() {
        let plain = rows(12, (3, 2)).unwrap();
        assert!(plain.copy::<u8>().is_none());
        let copied = plain.with_copy(Arc::new(7_u8));
        assert_eq!(copied.clone().copy::<u8>(), Some(&7));
        assert!(copied.copy::<u16>().is_none());
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn an_address_is_one_devices() {
        let plain = rows(12, (3, 2)).unwrap();
        assert_eq!(plain.address(0), None);
        // SAFETY: nothing reads there.
        let mapped = unsafe { plain.at(1, 256) };
        assert_eq!((mapped.address(1), mapped.address(0)), (Some(256), None));
    }
}
