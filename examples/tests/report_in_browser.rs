//! What a browser makes of a page: sorting, filtering, figures from disk, nothing fetched, nothing executed.
//!
//! Runs where Chromium is installed (`apt-get install chromium`):
//! `cargo test -p alpamayo-examples --test report_in_browser -- --ignored`

use std::path::Path;
use std::process::Command;

use alpamayo_backends::instances::Flex;
use alpamayo_core::perturb::Sweep;
use alpamayo_examples::cli::bundled;
use alpamayo_examples::evaluate::{ClipItem, Summary, clips, drive, page};
use alpamayo_examples::perturb::page::Sources;
use alpamayo_examples::perturb::{self, Rows, drive_grid, grid};
use alpamayo_examples::report::{Cell, Comparison, Page, Picture, Row, Table};
use alpamayo_examples::run::{Interrupt, ResultFile};
use alpamayo_examples::scene::color::INK;
use alpamayo_examples::scene::{Node, Paint, Rect, Scene};
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};

/// What the test does on the page; its findings are left in an element of their own.
const PROBE: &str = r#"
const found = {};
const names = () => [...document.querySelectorAll("tbody tr")].filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
const press = (column) => document.querySelectorAll("th button")[column].click();
press(1); found.ascending = names().join();
press(1); found.descending = names().join();
press(0); found.alphabet = names().join();
const type = (kind, text) => {
  const input = document.querySelector(`input[data-filter=${kind}]`);
  input.value = text;
  input.dispatchEvent(new Event("input"));
  return input.parentElement.querySelector("output").textContent;
};
found.filtered = type("table", "LIGHT red") + ":" + names().join();
const titles = () => [...document.querySelectorAll(".comparison")].filter((one) => !one.hidden).map((one) => one.dataset.title).join();
const select = document.querySelector("select");
const sort = (value) => { select.value = value; select.dispatchEvent(new Event("change")); return titles(); };
found.effect0 = sort("effect0");
found.effect1 = sort("effect1");
found.title = sort("title");
found.given = sort("given");
found.words = type("comparisons", "truck") + ":" + titles();
found.marks = [...document.querySelectorAll("del, ins")].map((mark) => mark.textContent).join();
const picture = document.querySelector("div.picture");
picture.click(); found.large = getComputedStyle(picture).position;
picture.click(); found.small = getComputedStyle(picture).position;
found.executed = String(window.executed);
found.fetched = performance.getEntriesByType("resource").filter((entry) => !/^(file|data):/.test(entry.name)).length;
const image = document.querySelector("img");
image.loading = "eager";
addEventListener("load", async () => {
  found.font = (await document.fonts.load("600 16px Inter")).length;
  found.image = image.naturalWidth;
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = Object.entries(found).map(([key, value]) => `${key}=${value}`).join("\n");
  document.body.append(out);
});
"#;

fn square() -> Scene {
    let area = Rect::new(2.0, 2.0, 36.0, 16.0);
    Scene::new(40.0, 20.0, vec![Node::rectangle(area, Paint::fill(INK))])
}

fn comparison(title: &str, effects: [f64; 2], before: &str, after: &str) -> Comparison {
    Comparison {
        id: title.to_owned(),
        title: title.to_owned(),
        effects: vec![
            ("mean displacement (m)".into(), effects[0]),
            ("final (m)".into(), effects[1]),
        ],
        facts: vec![],
        clean: Picture::inline(&square()),
        perturbed: Picture::File("figures/perturbed #1.svg".into()),
        clean_reasoning: before.into(),
        perturbed_reasoning: after.into(),
    }
}

fn page() -> Page {
    let row = |name: &str, ade: f64| Row::new(vec![Cell::text(name), Cell::number(ade, 2)]);
    let hostile = "<img src=x onerror='window.executed = 1'><script>window.executed = 2</script>";
    Page {
        title: format!("A page {hostile}"),
        introduction: vec![hostile.into()],
        charts: vec![square()],
        tables: vec![Table::new(
            "All clips",
            ["clip", "ADE (m)"],
            vec![
                row("red_light", 2.0),
                row("unknown", f64::NAN),
                row("barriers", 10.0),
                row("curve", -1.0),
            ],
        )],
        comparisons: vec![
            comparison("b", [1.0, f64::NAN], "Keep the lane.", "Keep the lane."),
            comparison("a", [10.0, 2.0], "Stop for the light.", "Stop for the truck."),
            comparison("c", [2.0, 3.0], "Keep the lane.", "Slow down."),
        ],
        ..Page::default()
    }
}

