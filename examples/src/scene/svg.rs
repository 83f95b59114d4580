//! A picture as an SVG document.
//!
//! No identifiers are used, so that several documents can stand in one HTML page: clipping is done by nested `<svg>`
//! elements instead of `clipPath`.

use std::fmt::Write as _;

use super::Scene;
use super::geometry::{Point, Rect};
use super::node::{Anchor, Label, Node, Paint, Weight};
use super::text::FAMILY;

/// The picture as an SVG document.
pub fn document(scene: &Scene) -> String {
    let (width, height) = (number(scene.width), number(scene.height));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" \
         font-family=\"{FAMILY}, &apos;Helvetica Neue&apos;, Arial, &apos;Liberation Sans&apos;, sans-serif\">\n"
    );
    if let Some(background) = scene.background {
        let area = Rect::new(0.0, 0.0, scene.width, scene.height);
        node(&mut out, &Node::rectangle(area, Paint::fill(background)));
    }
    for child in &scene.nodes {
        node(&mut out, child);
    }
    out.push_str("</svg>\n");
    out
}

/// Text with the characters of XML and HTML escaped and those that XML forbids left out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(character),
            '\u{fffe}' | '\u{ffff}' => {}
            _ if character.is_control() => {}
            _ => out.push(character),
        }
    }
    out
}

/// A coordinate with at most two decimals.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Every `write!` below writes to a string, which cannot fail.
fn node(out: &mut String, shape: &Node) {
    let _ = match shape {
        Node::Rectangle { area, radius, paint } => {
            let corners = if *radius > 0.0 {
                format!(" rx=\"{}\"", number(*radius))
            } else {
                String::new()
            };
            writeln!(out, "<rect {}{corners}{}/>", position(area), attributes(paint))
        }
        Node::Path { points, closed, paint } => {
            let data = path_data(points, *closed);
            if data.is_empty() {
                return;
            }
            writeln!(out, "<path d=\"{data}\"{}/>", attributes(paint))
        }
        Node::Circle {
            center: [x, y],
            radius,
            paint,
        } => {
            if !(x.is_finite() && y.is_finite()) {
                return;
            }
            let (x, y, radius) = (number(*x), number(*y), number(*radius));
            writeln!(
                out,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"{}/>",
                attributes(paint)
            )
        }
        Node::Text(label) => {
            text(out, label);
            Ok(())
        }
        Node::Image { area, photo } => {
            let data = photo.data_uri();
            writeln!(
                out,
                "<image {} preserveAspectRatio=\"none\" href=\"{data}\"/>",
                position(area)
            )
        }
        Node::Group { children, clip, title } => {
            group(out, children, clip.as_ref(), title.as_deref());
            Ok(())
        }
    };
}

fn group(out: &mut String, children: &[Node], clip: Option<&Rect>, title: Option<&str>) {
    let (opening, closing) = match clip {
        Some(clip) => {
            let view = [clip.x, clip.y, clip.width, clip.height].map(number).join(" ");
            (
                format!("<svg {} viewBox=\"{view}\" overflow=\"hidden\">", position(clip)),
                "</svg>\n",
            )
        }
        None => ("<g>".to_owned(), "</g>\n"),
    };
    out.push_str(&opening);
    if let Some(title) = title {
        let _ = write!(out, "<title>{}</title>", escape(title));
    }
    out.push('\n');
    for child in children {
        node(out, child);
    }
    out.push_str(closing);
}

fn text(out: &mut String, label: &Label) {
    if label.content.is_empty() {
        return;
    }
    let [x, y] = label.position.map(number);
    let _ = write!(out, "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\"", number(label.size));
    if label.weight == Weight::SemiBold {
        out.push_str(" font-weight=\"600\"");
    }
    match label.anchor {
        Anchor::Start => {}
        Anchor::Middle => out.push_str(" text-anchor=\"middle\""),
        Anchor::End => out.push_str(" text-anchor=\"end\""),
    }
    let _ = write!(out, " fill=\"{}\"", label.color.css());
    if label.color.alpha < 1.0 {
        let _ = write!(out, " fill-opacity=\"{}\"", number(label.color.alpha));
    }
    if let Some(halo) = label.halo {
        let (color, width) = (halo.css(), number(label.size * 0.24));
        let _ = write!(
            out,
            " stroke=\"{color}\" stroke-width=\"{width}\" stroke-opacity=\"{}\" stroke-linejoin=\"round\" paint-order=\"stroke\"",
            number(halo.alpha)
        );
    }
    if label.angle != 0.0 {
        let _ = write!(out, " transform=\"rotate({} {x} {y})\"", number(label.angle));
    }
    let _ = writeln!(out, ">{}</text>", escape(&label.content));
}

