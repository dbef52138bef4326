"use strict";
// The history of one metric at a time.
(() => {
  const choice = document.getElementById("history-metric");
  if (!choice) return;
  const show = () => {
    for (const figure of document.querySelectorAll("[data-metric]")) figure.hidden = figure.dataset.metric !== choice.value;
  };
  choice.addEventListener("change", show);
  show();
})();
