"use strict";
// Tables that sort by a click on a header, and show the rows that fit a search and some choices.
const shownRows = new EventTarget();

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v !== undefined ? (cell.dataset.v === "" ? null : Number(cell.dataset.v)) : cell.textContent.trim();
  };
  const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en"));
  for (const button of table.querySelectorAll("thead button")) {
    const header = button.closest("th");
    button.addEventListener("click", () => {
      const numeric = header.dataset.kind === "number";
      const before = header.getAttribute("aria-sort");
      const descending = before ? before === "ascending" : numeric;
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row, header.cellIndex), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // undefined comes last either way
        return descending ? order(b, a) : order(a, b);
      });
      body.append(...rows.map(([, row]) => row));
    });
  }
  const controls = document.querySelector(`[data-filters="${table.id}"]`);
  if (!controls) continue;
  const count = controls.querySelector("output");
  const filter = () => {
    const words = controls.querySelector("input[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...controls.querySelectorAll("select[data-key]")].filter((select) => select.value);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.dataset.text.toLowerCase();
      const fits = words.every((word) => text.includes(word))
        && chosen.every((select) => (row.dataset[select.dataset.key] ?? "").split("|").includes(select.value));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${body.rows.length}`;
    shownRows.dispatchEvent(new CustomEvent(table.id));
  };
  controls.addEventListener("input", filter);
  // a link to the table may name a group
  for (const link of document.querySelectorAll(`a[data-group][href="#per-category"]`)) {
    link.addEventListener("click", () => {
      const select = controls.querySelector('select[data-key="groups"]');
      if (select) select.value = link.dataset.group;
      controls.querySelector("input[type=search]").value = "";
      filter();
    });
  }
  filter();
}
