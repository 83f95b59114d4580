//! Values that arrive on the device.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use alpamayo_backends::definition::float_weight;
use alpamayo_backends::instances::Flex;
use alpamayo_backends::layers::{Norm, WeightFormat};
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::Dtype;
use tempfile::tempdir;

use super::super::{Checkpoint, CheckpointSource, ExpectedTensor, Progress, expected_tensors};
use super::{Stored, encode, small_config, small_tensors, value, write_shards, write_single};
use crate::error::{Error, Result};
use crate::parameters::ParameterSource;
use crate::token_table::{TablePlacement, TokenTable};

fn source(directory: &Path, format: WeightFormat) -> Result<CheckpointSource<'static, Flex>> {
    let checkpoint = Arc::new(Checkpoint::open(directory)?);
    CheckpointSource::new(checkpoint, &small_config(), format, &Default::default(), None)
}

/// The expected tensors of each field with their numbers, in the fields' order by name.
fn fields() -> BTreeMap<String, Vec<(usize, ExpectedTensor)>> {
    let mut fields: BTreeMap<String, Vec<(usize, ExpectedTensor)>> = BTreeMap::new();
    for (number, tensor) in expected_tensors(&small_config()).into_iter().enumerate() {
        fields.entry(tensor.field.clone()).or_default().push((number, tensor));
    }
    fields
}

/// Asks for a field as its module would; returns its matrix (if it has one) and its vectors, each flattened.
fn ask(
    source: &mut CheckpointSource<'_, Flex>,
    field: &str,
    tensors: &[(usize, ExpectedTensor)],
) -> Result<Vec<Vec<f32>>> {
    let named = |end: &'static str| tensors.iter().filter(move |(_, tensor)| tensor.name.ends_with(end));
    let host = |tensor: burn::tensor::Tensor<Flex, 1>| tensor.into_data().to_vec::<f32>().unwrap();
    let weights: Vec<&ExpectedTensor> = named(".weight").map(|(_, tensor)| tensor).collect();
    let Some(first) = weights.first() else {
        let values = source.buffer(field, tensors[0].1.elements())?;
        return Ok(vec![values.expect("the checkpoint holds its buffers")]);
    };
    let has_bias = named(".bias").count() > 0;
    Ok(match first.shape.as_slice() {
        [features] if has_bias => match source.layer_norm(field, *features, 1e-6)? {
            Norm::Layer(norm) => vec![host(norm.weight.val()), host(norm.bias.val())],
            Norm::Rms(_) => panic!("asked for a LayerNorm"),
        },
        [features] => vec![host(source.rms_norm(field, *features, 1e-6)?.weight.val())],
        shape => {
            let columns = shape[1..].iter().product();
            let rows: Vec<usize> = weights.iter().map(|tensor| tensor.shape[0]).collect();
            let linear = source.linear(field, columns, &rows, has_bias)?;
            let matrix = float_weight(&linear.weight).into_data().to_vec::<f32>().unwrap();
            std::iter::once(matrix)
                .chain(linear.bias.map(|bias| host(bias.val())))
                .collect()
        }
    })
}

/// What [`ask`] must give: the known values, matrices rounded to the format.
fn wanted(tensors: &[(usize, ExpectedTensor)], round: fn(f32) -> f32) -> Vec<Vec<f32>> {
    let all = |end: &'static str| -> Vec<f32> {
        let of = |(number, tensor): &(usize, ExpectedTensor)| {
            let matrix = tensor.shape.len() > 1 && tensor.name.ends_with(".weight");
            let number = *number;
            (0..tensor.elements())
                .map(move |position| value(number, position))
                .map(move |value| if matrix { round(value) } else { value })
                .collect::<Vec<f32>>()
        };
        tensors
            .iter()
            .filter(|(_, tensor)| tensor.name.ends_with(end))
            .flat_map(of)
            .collect()
    };
    let weights_and_biases = [all(".weight"), all(".bias")];
    if weights_and_biases[0].is_empty() {
        return vec![all("")];
    }
    weights_and_biases
        .into_iter()
        .filter(|values| !values.is_empty())
        .collect()
}

#[test]
fn every_value_arrives_from_every_type_in_every_format() {
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let directory = tempdir().unwrap();
        write_shards(directory.path(), &small_tensors(dtype));
        for (format, round) in [
            (WeightFormat::F32, (|value| value) as fn(f32) -> f32),
            (WeightFormat::Bf16, |value| bf16::from_f32(value).to_f32()),
            (WeightFormat::F16, |value| f16::from_f32(value).to_f32()),
        ] {
            let Ok(mut source) = source(directory.path(), format) else {
                assert_eq!(format, WeightFormat::F16, "every backend stores f32 and bf16 bits");
                continue;
            };
            for (field, tensors) in fields() {
                let arrived = ask(&mut source, &field, &tensors).unwrap();
                assert_eq!(arrived, wanted(&tensors, round), "{field} from {dtype:?} in {format:?}");
            }
            source.finish().unwrap();
        }
    }
}

#[test]
fn stacked_pieces_may_have_different_types() {
    let directory = tempdir().unwrap();
    let mut tensors = small_tensors(Dtype::BF16);
    for (number, tensor) in tensors.iter_mut().enumerate() {
        if tensor.name.ends_with("k_proj.weight") || tensor.name.ends_with("up_proj.weight") {
            tensor.dtype = Dtype::F16;
            tensor.bytes = encode(
                (0..tensor.shape.iter().product()).map(|position| value(number, position)),
                Dtype::F16,
            );
        }
    }
    write_single(directory.path(), &tensors);
    let mut source = source(directory.path(), WeightFormat::F32).unwrap();
    for field in ["decoder.layers.1.qkv", "expert.layers.0.gate_up"] {
        let tensors = &fields()[field];
        assert_eq!(
            ask(&mut source, field, tensors).unwrap(),
            wanted(tensors, |value| value),
            "{field}"
        );
    }
}

