//! Which words two sentences do not share.

use similar::{Algorithm, ChangeTag, capture_diff_slices};

use crate::scene::svg::escape;

/// On which side a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On both.
    Both,
    /// In the first sentence alone.
    Before,
    /// In the second sentence alone.
    After,
}

/// Neighbouring words on the same side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// On which side.
    pub side: Side,
    /// The words, the space before them included where there is one.
    pub text: String,
}

/// Words and signs of a sentence, each with whether a space is before it.
fn tokens(sentence: &str) -> Vec<(String, bool)> {
    let mut tokens: Vec<(String, bool)> = Vec::new();
    let (mut space, mut in_word) = (false, false);
    for character in sentence.trim().chars() {
        if character.is_whitespace() {
            (space, in_word) = (true, false);
            continue;
        }
        let of_word = character.is_alphanumeric() || matches!(character, '\'' | '’' | '-' | '_');
        match tokens.last_mut() {
            Some((word, _)) if of_word && in_word => word.push(character),
            _ => tokens.push((character.to_string(), space)),
        }
        (space, in_word) = (false, of_word);
    }
    tokens
}

/// The words of both sentences in order, by side: a longest common subsequence is on both, which is the smallest number
/// of words taken away and added. Case and punctuation count, the amount of space does not.
pub fn words(before: &str, after: &str) -> Vec<Piece> {
    let (before, after) = (tokens(before), tokens(after));
    let texts = |tokens: &[(String, bool)]| tokens.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
    let (old, new) = (texts(&before), texts(&after));
    let mut pieces: Vec<Piece> = Vec::new();
    for change in capture_diff_slices(Algorithm::Lcs, &old, &new)
        .iter()
        .flat_map(|op| op.iter_changes(&old, &new))
    {
        let (side, token) = match change.tag() {
            ChangeTag::Delete => (Side::Before, change.old_index().and_then(|i| before.get(i))),
            ChangeTag::Insert => (Side::After, change.new_index().and_then(|i| after.get(i))),
            ChangeTag::Equal => (Side::Both, change.new_index().and_then(|i| after.get(i))),
        };
        let Some((word, space)) = token else { continue };
        let text = if *space { format!(" {word}") } else { word.clone() };
        match pieces.last_mut() {
            Some(piece) if piece.side == side => piece.text.push_str(&text),
            _ => pieces.push(Piece { side, text }),
        }
    }
    pieces
}

/// Both sentences as HTML, what only one of them has marked as `<del>` and `<ins>`.
pub fn html(before: &str, after: &str) -> [String; 2] {
    let pieces = words(before, after);
    let side = |own: Side, tag: &str| {
        let piece = |piece: &Piece| match piece.side {
            Side::Both => escape(&piece.text),
            side if side == own => {
                let (space, text) = match piece.text.strip_prefix(' ') {
                    Some(text) => (" ", text),
                    None => ("", piece.text.as_str()),
                };
                format!("{space}<{tag}>{}</{tag}>", escape(text))
            }
            _ => String::new(),
        };
        pieces.iter().map(piece).collect::<String>()
    };
    [side(Side::Before, "del"), side(Side::After, "ins")]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(side: Side, pieces: &[Piece]) -> String {
        let kept = pieces
            .iter()
            .filter(|piece| piece.side == side || piece.side == Side::Both);
        kept.flat_map(|piece| piece.text.chars())
            .filter(|c| !c.is_whitespace())
            .collect()
    }

    fn letters(sentence: &str) -> String {
        sentence.chars().filter(|c| !c.is_whitespace()).collect()
    }

    fn changed(pieces: &[Piece]) -> usize {
        pieces
            .iter()
            .filter(|piece| piece.side != Side::Both)
            .map(|piece| tokens(&piece.text).len())
            .sum()
    }

    /// Length of a longest common subsequence, by its recurrence.
    fn common(a: &[(String, bool)], b: &[(String, bool)]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for (token, _) in a {
            let mut diagonal = 0;
            for (j, (other, _)) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if token == other {
                    diagonal + 1
                } else {
                    above.max(row[j])
                };
                diagonal = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn changed_words_are_marked_and_escaped() {
        let [before, after] = html("Stop for the red light <ahead>.", "Slow for the red truck <ahead>.");
        assert_eq!(before, "<del>Stop</del> for the red <del>light</del> &lt;ahead&gt;.");
        assert_eq!(after, "<ins>Slow</ins> for the red <ins>truck</ins> &lt;ahead&gt;.");
    }

    #[test]
    fn punctuation_stands_alone() {
        let [before, after] = html("Keep the lane.", "Keep the lane, slowly.");
        assert_eq!(before, "Keep the lane.");
        assert_eq!(after, "Keep the lane<ins>, slowly</ins>.");
    }

    proptest! {
        #[test]
        fn both_sentences_come_back(before in "[a-c .,é<]{0,40}", after in "[a-c .,é<]{0,40}") {
            let pieces = words(&before, &after);
            prop_assert_eq!(of(Side::Before, &pieces), letters(&before));
            prop_assert_eq!(of(Side::After, &pieces), letters(&after));
        }

        #[test]
        fn as_few_words_change_as_possible(before in "[a-c ]{0,30}", after in "[a-c ]{0,30}") {
            let (a, b) = (tokens(&before), tokens(&after));
            let fewest = a.len() + b.len() - 2 * common(&a, &b);
            prop_assert_eq!(changed(&words(&before, &after)), fewest);
        }

        #[test]
        fn equal_sentences_have_no_changes(sentence in any::<String>()) {
            prop_assert!(words(&sentence, &sentence).iter().all(|piece| piece.side == Side::Both));
        }
    }
}
