//! Text to token ids and back.
//!
//! A checkpoint's vocabulary is its backbone's tokenizer, then the trajectory's numbers `<i0>`, `<i1>` …, then special
//! tokens. The file holds the first part only (or all of them, if it was saved with the checkpoint); the rest is added
//! here and compared with what `config.json` says.

use std::path::Path;

use tokenizers::AddedToken;

use crate::{Error, ModelConfig, Result};

/// The special tokens, in the order in which they are added; each is spelled `<|name|>`.
const SPECIAL_TOKENS: [&str; 29] = [
    "prompt_start",
    "prompt_end",
    "image_start",
    "image_pre_tkn",
    "image_end",
    "traj_history_start",
    "traj_history_pre_tkn",
    "traj_history_end",
    "cot_start",
    "cot_end",
    "meta_action_start",
    "meta_action_end",
    "traj_future_start",
    "traj_future_pre_tkn",
    "traj_future_end",
    "traj_history",
    "traj_future",
    "image_pad",
    "vectorized_wm",
    "vectorized_wm_start",
    "vectorized_wm_end",
    "vectorized_wm_pre_tkn",
    "route_start",
    "route_pad",
    "route_end",
    "question_start",
    "question_end",
    "answer_start",
    "answer_end",
];

/// The tokens that are added where `add_special_tokens` is false.
const TRAJECTORY_TOKENS: [&str; 6] = [
    "traj_history",
    "traj_future",
    "traj_history_start",
    "traj_future_start",
    "traj_history_end",
    "traj_future_end",
];

/// The backbone's own tokens that every prompt needs.
const NEEDED: [&str; 5] = ["im_start", "im_end", "vision_start", "vision_end", "image_pad"];

