//! What the model is told, and what it is made to say.

use serde::{Deserialize, Serialize};

/// Which part of the language is changed. All are on (severity 1) or off (severity 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LanguageKind {
    /// The text stands in the prompt instead of the instruction.
    Instruction,
    /// The reasoning begins with the text, and the model goes on from there.
    ReasoningPrefix,
    /// The text stands instead of the reasoning, before the action is drawn: does the plan follow the words?
    ReplacedReasoning,
}

impl LanguageKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Instruction, Self::ReasoningPrefix, Self::ReplacedReasoning];
}

/// What the pipeline's options shall say; `None` leaves a part as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanguageOverrides {
    /// Instead of the prompt's instruction.
    pub instruction: Option<String>,
    /// The reasoning's first words, after `<|cot_start|>`.
    pub reasoning_prefix: Option<String>,
    /// The whole reasoning, between `<|cot_start|>` and `<|cot_end|>`.
    pub replaced_reasoning: Option<String>,
}

impl LanguageOverrides {
    /// Whether the language is left as it is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes one override in. A later one of the same kind takes the place of an earlier one.
    pub(crate) fn set(&mut self, kind: LanguageKind, text: &str) {
        let slot = match kind {
            LanguageKind::Instruction => &mut self.instruction,
            LanguageKind::ReasoningPrefix => &mut self.reasoning_prefix,
            LanguageKind::ReplacedReasoning => &mut self.replaced_reasoning,
        };
        *slot = Some(text.to_owned());
    }
}
