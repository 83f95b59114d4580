//! The released model's largest tables never lie on the host as a whole besides the backend's own copy.
#![cfg(target_os = "linux")]

mod sparse;

use std::sync::Arc;

use alpamayo_backends::instances::Flex;
use alpamayo_backends::layers::WeightFormat;
use alpamayo_models::ParameterSource;
use alpamayo_models::import::{Checkpoint, CheckpointSource, expected_tensors};
use sparse::{memory, small_config, write_zeros};

/// Rows and columns of the released embedding and output head: 1.28 GB each.
const VOCABULARY: usize = 155_697;
const HIDDEN: usize = 4096;

#[test]
fn a_table_of_the_released_size_takes_little_more_than_itself() {
    let mut config = small_config();
    (config.vocab_size, config.text.hidden_size) = (VOCABULARY, HIDDEN);
    let directory = tempfile::tempdir().unwrap();
    write_zeros(directory.path(), &expected_tensors(&config));
    let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
    let weight = 2 * VOCABULARY * HIDDEN;
    // Copied, and converted.
    for format in [WeightFormat::Bf16, WeightFormat::F16] {
        let before = memory("VmRSS:");
        // Sets the peak back to what is used now.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let device = Default::default();
        let mut source =
            CheckpointSource::<Flex>::new(Arc::clone(&checkpoint), &config, format, &device, None).unwrap();
        let head = source.linear("decoder.lm_head", HIDDEN, &[VOCABULARY], false).unwrap();
        assert_eq!(head.weight.shape(), (VOCABULARY, HIDDEN));
        let peak = memory("VmHWM:").saturating_sub(before);
        assert!(peak >= weight, "{peak} bytes are not even the weight's {weight}");
        let besides = peak - weight;
        println!("{format:?}: {besides} bytes besides {weight}");
        assert!(besides < 512 << 20, "{format:?}: {besides} bytes besides {weight}");
    }
}
