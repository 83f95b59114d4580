//! Flex: Burn's portable CPU backend. The default bodies are all it needs.

use crate::ModelBackend;

pub use burn_flex::Flex;

impl ModelBackend for Flex {}
