//! A table of token embeddings that stays on the host takes no more memory than what is looked up of it.
#![cfg(target_os = "linux")]

mod sparse;

use std::sync::Arc;

use alpamayo_backends::instances::Flex;
use alpamayo_backends::layers::WeightFormat;
use alpamayo_models::import::{Checkpoint, CheckpointSource, expected_tensors};
use alpamayo_models::{ParameterSource, TablePlacement};
use sparse::{memory, small_config, write_zeros};

/// Rows and columns of the released embedding: 1.28 GB.
const VOCABULARY: usize = 155_697;
const HIDDEN: usize = 4096;

#[test]
fn a_table_on_the_host_takes_the_rows_that_are_looked_up() {
    let mut config = small_config();
    (config.vocab_size, config.text.hidden_size) = (VOCABULARY, HIDDEN);
    let directory = tempfile::tempdir().unwrap();
    write_zeros(directory.path(), &expected_tensors(&config));
    let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
    let device = Default::default();
    let mut source = CheckpointSource::<Flex>::new(checkpoint, &config, WeightFormat::Int8, &device, None)
        .unwrap()
        .with_token_table(TablePlacement::Host);
    let before = memory("VmRSS:");
    let table = source.token_table("decoder.embed_tokens", VOCABULARY, HIDDEN).unwrap();
    source.finish().unwrap();
    let ids: Vec<u32> = (0..130).map(|index| index * 1000).collect();
    let rows = table.embed(&ids, &device);
    assert_eq!(rows.dims(), [130, HIDDEN]);
    let taken = memory("VmRSS:").saturating_sub(before);
    println!("{taken} bytes for a table of {}", 2 * VOCABULARY * HIDDEN);
    assert!(taken < 256 << 20, "{taken} bytes");
}
