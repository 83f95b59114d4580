use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ALPAMAYO: &str = include_str!("../../tests/data/small-checkpoint/config.json");
const BACKBONE: &str = include_str!("../../tests/data/small-checkpoint/vlm/config.json");
const RELEASED: &str = include_str!("../../tests/data/released/alpamayo-r1-10b.config.json");
const RELEASED_BACKBONE: &str = include_str!("../../tests/data/released/qwen3-vl-8b.config.json");

fn small_checkpoint() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/small-checkpoint")
}

/// The configuration with the value at a JSON pointer replaced; a pointer that starts with `vlm:` is the backbone's.
fn with(pointer: &str, value: Value) -> Result<ModelConfig> {
    let [mut alpamayo, mut backbone] = [ALPAMAYO, BACKBONE].map(|text| serde_json::from_str::<Value>(text).unwrap());
    let (document, pointer) = match pointer.strip_prefix("vlm:") {
        Some(pointer) => (&mut backbone, pointer),
        None => (&mut alpamayo, pointer),
    };
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    document
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .insert(name.into(), value);
    ModelConfig::from_json(&alpamayo.to_string(), &backbone.to_string())
}

#[test]
fn a_checkpoint_with_its_backbone_beside() {
    let config = ModelConfig::from_checkpoint(&small_checkpoint(), None).unwrap();
    assert_eq!(config, ModelConfig::from_json(ALPAMAYO, BACKBONE).unwrap());
    assert_eq!(
        (config.vocab_size, config.traj_token_start_idx, config.traj_vocab_size),
        (622, 374, 220)
    );
    // The expert has its own width and inherits everything else.
    assert_eq!((config.expert.hidden_size, config.expert.intermediate_size), (48, 136));
    assert_eq!(
        (config.expert.num_hidden_layers, config.expert.num_key_value_heads),
        (4, 2)
    );
    assert_eq!(config.expert.mrope_section, [6, 5, 5]);
    assert_eq!(config.history_token_start(), 374 + 120);
    assert_eq!(
        config.tokenizer_path(&small_checkpoint(), None).unwrap(),
        small_checkpoint().join("vlm/tokenizer.json")
    );
}

#[test]
fn the_released_size_with_its_backbone_built_in() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["Qwen/Qwen3-VL-8B-Instruct", "nvidia/Cosmos-Reason2-8B"] {
        let text = RELEASED.replace("Qwen/Qwen3-VL-8B-Instruct", name);
        std::fs::write(directory.path().join("config.json"), &text).unwrap();
        let config = ModelConfig::from_checkpoint(directory.path(), None).unwrap();
        assert_eq!(config, ModelConfig::from_json(&text, RELEASED_BACKBONE).unwrap());
        assert_eq!(
            (config.expert.num_hidden_layers, config.expert.num_attention_heads),
            (36, 16)
        );
        assert_eq!(config.action_space, UnicycleConfig::default());
        assert_eq!(config.history_token_start(), 154_669);

        let error = config.tokenizer_path(directory.path(), None).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("--tokenizer FILE"), "{error}");
        let vlm = config
            .tokenizer_path(directory.path(), Some(Path::new("backbone")))
            .unwrap();
        assert_eq!(vlm, Path::new("backbone/tokenizer.json"));
    }
}

#[test]
fn an_unknown_backbone_that_is_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, ALPAMAYO.replace("\"vlm\"", "\"somebody/some-backbone\"")).unwrap();
    let error = ModelConfig::from_checkpoint(directory.path(), None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("somebody/some-backbone") && error.contains("--vlm DIR"),
        "{error}"
    );
    let vlm = small_checkpoint().join("vlm");
    assert!(ModelConfig::from_checkpoint(directory.path(), Some(&vlm)).is_ok());
    let error = ModelConfig::from_checkpoint(&directory.path().join("nothing"), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("nothing/config.json"), "{error}");
}