#[test]
fn buffers_are_optional() {
    let directory = tempdir().unwrap();
    let tensors: Vec<Stored> = small_tensors(Dtype::BF16)
        .into_iter()
        .filter(|tensor| tensor.name != "action_space.accel_std")
        .collect();
    write_single(directory.path(), &tensors);
    let mut source = source(directory.path(), WeightFormat::F32).unwrap();
    assert_eq!(source.buffer("action_space.accel_std", 1).unwrap(), None);
    assert_eq!(
        source
            .buffer("action_space.accel_mean", 1)
            .unwrap()
            .map(|values| values.len()),
        Some(1)
    );
    assert_eq!(
        source
            .buffer("action_in_proj.frequencies.2", 10)
            .unwrap()
            .map(|values| values.len()),
        Some(10)
    );
}

#[test]
fn progress_reaches_the_total() {
    let directory = tempdir().unwrap();
    write_single(directory.path(), &small_tensors(Dtype::BF16));
    let mut seen = Vec::new();
    let mut progress = |progress: Progress<'_>| {
        seen.push((progress.bytes_done, progress.bytes_total, progress.tensor.to_owned()));
    };
    let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
    let size: usize = checkpoint.tensors().map(|(_, entry)| entry.size()).sum();
    let mut source = CheckpointSource::<Flex>::new(
        checkpoint,
        &small_config(),
        WeightFormat::Bf16,
        &Default::default(),
        Some(&mut progress),
    )
    .unwrap();
    for (field, tensors) in fields() {
        ask(&mut source, &field, &tensors).unwrap();
    }
    source.finish().unwrap();
    assert_eq!(seen.len(), expected_tensors(&small_config()).len());
    assert!(seen.is_sorted_by_key(|(done, ..)| *done));
    assert!(seen.iter().all(|(_, total, _)| *total == size as u64));
    assert_eq!(seen.last().map(|(done, ..)| *done), Some(size as u64));
}

#[test]
fn a_module_that_asks_for_something_else_is_told_so() {
    let directory = tempdir().unwrap();
    write_single(directory.path(), &small_tensors(Dtype::BF16));
    let mut source = source(directory.path(), WeightFormat::F32).unwrap();
    let unknown = source
        .linear("decoder.layers.0.qvk", 32, &[32, 16, 16], false)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("decoder.layers.0.qvk"), "{unknown}");
    let shape = source
        .linear("decoder.layers.0.qkv", 32, &[32, 16], false)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        shape.contains("decoder.layers.0.qkv") && shape.contains("[32, 16, 32]"),
        "{shape}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_value_that_is_no_number_is_named(
        tensor in 0..expected_tensors(&small_config()).len(),
        at in 0.0..1.0f64,
        dtype in prop_oneof![Just(Dtype::BF16), Just(Dtype::F16), Just(Dtype::F32)],
        bad in prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ) {
        let directory = tempdir().unwrap();
        let mut tensors = small_tensors(dtype);
        let count: usize = tensors[tensor].shape.iter().product();
        let at = (at * count as f64) as usize;
        let values = (0..count).map(|position| if position == at { bad } else { value(tensor, position) });
        tensors[tensor].bytes = encode(values, dtype);
        write_single(directory.path(), &tensors);
        let mut source = source(directory.path(), WeightFormat::F32).unwrap();
        let mut errors = Vec::new();
        for (field, tensors) in fields() {
            errors.extend(ask(&mut source, &field, &tensors).err());
        }
        prop_assert_eq!(errors.len(), 1);
        let message = errors[0].to_string();
        let is_it = matches!(&errors[0], Error::NonFiniteWeight { path, name, position }
            if path.ends_with("model.safetensors") && *name == tensors[tensor].name && *position == at);
        prop_assert!(is_it && message.contains("model.safetensors") && message.contains(&tensors[tensor].name), "{}", message);
    }
}

#[test]
fn a_table_that_stays_mapped_is_read_and_checked_like_all() {
    let mut tensors = small_tensors(Dtype::BF16);
    let config = small_config();
    let number = tensors
        .iter()
        .position(|tensor| tensor.name.ends_with("embed_tokens.weight"))
        .unwrap();
    let shape = [config.vocab_size, config.text.hidden_size];
    let table = |directory: &Path| {
        let mut source = source(directory, WeightFormat::Int8)?.with_token_table(TablePlacement::Host);
        source.token_table("decoder.embed_tokens", shape[0], shape[1])
    };
    let directory = tempdir().unwrap();
    write_single(directory.path(), &tensors);
    // The source is gone, and the table is still there.
    let TokenTable::Host(found) = table(directory.path()).unwrap() else {
        panic!("the table is on the host")
    };
    let last = config.vocab_size - 1;
    let row = |row: usize| {
        let bytes = &tensors[number].bytes[2 * row * shape[1]..][..2 * shape[1]];
        bytes
            .chunks_exact(2)
            .map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f32())
            .collect::<Vec<_>>()
    };
    assert_eq!(found.look_up(&[last as u32, 1]), [row(last), row(1)].concat());

    let place = 2 * (3 * shape[1] + 5);
    tensors[number].bytes[place..place + 2].copy_from_slice(&bf16::NAN.to_le_bytes());
    let directory = tempdir().unwrap();
    write_single(directory.path(), &tensors);
    let error = table(directory.path()).unwrap_err();
    assert!(
        matches!(error, Error::NonFiniteWeight { position, .. } if position == 3 * shape[1] + 5),
        "{error}"
    );
}
