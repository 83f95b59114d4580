//! Flex: Burn's portable CPU backend. The default bodies are all it needs, but for two:
//! - assigning to a slice copies the tensor, which the assignment still holds while it writes: the cache is written here;
//! - the host's memory is the device's: rows that stay there are looked up where they lie.
//!
//! A cache in bf16 is widened for every product; one in f32 is read where it lies.

use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};
use burn_flex::FlexTensor;
use half::bf16;

use crate::ModelBackend;
use crate::definition;
use crate::layers::{HostBytes, HostRows};

pub use burn_flex::Flex;

impl ModelBackend for Flex {
    fn store_host_rows(bytes: &HostBytes, shape: (usize, usize), _device: &Self::Device) -> Option<HostRows> {
        HostRows::new(bytes.clone(), shape)
    }

    fn lookup_host_rows(ids: Tensor<Self, 1, Int>, table: &HostRows) -> Option<Tensor<Self, 2>> {
        let device = ids.device();
        let ids = ids.try_into_data().ok()?;
        let shape = [ids.num_elements(), table.shape().1];
        let values: Vec<f32> = (ids.iter::<i64>())
            .flat_map(|id| table.row(id as u32).as_chunks().0)
            .map(|&value| bf16::from_le_bytes(value).to_f32())
            .collect();
        Some(Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32)))
    }

    fn write_cache(cache: &mut Tensor<Self, 4>, values: Tensor<Self, 4>, position: usize) {
        let dtype = cache.dtype();
        if !matches!(dtype, DType::F32 | DType::BF16) {
            return definition::write_cache(cache, values, position);
        }
        let (capacity, tokens) = (cache.dims()[2], values.dims()[2]);
        let values = contiguous(values.cast(dtype));
        cache.inplace(|cache| {
            let mut cache = contiguous(cache);
            let features = values.layout().shape()[3];
            let place = Place {
                start: position * features,
                taken: tokens * features,
                entry: capacity * features,
            };
            match dtype {
                DType::F32 => place.write(cache.storage_mut::<f32>(), values.storage()),
                _ => place.write(cache.storage_mut::<bf16>(), values.storage()),
            }
            Tensor::from_primitive(TensorPrimitive::Float(cache))
        });
    }
}

/// The tensor behind Burn's, its elements one after another; copied only where they aren't.
fn contiguous(tensor: Tensor<Flex, 4>) -> FlexTensor {
    let tensor = tensor.into_primitive().tensor();
    // Written out: `tensor` must not be held any longer where it is returned as it is, or a write to it would copy.
    let contiguous = tensor.to_contiguous();
    drop(tensor);
    contiguous
}

/// Where values go in every entry of a cache, in elements.
struct Place {
    start: usize,
    taken: usize,
    entry: usize,
}

impl Place {
    fn write<E: Copy>(&self, cache: &mut [E], values: &[E]) {
        let entries = cache.chunks_exact_mut(self.entry);
        for (entry, values) in entries.zip(values.chunks_exact(self.taken)) {
            entry[self.start..self.start + self.taken].copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{CacheConfig, CacheFormat, KeyValue, LayerCache};

    const ROWS: usize = 3;
    const HEADS: usize = 2;
    const CAPACITY: usize = 7;
    const FEATURES: usize = 4;

    fn cache(format: CacheFormat) -> LayerCache<Flex> {
        let config = CacheConfig {
            clips: 1,
            samples: ROWS,
            prompt_length: 5,
            suffix_capacity: CAPACITY,
            num_key_value_heads: HEADS,
            head_dim: FEATURES,
            format,
        };
        LayerCache::new(&config, &Default::default())
    }

    /// Keys of some tokens as the attention has them: heads and tokens swapped, so not one after another.
    fn keys(tokens: usize, first: f32) -> Tensor<Flex, 4> {
        let values: Vec<f32> = (0..ROWS * tokens * HEADS * FEATURES)
            .map(|i| first + i as f32)
            .collect();
        let data = TensorData::new(values, [ROWS, tokens, HEADS, FEATURES]);
        Tensor::from_data(data, (&Default::default(), DType::F32)).swap_dims(1, 2)
    }

    fn address(cache: &Tensor<Flex, 4>) -> usize {
        cache.clone().into_primitive().tensor().bytes().as_ptr().addr()
    }

    fn host(tensor: Tensor<Flex, 4>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn a_cache_is_written_in_place_as_defined() {
        for format in [CacheFormat::F32, CacheFormat::Bf16] {
            let KeyValue { mut key, .. } = cache(format).suffix;
            let mut defined = key.clone();
            // Copies, so that nothing is shared from here on.
            definition::write_cache(&mut defined, keys(2, 1.0), 0);
            let before = address(&key);
            Flex::write_cache(&mut key, keys(2, 1.0), 0);
            for position in 2..CAPACITY {
                Flex::write_cache(&mut key, keys(1, position as f32), position);
                definition::write_cache(&mut defined, keys(1, position as f32), position);
            }
            assert_eq!(address(&key), before, "{format:?}: the cache has moved");
            assert_eq!(host(key), host(defined), "{format:?}");
        }
    }

    #[test]
    fn a_whole_cache_is_written_in_place() {
        let KeyValue { mut key, .. } = cache(CacheFormat::F32).suffix;
        let before = address(&key);
        Flex::write_cache(&mut key, keys(CAPACITY, 0.5), 0);
        assert_eq!(address(&key), before);
        assert_eq!(host(key), host(keys(CAPACITY, 0.5)));
    }

    #[test]
    fn a_cache_that_others_hold_is_not_changed_under_them() {
        let KeyValue { mut key, .. } = cache(CacheFormat::F32).suffix;
        let kept = key.clone();
        Flex::write_cache(&mut key, keys(1, 3.0), 4);
        assert!(host(kept).iter().all(|value| *value == 0.0));
        assert!(host(key).contains(&3.0));
    }
}