/// What the browser's document is after everything ran.
fn dump(page: &Path) -> String {
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let output = Command::new(&browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
        ])
        // Wide enough for pairs to stand side by side.
        .args(["--window-size=1600,1000", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap_or_else(|error| panic!("{browser}: {error}; install Chromium or set CHROMIUM to its path"));
    String::from_utf8(output.stdout).unwrap()
}

/// What the script finds on the page, written into `folder`.
fn probe(page: &Page, script: &str, folder: &Path) -> String {
    let script = format!("<script>{script}</script></body>");
    let path = folder.join("page.html");
    std::fs::write(&path, page.to_html().replace("</body>", &script)).unwrap();
    let document = dump(&path);
    let found = document.split("<pre id=\"found\">").nth(1);
    let found = found.and_then(|rest| rest.split("</pre>").next());
    found
        .unwrap_or_else(|| panic!("the page's script did not run:\n{document}"))
        .to_owned()
}

#[test]
#[ignore = "needs Chromium"]
fn a_page_works_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("figures")).unwrap();
    square().write(&folder.path().join("figures/perturbed #1.svg")).unwrap();
    let found = probe(&page(), PROBE, folder.path());
    let expected = "ascending=curve,red_light,barriers,unknown\n\
        descending=barriers,red_light,curve,unknown\n\
        alphabet=barriers,curve,red_light,unknown\n\
        filtered=1 of 4:red_light\n\
        effect0=a,c,b\n\
        effect1=c,a,b\n\
        title=a,b,c\n\
        given=b,a,c\n\
        words=1 of 3:a\n\
        marks=light,truck,Keep the lane,Slow down\n\
        large=fixed\n\
        small=static\n\
        executed=undefined\n\
        fetched=0\n\
        font=1\n\
        image=40";
    assert_eq!(found, expected);
}

/// Sorts by a clip's name and by its minADE, goes from the worst row to its figure, and looks at what is drawn.
const PROBE_EVALUATION: &str = r#"
const found = {};
const press = (name) => [...document.querySelectorAll("th button")].find((button) => button.textContent === name).click();
const column = (index) => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[index].textContent);
found.clips = column(0).length;
const isDescending = () => {
  const values = [...document.querySelectorAll("tbody tr")].map((row) => Number(row.cells[1].dataset.value));
  return values.every((value, i) => i === 0 || values[i - 1] >= value);
};
found.given = isDescending();
press("clip"); found.alphabet = column(0).join();
press("minADE (m)"); press("minADE (m)"); found.sorted = isDescending();
found.sections = [...document.querySelectorAll("h2")].map((head) => head.textContent).join();
found.cases = document.querySelectorAll(".case").length;
found.charts = document.querySelectorAll(".charts figure").length;
const wide = [...document.querySelectorAll(".charts figure > svg, .picture > svg")].map((svg) => svg.getBoundingClientRect());
found.drawn = wide.every((box) => box.width > 300 && box.height > 100);
found.fits = document.documentElement.scrollWidth <= innerWidth;
addEventListener("load", async () => {
  const link = document.querySelector("tbody a");
  link.click();
  while (!document.querySelector(":target")) await new Promise((done) => setTimeout(done, 10));
  const target = document.querySelector(":target");
  found.target = target.querySelector("h3").textContent === link.textContent;
  found.cameras = target.querySelectorAll("svg image").length;
  const words = (text) => text.replace(/\s/g, "");
  const reasoning = document.querySelector("tbody tr").cells[11].textContent;
  found.reasoning = words(target.querySelector("svg").textContent).includes(words(reasoning));
  const photos = [...document.querySelectorAll("svg image")].map((image) => image.href.baseVal);
  const sizes = await Promise.all(photos.map((address) => new Promise((done) => {
    const photo = new Image();
    photo.onload = () => done(photo.naturalWidth);
    photo.onerror = () => done(0);
    photo.src = address;
  })));
  found.photos = sizes.length > 0 && sizes.every((width) => width > 100);
  found.fetched = performance.getEntriesByType("resource").filter((entry) => !/^(file|data):/.test(entry.name)).length;
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = Object.entries(found).map(([key, value]) => `${key}=${value}`).join("\n");
  document.body.append(out);
});
"#;

#[test]
#[ignore = "needs Chromium"]
fn the_page_of_an_evaluation_works_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let items = clips::find(&[bundled("clips").to_string_lossy()]).unwrap();
    let model = Alpamayo::<Flex>::load(bundled("checkpoint"), &Default::default(), LoadOptions::default()).unwrap();
    let options = DriveOptions {
        samples: 2,
        max_generation_length: Some(64),
        ..DriveOptions::default()
    };
    let mut results = ResultFile::open(&folder.path().join("results.jsonl"), &()).unwrap();
    let pending: Vec<_> = items.iter().collect();
    drive(&model, &options, &mut results, &pending, &Interrupt::default()).unwrap();
    let summary = Summary::new(&results, &items, 2).unwrap();
    let page = page::page(&results, &summary, &items, 2).unwrap();

    let expected = "clips=6\n\
        given=true\n\
        alphabet=barriers,green_start,pedestrian,red_light,right_curve,slow_truck\n\
        sorted=true\n\
        sections=All clips,Worst clips,Best clips\n\
        cases=4\n\
        charts=6\n\
        drawn=true\n\
        fits=true\n\
        target=true\n\
        cameras=4\n\
        reasoning=true\n\
        photos=true\n\
        fetched=0";
    assert_eq!(probe(&page, PROBE_EVALUATION, folder.path()), expected);
}

