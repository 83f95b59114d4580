//! How far two sentences lie apart.

use serde::{Deserialize, Serialize};

/// How the reasoning differs between the clean and the perturbed run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningChange {
    /// Tokens to insert, delete or replace (Levenshtein) to turn one into the other.
    pub token_edit_distance: usize,
    /// The same, counted in words.
    pub word_edit_distance: usize,
    /// Words of the clean sentence that are gone, in order.
    pub removed_words: Vec<String>,
    /// Words of the perturbed sentence that are new, in order.
    pub added_words: Vec<String>,
}

impl ReasoningChange {
    /// Compares the texts and the tokens that spell them.
    pub fn between(clean: (&str, &[u32]), perturbed: (&str, &[u32])) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut change = Self {
            token_edit_distance: edit_distance(clean.1, perturbed.1),
            word_edit_distance: edit_distance(&words(clean.0), &words(perturbed.0)),
            ..Self::default()
        };
        for word in word_diff(clean.0, perturbed.0) {
            match word {
                DiffWord::Kept(_) => {}
                DiffWord::Removed(word) => change.removed_words.push(word.to_owned()),
                DiffWord::Added(word) => change.added_words.push(word.to_owned()),
            }
        }
        change
    }

    /// Whether a word or a token differs.
    pub fn has_changed(&self) -> bool {
        self.token_edit_distance > 0 || self.word_edit_distance > 0
    }
}

/// The least number of insertions, deletions and replacements that turn `a` into `b` (Levenshtein).
pub fn edit_distance<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// One word of a comparison, in reading order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffWord<'a> {
    /// In both sentences.
    Kept(&'a str),
    /// Only in the first.
    Removed(&'a str),
    /// Only in the second.
    Added(&'a str),
}

/// Two sentences as one: as many words kept as possible (longest common subsequence), removals before additions.
pub fn word_diff<'a>(before: &'a str, after: &'a str) -> Vec<DiffWord<'a>> {
    let a: Vec<&str> = before.split_whitespace().collect();
    let b: Vec<&str> = after.split_whitespace().collect();
    // common[i][j]: words that a[i..] and b[j..] can share.
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = match a[i] == b[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut diff = Vec::with_capacity(a.len().max(b.len()));
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            diff.push(DiffWord::Kept(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            diff.push(DiffWord::Removed(a[i]));
            i += 1;
        } else {
            diff.push(DiffWord::Added(b[j]));
            j += 1;
        }
    }
    diff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sentence_changes_by_its_words() {
        let clean = ("Stop for the red light.", &[1, 2, 3, 4, 5][..]);
        let perturbed = ("Keep driving for the green light.", &[6, 7, 2, 3, 8, 5][..]);
        let change = ReasoningChange::between(clean, perturbed);
        assert_eq!(change.token_edit_distance, 3);
        assert_eq!(change.word_edit_distance, 3);
        assert_eq!(change.removed_words, ["Stop", "red"]);
        assert_eq!(change.added_words, ["Keep", "driving", "green"]);
        assert!(change.has_changed());
        assert!(!ReasoningChange::between(clean, clean).has_changed());
    }

    proptest! {
        #[test]
        fn edit_distance_is_a_metric(a: Vec<bool>, b: Vec<bool>, c: Vec<bool>) {
            let distance = edit_distance(&a, &b);
            prop_assert_eq!(distance, edit_distance(&b, &a));
            prop_assert_eq!(distance == 0, a == b);
            prop_assert!(edit_distance(&a, &c) <= distance + edit_distance(&b, &c));
            prop_assert!(distance >= a.len().abs_diff(b.len()) && distance <= a.len().max(b.len()));
        }

        #[test]
        fn a_diff_spells_both_sentences(a in "([abc] ){0,8}", b in "([abc] ){0,8}") {
            let diff = word_diff(&a, &b);
            let before: Vec<&str> = diff.iter().filter_map(|word| match word {
                DiffWord::Kept(word) | DiffWord::Removed(word) => Some(*word),
                DiffWord::Added(_) => None,
            }).collect();
            let after: Vec<&str> = diff.iter().filter_map(|word| match word {
                DiffWord::Kept(word) | DiffWord::Added(word) => Some(*word),
                DiffWord::Removed(_) => None,
            }).collect();
            prop_assert_eq!(before, a.split_whitespace().collect::<Vec<_>>());
            prop_assert_eq!(after, b.split_whitespace().collect::<Vec<_>>());
        }
    }
}
