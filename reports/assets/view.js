// The page of `harness view`. Its whole state is in the address, so that a link shows the same again.
// Text of files is only ever set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg", UNIT = 2;
const FILTERS = ["category", "said", "group", "kind", "low", "high", "size", "length", "name"];
const ERRORS = "wsm";
const NAMES = { h: "hit", w: "wrong category", s: "switched", m: "missed", "-": "absent", 1: "annotated", 0: "absent" };
const TINTS = ["--s0", "--s1", "--s2", "--s3", "--s4", "--s5"];
const MOST_ERRORS = 10, MOST_ROWS = 150;

const byId = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const tint = (run) => `var(${TINTS[run % 6]})`;
const swatch = (colour) => {
  const key = make("i", { class: "key" });
  key.style.background = colour;
  return key;
};
const draw = (tag, attributes) => {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

let about = null, overview = null, video = null, outlines = null, timer = null, named = new Map();
let mostRows = MOST_ROWS;
let zoom = { k: 1, x: 0, y: 0 };
let order = { videos: ["errors", true], pairs: ["cost", true] };
const state = new URLSearchParams(location.search);

const get = (key, otherwise = "") => state.get(key) ?? otherwise;
const number = (key, otherwise) => { const value = parseInt(get(key), 10); return Number.isNaN(value) ? otherwise : value; };
const shown = () => get("show", "hem");
const chosenRuns = () => get("runs") ? get("runs").split(",").map(Number) : about.runs.map((_, i) => i);

function set(changes, replace = false) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined) state.delete(key); else state.set(key, value);
  }
  const address = "?" + state.toString();
  if (replace) history.replaceState(null, "", address); else history.pushState(null, "", address);
}
function query(more = {}) {
  const found = new URLSearchParams();
  for (const key of [...FILTERS, "runs"]) if (get(key)) found.set(key, get(key));
  for (const [key, value] of Object.entries(more)) found.set(key, value);
  return found.toString();
}
class Refused extends Error {}
function tell(text) {
  byId("fault").textContent = text;
  byId("fault").hidden = !text;
}
async function ask(path, parameters) {
  let response;
  try { response = await fetch(`api/${path}?${parameters ?? ""}`); } catch {
    tell("The server does not answer: start harness view again.");
    throw new Refused();
  }
  const data = await response.json().catch(() => ({ error: `the server answers ${response.status}` }));
  if (!response.ok) { tell(data.error); throw new Refused(data.error); }
  return data;
}
// An error of the server is shown on the page, and the rest stays unchanged.
addEventListener("unhandledrejection", (event) => { if (event.reason instanceof Refused) event.preventDefault(); });

// ---- filters and overview

function fillControls() {
  const list = byId("categories");
  list.replaceChildren(...about.categories.map(([, name]) => make("option", { value: name })));
  named = new Map(about.categories);
  const form = byId("filters");
  const options = { group: about.groups, kind: about.kinds, size: about.sizes, length: about.lengths };
  for (const [key, values] of Object.entries(options)) {
    form.elements.namedItem(key).replaceChildren(make("option", { value: "" }, "all"), ...values.map((v) => make("option", { value: v }, v)));
  }
  byId("runs").replaceChildren(make("legend", {}, "Runs"), ...about.runs.map((run, i) => {
    const box = make("input", { type: "checkbox", value: i });
    box.addEventListener("change", () => {
      const on = [...byId("runs").querySelectorAll("input:checked")].map((one) => one.value);
      set({ runs: on.length === about.runs.length || !on.length ? "" : on.join(",") });
      refresh();
    });
    const ap = run.metrics.AP === null || run.metrics.AP === undefined ? "" : ` · AP ${(100 * run.metrics.AP).toFixed(1)}`;
    const done = run.done < about.videos ? ` · ${run.done} of ${about.videos} videos` : "";
    return make("label", {}, box, " ", swatch(tint(i)), `${run.label}${ap}${done}${run.note ? ` · ${run.note}` : ""}`);
  }));
}
function showControls() {
  const form = byId("filters");
  for (const key of FILTERS) {
    const value = get(key);
    form.elements.namedItem(key).value = ["category", "said"].includes(key) && value ? named.get(Number(value)) ?? value : value;
  }
  const on = chosenRuns();
  byId("runs").querySelectorAll("input").forEach((box, i) => { box.checked = on.includes(i); });
  byId("shown").querySelectorAll("input").forEach((box) => { box.checked = shown().includes(box.value); });
}
function readFilter(event) {
  const { name, value } = event.target;
  if (!FILTERS.includes(name)) return;
  if (["category", "said"].includes(name) && value) {
    const found = about.categories.find(([id, text]) => text === value || String(id) === value);
    if (!found) { tell(`No category is called ${value}.`); return; }
    set({ [name]: found[0] });
  } else set({ [name]: value });
  refresh();
}

