//! The decoder against the reference, layer by layer from the reference's own inputs.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::instances::Flex;
use alpamayo_backends::layers::CacheFormat;
use burn::tensor::{Int, Tensor};

use crate::cache::KeyValueCache;
use crate::host::{indices, select_rows};
use crate::test_data::{Device, Golden, TOLERANCE, assert_close};

fn image_rows(golden: &Golden) -> Tensor<Flex, 1, Int> {
    let ids = golden.i64("pre.input_ids");
    let image = golden.image_pad();
    indices((0..ids.len()).filter(|&row| ids[row] == image), &Device::default())
}

#[test]
fn every_layer_is_the_references() {
    let golden = Golden::read("base");
    let (model, config, device) = (golden.model(), golden.config(), Device::default());
    let decoder = &model.network().decoder;
    let length = golden.shape("pre.input_ids")[1];
    let mut cache = KeyValueCache::<Flex>::for_prompts(&config.text, 1, length, CacheFormat::F32, &device);
    let positions = golden.i64("pre.position_ids");
    let position = |token: usize| [0, 1, 2].map(|axis| positions[axis * length + token]);
    let rotary = decoder.rope.table::<Flex>((0..length).map(position), &device);
    for (index, layer) in decoder.layers.iter().enumerate().skip(1) {
        let mut x = golden.tensor(&format!("text.layers.{}", index - 1));
        if index <= config.vision.deepstack_visual_indexes.len() {
            let values = golden.tensor(&format!("vision.deepstack.{}", index - 1));
            x = Flex::add_rows(x, image_rows(&golden), values);
        }
        let found = layer.prefill(x, &rotary, &mut cache.layers[index].prompt);
        assert_close(&found, &golden, &format!("text.layers.{index}"), TOLERANCE);
    }
    let last = decoder.layers.len() - 1;
    assert_close(
        &cache.layers[last].prompt.key,
        &golden,
        &format!("cache.{last}.key"),
        TOLERANCE,
    );
    assert_close(
        &cache.layers[last].prompt.value,
        &golden,
        &format!("cache.{last}.value"),
        TOLERANCE,
    );
    let hidden = golden.tensor(&format!("text.layers.{last}"));
    assert_close(
        &Flex::normalize(hidden.clone(), &decoder.norm),
        &golden,
        "text.norm",
        TOLERANCE,
    );
    let logits = decoder.logits(select_rows(hidden, [length - 1]));
    assert_close(&logits, &golden, "text.last_logits", TOLERANCE);
}