/// A checkpoint's tokenizer: its backbone's, with the trajectory's numbers and the special tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    image_pad: u32,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` and adds the checkpoint's tokens.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Tokenizer`] if it is no tokenizer, or another checkpoint's:
    /// the ids must agree with `vocab_size`, `traj_token_start_idx`, `traj_vocab_size` and `traj_token_ids`.
    pub fn from_file(path: impl AsRef<Path>, config: &ModelConfig) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Self::from_bytes(&bytes, path, config)
    }

    /// As [`Tokenizer::from_file`], from the file's content; `path` is for error messages.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], as above.
    pub fn from_bytes(bytes: &[u8], path: &Path, config: &ModelConfig) -> Result<Self> {
        let error = |field: String, reason: String| Error::Tokenizer {
            path: path.to_path_buf(),
            field,
            reason,
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|reason| error("the file".into(), format!("is no tokenizer: {reason}")))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|reason| error("truncation".into(), reason.to_string()))?;
        add_tokens(&mut inner, config);
        let vocab_size = inner.get_vocab_size(true);
        let id = |name: &str| {
            let token = format!("<|{name}|>");
            inner
                .token_to_id(&token)
                .ok_or_else(|| error(format!("token `{token}`"), "is not in the vocabulary".into()))
        };
        for name in NEEDED {
            id(name)?;
        }
        let image_pad = id("image_pad")?;
        check_ids(&inner, config).map_err(|(field, reason)| error(field, reason))?;
        Ok(Self {
            inner,
            vocab_size,
            image_pad,
        })
    }

    /// The tokens of a text. Special tokens in it are recognised, and nothing is added around it.
    ///
    /// # Errors
    /// [`Error::Tokenize`] if the tokenizer's own rules fail on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|reason| Error::Tokenize {
            action: "encode text",
            reason: reason.to_string(),
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens of a text from outside, which must not pretend to be a part of the prompt; `what` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Prompt`] where it contains a special token, and as [`Self::encode`].
    pub fn encode_plain(&self, what: &str, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(text)?;
        match ids.iter().find(|&&id| self.is_added(id)) {
            None => Ok(ids),
            Some(&id) => {
                let token = self.token(id).unwrap_or_default();
                Err(Error::Prompt(format!(
                    "the {what} contains the special token `{token}`"
                )))
            }
        }
    }

    /// The text of tokens, special tokens included.
    ///
    /// # Errors
    /// [`Error::Tokenize`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let error = |reason: String| Error::Tokenize {
            action: "decode token ids",
            reason,
        };
        if let Some(id) = ids.iter().find(|&&id| self.inner.id_to_token(id).is_none()) {
            return Err(error(format!(
                "{id} is not in the vocabulary of {} tokens",
                self.vocab_size
            )));
        }
        self.inner
            .decode(ids, false)
            .map_err(|reason| error(reason.to_string()))
    }

    /// The id of a token, spelled as it is in the vocabulary: `<|cot_end|>`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as it is spelled in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether an id is a special or added token, and not a piece of text.
    pub fn is_added(&self, id: u32) -> bool {
        self.inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .contains_key(&id)
    }

    /// Id of `<|image_pad|>`, which stands for one merged cell of an image.
    pub fn image_pad(&self) -> u32 {
        self.image_pad
    }

    /// Number of tokens, the added ones included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

fn add_tokens(tokenizer: &mut tokenizers::Tokenizer, config: &ModelConfig) {
    let numbers: Vec<AddedToken> = (0..config.traj_vocab_size)
        .map(|i| AddedToken::from(format!("<i{i}>"), false).normalized(false))
        .collect();
    tokenizer.add_tokens(&numbers);
    let names: &[&str] = if config.add_special_tokens {
        &SPECIAL_TOKENS
    } else {
        &TRAJECTORY_TOKENS
    };
    // `image_pad` keeps the id it has.
    let names = names.iter().map(|name| format!("<|{name}|>"));
    let missing = names.filter(|token| tokenizer.token_to_id(token).is_none());
    let missing: Vec<AddedToken> = missing
        .map(|token| AddedToken::from(token, true).normalized(false))
        .collect();
    tokenizer.add_special_tokens(&missing);
}

/// Compares the tokenizer's ids with the configuration's; what differs, and how.
fn check_ids(tokenizer: &tokenizers::Tokenizer, config: &ModelConfig) -> Result<(), (String, String)> {
    let start = config.traj_token_start_idx;
    let last = config.traj_vocab_size - 1;
    let mut expected = vec![
        ("<i0>".to_string(), "traj_token_start_idx".to_string(), start),
        (format!("<i{last}>"), "traj_vocab_size".to_string(), start + last),
    ];
    for (name, id) in config.traj_token_ids.named() {
        expected.push((
            format!("<|traj_{name}|>"),
            format!("traj_token_ids.{name}"),
            id as usize,
        ));
    }
    for (token, field, id) in expected {
        let found = tokenizer.token_to_id(&token).map(|id| id as usize);
        if found != Some(id) {
            let found = found.map_or("missing".to_string(), |found| found.to_string());
            return Err((
                format!("token `{token}`"),
                format!(
                    "is {found}, but `{field}` in config.json is {id}: this tokenizer belongs to another checkpoint"
                ),
            ));
        }
    }
    let found = tokenizer.get_vocab_size(true);
    if found != config.vocab_size {
        let reason = format!(
            "{found} tokens, but `vocab_size` in config.json is {}",
            config.vocab_size
        );
        return Err((
            "the vocabulary".into(),
            format!("has {reason}: this tokenizer belongs to another checkpoint"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::test_data;

    const FILE: &str = include_str!("../tests/data/small-checkpoint/vlm/tokenizer.json");

    fn read(file: &Value, config: &ModelConfig) -> Result<Tokenizer> {
        Tokenizer::from_bytes(file.to_string().as_bytes(), Path::new("tokenizer.json"), config)
    }

    #[test]
    fn a_small_checkpoints_vocabulary() {
        let (config, tokenizer) = test_data::small_checkpoint();
        assert_eq!(tokenizer.vocab_size(), config.vocab_size);
        assert_eq!(tokenizer.image_pad(), 372);
        assert_eq!(tokenizer.token_id("<i0>"), Some(374));
        assert_eq!(tokenizer.token(593).as_deref(), Some("<i219>"));
        assert_eq!(
            tokenizer.encode("<i3><|cot_end|>").unwrap(),
            [377, tokenizer.token_id("<|cot_end|>").unwrap()]
        );
        assert!(tokenizer.is_added(372) && !tokenizer.is_added(3));
        assert!(tokenizer.encode("").unwrap().is_empty());
    }

    #[test]
    fn another_checkpoints_tokenizer() {
        let (config, _) = test_data::small_checkpoint();
        let file: Value = serde_json::from_str(FILE).unwrap();
        assert!(read(&file, &config).is_ok());
        let mut fewer = config.clone();
        fewer.vocab_size -= 1;
        let mut more = config.clone();
        more.traj_token_start_idx += 1;
        let mut plain = config.clone();
        plain.add_special_tokens = false;
        for (config, field) in [
            (&fewer, "vocab_size"),
            (&more, "traj_token_start_idx"),
            (&plain, "traj_token_ids"),
        ] {
            let error = read(&file, config).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("tokenizer.json"), "{error}");
        }
        let mut without_vision = file.clone();
        without_vision["added_tokens"].as_array_mut().unwrap()[9]["content"] = json!("<|visions_start|>");
        let error = read(&without_vision, &config).unwrap_err().to_string();
        assert!(error.contains("<|vision_start|>"), "{error}");
        let error = read(&json!({"version": "1.0"}), &config).unwrap_err().to_string();
        assert!(error.contains("is no tokenizer"), "{error}");
        let error = Tokenizer::from_file("nowhere/tokenizer.json", &config)
            .unwrap_err()
            .to_string();
        assert!(error.contains("nowhere/tokenizer.json"), "{error}");
    }

    #[test]
    fn a_file_that_holds_the_added_tokens_already() {
        let (config, tokenizer) = test_data::small_checkpoint();
        let saved = tokenizer.inner.to_string(false).unwrap();
        let again = Tokenizer::from_bytes(saved.as_bytes(), Path::new("tokenizer.json"), &config).unwrap();
        let text = "<|im_start|>slow down <i7><|cot_end|>";
        assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap());
    }

    #[test]
    fn the_six_trajectory_tokens_alone() {
        let (mut config, _) = test_data::small_checkpoint();
        config.add_special_tokens = false;
        config.vocab_size = 374 + 220 + 6;
        let first = 374 + 220;
        config.traj_token_ids = crate::TrajTokenIds {
            history: first,
            future: first + 1,
            history_start: first + 2,
            future_start: first + 3,
            history_end: first + 4,
            future_end: first + 5,
        };
        let tokenizer = read(&serde_json::from_str(FILE).unwrap(), &config).unwrap();
        assert_eq!(tokenizer.token_id("<|cot_start|>"), None);
        assert!(tokenizer.encode("<|cot_start|>").unwrap().len() > 1);
    }

    #[test]
    fn ids_outside_the_vocabulary() {
        let (config, tokenizer) = test_data::small_checkpoint();
        let error = tokenizer
            .decode(&[1, config.vocab_size as u32])
            .unwrap_err()
            .to_string();
        assert!(error.contains("622"), "{error}");
    }

    proptest! {
        #[test]
        fn text_and_back(text in "[a-zA-Z0-9 ,.:;!?'\n-]{0,60}") {
            let (_, tokenizer) = test_data::small_checkpoint();
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }

        #[test]
        fn no_text_or_ids_make_it_panic(text in ".*", ids in prop::collection::vec(0..700u32, 0..20)) {
            let (_, tokenizer) = test_data::small_checkpoint();
            tokenizer.encode(&text).unwrap();
            let known = ids.iter().all(|&id| id < 622);
            prop_assert_eq!(tokenizer.decode(&ids).is_ok(), known);
        }
    }
}
