//! Reference values for the unit tests, from `tests/data`.

use std::path::PathBuf;

use safetensors::SafeTensors;

/// One file of reference tensors.
pub(crate) struct TestData(Vec<u8>);

impl TestData {
    pub fn read(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        Self(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// The values of a tensor in rows of `N`.
    pub fn rows<T: Element, const N: usize>(&self, name: &str) -> Vec<[T; N]> {
        let values = self.values(name);
        assert_eq!(values.len() % N, 0, "{name}");
        values
            .chunks(N)
            .map(|chunk| std::array::from_fn(|i| chunk[i]))
            .collect()
    }

    /// The values of a tensor in 3x3 matrices.
    pub fn matrices<T: Element>(&self, name: &str) -> Vec<[[T; 3]; 3]> {
        let rows = self.rows::<T, 3>(name);
        rows.chunks(3).map(|chunk| std::array::from_fn(|i| chunk[i])).collect()
    }

    /// All values of a tensor.
    pub fn values<T: Element>(&self, name: &str) -> Vec<T> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(tensor.dtype(), T::DTYPE, "{name}");
        tensor.data().chunks_exact(size_of::<T>()).map(T::from_bytes).collect()
    }
}

/// An element type of reference tensors.
pub(crate) trait Element: Copy {
    const DTYPE: safetensors::Dtype;
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($($type:ty => $dtype:ident),*) => {$(
        impl Element for $type {
            const DTYPE: safetensors::Dtype = safetensors::Dtype::$dtype;
            fn from_bytes(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().unwrap())
            }
        }
    )*};
}
element!(f32 => F32, f64 => F64, i64 => I64, u8 => U8);

/// A complete small checkpoint's configuration and tokenizer.
pub(crate) fn small_checkpoint() -> (crate::ModelConfig, crate::Tokenizer) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/small-checkpoint");
    let config = crate::ModelConfig::from_checkpoint(&directory, None).unwrap();
    let path = config.tokenizer_path(&directory, None).unwrap();
    let tokenizer = crate::Tokenizer::from_file(path, &config).unwrap();
    (config, tokenizer)
}
