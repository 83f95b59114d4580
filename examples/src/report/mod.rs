//! One HTML page about many drives: numbers, distributions, a table, the worst and the best with their figures, and
//! pairs of drives side by side.
//!
//! The page is one file that works from disk: style, script and charts are inside of it, nothing is fetched (its
//! content security policy forbids it). Figures are inside of it too, or files beside it that are named by a path
//! relative to it.
//!
//! - [`page`]: what a page holds, and its frame;
//! - [`table`]: a table that can be sorted and filtered;
//! - [`comparison`]: clean and perturbed side by side;
//! - [`diff`]: which words two sentences do not share.
//!
//! ```
//! use alpamayo_examples::report::{Cell, Page, Row, Table};
//!
//! let row = |name: &str, ade: f64| Row::new(vec![Cell::text(name), Cell::number(ade, 2)]);
//! let page = Page {
//!     title: "Six clips".into(),
//!     tables: vec![Table::new("All clips", ["clip", "ADE (m)"], vec![row("red_light", 0.42), row("barriers", 0.13)])],
//!     ..Page::default()
//! };
//! assert!(page.to_html().contains("barriers"));
//! ```

pub mod comparison;
pub mod diff;
pub mod page;
pub mod table;

pub use comparison::Comparison;
pub use page::{Case, Page, Picture, Section};
pub use table::{Cell, Row, Table};

use crate::scene::svg::escape;

/// Numbers by name, as a list of terms.
fn numbers(numbers: &[(String, String)]) -> String {
    if numbers.is_empty() {
        return String::new();
    }
    let term =
        |(name, value): &(String, String)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    format!(
        "<dl class=\"numbers\">{}</dl>\n",
        numbers.iter().map(term).collect::<String>()
    )
}

/// A name as an identifier that can stand behind `#`: letters and digits stay, `-` and `_` too, everything else becomes
/// its code, so that different names stay different.
pub fn anchor(name: &str) -> String {
    let character = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c.to_string(),
        other => format!(".{:x}.", u32::from(other)),
    };
    name.chars().map(character).collect()
}

#[cfg(test)]
mod tests;
