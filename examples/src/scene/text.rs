//! Widths, wrapping and shortening of text, measured in the bundled font.
//!
//! The font is Inter (SIL Open Font License 1.1, `assets/fonts/OFL.txt`), cut down to Latin, Greek and signs.

use std::collections::HashMap;
use std::sync::OnceLock;

use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

use super::node::Weight;

/// Inter in regular weight, an OpenType file.
pub const REGULAR: &[u8] = include_bytes!("../../assets/fonts/Inter-Regular.otf");
/// Inter in semi-bold weight, an OpenType file.
pub const SEMI_BOLD: &[u8] = include_bytes!("../../assets/fonts/Inter-SemiBold.otf");
/// The font's family name.
pub const FAMILY: &str = "Inter";

/// Width of characters that the font lacks, in ems: a full-width one.
const MISSING_ADVANCE: f64 = 1.0;

/// Width of every character of the font, in ems.
fn advances(weight: Weight) -> &'static HashMap<char, f64> {
    static TABLES: [OnceLock<HashMap<char, f64>>; 2] = [OnceLock::new(), OnceLock::new()];
    let (slot, bytes) = match weight {
        Weight::Regular => (0, REGULAR),
        Weight::SemiBold => (1, SEMI_BOLD),
    };
    TABLES[slot].get_or_init(|| read_advances(bytes))
}

fn read_advances(bytes: &[u8]) -> HashMap<char, f64> {
    let Ok(font) = FontRef::new(bytes) else {
        return HashMap::new();
    };
    let metrics = font.glyph_metrics(Size::unscaled(), LocationRef::default());
    let units_per_em = f64::from(font.metrics(Size::unscaled(), LocationRef::default()).units_per_em);
    font.charmap()
        .mappings()
        .filter_map(|(code, glyph)| Some((char::from_u32(code)?, metrics.advance_width(glyph)?)))
        .map(|(character, advance)| (character, f64::from(advance) / units_per_em))
        .collect()
}

/// Width of a line of text in pixels, kerning left out.
pub fn width(text: &str, size: f64, weight: Weight) -> f64 {
    let table = advances(weight);
    size * text
        .chars()
        .map(|c| table.get(&c).copied().unwrap_or(MISSING_ADVANCE))
        .sum::<f64>()
}

/// Breaks text into lines of at most `limit` pixels, at spaces where there are any and inside words where a word alone
/// is too long. Line breaks in the text are kept. Empty text has no lines.
pub fn wrap(text: &str, size: f64, weight: Weight, limit: f64) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            for piece in pieces(word, size, weight, limit) {
                let longer = if line.is_empty() {
                    piece.clone()
                } else {
                    format!("{line} {piece}")
                };
                if line.is_empty() || width(&longer, size, weight) <= limit {
                    line = longer;
                } else {
                    lines.push(std::mem::replace(&mut line, piece));
                }
            }
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}

/// A word in pieces that each fit; one piece nearly always.
fn pieces(word: &str, size: f64, weight: Weight, limit: f64) -> Vec<String> {
    if width(word, size, weight) <= limit {
        return vec![word.to_owned()];
    }
    let mut pieces = vec![String::new()];
    for character in word.chars() {
        let last = pieces.len() - 1;
        let longer = format!("{}{character}", pieces[last]);
        if pieces[last].is_empty() || width(&longer, size, weight) <= limit {
            pieces[last] = longer;
        } else {
            pieces.push(character.to_string());
        }
    }
    pieces
}

/// The text on one line of at most `limit` pixels, its end replaced by an ellipsis where it is longer.
pub fn shorten(text: &str, size: f64, weight: Weight, limit: f64) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if width(&text, size, weight) <= limit {
        return text;
    }
    let mut kept = text;
    while kept.pop().is_some() {
        let shortened = format!("{}…", kept.trim_end());
        if width(&shortened, size, weight) <= limit {
            return shortened;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_font_has_what_the_figures_write() {
        for weight in [Weight::Regular, Weight::SemiBold] {
            let table = advances(weight);
            for character in "0123456789 AaZz .,;:!?()%°²κµσΔ±×·–—−…→←↑↓≤≥éüñß“”’".chars()
            {
                assert!(table.contains_key(&character), "{weight:?} lacks {character:?}");
            }
        }
    }

    #[test]
    fn semi_bold_is_wider_and_size_scales() {
        let text = "Stop for the red light";
        assert!(width(text, 16.0, Weight::SemiBold) > width(text, 16.0, Weight::Regular));
        let ratio = width(text, 32.0, Weight::Regular) / width(text, 16.0, Weight::Regular);
        assert!((ratio - 2.0).abs() < 1e-9);
    }

    #[test]
    fn shorten_ends_in_an_ellipsis() {
        let short = shorten("Nudge to the right to pass the barriers", 16.0, Weight::Regular, 120.0);
        assert!(short.ends_with('…') && short.starts_with("Nudge"));
        assert_eq!(shorten("Stop", 16.0, Weight::Regular, 120.0), "Stop");
    }

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_lose_nothing(text in "[ -~éκ→\n]{0,200}", limit in 20.0..400.0f64) {
            let lines = wrap(&text, 14.0, Weight::Regular, limit);
            for line in &lines {
                prop_assert!(width(line, 14.0, Weight::Regular) <= limit);
                prop_assert!(!line.is_empty());
            }
            let letters = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
