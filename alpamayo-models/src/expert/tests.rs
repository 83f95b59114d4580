//! The action projection against the reference. The expert's layers need a cache: they are tested with the pipeline.

use crate::test_data::{Golden, SINE_TOLERANCE, assert_close};

#[test]
fn the_action_projection_is_the_references() {
    for case in ["base", "batch-ragged-eos"] {
        let golden = Golden::read(case);
        let model = golden.model();
        let found = model
            .network()
            .expert
            .action_in_proj
            .forward(golden.tensor("flow.noise"), 0.0);
        assert_close(&found, &golden, "expert.action_in_proj", SINE_TOLERANCE);
    }
}

#[test]
fn frequencies_missing_in_a_checkpoint_are_rebuilt_as_the_released_ones() {
    let golden = Golden::read("batch-ragged-eos");
    let model = golden.model();
    let rebuilt = model
        .network()
        .expert
        .action_in_proj
        .frequencies
        .val()
        .into_data()
        .to_vec::<f32>()
        .unwrap();
    let released = [1.0, 1.671875, 2.78125, 4.65625, 7.75, 12.9375, 21.5, 36.0, 60.0, 100.0];
    assert_eq!(rebuilt, [released; 3].concat());
    let found = model.network().normalization;
    let found = [
        found.accel_mean,
        found.accel_std,
        found.curvature_mean,
        found.curvature_std,
    ];
    let released = [0.029052734375, 0.6796875, 0.0002689361572265625, 0.026123046875f64];
    assert_eq!(found.map(f64::from), released);
}
