"use strict";
// The scatter of categories: two selects choose the runs, the table's filter dims the dots, a click searches.
(() => {
  const chart = document.querySelector("svg.scatter");
  if (!chart) return;
  const [left, right, top, bottom] = chart.dataset.frame.split(" ").map(Number);
  const { width, height } = chart.viewBox.baseVal;
  const dots = [...chart.querySelectorAll(".dot")];
  chart.setAttribute("role", "group"); // an image has no parts that a screen reader reaches
  const selects = ["scatter-x", "scatter-y"].map((id) => document.getElementById(id));
  const titles = chart.querySelectorAll("text.axis");
  const place = () => {
    const [across, up] = selects.map((select) => Number(select.value));
    for (const dot of dots) {
      const values = dot.dataset.v.split(" ").map(Number);
      const [x, y] = [values[across], values[up]];
      dot.setAttribute("cx", left + x * (width - left - right));
      dot.setAttribute("cy", height - bottom - y * (height - top - bottom));
      dot.classList.remove("win", "loss", "tie");
      dot.classList.add(y > x ? "win" : y < x ? "loss" : "tie");
    }
    selects.forEach((select, i) => {
      const title = `AP of ${select.selectedOptions[0].textContent}`;
      titles[i].textContent = i && title.length > 30 ? `${title.slice(0, 29)}…` : title; // as svg.py has it
    });
  };
  for (const select of selects) if (select) select.addEventListener("change", place);
  shownRows.addEventListener("categories", () => {
    const shown = new Set([...document.querySelectorAll("#categories tbody tr:not([hidden])")].map((r) => r.dataset.id));
    for (const dot of dots) dot.classList.toggle("out", !shown.has(dot.dataset.key));
  });
  const search = document.querySelector('[data-filters="categories"] input[type=search]');
  // One dot is in the tab order; the arrow keys go from dot to dot, Enter and the space bar are a click.
  for (const [i, dot] of dots.entries()) {
    dot.setAttribute("tabindex", i ? "-1" : "0");
    dot.setAttribute("role", "button");
    dot.setAttribute("aria-label", dot.querySelector("title").textContent);
    dot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) {
        const next = dots[(i + step + dots.length) % dots.length];
        dot.setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
      } else if (event.key === "Enter" || event.key === " ") dot.dispatchEvent(new Event("click"));
      else return;
      event.preventDefault();
    });
    dot.addEventListener("click", () => {
      search.value = document.querySelector(`#categories tr[data-id="${CSS.escape(dot.dataset.key)}"]`).cells[0].textContent.trim();
      search.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }
})();
