//! What a page holds, and its frame.

use std::fmt::Write as _;
use std::path::Path;

use super::comparison::{self, Comparison};
use super::numbers;
use super::table::Table;
use crate::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::scene::Scene;
use crate::scene::svg::escape;
use crate::scene::text::{FAMILY, REGULAR, SEMI_BOLD};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A figure on a page.
#[derive(Clone, Debug)]
pub enum Picture {
    /// Inside of the page, as SVG.
    Inline(String),
    /// A file, by its path relative to the page with `/` between folders.
    File(String),
}

impl Picture {
    /// The scene inside of the page.
    pub fn inline(scene: &Scene) -> Self {
        Self::Inline(scene.to_svg())
    }

    /// The picture as HTML; `description` is for those who cannot see it.
    pub(super) fn to_html(&self, description: &str) -> String {
        let description = escape(description);
        match self {
            Self::Inline(svg) => {
                format!("<div class=\"picture\" role=\"img\" aria-label=\"{description}\" tabindex=\"0\">{svg}</div>")
            }
            Self::File(path) => format!(
                "<a class=\"picture\" href=\"{0}\"><img src=\"{0}\" alt=\"{description}\" loading=\"lazy\"></a>",
                encoded(path)
            ),
        }
    }
}

/// A path as it stands in an address: what means something else there is percent-encoded.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The bundled font as CSS, so that a page and the figures inside of it look the same everywhere.
fn font_faces() -> String {
    let face = |(weight, font): (u16, &[u8])| {
        format!(
            "@font-face {{ font-family: {FAMILY}; font-weight: {weight}; src: url(data:font/otf;base64,{}); }}\n",
            STANDARD.encode(font)
        )
    };
    [(400, REGULAR), (600, SEMI_BOLD)].into_iter().map(face).collect()
}

/// One drive with its figure.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its identifier on the page, see [`super::anchor`].
    pub id: String,
    /// Its title, the clip's name mostly.
    pub title: String,
    /// Numbers: name and value with its unit.
    pub numbers: Vec<(String, String)>,
    /// Its figure.
    pub picture: Picture,
}

/// Several drives under one heading.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// A sentence below it.
    pub description: String,
    /// The drives.
    pub cases: Vec<Case>,
}

/// A page. Every part but the title may be empty.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The title.
    pub title: String,
    /// What was done: checkpoint, options, how many clips. One paragraph each.
    pub introduction: Vec<String>,
    /// The most important numbers: name and value with its unit.
    pub numbers: Vec<(String, String)>,
    /// Charts, about 480 pixels wide each.
    pub charts: Vec<Scene>,
    /// Every drive in a table; tables of what they have in common.
    pub tables: Vec<Table>,
    /// Drives with figures: the worst, the best.
    pub sections: Vec<Section>,
    /// Pairs of drives.
    pub comparisons: Vec<Comparison>,
}

impl Page {
    /// The page as an HTML document.
    pub fn to_html(&self) -> String {
        let title = escape(&self.title);
        let introduction: String = self
            .introduction
            .iter()
            .map(|text| format!("<p>{}</p>\n", escape(text)))
            .collect();
        let mut body = format!(
            "<header>\n<h1>{title}</h1>\n{introduction}{}</header>\n",
            numbers(&self.numbers)
        );
        if !self.charts.is_empty() {
            let chart = |chart: &Scene| format!("<figure>{}</figure>\n", chart.to_svg());
            let charts: String = self.charts.iter().map(chart).collect();
            let _ = write!(body, "<section class=\"charts\">\n{charts}</section>\n");
        }
        for table in &self.tables {
            let _ = write!(body, "<section>\n{}</section>\n", table.to_html());
        }
        self.sections.iter().for_each(|part| body.push_str(&section(part)));
        body.push_str(&comparison::section(&self.comparisons));
        let fonts = font_faces();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src &#39;none&#39;; \
             img-src &#39;self&#39; file: data:; style-src &#39;unsafe-inline&#39;; script-src &#39;unsafe-inline&#39;; font-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{fonts}{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
        )
    }

    /// Writes the page to `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_html()).map_err(Error::io("write", path))
    }
}

fn section(section: &Section) -> String {
    let case = |case: &Case| {
        format!(
            "<article class=\"case\" id=\"{}\">\n<h3>{}</h3>\n{}{}\n</article>\n",
            escape(&case.id),
            escape(&case.title),
            numbers(&case.numbers),
            case.picture.to_html(&case.title),
        )
    };
    let cases: String = section.cases.iter().map(case).collect();
    let description = if section.description.is_empty() {
        String::new()
    } else {
        format!("<p>{}</p>\n", escape(&section.description))
    };
    format!(
        "<section>\n<h2>{}</h2>\n{description}<div class=\"cases\">\n{cases}</div>\n</section>\n",
        escape(&section.title)
    )
}
