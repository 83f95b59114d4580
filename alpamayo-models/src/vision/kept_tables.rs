//! Tables of the image sizes seen last.

use std::sync::{Arc, Mutex, PoisonError};

use alpamayo_backends::ModelBackend;
use burn::tensor::backend::Backend;

use super::{VisionTables, VisionTower};
use crate::error::Result;

/// Sequences of image sizes whose tables are kept: a rig's own, and those of a few parts of it.
const KEPT: usize = 4;

type Entry<B> = (Vec<[usize; 3]>, Arc<VisionTables<B>>);

/// The tables of the last few sequences of image sizes that were new.
#[derive(Debug)]
pub(crate) struct KeptTables<B: Backend>(Mutex<Vec<Entry<B>>>);

impl<B: Backend> Default for KeptTables<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<B: ModelBackend> KeptTables<B> {
    /// The tower's tables for these sizes, computed where they are not kept.
    pub(crate) fn of(
        &self,
        tower: &VisionTower<B>,
        grid_thw: &[[usize; 3]],
        device: &B::Device,
    ) -> Result<Arc<VisionTables<B>>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tables)) = kept.iter().find(|(sizes, _)| sizes == grid_thw) {
            return Ok(tables.clone());
        }
        let tables = Arc::new(tower.tables(grid_thw, device)?);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((grid_thw.to_vec(), tables.clone()));
        Ok(tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{Device, Golden};

    #[test]
    fn tables_are_kept_for_the_last_sizes_only() {
        let model = Golden::read("base").model();
        let (tower, device) = (&model.network().vision, Device::default());
        let kept = KeptTables::default();
        let of = |side| kept.of(tower, &[[1, side, side]], &device).unwrap();
        let first = of(2);
        assert!(Arc::ptr_eq(&first, &of(2)));
        for side in [4, 6, 8, 10] {
            of(side);
        }
        assert!(!Arc::ptr_eq(&first, &of(2)));
        assert_eq!(kept.0.lock().unwrap().len(), KEPT);
    }
}
