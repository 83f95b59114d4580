"use strict";

// Sorting: numbers by value, words by the alphabet, what is missing last in both directions.
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number") return direction * (a - b);
  return direction * a.localeCompare(b, "en", { numeric: true });
}

function cellValue(cell) {
  if (cell.dataset.value === undefined) return cell.textContent;
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [cellValue(row.cells[column]), row]);
    rows.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}

for (const input of document.querySelectorAll("input[data-filter]")) {
  const section = input.closest("section");
  const items = [...section.querySelectorAll(input.dataset.filter === "table" ? "tbody tr" : ".comparison")];
  const text = (item) => [item, ...item.querySelectorAll("h3, dd, .words")]
    .map((part) => (part === item && !part.cells ? "" : part.textContent)).join(" ").toLowerCase();
  const texts = items.map(text);
  const output = input.parentElement.querySelector("output");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    items.forEach((item, i) => { item.hidden = !words.every((word) => texts[i].includes(word)); });
    output.textContent = `${items.filter((item) => !item.hidden).length} of ${items.length}`;
  });
}

for (const select of document.querySelectorAll("select[data-sort]")) {
  const list = select.closest("section").querySelector(".list");
  const given = [...list.children];
  const effect = (article, key) => (key in article.dataset ? Number(article.dataset[key]) : null);
  select.addEventListener("change", () => {
    const key = select.value.replace("effect", "effect-");
    const sorted = [...given];
    if (select.value === "title") sorted.sort((a, b) => compare(a.dataset.title, b.dataset.title, 1));
    else if (select.value !== "given") sorted.sort((a, b) => compare(effect(a, key), effect(b, key), -1));
    list.append(...sorted);
  });
}

// A click shows a figure as large as the window, a second one, Enter or Escape puts it back.
for (const picture of document.querySelectorAll("div.picture")) {
  picture.addEventListener("click", () => picture.classList.toggle("large"));
  picture.addEventListener("keydown", (event) => {
    if (event.key === "Enter") picture.classList.toggle("large");
    if (event.key === "Escape") picture.classList.remove("large");
  });
}
