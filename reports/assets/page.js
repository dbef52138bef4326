"use strict";
// What scrolls can be reached by key: by itself, where nothing in it can.
{
  const check = (box) => {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (scrolls && !box.querySelector("a, button, input, select, [tabindex]")) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const sizes = new ResizeObserver((entries) => entries.forEach((entry) => check(entry.target.closest(".scroll"))));
  document.querySelectorAll(".scroll, .scroll > *").forEach((box) => sizes.observe(box));
}
// Light and dark: what the system asks for, until the reader says otherwise.
(() => {
  const button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const show = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = { auto: "◐ theme: auto", light: "☀ theme: light", dark: "☾ theme: dark" }[theme];
    button.dataset.theme = theme;
  };
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* storage is off for files in some browsers */ }
  show(themes.includes(kept) ? kept : "auto");
  button.addEventListener("click", () => {
    const theme = themes[(themes.indexOf(button.dataset.theme) + 1) % themes.length];
    try { localStorage.setItem("theme", theme); } catch { /* then it holds for this visit */ }
    show(theme);
  });
})();