function showKinds() {
  const kinds = about.kinds.filter((kind) => overview.kinds.some((counts) => counts[kind]));
  const most = Math.max(1, ...overview.kinds.flatMap((counts) => kinds.map((kind) => counts[kind])));
  byId("kinds").replaceChildren(...kinds.map((kind) => {
    const bars = make("span", {}, ...chosenRuns().map((run, i) => {
      const bar = make("span", { class: "bar" });
      bar.style.width = `${75 * overview.kinds[i][kind] / most}%`;
      bar.style.background = tint(run);
      return make("span", { class: "barline" }, bar, String(overview.kinds[i][kind]));
    }));
    const row = make("button", { type: "button", class: "kindrow", "aria-pressed": get("kind") === kind, "data-kind": kind }, make("span", {}, kind), bars);
    row.addEventListener("click", () => { set({ kind: get("kind") === kind ? "" : kind }); refresh(); });
    return row;
  }));
}
const SHOWN_BY = { hits: "h", errors: "e", missed: "m" };
const classOf = (key, text) => text ? "text" : ["frames", "objects"].includes(key) ? "minor" : "";
const signed = (n) => n > 0 ? `+${n}` : String(n).replace("-", "−");
const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
const sum = (values) => values.reduce((a, b) => a + b, 0);
function videoRows() {
  const { id, name, frames, objects, runs } = overview.videos;
  return id.map((one, i) => ({
    id: one, name: name[i], frames: frames[i], objects: objects[i],
    hits: sum(runs.map((r) => r.hits[i])), errors: sum(runs.map((r) => r.errors[i])), missed: sum(runs.map((r) => r.missed[i])),
    each: runs.length > 2 ? {} : Object.fromEntries(["hits", "errors", "missed"].map((key) => [key, runs.map((r) => r[key][i])])),
    gain: runs.length === 2 ? runs[1].hits[i] - runs[0].hits[i] : 0,
  }));
}
function pairRows() {
  const found = new Map();
  overview.pairs.forEach((pairs, i) => pairs.forEach(([t, s, count, cost, frames]) => {
    const key = `${t}>${s}`;
    const row = found.get(key) ?? { t, s, truth: named.get(t), said: named.get(s), count: 0, cost: 0, frames: 0 };
    row.count += count; row.cost += cost; row.frames += frames;
    found.set(key, row);
  }));
  return [...found.values()];
}
function showTable() {
  const tab = get("tab", "videos");
  document.querySelectorAll("[data-tab]").forEach((one) => one.setAttribute("aria-selected", one.dataset.tab === tab));
  document.querySelector("#tab-videos span").textContent = overview.videos.id.length;
  document.querySelector("#tab-pairs span").textContent = overview.pairs_total.join(" + ");
  const columns = tab === "videos"
    ? [["name", "Video", true], ["frames", "Frames"], ["objects", "Objects"], ["hits", "Hits"], ["errors", "Errors"], ["missed", "Missed"], ...(overview.videos.runs.length === 2 ? [["gain", "2 − 1"]] : [])]
    : [["truth", "Truth", true], ["said", "Predicted", true], ["count", "Tracks"], ["cost", "Cost (AP50)"], ["frames", "Frames"]];
  const rows = tab === "videos" ? videoRows() : pairRows();
  const [by, down] = order[tab];
  rows.sort((a, b) => (a[by] < b[by] ? -1 : a[by] > b[by] ? 1 : 0) * (down ? -1 : 1));
  const head = make("tr", {}, ...columns.map(([key, title, text]) => {
    const button = make("button", { type: "button" }, title);
    button.addEventListener("click", () => { order[tab] = [key, by === key ? !down : !text]; showTable(); });
    if (key === "gain") button.title = "hits of the second run minus hits of the first";
    return make("th", { class: classOf(key, text), ...(by === key ? { "aria-sort": down ? "descending" : "ascending" } : {}) }, button);
  }));
  const body = rows.slice(0, mostRows).map((row) => {
    const cells = columns.map(([key, , text], i) => {
      const value = key === "cost" ? (100 * row.cost).toFixed(2) : key === "gain" ? signed(row.gain) : row.each?.[key]?.join(" · ") ?? String(row[key]);
      if (SHOWN_BY[key]) {
        const number = make("button", { type: "button", title: `show ${key} only` }, value);
        number.addEventListener("click", (event) => { event.stopPropagation(); open(row.id, { show: SHOWN_BY[key] }); });
        return make("td", {}, number);
      }
      if (i || !text) return make("td", { class: classOf(key, text) }, value);
      const button = make("button", { type: "button" }, value || String(row.id));
      return make("td", { class: "text" }, button);
    });
    const line = make("tr", tab === "videos" ? { "data-video": row.id, "aria-current": number("video") === row.id } : {}, ...cells);
    line.addEventListener("click", () => {
      if (tab === "videos") open(row.id);
      else { set({ category: row.t, said: row.s, kind: "classification", tab: "videos" }); refresh(); }
    });
    return line;
  });
  if (!rows.length) body.push(make("tr", {}, make("td", { class: "none", colspan: columns.length }, tab === "videos" ? "No video passes the filters." : "No pair of categories passes the filters.")));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const more = make("button", { type: "button", class: "button" }, `show all ${rows.length}`);
  more.addEventListener("click", () => { mostRows = Infinity; showTable(); });
  const pairs = overview.pairs.some((one, i) => one.length < overview.pairs_total[i]);
  const all = make("button", { type: "button", class: "button" }, "load the less costly pairs too");
  all.addEventListener("click", async () => { overview = await ask("overview", query({ pairs: "all" })); showTable(); });
  byId("table").replaceChildren(table, ...(rows.length > mostRows ? [more] : []), ...(tab === "pairs" && pairs ? [all] : []));
}

