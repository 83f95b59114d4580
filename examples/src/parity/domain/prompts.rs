//! Prompts and strings: exact ids.

use std::path::Path;

use alpamayo_core::{ModelConfig, PromptBuilder, PromptStyle, Tokenizer};
use serde_json::Value;

use super::super::Result;
use super::Domain;

pub(super) fn compare(domain: &mut Domain<'_>, config: &ModelConfig, tokenizer: &Path) -> Result<()> {
    let tokenizer = Tokenizer::from_file(tokenizer, config)?;
    let cases = domain.json("prompts.json")?;
    for case in cases.as_array().ok_or("prompts.json is no list")? {
        let name = format!("prompts.{}", case["name"].as_str().unwrap_or("?"));
        if let Some(strings) = case["encode"].as_array() {
            for (index, string) in strings.iter().enumerate() {
                self::string(domain, &format!("{name}.{index}"), string, &tokenizer)?;
            }
        } else if case.get("input_ids").is_some() {
            prompt(domain, &name, case, &tokenizer, config)?;
        } else {
            ids(domain, &name, case, &tokenizer)?;
        }
    }
    Ok(())
}

fn prompt(
    domain: &mut Domain<'_>,
    name: &str,
    case: &Value,
    tokenizer: &Tokenizer,
    config: &ModelConfig,
) -> Result<()> {
    let grids = case["image_grid_thw"]
        .as_array()
        .ok_or("a prompt without image_grid_thw")?;
    let cell = config.vision.spatial_merge_size.pow(2) as i64;
    let tokens: Vec<usize> = grids
        .iter()
        .map(|grid| (numbers(grid).iter().product::<i64>() / cell) as usize)
        .collect();
    let cameras = match &case["camera_indices"] {
        Value::Array(_) => numbers(&case["camera_indices"])
            .into_iter()
            .map(|camera| camera as usize)
            .collect(),
        _ => [0, 1, 2, 6][..tokens.len() / 4].to_vec(),
    };
    let style = match (case["question"].as_str(), case["nav_text"].as_str()) {
        (Some(question), _) => PromptStyle::Question {
            question: question.into(),
        },
        (_, Some(route)) => PromptStyle::Labelled {
            navigation: Some(route.into()),
        },
        _ if name.contains("1.5") => PromptStyle::Labelled { navigation: None },
        _ => PromptStyle::R1,
    };
    let actual = PromptBuilder::new(tokenizer, config).build(&tokens, &cameras, &style)?;
    domain.equal(name.into(), numbers(&case["input_ids"]), signed(&actual));
    Ok(())
}

fn string(domain: &mut Domain<'_>, name: &str, case: &Value, tokenizer: &Tokenizer) -> Result<()> {
    let text = case["text"].as_str().ok_or("a string without text")?;
    let golden = numbers(&case["ids"]);
    domain.equal(
        format!("{name}.encode"),
        golden.clone(),
        signed(&tokenizer.encode(text)?),
    );
    let ids: Vec<u32> = golden.iter().map(|&id| id as u32).collect();
    let decoded = case["decoded"].as_str().unwrap_or(text);
    let bytes = |text: &str| text.bytes().map(i64::from).collect();
    domain.equal(
        format!("{name}.decode"),
        bytes(decoded),
        bytes(&tokenizer.decode(&ids)?),
    );
    Ok(())
}

fn ids(domain: &mut Domain<'_>, name: &str, case: &Value, tokenizer: &Tokenizer) -> Result<()> {
    domain.equal(
        format!("{name}.vocab_size"),
        vec![case["vocab_size"].as_i64().unwrap_or(-1)],
        vec![tokenizer.vocab_size() as i64],
    );
    let tokens = case["traj_token_ids"]
        .as_object()
        .ok_or("token_ids without traj_token_ids")?;
    for (token, id) in tokens {
        let actual = tokenizer.token_id(&format!("<|traj_{token}|>")).map_or(-1, i64::from);
        domain.equal(format!("{name}.{token}"), vec![id.as_i64().unwrap_or(-1)], vec![actual]);
    }
    Ok(())
}

fn numbers(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .map(|values| values.iter().filter_map(Value::as_i64).collect())
        .unwrap_or_default()
}

fn signed(ids: &[u32]) -> Vec<i64> {
    ids.iter().map(|&id| i64::from(id)).collect()
}