fn position(area: &Rect) -> String {
    let [x, y, width, height] = [area.x, area.y, area.width.max(0.0), area.height.max(0.0)].map(number);
    format!("x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"")
}

fn attributes(paint: &Paint) -> String {
    let mut out = match paint.fill {
        Some(fill) if fill.alpha < 1.0 => {
            format!(" fill=\"{}\" fill-opacity=\"{}\"", fill.css(), number(fill.alpha))
        }
        Some(fill) => format!(" fill=\"{}\"", fill.css()),
        None => " fill=\"none\"".to_owned(),
    };
    if let Some(stroke) = &paint.stroke {
        let (color, width) = (stroke.color.css(), number(stroke.width));
        let _ = write!(
            out,
            " stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\""
        );
        if stroke.color.alpha < 1.0 {
            let _ = write!(out, " stroke-opacity=\"{}\"", number(stroke.color.alpha));
        }
        if stroke.dashes.is_empty() {
            out.push_str(" stroke-linecap=\"round\"");
        } else {
            let dashes: Vec<String> = stroke.dashes.iter().map(|dash| number(*dash)).collect();
            let _ = write!(out, " stroke-dasharray=\"{}\"", dashes.join(" "));
        }
    }
    out
}

/// The points as path commands; a point that is not finite starts a new piece.
fn path_data(points: &[Point], closed: bool) -> String {
    let mut out = String::new();
    let mut pen_down = false;
    for point in points {
        if !point.iter().all(|value| value.is_finite()) {
            pen_down = false;
            continue;
        }
        let [x, y] = point.map(number);
        let _ = write!(out, "{}{x} {y}", if pen_down { "L" } else { "M" });
        pen_down = true;
    }
    if closed && !out.is_empty() {
        out.push('Z');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scene::color::INK;
    use crate::scene::node::Stroke;

    fn parses(scene: &Scene) -> bool {
        resvg::usvg::Tree::from_str(&scene.to_svg(), &resvg::usvg::Options::default()).is_ok()
    }

    #[test]
    fn points_that_are_not_finite_interrupt_a_path() {
        let points = [
            [0.0, 0.0],
            [1.0, 1.0],
            [f64::NAN, 2.0],
            [3.0, 3.0],
            [4.0, f64::INFINITY],
            [-0.001, 5.5],
        ];
        assert_eq!(path_data(&points, false), "M0 0L1 1M3 3M0 5.5");
        assert_eq!(path_data(&[[f64::NAN; 2]], true), "");
    }

    #[test]
    fn text_stays_text_and_is_escaped() {
        let label = Label::new("a < b & \"c\"\u{0}", [10.0, 20.0], 12.0);
        let svg = Scene::new(100.0, 40.0, vec![label.into()]).to_svg();
        assert!(svg.contains(">a &lt; b &amp; &quot;c&quot;</text>"), "{svg}");
    }

    proptest! {
        #[test]
        fn any_text_and_any_line_give_a_document_that_parses(
            content in any::<String>(),
            values in prop::collection::vec((any::<f64>(), any::<f64>()), 0..8),
        ) {
            let points: Vec<Point> = values.into_iter().map(|(x, y)| [x, y]).collect();
            let label = Node::from(Label::new(content.clone(), [1.0, 9.0], 10.0).halo(INK));
            let nodes = vec![
                Node::line(points, Stroke::new(INK, 1.0).dashed(2.0, 1.0)),
                Node::clipped(Rect::new(0.0, 0.0, 10.0, 10.0), vec![label]).titled(content),
            ];
            prop_assert!(parses(&Scene::new(64.0, 32.0, nodes)));
        }
    }
}