// ---- the video

async function open(id, more = {}) {
  stop();
  set({ video: id, frame: "", object: "", ...more });
  zoom = { k: 1, x: 0, y: 0 };
  await showVideo();
  // the first error is what one comes for
  if (video && !stripsAt(0).some((s) => ERRORS.includes(s))) step(1, true);
  showControls();
  showTable();
  if (byId("viewer").getBoundingClientRect().top > innerHeight / 2) byId("viewer").scrollIntoView();
}
async function showVideo() {
  const id = number("video");
  if (id === undefined) return;
  try { video = await ask(`video/${id}`, query()); } catch (error) { closeVideo(); throw error; }
  byId("hint").hidden = true;
  for (const one of ["player", "strips-title", "states"]) byId(one).hidden = false;
  byId("video-title").textContent = `${video.name || "video"} (id ${video.id})`;
  byId("frame").max = Math.max(0, video.frames - 1);
  buildPanes();
  buildStrips();
  await showFrame();
}
function closeVideo() {
  video = outlines = null;
  for (const one of ["player", "strips-title", "states"]) byId(one).hidden = true;
  for (const one of ["panes", "strips"]) byId(one).replaceChildren();
  byId("video-title").textContent = "Choose a video";
  byId("hint").hidden = false;
}
function onTracks(i) {
  const run = video.runs[i], hits = run.tracks.filter((t) => t.passes && t.kind === "hit");
  const blamed = new Set(video.objects.flatMap((o) => o.strips[i].rows));
  const errors = run.tracks.filter((t) => t.passes && !["hit", "ignored"].includes(t.kind));
  errors.sort((a, b) => blamed.has(b.row) - blamed.has(a.row));
  const object = number("object");
  const found = [...(shown().includes("h") ? hits : []), ...(shown().includes("e") ? errors.slice(0, MOST_ERRORS) : [])];
  return object === undefined ? found : found.filter((t) => t.object === object || t.object === null);
}
function buildPanes() {
  const panes = [];
  const add = (title, note, run) => {
    const stage = make("div", { class: "viewstage" });
    stage.style.aspectRatio = `${video.width} / ${video.height}`;
    const image = make("img", { alt: "" });
    image.draggable = false;
    const [w, h] = video.outline;
    const svg = draw("svg", { viewBox: `0 0 ${w * UNIT} ${h * UNIT}`, preserveAspectRatio: "none" });
    const inner = make("div", { class: "inner" }, image, svg);
    const gone = make("p", { class: "nopicture", hidden: "" }, "this frame cannot be read");
    if (!video.has_pictures) { image.hidden = true; gone.hidden = false; gone.textContent = "no frames: name their folder with --frames"; }
    image.addEventListener("error", () => { image.hidden = true; gone.hidden = false; });
    image.addEventListener("load", () => { image.hidden = false; gone.hidden = true; });
    stage.append(inner);
    const reading = make("p", { class: "reading soft" });
    const list = make("ul", { class: "objects" });
    movable(stage);
    panes.push({ run, image, svg, inner, reading, list });
    return make("div", { class: "pane", "data-run": run }, make("h3", {}, title, " ", make("span", { class: "soft" }, note)), stage, gone, reading, list);
  };
  const elements = about.has_truth ? [add("Truth", count(video.objects.length, "object"), -1)] : [];
  video.runs.forEach((run, i) => elements.push(add(run.label, run.done ? count(run.tracks.length, "track") : "no predictions", i)));
  byId("panes").replaceChildren(...elements);
  buildPanes.made = panes;
  for (const pane of panes) buildList(pane);
}
function told(track) {
  return `${track.name} · score ${track.score.toFixed(2)} · ${track.kind}`;
}
function buildList(pane) {
  const objectName = (o) => {
    const button = make("button", { type: "button", class: "objectname" }, `${o.name} (${o.id})`);
    button.addEventListener("click", () => select(o.id));
    return make("li", {}, swatch(o.colour), button);
  };
  if (pane.run < 0) { pane.list.replaceChildren(...video.objects.map(objectName)); return; }
  const tracks = onTracks(pane.run), rows = [];
  const item = (t) => {
    const button = make("button", { type: "button", class: "objectname", "data-row": t.row }, told(t));
    button.addEventListener("click", () => go(t.first));
    return make("li", { class: "of" }, button);
  };
  for (const o of video.objects) {
    const mine = tracks.filter((t) => t.object === o.id);
    rows.push(objectName(o), ...(mine.length ? mine.map(item) : [make("li", { class: "of quiet" }, "no track shown")]));
  }
  const free = tracks.filter((t) => t.object === null);
  if (free.length) rows.push(make("li", {}, "without an object"), ...free.map(item));
  pane.list.replaceChildren(...rows);
}
function select(object) {
  set({ object: number("object") === object ? "" : object });
  for (const pane of buildPanes.made) buildList(pane);
  showCursor();
  return showFrame();
}
async function showFrame() {
  const frame = Math.min(number("frame", 0), video.frames - 1), id = video.id;
  byId("frame").value = frame;
  byId("place").textContent = `frame ${frame + 1} of ${video.frames}`;
  const tracks = {}, positions = chosenRuns();
  video.runs.forEach((_, i) => { tracks[`tracks${positions[i]}`] = onTracks(i).map((t) => t.row).join(","); });
  const picture = `api/video/${id}/frames/${frame}.jpg`;
  for (const pane of buildPanes.made) if (video.has_pictures && pane.image.getAttribute("src") !== picture) pane.image.src = picture;
  showCursor();
  const found = await ask(`video/${id}/outlines/${frame}`, new URLSearchParams(tracks));
  if (!video || video.id !== id || frame !== Math.min(number("frame", 0), video.frames - 1)) return;
  outlines = found;
  drawOutlines(frame);
  if (video.has_pictures && frame + 1 < video.frames) new Image().src = `api/video/${id}/frames/${frame + 1}.jpg`;
}
function drawOutlines(frame) {
  const positions = chosenRuns(), object = number("object");
  for (const pane of buildPanes.made) {
    const paths = [];
    const add = (path, colour, kind, text, owner) => {
      if (!path) return;
      const element = draw("path", { d: path, class: `mask ${kind}${object !== undefined && owner !== object ? " faded" : ""}` });
      if (kind !== "miss") { element.setAttribute("fill", colour); element.setAttribute("stroke", colour); }
      const title = draw("title", {});
      title.textContent = text;
      element.append(title);
      element.addEventListener("pointerenter", () => { pane.reading.textContent = text; });
      element.addEventListener("pointerleave", () => { pane.reading.textContent = ""; });
      if (owner !== null) element.addEventListener("click", () => { if (!movable.moved) select(owner); });
      paths.push(element);
    };
    if (pane.run < 0) {
      for (const o of video.objects) add(outlines.truth[o.id], o.colour, "hit", o.name, o.id);
    } else {
      const drawn = outlines.runs[positions[pane.run]] ?? {};
      if (shown().includes("m")) {
        for (const o of video.objects) {
          if (o.strips[pane.run].states[frame] === "m") add(outlines.truth[o.id], "", "miss", `missed: ${o.name}`, o.id);
        }
      }
      for (const t of [...onTracks(pane.run)].reverse()) add(drawn[t.row], t.colour, t.kind === "hit" ? "hit" : "error", told(t), t.object);
    }
    pane.svg.replaceChildren(...paths);
    pane.inner.style.transform = `translate(${zoom.x}%, ${zoom.y}%) scale(${zoom.k})`;
  }
}