#[test]
fn deepstack_mergers_may_read_blocks_in_any_order() {
    let config = with("vlm:/vision_config/deepstack_visual_indexes", json!([2, 0, 1])).unwrap();
    assert_eq!(config.vision.deepstack_visual_indexes, [2, 0, 1]);
    let error = with("vlm:/vision_config/deepstack_visual_indexes", json!([2, 0, 2]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("2 is there twice"), "{error}");
}

#[test]
fn every_impossible_value_is_named() {
    let cases = [
        (
            "/action_space_cfg/_target_",
            json!("alpamayo_r1.action_space.Bicycle"),
            "action_space_cfg._target_",
        ),
        (
            "/hist_traj_tokenizer_cfg/_target_",
            json!("torch.nn.Linear"),
            "hist_traj_tokenizer_cfg._target_",
        ),
        (
            "/traj_tokenizer_cfg/_target_",
            json!("x"),
            "traj_tokenizer_cfg._target_",
        ),
        (
            "/traj_tokenizer_cfg/action_space_cfg/_target_",
            json!("x"),
            "traj_tokenizer_cfg.action_space_cfg._target_",
        ),
        ("/diffusion_cfg/_target_", json!("os.system"), "diffusion_cfg._target_"),
        (
            "/action_in_proj_cfg/_target_",
            json!("x"),
            "action_in_proj_cfg._target_",
        ),
        (
            "/action_out_proj_cfg/_target_",
            json!("torch.nn.Bilinear"),
            "action_out_proj_cfg._target_",
        ),
        ("/diffusion_cfg/int_method", json!("heun"), "diffusion_cfg.int_method"),
        (
            "/diffusion_cfg/num_inference_steps",
            json!(0),
            "diffusion_cfg.num_inference_steps",
        ),
        ("/vlm_name_or_path", json!(7), "vlm_name_or_path"),
        ("/model_dtype", json!("float8"), "model_dtype"),
        ("/vocab_size", json!(500), "vocab_size"),
        ("/vocab_size", json!(u64::MAX), "vocab_size"),
        ("/vocab_size", json!(-1), "vocab_size"),
        ("/vocab_size", json!(622.5), "vocab_size"),
        ("/traj_vocab_size", json!(219), "traj_vocab_size"),
        ("/traj_token_start_idx", Value::Null, "traj_token_start_idx"),
        ("/traj_token_ids/future", json!(400), "traj_token_ids.future"),
        ("/traj_token_ids/future", json!(622), "traj_token_ids.future"),
        ("/traj_token_ids/future", json!(609), "traj_token_ids.future"),
        ("/traj_token_ids", json!([1, 2]), "traj_token_ids"),
        ("/tokens_per_history_traj", json!(45), "tokens_per_history_traj"),
        (
            "/hist_traj_tokenizer_cfg/predict_yaw",
            json!(true),
            "tokens_per_history_traj",
        ),
        ("/hist_traj_tokenizer_cfg/ego_xyz_max", json!([5, 4, 10]), "ego_xyz_max"),
        ("/min_pixels", json!(9000), "min_pixels"),
        ("/max_pixels", json!(0), "max_pixels"),
        ("/action_space_cfg/accel_std", json!(0), "action_space_cfg.accel_std"),
        (
            "/action_space_cfg/accel_bounds",
            json!([1, -1]),
            "action_space_cfg.accel_bounds",
        ),
        (
            "/action_space_cfg/accel_bounds",
            json!([1]),
            "action_space_cfg.accel_bounds",
        ),
        ("/action_space_cfg/v_ridge", json!(-1), "action_space_cfg.v_ridge"),
        (
            "/action_space_cfg/n_waypoints",
            json!(1e9 as u64),
            "action_space_cfg.n_waypoints",
        ),
        (
            "/action_in_proj_cfg/num_fourier_feats",
            json!(19),
            "action_in_proj_cfg.num_fourier_feats",
        ),
        (
            "/expert_cfg/num_key_value_heads",
            json!(4),
            "expert_cfg.num_key_value_heads",
        ),
        ("/expert_cfg/head_dim", json!(16), "expert_cfg"),
        (
            "/expert_cfg/num_hidden_layers",
            json!(3),
            "expert_cfg.num_hidden_layers",
        ),
        (
            "/expert_cfg/num_attention_heads",
            json!(3),
            "expert_cfg.num_attention_heads",
        ),
        (
            "/expert_non_causal_attention",
            json!(false),
            "expert_non_causal_attention",
        ),
        (
            "vlm:/text_config/num_key_value_heads",
            json!(3),
            "text_config.num_attention_heads",
        ),
        (
            "vlm:/text_config/num_hidden_layers",
            json!(0),
            "text_config.num_hidden_layers",
        ),
        (
            "vlm:/text_config/num_hidden_layers",
            json!(1_000_000),
            "text_config.num_hidden_layers",
        ),
        ("vlm:/text_config/hidden_size", json!("64"), "text_config.hidden_size"),
        (
            "vlm:/text_config/hidden_size",
            json!(128),
            "vision_config.out_hidden_size",
        ),
        ("vlm:/text_config/hidden_act", json!("relu"), "text_config.hidden_act"),
        (
            "vlm:/text_config/attention_bias",
            json!(true),
            "text_config.attention_bias",
        ),
        ("vlm:/text_config/rope_theta", json!(0), "text_config.rope_theta"),
        (
            "vlm:/text_config/rope_scaling/mrope_section",
            json!([24, 20, 20]),
            "rope_scaling.mrope_section",
        ),
        (
            "vlm:/text_config/rope_scaling/mrope_section",
            json!([16]),
            "rope_scaling.mrope_section",
        ),
        (
            "vlm:/text_config/rope_scaling/mrope_interleaved",
            json!(false),
            "rope_scaling.mrope_interleaved",
        ),
        (
            "vlm:/text_config/rope_scaling/rope_type",
            json!("yarn"),
            "rope_scaling.rope_type",
        ),
        ("vlm:/vision_config/patch_size", json!(0), "vision_config.patch_size"),
        ("vlm:/vision_config/patch_size", json!(64), "max_pixels"),
        ("vlm:/vision_config/in_channels", json!(4), "vision_config.in_channels"),
        ("vlm:/vision_config/num_heads", json!(5), "vision_config.hidden_size"),
        ("vlm:/vision_config/num_heads", json!(8), "vision_config.num_heads"),
        (
            "vlm:/vision_config/num_position_embeddings",
            json!(63),
            "vision_config.num_position_embeddings",
        ),
        (
            "vlm:/vision_config/deepstack_visual_indexes",
            json!([0, 4]),
            "vision_config.deepstack_visual_indexes",
        ),
        (
            "vlm:/vision_config/deepstack_visual_indexes",
            json!([1, 1]),
            "vision_config.deepstack_visual_indexes",
        ),
    ];
    for (pointer, value, field) in cases {
        let error = with(pointer, value.clone()).expect_err(pointer).to_string();
        assert!(error.contains(field), "{pointer} = {value}: {error}");
        assert!(error.contains("config.json"), "{pointer} = {value}: {error}");
    }
}

#[test]
fn the_newer_releases_class_paths_are_known() {
    let text = ALPAMAYO.replace("alpamayo_r1.", "alpamayo1_5.");
    assert_ne!(text, ALPAMAYO);
    assert!(ModelConfig::from_json(&text, BACKBONE).is_ok());
}

#[test]
fn values_rounded_to_the_checkpoints_precision() {
    let bf16 = |value| ModelDtype::Bf16.round(value);
    let config = UnicycleConfig::default();
    assert_eq!(bf16(config.accel_mean), 0.029052734375);
    assert_eq!(bf16(config.accel_std), 0.6796875);
    assert_eq!(bf16(config.curvature_mean), 0.0002689361572265625);
    assert_eq!(bf16(config.curvature_std), 0.026123046875);
    assert_eq!(ModelDtype::F32.round(0.1), f64::from(0.1f32));
    assert_eq!(ModelDtype::F16.round(0.1), 0.0999755859375);
}

/// Replaces the `index`-th value of a document, counted through all objects and lists.
fn replace(document: &mut Value, index: &mut usize, value: &Value) {
    if *index == 0 {
        *document = value.clone();
    }
    *index = index.wrapping_sub(1);
    match document {
        Value::Array(values) => values.iter_mut().for_each(|inner| replace(inner, index, value)),
        Value::Object(values) => values.values_mut().for_each(|inner| replace(inner, index, value)),
        _ => (),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..40i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::collection::vec(0..9u8, 0..5).prop_map(Value::from),
        Just(json!({})),
    ]
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(index in 0..160usize, value in any_value(), in_backbone: bool) {
        let [mut alpamayo, mut backbone] = [ALPAMAYO, BACKBONE].map(|text| serde_json::from_str::<Value>(text).unwrap());
        replace(if in_backbone { &mut backbone } else { &mut alpamayo }, &mut index.clone(), &value);
        if let Err(error) = ModelConfig::from_json(&alpamayo.to_string(), &backbone.to_string()) {
            prop_assert!(error.to_string().contains("config.json"));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".*", cut in 0..ALPAMAYO.len()) {
        prop_assert!(ModelConfig::from_json(&text, BACKBONE).is_err());
        prop_assert!(ModelConfig::from_json(&ALPAMAYO[..cut], BACKBONE).is_err());
    }
}
