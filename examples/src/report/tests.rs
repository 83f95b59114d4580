//! Pages as text; what a browser does with them is tested in `tests/report_in_browser.rs`.

use super::*;
use crate::scene::node::Node;
use crate::scene::{Label, Scene};

const HOSTILE: &str = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;";

fn scene() -> Scene {
    Scene::new(20.0, 10.0, vec![Node::from(Label::new(HOSTILE, [0.0, 8.0], 8.0))])
}

fn comparison(title: &str, effect: f64) -> Comparison {
    Comparison {
        id: anchor(title),
        title: title.to_owned(),
        effects: vec![(format!("{HOSTILE} (m)"), effect)],
        facts: vec![(HOSTILE.to_owned(), HOSTILE.to_owned())],
        clean: Picture::inline(&scene()),
        perturbed: Picture::File(format!("figures/{HOSTILE} #1.svg")),
        clean_reasoning: HOSTILE.to_owned(),
        perturbed_reasoning: format!("{HOSTILE} {HOSTILE}"),
    }
}

fn page(words: &str) -> Page {
    let numbers = vec![(words.to_owned(), words.to_owned())];
    let case = Case {
        id: anchor(words),
        title: words.to_owned(),
        numbers: numbers.clone(),
        picture: Picture::inline(&scene()),
    };
    Page {
        title: words.to_owned(),
        introduction: vec![words.to_owned()],
        numbers,
        charts: vec![scene()],
        tables: vec![Table::new(
            words,
            [words],
            vec![Row::new(vec![Cell::text(words), Cell::Estimate(1.0, words.to_owned())]).link(words)],
        )],
        sections: vec![Section {
            title: words.to_owned(),
            description: words.to_owned(),
            cases: vec![case],
        }],
        comparisons: vec![comparison(words, 1.0)],
    }
}

#[test]
fn no_text_can_leave_its_place() {
    let (hostile, harmless) = (page(HOSTILE).to_html(), page("words").to_html());
    assert!(hostile.contains("&lt;script&gt;"));
    assert!(!hostile.contains("<script>alert") && !hostile.contains("<img src=x"));
    // Apart from the marks of the diff the elements are the same.
    let elements = |html: &str| html.matches('<').count();
    assert_eq!(elements(&hostile), elements(&harmless));
}

#[test]
fn nothing_is_fetched() {
    let html = page("words").to_html();
    let html = html.replace("http://www.w3.org/2000/svg", "").replace("url(data:", "");
    for address in ["http://", "https://", "@import", "url(", "src=\"/", "href=\"/"] {
        assert!(!html.contains(address), "{address}");
    }
    assert!(html.contains("default-src &#39;none&#39;"));
}

#[test]
fn paths_of_figures_are_encoded() {
    let html = Picture::File("figures/a b#1?.svg".to_owned()).to_html("x");
    assert!(html.contains("src=\"figures/a%20b%231%3F.svg\""), "{html}");
}

#[test]
fn anchors_of_different_names_differ() {
    let names = ["a b", "a_b", "a-b", "a.b", "a", "ä", "a/b"];
    let anchors: std::collections::HashSet<String> = names.into_iter().map(anchor).collect();
    assert_eq!(anchors.len(), names.len());
    assert!(
        anchors
            .iter()
            .all(|anchor| anchor.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)))
    );
}

#[test]
fn missing_numbers_are_dashes() {
    let rows = vec![Row::new(vec![
        Cell::number(f64::NAN, 2),
        Cell::from(None),
        Cell::number(-1.5, 1),
    ])];
    let html = Table::new("letters", ["a", "b", "c"], rows).to_html();
    assert_eq!(html.matches("data-value=\"\">–</td>").count(), 2);
    assert!(html.contains("data-value=\"-1.5\">−1.5</td>"));
}
