//! The table of token embeddings: on the device, or in the host's memory.
//!
//! A prompt looks up some 130 rows of it and a token one. At the released size it takes 1.28 GB: a sixth of a model of 4 bits. On the device
//! a token is looked up where it was drawn, and so it is in the host's memory where the device reads that by itself; elsewhere it has to
//! go there and back.

use std::fmt;
use std::sync::Arc;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{HostBytes, HostRows, SourceType, Weight, WeightFormat};
use burn::empty;
use burn::module::Module;
use burn::tensor::{Int, Tensor, backend::Backend};
use half::bf16;

use crate::error::{Error, Result};
use crate::host::{indices, upload};
use crate::import::to_f32;

/// Where the table of token embeddings is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TablePlacement {
    /// In the device's memory, rows being looked up there.
    Device,
    /// In the host's memory, the rows that are looked up being moved to the device.
    ///
    /// From a checkpoint they are read where the file is mapped: nothing is copied at load, and the file must stay as it is while the
    /// model lives. But on CUDA's Hopper GPUs, and on GPUs with memory of their own through wgpu, rows of bf16 are
    /// copied at load to memory that the GPU reads by itself, which takes as much of the host's and can't be swapped. On CUDA the file
    /// is then read no more.
    Host,
}

impl TablePlacement {
    /// The choice where the user makes none: the host where weights are of few bits, memory being what they are chosen for, and the
    /// device is known to have memory of its own; otherwise the device.
    pub fn of(weights: WeightFormat, own_memory: Option<bool>) -> Self {
        if weights.quantization().is_some() && own_memory == Some(true) {
            Self::Host
        } else {
            Self::Device
        }
    }
}

/// Token embeddings `[vocabulary, hidden]`.
#[derive(Module, Debug)]
pub enum TokenTable<B: Backend> {
    /// On the device.
    Device(Weight<B>),
    /// In the host's memory.
    Host(HostTable),
}

impl<B: ModelBackend> TokenTable<B> {
    /// `(vocabulary, hidden)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Device(table) => table.shape(),
            Self::Host(table) => (table.rows, table.columns),
        }
    }

    /// Embeddings of token ids: `[ids, hidden]`, f32.
    pub fn embed(&self, ids: &[u32], device: &B::Device) -> Tensor<B, 2> {
        match self {
            Self::Device(table) => B::lookup_rows(on_device(ids, device), table),
            Self::Host(table) => (table.shared.as_ref())
                .and_then(|rows| B::lookup_host_rows(on_device(ids, device), rows))
                .unwrap_or_else(|| upload(table.look_up(ids), [ids.len(), table.columns], device)),
        }
    }

    /// Embeddings of ids that are on the device, `[ids, hidden]`, f32; none where the device doesn't read the table by itself.
    pub fn embed_on_device(&self, ids: Tensor<B, 1, Int>) -> Option<Tensor<B, 2>> {
        match self {
            Self::Device(table) => Some(B::lookup_rows(ids, table)),
            Self::Host(table) => B::lookup_host_rows(ids, table.shared.as_ref()?),
        }
    }
}

fn on_device<B: Backend>(ids: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    indices(ids.iter().map(|&id| id as usize), device)
}

/// A table of rows in the host's memory, as a checkpoint holds them.
#[derive(Clone)]
pub struct HostTable {
    bytes: HostBytes,
    source_type: SourceType,
    rows: usize,
    columns: usize,
    /// Whether values are rounded to bf16, as a device's table would hold them.
    rounded: bool,
    /// The rows where a device reads them by itself.
    shared: Option<HostRows>,
}

impl HostTable {
    /// A table `[rows, columns]` from its bytes, row-major and little-endian.
    ///
    /// Values are those of the bytes, rounded to bf16 where a device would store the table so: `format` is [`WeightFormat::Bf16`].
    ///
    /// # Errors
    /// Where there are no rows, or the bytes are of few bits or don't fill the shape.
    pub fn new(
        bytes: HostBytes,
        source_type: SourceType,
        [rows, columns]: [usize; 2],
        format: WeightFormat,
    ) -> Result<Self> {
        let refused = |reason: String| Error::Argument {
            argument: "table on the host",
            reason,
        };
        if matches!(source_type, SourceType::Quantized(_)) {
            return Err(refused(format!("{} is for the device", source_type.name())));
        }
        let (actual, expected) = (
            (*bytes).as_ref().len(),
            rows.checked_mul(source_type.row_bytes(columns)),
        );
        if rows == 0 || expected != Some(actual) {
            return Err(refused(format!("{actual} bytes are not {rows} x {columns}")));
        }
        Ok(Self {
            bytes,
            rows,
            columns,
            rounded: format == WeightFormat::Bf16 && source_type != SourceType::Bf16,
            source_type,
            shared: None,
        })
    }

    /// The table, its rows where the device looks them up by itself if it can; where the host can read the copy that was made for that,
    /// the bytes it was made from are let go. Only rows of bf16 are looked up so, others being converted on the host. Values stay the same bits.
    pub fn shared_with<B: ModelBackend>(self, device: &B::Device) -> Self {
        if self.source_type != SourceType::Bf16 {
            return self;
        }
        match B::store_host_rows(&self.bytes, (self.rows, self.columns), device) {
            Some(rows) => Self {
                bytes: Arc::new(rows.clone()),
                shared: Some(rows),
                ..self
            },
            None => self,
        }
    }