// ---- strips

function buildStrips() {
  const rows = video.objects.map((o) => {
    const name = make("button", { type: "button", class: "objectname" }, `${o.name} (${o.id})`);
    name.addEventListener("click", () => select(o.id));
    name.prepend(swatch(o.colour));
    const box = make("div", { class: "object", "data-object": o.id });
    const add = (label, text, i) => {
      const svg = draw("svg", { class: "strip", viewBox: `0 0 ${video.frames} 10`, preserveAspectRatio: "none", role: "button", tabindex: 0, "data-run": i });
      const counts = {};
      for (let from = 0; from < text.length;) {
        let to = from;
        while (to < text.length && text[to] === text[from]) to += 1;
        const s = text[from];
        counts[NAMES[s]] = (counts[NAMES[s]] ?? 0) + to - from;
        if (s !== "-" && s !== "0") {
          const rect = draw("rect", { x: from, y: 0, width: to - from, height: 10, class: s === "1" ? "state-t" : `state-${s}` });
          const title = draw("title", {});
          title.textContent = `${NAMES[s]}, frames ${from + 1} to ${to}`;
          rect.append(title);
          svg.append(rect);
        }
        from = to;
      }
      svg.setAttribute("aria-label", `${o.name}, ${label}: ${Object.entries(counts).map(([k, n]) => `${n} ${k}`).join(", ")}`);
      svg.append(draw("rect", { class: "cursor", y: 0, width: 1, height: 10 }));
      svg.addEventListener("click", (event) => {
        const area = svg.getBoundingClientRect();
        set({ frame: Math.min(video.frames - 1, Math.floor((event.clientX - area.left) / area.width * video.frames)), object: o.id });
        for (const pane of buildPanes.made) buildList(pane);
        showFrame();
      });
      svg.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        select(o.id);
      });
      box.append(make("div", { class: "striprow" }, i < 0 ? name : make("span", { class: "soft", title: label }, swatch(tint(chosenRuns()[i])), label), svg));
    };
    add("truth", o.present, -1);
    o.strips.forEach((strip, i) => add(video.runs[i].label, strip.states, i));
    return box;
  });
  byId("strips").replaceChildren(...rows);
}
function showCursor() {
  const frame = number("frame", 0), object = number("object");
  document.querySelectorAll(".cursor").forEach((one) => one.setAttribute("x", frame));
  document.querySelectorAll(".object").forEach((one) => one.setAttribute("aria-current", Number(one.dataset.object) === object));
}
function stripsAt(frame) {
  const object = number("object");
  return video.objects.filter((o) => object === undefined || o.id === object).flatMap((o) => o.strips.map((s) => s.states[frame]));
}
function go(frame) {
  set({ frame: Math.max(0, Math.min(video.frames - 1, frame)) || "" }, true);
  return showFrame();
}
// The next frame in which an object is in another state than in the frame before, and that state is an error.
function step(direction, fromHere = false) {
  if (!video) return;
  for (let frame = number("frame", 0) + direction; frame >= 0 && frame < video.frames; frame += direction) {
    const now = stripsAt(frame), before = stripsAt(frame - 1);
    if (now.some((s, i) => ERRORS.includes(s) && (direction > 0 || !fromHere) && s !== before[i])) { go(frame); return; }
  }
}
function stop() {
  clearTimeout(timer);
  timer = null;
  byId("play").setAttribute("aria-pressed", "false");
  byId("play").textContent = "play";
}
async function play() {
  if (timer !== null) { stop(); return; }
  byId("play").setAttribute("aria-pressed", "true");
  byId("play").textContent = "pause";
  const on = async () => {
    await go((number("frame", 0) + 1) % video.frames);
    if (timer !== null) timer = setTimeout(on, 160);
  };
  timer = setTimeout(on, 0);
}
function nearer(factor) {
  const k = Math.max(1, Math.min(12, zoom.k * factor)), centre = (at) => 50 - (50 - at) * k / zoom.k;
  zoom = k === 1 ? { k: 1, x: 0, y: 0 } : { k, x: centre(zoom.x), y: centre(zoom.y) };
  if (outlines) drawOutlines(number("frame", 0));
}
function movable(stage) {
  let from = null;
  stage.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY, zoom.x, zoom.y]; movable.moved = false; });
  stage.addEventListener("pointermove", (event) => {
    if (!from || !(event.buttons & 1) || zoom.k === 1) return;
    const area = stage.getBoundingClientRect();
    const dx = event.clientX - from[0], dy = event.clientY - from[1];
    movable.moved = movable.moved || Math.abs(dx) + Math.abs(dy) > 3;
    zoom = { k: zoom.k, x: from[2] + 100 * dx / area.width, y: from[3] + 100 * dy / area.height };
    for (const pane of buildPanes.made) pane.inner.style.transform = `translate(${zoom.x}%, ${zoom.y}%) scale(${zoom.k})`;
  });
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    nearer(event.deltaY < 0 ? 1.25 : 0.8);
  }, { passive: false });
}
function save(kind) {
  if (!kind) return;
  const more = {}, positions = chosenRuns();
  video.runs.forEach((_, i) => { more[`tracks${positions[i]}`] = onTracks(i).map((t) => t.row).join(","); });
  if (get("object")) more.object = get("object");
  const link = make("a", { href: `api/video/${video.id}/export.${kind}?${query(more)}`, download: `video-${video.id}.${kind}` });
  link.click();
}

