//! The chain of causation: where a generated row stops, and the sentence in its text.

/// Whether a row has generated all it needs: one token after the first `<|traj_future_start|>`.
///
/// That one token more puts `<|traj_future_start|>` itself into the key-value cache, where the action expert reads it.
/// `generated` are the row's generated ids, without the prompt.
pub fn is_finished(generated: &[u32], future_start: u32) -> bool {
    generated
        .split_last()
        .is_some_and(|(_, before)| before.contains(&future_start))
}

/// Where a row's reasoning ends and its trajectory begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopPosition {
    /// Index among the generated ids; the action expert sees the cache up to and including it.
    pub index: usize,
    /// Whether `<|traj_future_start|>` stands there. If not, the row ran into the generation limit, its last token
    /// takes that place, and the caller should warn.
    pub found: bool,
}

/// Finds the first `<|traj_future_start|>` among a row's generated ids, or falls back to the last one.
///
/// Returns `None` where nothing has been generated.
pub fn stop_position(generated: &[u32], future_start: u32) -> Option<StopPosition> {
    let position = generated.iter().position(|&id| id == future_start);
    let last = generated.len().checked_sub(1)?;
    Some(StopPosition {
        index: position.unwrap_or(last),
        found: position.is_some(),
    })
}

/// The reasoning in a row's decoded text (prompt and generated tokens, special tokens kept): what stands before the first
/// `<|cot_end|>` and after the last `<|cot_start|>` before that, without surrounding white space.
///
/// Empty where there is no `<|cot_end|>`. A text that starts after the prompt's `<|cot_start|>` is fine too.
pub fn extract_reasoning(text: &str) -> String {
    let Some((before_end, _)) = text.split_once("<|cot_end|>") else {
        return String::new();
    };
    let reasoning = match before_end.rsplit_once("<|cot_start|>") {
        Some((_, reasoning)) => reasoning,
        None => before_end,
    };
    reasoning.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reasoning_is_between_the_last_start_and_the_first_end() {
        for (text, reasoning) in [
            ("<|cot_start|>Keep lane.<|cot_end|><|traj_future_start|>", "Keep lane."),
            ("<|cot_start|> a <|cot_start|>\n b \n<|cot_end|> c <|cot_end|>", "b"),
            ("no start here <|cot_end|><|cot_start|>x<|cot_end|>", "no start here"),
            ("<|cot_start|>cut off", ""),
            ("<|cot_end|>", ""),
            ("", ""),
        ] {
            assert_eq!(extract_reasoning(text), reasoning, "{text}");
        }
    }

    proptest! {
        #[test]
        fn rows_stop_one_token_after_the_first_start(ids in prop::collection::vec(0u32..4, 0..20)) {
            let stop = stop_position(&ids, 3);
            let first = ids.iter().position(|&id| id == 3);
            prop_assert_eq!(stop.is_none(), ids.is_empty());
            if let Some(stop) = stop {
                prop_assert_eq!(stop.found, first.is_some());
                prop_assert_eq!(stop.index, first.unwrap_or(ids.len() - 1));
            }
            for n in 0..=ids.len() {
                let finished = first.is_some_and(|first| n >= first + 2);
                prop_assert_eq!(is_finished(&ids[..n], 3), finished);
            }
        }
    }
}
