//! Token embeddings on the device and on the host.

use alpamayo_backends::instances::Flex;
use alpamayo_backends::layers::WeightFormat;
use alpamayo_core::PromptStyle;

use super::stages::greedy;
use crate::host::download;
use crate::pipeline::{Alpamayo, LoadOptions};
use crate::test_data::{Device, Golden};
use crate::token_table::{TablePlacement, TokenTable};

fn model(golden: &Golden, weights: WeightFormat, placement: Option<TablePlacement>) -> Alpamayo<Flex> {
    let options = LoadOptions {
        weight_format: Some(weights),
        token_table: placement,
        ..LoadOptions::default()
    };
    Alpamayo::load(golden.checkpoint(), &Device::default(), options).unwrap()
}

/// Logits after the prompts, and what is generated from them.
fn logits_and_tokens(golden: &Golden, model: &Alpamayo<Flex>) -> (Vec<f32>, Vec<Vec<u32>>) {
    let inputs = model.preprocess(&golden.clips(), &PromptStyle::R1).unwrap();
    let features = model.encode(&inputs.patches, &mut ()).unwrap();
    let prefilled = model.prefill(&inputs.prompts, &features, &mut ()).unwrap();
    let generation = model.generate(&prefilled, &greedy(golden), &mut ()).unwrap();
    (download(prefilled.logits, "logits").unwrap(), generation.tokens)
}

#[test]
fn a_table_on_the_host_changes_no_bit() {
    let golden = Golden::read("batch-ragged-eos");
    for weights in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8] {
        let on_device = model(&golden, weights, Some(TablePlacement::Device));
        let on_host = model(&golden, weights, Some(TablePlacement::Host));
        assert!(matches!(
            on_device.network().decoder.embed_tokens,
            TokenTable::Device(_)
        ));
        assert!(matches!(on_host.network().decoder.embed_tokens, TokenTable::Host(_)));
        assert_eq!(
            logits_and_tokens(&golden, &on_host),
            logits_and_tokens(&golden, &on_device),
            "{weights:?}"
        );
    }
}

#[test]
fn a_device_that_is_the_host_keeps_the_table() {
    let golden = Golden::read("base");
    let model = model(&golden, WeightFormat::Int8, None);
    assert!(matches!(model.network().decoder.embed_tokens, TokenTable::Device(_)));
}

#[test]
fn random_tables_on_the_host_are_as_large_as_the_devices() {
    let golden = Golden::read("base");
    let config = golden.config();
    let spread = |placement| {
        let options = LoadOptions {
            weight_format: Some(WeightFormat::Int8),
            token_table: Some(placement),
            ..LoadOptions::default()
        };
        let device = Device::default();
        let model = Alpamayo::<Flex>::random(&config, None, &device, &options).unwrap();
        let decoder = &model.network().decoder;
        assert_eq!(
            decoder.embed_tokens.shape(),
            (config.vocab_size, config.text.hidden_size)
        );
        let ids: Vec<u32> = (0..64).collect();
        let values = download(decoder.embed(&ids, &device), "embeddings").unwrap();
        assert!(values.iter().all(|value| value.abs() <= 1.0));
        (values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    // Uniform in ±1: a root mean square of 0.577.
    for placement in [TablePlacement::Device, TablePlacement::Host] {
        let found = spread(placement);
        assert!((0.55..0.61).contains(&found), "{placement:?}: {found}");
    }
}