    /// The rows of the given ids, one after another. Ids past the end are the last row's, as on a device.
    pub fn look_up(&self, ids: &[u32]) -> Vec<f32> {
        let (bytes, row_bytes) = ((*self.bytes).as_ref(), self.source_type.row_bytes(self.columns));
        let mut values = Vec::with_capacity(ids.len() * self.columns);
        for &id in ids {
            let row = (id as usize).min(self.rows - 1);
            values.extend(to_f32(&bytes[row * row_bytes..][..row_bytes], self.source_type));
        }
        if self.rounded {
            values
                .iter_mut()
                .for_each(|value| *value = bf16::from_f32(*value).to_f32());
        }
        values
    }
}

impl fmt::Debug for HostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTable")
            .field("source_type", &self.source_type)
            .field("rows", &self.rows)
            .field("columns", &self.columns)
            .field("rounded", &self.rounded)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for HostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} x {} in {} on the host",
            self.rows,
            self.columns,
            self.source_type.name()
        )
    }
}

// A module without parameters on a device.
empty!(HostTable);

#[cfg(test)]
mod tests {
    use alpamayo_backends::instances::Flex;
    use alpamayo_backends::layers::WeightSource;
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::test_data::Device;

    fn bytes_of(values: &[f32], source_type: SourceType) -> Vec<u8> {
        let bytes = |&value: &f32| match source_type {
            SourceType::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
            SourceType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
            SourceType::F32 | SourceType::Quantized(_) => value.to_le_bytes().to_vec(),
        };
        values.iter().flat_map(bytes).collect()
    }

    proptest! {
        #[test]
        fn the_hosts_rows_are_the_devices(
            rows in 1..20_usize, pairs in 1..20_usize, ids in prop::collection::vec(0..40_u32, 1..30), seed in any::<u32>(),
            source_type in prop_oneof![Just(SourceType::Bf16), Just(SourceType::F16), Just(SourceType::F32)],
            format in prop_oneof![Just(WeightFormat::Bf16), Just(WeightFormat::F32)],
        ) {
            let columns = 2 * pairs;
            let value = |index: usize| ((index as u32 ^ seed).wrapping_mul(0x9e37_79b9) as f32 / u32::MAX as f32 - 0.5) * 3.0;
            let bytes = bytes_of(&(0..rows * columns).map(value).collect::<Vec<_>>(), source_type);
            let device = Device::default();
            let source = WeightSource::new(vec![&bytes], source_type, rows, columns);
            let on_device = TokenTable::Device(Flex::store_table(&source, format, &device).unwrap());
            let host = HostTable::new(Arc::new(bytes.clone()), source_type, [rows, columns], format).unwrap();
            let shared = host.clone().shared_with::<Flex>(&device);
            let last = rows as u32 - 1;
            let inside: Vec<u32> = ids.iter().map(|&id| id.min(last)).collect();
            let expected = on_device.embed(&inside, &device).into_data();
            for (host, reads) in [(host, false), (shared, source_type == SourceType::Bf16)] {
                let on_host = TokenTable::<Flex>::Host(host);
                prop_assert_eq!(on_host.shape(), on_device.shape());
                prop_assert_eq!(&on_host.embed(&inside, &device).into_data(), &expected);
                prop_assert_eq!(&on_host.embed(&ids, &device).into_data(), &expected);
                let found = on_host.embed_on_device(super::on_device(&ids, &device));
                prop_assert_eq!(found.is_some(), reads);
                prop_assert!(found.is_none_or(|found| found.into_data() == expected));
            }
        }
    }

    #[test]
    fn bytes_that_are_no_table_are_refused() {
        let table = |bytes: usize, source_type, rows| {
            HostTable::new(Arc::new(vec![0_u8; bytes]), source_type, [rows, 4], WeightFormat::Bf16)
        };
        assert!(table(24, SourceType::Bf16, 3).is_ok());
        assert!(table(23, SourceType::Bf16, 3).is_err());
        assert!(table(25, SourceType::Bf16, 3).is_err());
        assert!(table(24, SourceType::F32, 3).is_err());
        assert!(table(0, SourceType::Bf16, 0).is_err());
        assert!(table(8, SourceType::Bf16, usize::MAX / 2).is_err());
        let quantization = alpamayo_backends::layers::Quantization::Int8;
        let bytes = 4 * quantization.row_words(4);
        assert!(table(bytes, SourceType::Quantized(quantization), 1).is_err());
    }

    #[test]
    fn few_bits_leave_a_device_of_its_own_memory_to_the_products() {
        use TablePlacement::{Device, Host};
        for (weights, own, placement) in [
            (WeightFormat::Int4, Some(true), Host),
            (WeightFormat::Int8, Some(true), Host),
            (WeightFormat::Int4, Some(false), Device),
            (WeightFormat::Int4, None, Device),
            (WeightFormat::Bf16, Some(true), Device),
        ] {
            assert_eq!(TablePlacement::of(weights, own), placement, "{weights:?} {own:?}");
        }
    }
}