// ---- all of it

async function refresh() {
  tell("");
  showControls();
  overview = await ask("overview", query());
  showKinds();
  showTable();
  await showVideo();
}
const GONE = "the server does not answer";
async function live() {
  try {
    const { version } = await ask("version"), was = byId("live").textContent;
    if (version !== about.version || was === GONE) {
      about = await ask("about");
      fillControls();
      await refresh();
    }
    const open = about.runs.some((run) => run.done < run.videos);
    byId("live").textContent = open ? "live" : "";
  } catch { byId("live").textContent = GONE; }
  setTimeout(live, 3000);
}
async function start() {
  about = await ask("about");
  fillControls();
  byId("filters").addEventListener("change", readFilter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => { set(Object.fromEntries(FILTERS.map((key) => [key, ""]))); refresh(); });
  document.querySelectorAll("[data-tab]").forEach((one) => one.addEventListener("click", () => { set({ tab: one.dataset.tab }); showTable(); }));
  byId("frame").addEventListener("input", (event) => go(Number(event.target.value)));
  byId("back").addEventListener("click", () => go(number("frame", 0) - 1));
  byId("on").addEventListener("click", () => go(number("frame", 0) + 1));
  byId("play").addEventListener("click", play);
  byId("next-error").addEventListener("click", () => step(1));
  byId("previous-error").addEventListener("click", () => step(-1));
  byId("nearer").addEventListener("click", () => nearer(1.5));
  byId("farther").addEventListener("click", () => nearer(1 / 1.5));
  byId("export").addEventListener("change", (event) => { save(event.target.value); event.target.value = ""; });
  byId("shown").addEventListener("change", () => {
    const on = [...byId("shown").querySelectorAll("input:checked")].map((one) => one.value).join("");
    set({ show: on === "hem" ? "" : on || "-" });
    for (const pane of buildPanes.made) buildList(pane);
    showFrame();
  });
  addEventListener("popstate", () => {
    for (const key of [...state.keys()]) state.delete(key);
    for (const [key, value] of new URLSearchParams(location.search)) state.set(key, value);
    refresh();
  });
  addEventListener("keydown", (event) => {
    if (!video || event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => go(number("frame", 0) - 1), ArrowRight: () => go(number("frame", 0) + 1), n: () => step(1), p: () => step(-1),
      "+": () => nearer(1.5), "-": () => nearer(1 / 1.5), " ": () => { if (!event.target.closest("button")) play(); else return false; },
    };
    if (keys[event.key] && keys[event.key]() !== false) event.preventDefault();
  });
  try { await refresh(); } catch (error) { if (!(error instanceof Refused)) throw error; }
  document.body.dataset.ready = "yes";
  setTimeout(live, 3000);
}
start();
