"use strict";
// The viewer: a video's frames with the truth and each run side by side; tracks can be switched, pointed at, played.
(() => {
  const source = document.getElementById("viewer-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const root = document.getElementById("viewer");
  const choices = document.getElementById("viewer-choices");
  const panes = document.getElementById("viewer-panes");
  const slider = document.getElementById("viewer-frame");
  const playing = document.getElementById("viewer-play");
  const missing = document.getElementById("viewer-missing");
  const names = document.getElementById("viewer-names");
  const outlines = document.getElementById("viewer-outlines");
  const SVG = "http://www.w3.org/2000/svg";
  let video = null, frame = 0, timer = null, shown = [];

  const make = (tag, classes, text) => {
    const element = document.createElement(tag);
    if (classes) element.className = classes;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const told = (track) => track.name + (track.score === undefined ? "" : ` · score ${track.score.toFixed(2)}`)
    + (track.note ? ` · ${track.note}` : "");

  function buildPane(pane) {
    const box = make("div", "pane");
    const head = make("h3", "", pane.title);
    head.append(make("span", "soft", ` ${pane.note}`));
    const stage = make("div", "stage");
    stage.style.aspectRatio = `${video.width} / ${video.height}`;
    const image = make("img");
    const absent = make("div", "absent", "this frame cannot be read");
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${video.width * data.unit} ${video.height * data.unit}`);
    svg.setAttribute("preserveAspectRatio", "none");
    stage.append(image, absent, svg);
    const reading = make("p", "reading soft");
    const list = make("ul", "tracks");
    const tracks = pane.tracks.map((track) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("fill", track.colour);
      path.setAttribute("stroke", track.colour);
      const label = document.createElementNS(SVG, "text");
      const title = document.createElementNS(SVG, "title");
      title.textContent = told(track);
      path.append(title);
      const row = make("label");
      const box = make("input");
      box.type = "checkbox";
      box.checked = track.on;
      const swatch = make("span", "swatch");
      swatch.style.background = track.colour;
      row.append(box, swatch, make("span", "", told(track)));
      const near = (on) => {
        path.classList.toggle("near", on);
        row.classList.toggle("near", on);
        reading.textContent = on ? told(track) : "";
      };
      for (const part of [path, row]) {
        part.addEventListener("pointerenter", () => near(true));
        part.addEventListener("pointerleave", () => near(false));
      }
      row.addEventListener("focusin", () => near(true));
      row.addEventListener("focusout", () => near(false));
      box.addEventListener("change", () => { track.on = box.checked; draw(); });
      const item = make("li");
      item.append(row);
      list.append(item);
      return { track, path, label, box };
    });
    for (const one of [...tracks].reverse()) svg.append(one.path); // later tracks are below earlier ones
    for (const one of tracks) svg.append(one.label);
    box.append(head, stage, reading);
    if (tracks.length) {
      const switches = make("div", "choices");
      for (const [text, on] of [["all", true], ["none", false]]) {
        const button = make("button", "button", text);
        button.type = "button";
        button.setAttribute("aria-label", `${text} tracks of ${pane.title}`);
        button.addEventListener("click", () => {
          for (const one of tracks) one.track.on = one.box.checked = on;
          draw();
        });
        switches.append(button);
      }
      box.append(switches, list);
    }
    panes.append(box);
    return { image, absent, tracks };
  }

  function draw() {
    const uri = video.frames[frame];
    const large = (video.height * data.unit) / 18;
    for (const pane of shown) {
      const taken = []; // names of tracks that stand close together are moved apart
      pane.image.hidden = uri === null;
      pane.absent.hidden = uri !== null;
      if (uri !== null) {
        pane.image.src = uri;
        pane.image.alt = `frame ${video.indices[frame] + 1}`;
      }
      for (const { track, path, label } of pane.tracks) {
        const d = track.on ? track.paths[frame] : "";
        path.setAttribute("d", d);
        path.style.fillOpacity = outlines.checked ? "0" : "";
        label.textContent = "";
        if (!d || !names.checked) continue;
        const at = path.getBBox();
        label.textContent = track.score === undefined ? track.name : `${track.name} ${track.score.toFixed(2)}`;
        label.setAttribute("font-size", large);
        const width = label.getBBox().width;
        const x = Math.max(0, Math.min(at.x, video.width * data.unit - width));
        let y = Math.max(large, at.y - large / 4);
        const meets = (other) => Math.abs(other.y - y) < large && other.x < x + width && x < other.x + other.width;
        for (let other; (other = taken.find(meets)); ) y = other.y + large * 1.1;
        taken.push({ x, y, width });
        label.setAttribute("x", x);
        label.setAttribute("y", y);
      }
    }
    slider.value = frame;
    const place = `frame ${video.indices[frame] + 1} of ${video.total}`;
    slider.setAttribute("aria-valuetext", place);
    document.getElementById("viewer-place").textContent = place;
  }

  function show(next) {
    pause();
    video = next;
    frame = 0;
    slider.max = video.frames.length - 1;
    panes.replaceChildren();
    shown = video.panes.map(buildPane);
    for (const button of choices.querySelectorAll("button")) {
      button.setAttribute("aria-current", String(button.dataset.video === String(video.id)));
    }
    missing.textContent = video.missing;
    missing.hidden = !video.missing;
    const left = video.total - video.frames.length;
    document.getElementById("viewer-about").textContent =
      `Video ${video.id}${video.name && video.name !== String(video.id) ? ` (${video.name})` : ""}: ${video.reason}.`
      + (left ? ` ${video.frames.length} of its ${video.total} frames are in this page.` : "");
    draw();
  }

  const step = (by) => { frame = (frame + by + video.frames.length) % video.frames.length; draw(); };
  function pause() {
    clearInterval(timer);
    timer = null;
    playing.textContent = "▶ play";
    playing.setAttribute("aria-pressed", "false");
  }
  function play() {
    timer = setInterval(() => step(1), 200);
    playing.textContent = "❚❚ pause";
    playing.setAttribute("aria-pressed", "true");
  }

  let row = null;
  for (const one of data.videos) {
    if (row === null || row.dataset.group !== one.group) {
      row = make("div", "choices");
      row.dataset.group = one.group;
      row.append(make("span", "soft", one.group));
      choices.append(row);
    }
    const button = make("button", "button", `video ${one.id}`);
    button.type = "button";
    button.append(make("span", "soft", ` ${one.mark}`));
    button.dataset.video = one.id;
    button.addEventListener("click", () => show(one));
    row.append(button);
  }
  playing.addEventListener("click", () => (timer ? pause() : play()));
  document.getElementById("viewer-back").addEventListener("click", () => { pause(); step(-1); });
  document.getElementById("viewer-on").addEventListener("click", () => { pause(); step(1); });
  slider.addEventListener("input", () => { pause(); frame = Number(slider.value); draw(); });
  for (const box of [names, outlines]) box.addEventListener("change", draw);
  root.addEventListener("keydown", (event) => {
    if (event.target.matches("input[type=range], select, input[type=search]")) return;
    if (event.key === "ArrowLeft") { pause(); step(-1); }
    else if (event.key === "ArrowRight") { pause(); step(1); }
    else if (event.key === " " && event.target === root) timer ? pause() : play();
    else return;
    event.preventDefault();
  });
  // links lead to a video as #video-ID
  const linked = () => data.videos.find((one) => location.hash === `#video-${one.id}`);
  addEventListener("hashchange", () => {
    if (!linked()) return;
    show(linked());
    document.getElementById("videos").scrollIntoView();
  });
  root.hidden = false;
  show(linked() ?? data.videos[0]);
  if (linked()) document.getElementById("videos").scrollIntoView();
})();
