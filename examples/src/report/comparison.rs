//! Two drives of the same clip side by side: one thing changed, what moved.

use super::page::Picture;
use super::{diff, numbers};
use crate::chart::axis::plain_number;
use crate::scene::svg::escape;

/// Two drives of the same clip, clean and perturbed.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Its identifier on the page, see [`super::anchor`].
    pub id: String,
    /// Its title: the clip and what was changed.
    pub title: String,
    /// How large the effect is by several measures: name with unit, value. Pages are sorted by them; the names are the
    /// same in every comparison of a page.
    pub effects: Vec<(String, f64)>,
    /// Further facts: name and value.
    pub facts: Vec<(String, String)>,
    /// What the clean drive looked like.
    pub clean: Picture,
    /// What the perturbed drive looked like, on the same axes.
    pub perturbed: Picture,
    /// What the clean drive said.
    pub clean_reasoning: String,
    /// What the perturbed drive said.
    pub perturbed_reasoning: String,
}

impl Comparison {
    fn to_html(&self) -> String {
        let [before, after] = diff::html(&self.clean_reasoning, &self.perturbed_reasoning);
        let value = |value: f64| {
            if value.is_finite() {
                plain_number(value, 2)
            } else {
                "–".to_owned()
            }
        };
        let effects = self.effects.iter().map(|(name, effect)| (name.clone(), value(*effect)));
        let shown: Vec<(String, String)> = effects.chain(self.facts.iter().cloned()).collect();
        let sort: String = self
            .effects
            .iter()
            .enumerate()
            .map(|(i, (_, effect))| attribute(i, *effect))
            .collect();
        let title = escape(&self.title);
        format!(
            "<article class=\"comparison\" id=\"{id}\" data-title=\"{title}\"{sort}>\n<h3>{title}</h3>\n{numbers}\
             <div class=\"pair\">\n<section><h4>Clean</h4>{clean}<p class=\"words\">{before}</p></section>\n\
             <section><h4>Perturbed</h4>{perturbed}<p class=\"words\">{after}</p></section>\n</div>\n</article>\n",
            id = escape(&self.id),
            numbers = numbers(&shown),
            clean = self.clean.to_html(&format!("{}, clean", self.title)),
            perturbed = self.perturbed.to_html(&format!("{}, perturbed", self.title)),
        )
    }
}

fn attribute(index: usize, value: f64) -> String {
    if value.is_finite() {
        format!(" data-effect-{index}=\"{value}\"")
    } else {
        String::new()
    }
}

/// All comparisons of a page, with the means to sort and filter them.
pub fn section(comparisons: &[Comparison]) -> String {
    let Some(first) = comparisons.first() else {
        return String::new();
    };
    let option = |(i, (name, _)): (usize, &(String, f64))| {
        format!("<option value=\"effect{i}\">{}, largest first</option>", escape(name))
    };
    let options: String = first.effects.iter().enumerate().map(option).collect();
    let articles: String = comparisons.iter().map(Comparison::to_html).collect();
    let count = comparisons.len();
    format!(
        "<section class=\"comparisons\">\n<h2>Clean and perturbed</h2>\n<div class=\"tools\">\
         <label>Sort by <select data-sort=\"comparisons\"><option value=\"given\">order of the page</option>{options}\
         <option value=\"title\">title</option></select></label>\
         <input type=\"search\" data-filter=\"comparisons\" placeholder=\"Filter by title or words\" \
         aria-label=\"Filter by title or words\"><output>{count} of {count}</output></div>\n\
         <div class=\"list\">\n{articles}</div>\n</section>\n"
    )
}
