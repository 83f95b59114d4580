//! The known name that a wrong one probably means.

use std::collections::{BTreeMap, HashSet};

/// Longer names get no suggestion: the distance takes time and memory in proportion to both lengths.
const MAX_NAME_LENGTH: usize = 256;

/// Known names, grouped by what they are without their numbers: a checkpoint has a thousand names but some seventy forms.
pub(super) struct NameIndex<'a> {
    /// The first name of each form.
    forms: BTreeMap<String, &'a str>,
    names: HashSet<&'a str>,
}

impl<'a> NameIndex<'a> {
    /// An index of `names`.
    pub fn new(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut index = Self {
            forms: BTreeMap::new(),
            names: HashSet::new(),
        };
        for name in names {
            index.names.insert(name);
            index.forms.entry(form(name).0).or_insert(name);
        }
        index
    }

    /// The nearest known name by edit distance, with the wrong name's own numbers where such a name exists; `None` where
    /// nothing is similar.
    pub fn nearest(&self, name: &str) -> Option<String> {
        if name.len() > MAX_NAME_LENGTH {
            return None;
        }
        let (wanted, numbers) = form(name);
        let (distance, found, first) = self
            .forms
            .iter()
            .map(|(form, first)| (strsim::damerau_levenshtein(form, &wanted), form, *first))
            .min_by_key(|(distance, ..)| *distance)?;
        if distance > wanted.len() / 2 {
            return None;
        }
        let mut numbers = numbers.into_iter();
        let renumbered: String = found
            .split_inclusive('#')
            .map(|piece| fill(piece, numbers.next().as_deref()))
            .collect();
        if self.names.contains(renumbered.as_str()) {
            Some(renumbered)
        } else {
            Some(first.to_owned())
        }
    }
}

fn fill(piece: &str, number: Option<&str>) -> String {
    match number {
        Some(number) => piece.replace('#', number),
        None => piece.to_owned(),
    }
}

/// A name with `#` in place of its dotted numbers, and those numbers.
fn form(name: &str) -> (String, Vec<String>) {
    let mut numbers = Vec::new();
    let pieces: Vec<&str> = name
        .split('.')
        .map(|piece| {
            if !piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_digit()) {
                numbers.push(piece.to_owned());
                "#"
            } else {
                piece
            }
        })
        .collect();
    (pieces.join("."), numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "layers.0.q_proj.weight",
        "layers.1.q_proj.weight",
        "layers.0.k_proj.weight",
        "lm_head.weight",
    ];

    #[test]
    fn keeps_the_layer_of_a_misspelt_name() {
        let index = NameIndex::new(NAMES);
        assert_eq!(
            index.nearest("layers.1.qproj.weight").as_deref(),
            Some("layers.1.q_proj.weight")
        );
        assert_eq!(
            index.nearest("model.layers.0.k_proj.weight").as_deref(),
            Some("layers.0.k_proj.weight")
        );
    }

    #[test]
    fn names_an_existing_layer_where_the_number_is_wrong() {
        assert_eq!(
            NameIndex::new(NAMES).nearest("layers.7.q_proj.weight").as_deref(),
            Some("layers.0.q_proj.weight")
        );
    }

    #[test]
    fn suggests_nothing_far_fetched() {
        assert_eq!(NameIndex::new(NAMES).nearest("optimizer_state"), None);
        assert_eq!(NameIndex::new([]).nearest("lm_head.weight"), None);
    }
}
