//! The tower against the reference, layer by layer from the reference's own inputs.

use super::{VisionFeatures, VisionTables, patch_order};
use crate::test_data::{Device, Golden, TOLERANCE, assert_close};
use alpamayo_backends::instances::Flex;

fn tables(golden: &Golden, network: &crate::Network<Flex>) -> VisionTables<Flex> {
    let grid = golden.i64("pre.image_grid_thw");
    let grid: Vec<[usize; 3]> = grid
        .as_chunks::<3>()
        .0
        .iter()
        .map(|size| size.map(|n| n as usize))
        .collect();
    network.vision.tables(&grid, &Device::default()).unwrap()
}

#[test]
fn every_layer_is_the_references() {
    let golden = Golden::read("base");
    let model = golden.model();
    let tower = &model.network().vision;
    let tables = tables(&golden, model.network());
    let mut x = golden.tensor("vision.patch_embed") + tables.positions.clone();
    for (index, block) in tower.blocks.iter().enumerate() {
        let name = format!("vision.blocks.{index}");
        let found = block.forward(x, &tables.rotary, &tables.image_lengths);
        assert_close(&found, &golden, &name, TOLERANCE);
        x = golden.tensor(&name);
        let merger = tower.deepstack_visual_indexes.iter().position(|&after| after == index);
        if let Some(merger) = merger {
            let found = tower.deepstack[merger].forward(x.clone());
            assert_close(&found, &golden, &format!("vision.deepstack.{merger}"), TOLERANCE);
        }
    }
    assert_close(&tower.merger.forward(x), &golden, "vision.merger", TOLERANCE);
}

#[test]
fn features_taken_apart_and_put_together_are_the_same() {
    let golden = Golden::read("base");
    let model = golden.model();
    let tables = tables(&golden, model.network());
    let features = VisionFeatures {
        tokens: golden.tensor("vision.merger"),
        deepstack: (0..3)
            .map(|index| golden.tensor(&format!("vision.deepstack.{index}")))
            .collect(),
        tokens_per_image: tables.tokens_per_image,
    };
    let images = features.tokens_per_image.len();
    let parts = [features.images(0..3).unwrap(), features.images(3..images).unwrap()];
    let joined = VisionFeatures::concat(&parts).unwrap();
    assert_close(&joined.tokens, &golden, "vision.merger", 0.0);
    assert_close(&joined.deepstack[2], &golden, "vision.deepstack.2", 0.0);
    assert_eq!(joined.tokens_per_image, features.tokens_per_image);
    assert!(features.images(3..images + 1).is_err());
    assert!(VisionFeatures::<Flex>::concat(&[]).is_err());
}

#[test]
fn images_without_whole_cells_are_errors() {
    let model = Golden::read("base").model();
    for grid in [[1, 3, 4], [1, 0, 4], [0, 4, 4]] {
        assert!(
            model.network().vision.tables(&[grid], &Device::default()).is_err(),
            "{grid:?}"
        );
    }
    assert!(model.network().vision.tables(&[], &Device::default()).is_err());
}

#[test]
fn patches_are_ordered_cell_by_cell() {
    let order: Vec<_> = patch_order(4, 4, 2).collect();
    assert_eq!(&order[..5], [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]);
    assert_eq!(order.len(), 16);
}
