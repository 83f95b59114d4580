//! A table that can be sorted by every column and filtered.

use crate::chart::axis::plain_number;
use crate::scene::svg::escape;

/// One cell.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number, written with this many digits after the point.
    Number(f64, usize),
    /// A number by which it is sorted, written as these words: with its interval, for instance.
    Estimate(f64, String),
    /// Nothing is known; sorted last.
    Missing,
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number with `decimals` digits after the point; nothing where it is not finite.
    pub fn number(value: f64, decimals: usize) -> Self {
        if value.is_finite() {
            Self::Number(value, decimals)
        } else {
            Self::Missing
        }
    }
}

impl From<Option<f64>> for Cell {
    /// A number with two digits after the point.
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Missing, |value| Self::number(value, 2))
    }
}

/// One row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Its cells, as many as there are columns.
    pub cells: Vec<Cell>,
    /// The case or comparison on the same page that its first cell leads to, by identifier.
    pub link: Option<String>,
}

impl Row {
    /// A row that leads nowhere.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self { cells, link: None }
    }

    /// The row with a way to the case or comparison `id`.
    pub fn link(mut self, id: impl Into<String>) -> Self {
        self.link = Some(id.into());
        self
    }
}

/// A table that can be sorted by every column and filtered.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The heading above it.
    pub title: String,
    /// The columns' names, with units.
    pub columns: Vec<String>,
    /// The rows, in the order in which they are shown at first.
    pub rows: Vec<Row>,
}

impl Table {
    /// A table under a heading.
    pub fn new<S: Into<String>>(
        title: impl Into<String>,
        columns: impl IntoIterator<Item = S>,
        rows: Vec<Row>,
    ) -> Self {
        Self {
            title: title.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            rows,
        }
    }

    /// The table as HTML.
    pub fn to_html(&self) -> String {
        let head: String = self
            .columns
            .iter()
            .map(|name| {
                format!(
                    "<th scope=\"col\"><button type=\"button\">{}</button></th>",
                    escape(name)
                )
            })
            .collect();
        let rows: String = self.rows.iter().map(row).collect();
        let count = self.rows.len();
        format!(
            "<h2>{title}</h2>\n<div class=\"tools\"><input type=\"search\" data-filter=\"table\" placeholder=\"Filter rows\" \
             aria-label=\"Filter rows\"><output>{count} of {count}</output></div>\n\
             <div class=\"scroll\"><table class=\"sortable\"><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\
             </table></div>\n",
            title = escape(&self.title)
        )
    }
}

fn row(row: &Row) -> String {
    let cell = |(i, cell): (usize, &Cell)| match (cell, &row.link) {
        (Cell::Text(text), Some(id)) if i == 0 => {
            format!("<td><a href=\"#{}\">{}</a></td>", escape(id), escape(text))
        }
        (Cell::Text(text), _) => format!("<td>{}</td>", escape(text)),
        (Cell::Number(value, decimals), _) => {
            format!(
                "<td class=\"number\" data-value=\"{value}\">{}</td>",
                plain_number(*value, *decimals)
            )
        }
        (Cell::Estimate(value, words), _) => {
            format!("<td class=\"number\" data-value=\"{value}\">{}</td>", escape(words))
        }
        (Cell::Missing, _) => "<td class=\"number\" data-value=\"\">–</td>".to_owned(),
    };
    format!(
        "<tr>{}</tr>\n",
        row.cells.iter().enumerate().map(cell).collect::<String>()
    )
}