/// Sorts pairs by their effects, goes from a row of the table to its figures, and looks whether both have the same axes.
const PROBE_SWEEP: &str = r#"
const found = {};
const articles = () => [...document.querySelectorAll(".comparison")];
const select = document.querySelector("select");
const sorted = (value) => {
  select.value = value;
  select.dispatchEvent(new Event("change"));
  const effects = articles().map((article) => Number(article.dataset[value.replace("effect", "effect-")] ?? -Infinity));
  return effects.every((effect, i) => i === 0 || effects[i - 1] >= effect);
};
found.comparisons = articles().length;
found.clips = new Set(articles().map((article) => article.dataset.title.split(":")[0])).size;
found.options = [...select.options].map((option) => option.textContent).join("; ");
found.sorted = ["effect0", "effect1", "effect2", "effect3", "effect4"].map(sorted).join();
sorted("effect0");
const texts = (section, select) => [...section.querySelectorAll(select)].map((node) => node.textContent);
const ticks = (section) => texts(section, "svg text").filter((text) => /^−?[0-9.]+$/.test(text)).join();
const sides = articles().map((article) => [...article.querySelectorAll(".pair > section")]);
found.sides = sides.every((pair) => pair.length === 2 && pair.every((side) => side.querySelectorAll("svg image").length === 4));
found.axes = sides.every(([clean, perturbed]) => ticks(clean) === ticks(perturbed));
const place = (side) => side.querySelector("svg").getBoundingClientRect();
found.beside = sides.every(([clean, perturbed]) => place(clean).y === place(perturbed).y && place(clean).right < place(perturbed).x);
found.marks = articles()[0].querySelectorAll("del").length > 0 && articles()[0].querySelectorAll("ins").length > 0;
found.tables = texts(document, "main > section > h2").join();
found.rows = [...document.querySelectorAll("tbody")].map((body) => body.rows.length).join();
found.fits = document.documentElement.scrollWidth <= innerWidth;
addEventListener("load", async () => {
  const link = document.querySelector("tbody a");
  link.click();
  while (!document.querySelector(":target")) await new Promise((done) => setTimeout(done, 10));
  const row = link.closest("tr").cells;
  found.target = document.querySelector(":target h3").textContent === `${row[0].textContent}: ${row[1].textContent} at severity 1`;
  const moved = Number(row[4].dataset.value);
  found.effect = Number(document.querySelector(":target").dataset["effect-0"]) === moved && moved > 2;
  found.fetched = performance.getEntriesByType("resource").filter((entry) => !/^(file|data):/.test(entry.name)).length;
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = Object.entries(found).map(([key, value]) => `${key}=${value}`).join("\n");
  document.body.append(out);
});
"#;

const SWEEP: &str = r#"
severities = [0, 1]
[[experiments]]
name = "dark front cameras"
perturbations = [{ name = "black_camera", cameras = [1, 6] }]
[[experiments]]
name = "fog"
perturbations = [{ name = "fog" }]
"#;

#[test]
#[ignore = "needs Chromium"]
fn the_page_of_a_sweep_works_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = Sweep::from_toml(SWEEP, Path::new("sweep.toml")).unwrap();
    let clips = ["red_light", "pedestrian"].map(|name| ClipItem::folder(name, bundled("clips").join(name)));
    let items = grid(&sweep, &clips).unwrap();
    let model = Alpamayo::<Flex>::load(bundled("checkpoint"), &Default::default(), LoadOptions::default()).unwrap();
    let options = DriveOptions {
        samples: 2,
        max_generation_length: Some(64),
        ..DriveOptions::default()
    };
    let mut results = ResultFile::open(&folder.path().join("results.jsonl"), &()).unwrap();
    let pending: Vec<_> = items.iter().collect();
    drive_grid(&model, &options, &mut results, &pending, &Interrupt::default()).unwrap();
    let rows = Rows::read(&results, &items).unwrap();
    let sources = Sources {
        results: &results,
        clips: &clips,
        rows: &rows,
        summary: &perturb::Summary::new(&rows).unwrap(),
        flips: None,
        drawn_per_clip: 2,
    };
    let page = perturb::page::page(&sources).unwrap();

    let expected = "comparisons=4\n\
        clips=2\n\
        options=order of the page; mean displacement (m), largest first; final displacement (m), largest first; \
        edited tokens, largest first; flips of the stated intent (%), largest first; \
        change of minADE (m), largest first; title\n\
        sorted=true,true,true,true,true\n\
        sides=true\n\
        axes=true\n\
        beside=true\n\
        marks=true\n\
        tables=Experiments,All pairs,Clean and perturbed\n\
        rows=5,10\n\
        fits=true\n\
        target=true\n\
        effect=true\n\
        fetched=0";
    assert_eq!(probe(&page, PROBE_SWEEP, folder.path()), expected);
}
