// The page: what is chosen, and who is told of it.

import { Asking } from "./asking.js";
import { Scale, written } from "./colour.js";
import { csvOf, download, fromAddress, npzOf, pictureOf, svgOf, toAddress } from "./keep.js";
import { LAYOUT } from "./layout.js";
import { shownToken } from "./edges.js";
import { MapView } from "./map.js";
import { Media } from "./media.js";
import { Overview, wordOf } from "./overview.js";
import { askOne, ServerSource } from "./source.js";
import { say, speak } from "./words.js";

export class Explorer {
  constructor(root, source, facts, { keepsAddress = true } = {}) {
    Object.assign(this, { root, source, facts, keepsAddress });
    root.innerHTML = LAYOUT;
    this.of = (id) => root.querySelector(`#${id}`);
    const [view] = facts.views;
    const axesOf = ({ axes }) => axes.map(({ labels, special, bands }) => ({
      labels, special: new Set(special), allBands: bands, bands: Object.values(bands)[0] ?? [],
    }));
    this.ofTokens = { views: facts.views, axes: facts.views.map(axesOf), from: 0 };
    this.ofWords = { views: facts.words, axes: facts.words.map(axesOf), from: facts.views.length };
    this.state = { layer: 0, head: 0, means: "one", reduce: "mean", relative: "weights", apart: false, words: false, compare: "", difference: true,
      scale: "sqrt", limits: "99.5", lock: false, colours: "viridis", language: "en", theme: "", sort: "order", filter: "" };
    if ((facts.language ?? navigator.language)?.startsWith("zh")) this.state.language = "zh";
    if (facts.views.length > 1) this.state.compare = this.across(0, 0);
    this.read({ ...facts.begin, ...(keepsAddress ? fromAddress(location.hash) : {}) });
    this.of("title").textContent = facts.views.map(({ title }) => title).filter(Boolean).join(" · ");
    this.maps = [];
    this.of("words").closest("label").hidden = !facts.words.length;
    // A page without a server has means and maxima alone.
    for (const name of ["relative", "apart"]) this.of(name).closest("label, select").hidden = !!facts.offline;
    this.asking = new Asking(this);
    this.overview = new Overview({
      grid: this.of("grid"), progress: this.of("progress"), source, view, number: 0, onFail: (told) => this.trouble(told),
      onOpen: (layer, head) => this.choose({ layer, head, means: "one" }), onChange: () => this.overview && this.showNumbers(),
    });
    this.words();
    this.listen();
    this.open();
    this.media = new Media(this);
    this.restore();
  }

  /** What is shown: tokens, or words made of them. */
  get parts() {
    return this.state.words && this.ofWords.views.length ? this.ofWords : this.ofTokens;
  }

  get axes() {
    return this.parts.axes;
  }

  read(kept) {
    for (const name of Object.keys(this.state)) {
      if (kept[name] === undefined) continue;
      const given = this.state[name];
      this.state[name] = typeof given === "number" ? Math.max(Math.floor(Number(kept[name])) || 0, 0)
        : typeof given === "boolean" ? kept[name] === "true" : kept[name];
    }
    const { layers } = this.facts.views[0];
    this.state.layer = Math.min(this.state.layer, layers.length - 1);
    this.state.head = Math.min(this.state.head, layers[this.state.layer].heads - 1);
    if (!/^$|^\d+\.\d+\.\d+$/.test(this.state.compare)) this.state.compare = "";
    this.kept = kept;
  }

  /** The place and what was picked, once the first map is there. */
  restore() {
    const numbers = (text) => (text ?? "").split("_").map(Number);
    const at = numbers(this.kept.at);
    if (at.length === 3 && at.every(Number.isFinite)) this.maps[0].leaflet.setView(at.slice(0, 2), at[2], { animate: false });
    const [row, column] = numbers(this.kept.picked);
    const [rows, columns] = this.maps[0].shown.shape;
    if (row >= 0 && row < rows && column >= 0 && column < columns) this.pick({ row: Math.floor(row), column: Math.floor(column) });
    if (this.kept.low && this.kept.high && this.state.limits === "hand") {
      [this.of("low").value, this.of("high").value] = [this.kept.low, this.kept.high];
      this.limitsByHand();
    }
  }

  remember() {
    if (!this.keepsAddress) return;
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => {
      history.replaceState(null, "", this.address());
    }, 150);
  }

  address() {
    const { picked } = this.maps[0].marks;
    const place = this.maps[0].place.map((number) => Number(number.toFixed(4))).join("_");
    const state = { ...this.state, at: place, picked: picked ? `${picked.row}_${picked.column}` : "" };
    if (this.state.limits === "hand") Object.assign(state, { low: this.of("low").value, high: this.of("high").value });
    return toAddress(Object.fromEntries(Object.entries(state).filter(([, value]) => value !== false)));
  }

  trouble(told) {
    this.of("trouble").hidden = !told;
    this.of("trouble").textContent = told ?? "";
  }

  // Words.

  words() {
    const { state } = this;
    state.language = speak(state.language);
    if (this.keepsAddress) document.documentElement.lang = state.language;
    this.root.lang = state.language;
    if (state.theme) document.documentElement.dataset.theme = state.theme;
    for (const each of this.root.querySelectorAll("[data-t]")) each.textContent = say(each.dataset.t);
    for (const each of this.root.querySelectorAll("[data-say]")) {
      each.setAttribute("aria-label", say(each.dataset.say));
      each.title = say(each.dataset.say);
      if (each.placeholder !== undefined && each.type === "search") each.placeholder = say(each.dataset.say);
    }
    this.of("language").textContent = state.language === "en" ? "中文" : "English";
    const { layers } = this.facts.views[0];
    const shared = sharedStart(layers.map(({ name }) => name));
    this.options("layer", layers.map(({ name }, at) => [at, `${at} · ${name.slice(shared)}`]), state.layer);
    this.heads();
    this.options("means", ["one", "meanLayer", "meanAll", "meanShown"].map((name) => [name, say(name)]), state.means);
    this.options("reduce", ["mean", "max", "sum"].map((name) => [name, say(name)]), state.reduce);
    this.options("relative", ["weights", "distance"].map((name) => [name, say(name)]), state.relative);
    this.options("scale", ["linear", "sqrt", "log"].map((name) => [name, say(name)]), state.scale);
    this.options("limits", [...["100", "99.9", "99.5", "98", "90"].map((name) => [name, say("percentile", name)]), ["hand", say("byHand")]], state.limits);
    this.options("colours", ["viridis", "cividis"].map((name) => [name, name]), state.colours);
    const columns = this.facts.columns.map((name) => [name, say(wordOf(name))]);
    this.options("sort", [["order", say("order")], ...columns], state.sort);
    this.options("profile-axis", [["query", say("row")], ["key", say("column")]], this.asking.axis);
    const bands = Object.keys(this.facts.views[0].axes[0].bands);
    this.options("band-kind", bands.map((name) => [name, name]), bands[0]);
    this.of("shares-box").hidden = !bands.length || !!this.facts.offline;
    const others = this.facts.views.flatMap((view, source) => view.layers.flatMap((layer, at) => Array.from({ length: layer.heads },
      (_, head) => [`${source}.${at}.${head}`, `${this.facts.views.length > 1 ? `${view.title || source} ` : ""}${at}·${head}`])));
    this.options("compare", [["", say("none")], ...others], state.compare);
    for (const name of ["apart", "words", "lock", "difference"]) this.of(name).checked = state[name];
    this.of("filter").value = state.filter;
    this.maps.forEach((view) => this.nameParts(view));
  }

  heads() {
    const { heads } = this.facts.views[0].layers[this.state.layer];
    this.options("head", Array.from({ length: heads }, (_, at) => [at, at]), this.state.head);
  }

  options(id, pairs, chosen) {
    this.of(id).replaceChildren(...pairs.map(([value, text]) => Object.assign(document.createElement("option"), { value, textContent: text })));
    this.of(id).value = String(chosen);
  }

  // What is chosen.

  listen() {
    const on = (id, event, action) => this.of(id).addEventListener(event, action);
    for (const name of ["means", "reduce", "relative", "compare"]) on(name, "change", () => this.choose({ [name]: this.of(name).value }));
    for (const name of ["layer", "head"]) on(name, "change", () => this.choose({ [name]: Number(this.of(name).value) }));
    for (const name of ["apart", "difference"]) on(name, "change", () => this.choose({ [name]: this.of(name).checked }));
    on("words", "change", () => { this.pick(null); this.choose({ words: this.of("words").checked }); });
    on("previous", "click", () => this.stepHead(-1));
    on("next", "click", () => this.stepHead(1));
    on("scale", "change", () => this.rescale({ scale: this.of("scale").value }));
    on("colours", "change", () => { this.rescale({ colours: this.of("colours").value }); this.overview.repaint({ colours: this.state.colours }); });
    on("limits", "change", () => this.rescale({ limits: this.of("limits").value }));
    on("lock", "change", () => this.rescale({ lock: this.of("lock").checked }));
    for (const name of ["low", "high"]) on(name, "change", () => this.limitsByHand());
    on("fit", "click", () => this.maps.forEach((view) => view.fit()));
    on("zoom-in", "click", () => this.maps[0].leaflet.zoomIn());
    on("zoom-out", "click", () => this.maps[0].leaflet.zoomOut());
    on("sort", "change", () => { this.state.sort = this.of("sort").value; this.overview.repaint({ sort: this.state.sort }); this.remember(); });
    on("filter", "input", () => { this.state.filter = this.of("filter").value; this.overview.repaint({ filter: this.state.filter }); this.remember(); });
    on("thumb-max", "change", () => this.overview.repaint({ reduce: this.of("thumb-max").checked ? "max" : "mean" }));
    on("language", "click", () => { this.state.language = this.state.language === "en" ? "zh" : "en"; this.words(); this.open(); });
    on("theme", "click", () => this.turnLights());
    on("keep-link", "click", async () => {
      history.replaceState(null, "", this.address());
      await navigator.clipboard?.writeText(location.href).catch(() => {});
      this.of("keep-link").textContent = say("copied");
    });
    for (const kind of ["png", "svg", "csv", "npz"]) on(`keep-${kind}`, "click", () => this.keep(kind));
    this.root.addEventListener("keydown", (event) => this.key(event));
    if (this.keepsAddress) window.addEventListener("hashchange", () => { this.read(fromAddress(location.hash)); this.words(); this.open(); this.restore(); });
  }

  /** The same head of the other model, if it has one. */
  across(layer, head) {
    return head < (this.facts.views[1]?.layers[layer]?.heads ?? 0) ? `1.${layer}.${head}` : "";
  }

  choose(change) {
    const before = this.state.layer;
    const follows = this.state.compare && this.state.compare === this.across(this.state.layer, this.state.head);
    Object.assign(this.state, change);
    const { layers } = this.facts.views[0];
    this.state.head = Math.min(this.state.head, layers[this.state.layer].heads - 1);
    if (follows && !("compare" in change)) this.state.compare = this.across(this.state.layer, this.state.head);
    if (before !== this.state.layer) this.heads();
    for (const name of ["layer", "head", "means", "reduce", "relative", "compare"]) this.of(name).value = String(this.state[name]);
    this.open();
  }

  stepHead(by) {
    const { listed } = this.overview;
    const at = listed.findIndex(({ layer, head }) => layer === this.state.layer && head === this.state.head);
    const next = listed[(at + by + listed.length) % listed.length];
    if (next) this.choose({ layer: next.layer, head: next.head, means: "one" });
  }

  turnLights() {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    this.state.theme = dark ? "light" : "dark";
    document.documentElement.dataset.theme = this.state.theme;
    this.maps.forEach((view) => view.draw());
    this.remember();
  }

  key(event) {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.shiftKey && step) {
      event.preventDefault();
      event.stopPropagation();
      this.stepCell(step);
    } else if (event.key === "]" || event.key === "[") {
      this.stepHead(event.key === "]" ? 1 : -1);
    } else if (event.key === "0") {
      this.maps.forEach((view) => view.fit());
    } else if (event.key === "Escape") {
      this.pick(null);
    }
  }

  stepCell([down, across]) {
    const [view] = this.maps;
    const [rows, columns] = view.shown.shape;
    const [steps, { lat, lng }] = [view.levels.map((level) => 2 ** level), view.leaflet.getCenter()];
    const from = view.marks.picked ?? { row: Math.floor(lat), column: Math.floor(lng) };
    const within = (value, most) => Math.min(Math.max(value, 0), most - 1);
    const cell = { row: within(from.row + down * steps[0], rows), column: within(from.column + across * steps[1], columns) };
    this.pick(cell);
    if (!view.leaflet.getBounds().contains([cell.row, cell.column])) view.leaflet.panTo([cell.row, cell.column], { animate: false });
  }

  // Maps.

  /** The names of the maps in view: the one that is chosen, the one beside it, their difference. */
  named() {
    const { state } = this;
    const { layers } = this.facts.views[0];
    const all = (at) => Array.from({ length: layers[at].heads }, (_, head) => `0.${at}.${head}`);
    const chosen = layers[state.layer];
    const alike = layers.map((_, at) => at).filter((at) => layers[at].shape.join() === chosen.shape.join());
    const heads = {
      one: [`0.${state.layer}.${state.head}`], meanLayer: all(state.layer), meanAll: alike.flatMap(all),
      meanShown: this.overview.listed.filter(({ layer }) => alike.includes(layer)).map(({ layer, head }) => `0.${layer}.${head}`),
    }[state.means] ?? [`0.${state.layer}.${state.head}`];
    const behind = (state.apart ? "~apart" : "") + (state.relative === "distance" ? "~distance" : "");
    const titled = heads.length === 1 ? this.titleOf(heads[0]) : say("meanTitle", heads.length);
    const found = [{ map: heads.join("+") + behind, title: titled }];
    if (state.compare) {
      const title = this.titleOf(state.compare);
      found.push({ map: state.compare + behind, title, other: true });
      if (state.difference) {
        found.push({ map: `${heads.join("+")}-${state.compare}${behind}`, title: say("differenceTitle", titled, title), both: true });
      }
    }
    const { from } = this.parts;
    return found.map((each) => ({ ...each, map: each.map.replace(/\d+(?=\.\d+\.\d+)/g, (source) => Number(source) + from) }));
  }

  titleOf(head) {
    const [source, layer, number] = head.split(".").map(Number);
    const several = this.facts.views.length > 1 ? `${this.facts.views[source]?.title ?? source}: ` : "";
    return several + say("headTitle", layer, number);
  }

  open() {
    const { state } = this;
    const named = this.named();
    const { shape, queries, keys, least } = this.parts.views[0].layers[state.layer];
    this.of("difference-box").hidden = !state.compare;
    while (this.maps.length > named.length) this.maps.pop().box.remove();
    while (this.maps.length < named.length) this.addMap();
    this.of("maps").classList.toggle("several", named.length > 1);
    this.root.querySelector(".stage").classList.toggle("several", named.length > 1);
    named.forEach((each, at) => {
      this.maps[at].tracks = {};
      this.maps[at].show({ ...each, shape, least, reduce: state.reduce, ratio: state.relative === "distance" && !each.both, both: !!each.both, surplus: state.relative === "distance" && !!each.both,
        queries: this.axes[0][queries], keys: this.axes[0][keys] });
    });
    if (named.length > 1) requestAnimationFrame(() => this.follow(this.maps[0]));
    this.rescale({});
    this.overview.select(state.layer, state.means === "one" ? state.head : -1);
    this.tracksOf(named);
    this.showNumbers();
    this.asking.renew();
    this.remember();
  }

  addMap() {
    const box = document.createElement("div");
    box.className = "map";
    this.of("maps").append(box);
    const view = new MapView(box, this.source, {
      side: this.facts.side, onFail: (told) => this.trouble(told), onView: (moved) => this.follow(moved),
      onHover: (over, cell) => this.hover(over, cell), onPick: (over, cell) => this.pick(cell), onDrawn: (drawn) => this.legend(drawn),
    });
    view.corner.innerHTML = "<span></span><span></span>";
    this.nameParts(view);
    if (this.maps.length) Object.assign(view.marks, { picked: this.maps[0].marks.picked, places: this.maps[0].marks.places });
    this.maps.push(view);
  }

  nameParts(view) {
    view.middle.setAttribute("aria-label", say("map"));
    [view.corner.firstChild.textContent, view.corner.lastChild.textContent] = [say("keysAxis"), say("queries")];
  }

  /** All maps look at the same place. */
  follow(moved) {
    for (const view of this.maps) {
      if (view === moved) continue;
      view.stretched(moved.stretch);
      view.place = moved.place;
    }
    this.remember();
  }

  async tracksOf(named) {
    this.tracking?.abort();
    this.tracking = new AbortController();
    const { signal } = this.tracking;
    for (const [at, { map }] of named.entries()) {
      try {
        const found = await askOne(this.source, "tracks", { map }, signal);
        if (signal.aborted || !found) return;
        this.maps[at].tracks = Object.fromEntries(Object.entries(found.arrays).map(([name, { values }]) => [name, values]));
        const { wave } = this.facts.views[0].media ?? {};
        if (wave?.length) Object.assign(this.maps[at].tracks, { received: Float32Array.from(wave) });
        this.maps[at].draw();
      } catch (error) {
        if (error.name !== "AbortError") this.trouble(error.message);
        return;
      }
    }
  }

  rescale(change) {
    Object.assign(this.state, change);
    const { scale, limits, lock, colours } = this.state;
    this.of("by-hand").hidden = limits !== "hand";
    if (limits === "hand" && !this.hand) {
      this.hand = [this.maps[0].scale.low, this.maps[0].scale.high];
      [this.of("low").value, this.of("high").value] = this.hand.map((value) => String(Number(value.toPrecision(3))));
    }
    this.maps.forEach((view) => {
      const hand = limits === "hand" && !view.shown.both ? this.hand : null;
      view.rescale({ kind: scale, percentile: limits === "hand" ? 99.5 : Number(limits) || 99.5, hand, locked: lock, colours });
    });
    this.remember();
  }

  limitsByHand() {
    const found = ["low", "high"].map((name) => Number(this.of(name).value));
    if (found.every(Number.isFinite) && found[0] < found[1]) {
      this.hand = found;
      this.rescale({ limits: "hand" });
    }
  }

  legend(view) {
    if (view !== this.maps[0]) {
      if (view.shown.both) view.title.textContent = `${view.shown.title} · ±${written(view.scale.high)}`;
      else if (!view.shown.ratio) this.share(view);
      return;
    }
    const { scale } = view;
    const canvas = this.of("legend");
    const context = canvas.getContext("2d");
    for (let x = 0; x < canvas.width; x += 1) {
      context.fillStyle = scale.css(scale.value(x / (canvas.width - 1)));
      context.fillRect(x, 0, 1, canvas.height);
    }
    this.of("legend-low").textContent = written(scale.low);
    this.of("legend-high").textContent = written(scale.high);
    this.of("clipped").textContent = view.clipped > 0 ? `· ${say("clipped", written(view.clipped * 100))}` : "";
    for (const other of this.maps.slice(1)) this.share(other);
  }

  /** Maps side by side have one scale. */
  share(view) {
    const { scale } = this.maps[0];
    if (view.shown.both || view.scale.signature === scale.signature) return;
    view.scale = new Scale(scale);
    view.scaling.hand = [scale.low, scale.high];
    view.draw();
  }

  showNumbers() {
    const { layer, head, means } = this.state;
    const found = this.overview?.heads.find((each) => each.layer === layer && each.head === head)?.numbers;
    this.of("numbers").replaceChildren(...(found && means === "one" ? Object.entries(found) : []).flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: say(wordOf(name)) }),
      Object.assign(document.createElement("dd"), { textContent: written(value) })]));
  }

  // Asking.

  hover(view, cell) {
    for (const each of this.maps) {
      each.marks.hovered = cell;
      each.draw();
    }
    if (cell) this.of("sentence").textContent = this.sentence(view, cell);
  }

  sentence(view, cell) {
    const { value, rows, columns } = view.valueAt(cell);
    const { queries, keys, reduce, ratio, surplus } = view.shown;
    if (value === undefined) return say("waiting");
    const count = (rows[1] - rows[0]) * (columns[1] - columns[0]);
    const places = [rows[0], rows[1] - 1, columns[0], columns[1] - 1];
    if (ratio || surplus) return say(ratio ? "hoverRatio" : "hoverSurplus", ...places, written(value));
    if (count > 1) return say("hoverBlock", ...places, say(reduce), Number.isNaN(value) ? say("masked") : written(value), count.toLocaleString("en"));
    const names = [cell.row, shownToken(queries.labels[cell.row]), cell.column, shownToken(keys.labels[cell.column])];
    return Number.isNaN(value) ? say("hoverMasked", ...names) : say("hoverOne", ...names, written(value));
  }

  pick(cell) {
    for (const view of this.maps) {
      view.marks.picked = cell;
      view.draw();
    }
    this.asking.pick(cell);
    this.remember();
  }

  keep(kind) {
    const [view] = this.maps;
    const name = `attention-${view.shown.map.slice(0, 40).replace(/[^\w.+-]/g, "_")}`;
    const legend = { canvas: this.of("legend"), low: view.scale.low, high: view.scale.high, told: `${say(view.shown.reduce)}, ${say(view.scale.kind)}` };
    const sentence = this.of("sentence").textContent;
    if (kind === "png") pictureOf(this.maps, legend, sentence).toBlob((blob) => download(`${name}.png`, blob));
    if (kind === "svg") download(`${name}.svg`, new Blob([svgOf(this.maps, legend, sentence)], { type: "image/svg+xml" }));
    const { queries, keys } = view.shown;
    if (kind === "csv") download(`${name}.csv`, new Blob(["\ufeff", csvOf(view.numbersInView(), queries.labels, keys.labels)], { type: "text/csv" }));
    if (kind === "npz") download(`${name}.npz`, new Blob([npzOf(view.numbersInView())]));
  }
}

/** How many letters of dotted names, up to a dot, are the same in all. */
function sharedStart(names) {
  let found = 0;
  while (names.length > 1) {
    const next = names[0].indexOf(".", found) + 1;
    if (!next || !names.every((name) => name.startsWith(names[0].slice(0, next)))) break;
    found = next;
  }
  return found;
}

/** Starts the page in an element; says so where the browser cannot draw it. */
export async function start(root, source, options) {
  if (!globalThis.Float32Array || !document.createElement("canvas").getContext?.("2d") || !globalThis.L) {
    root.textContent = say("wrongBrowser");
    return null;
  }
  return new Explorer(root, source, await source.about(), options);
}

const page = document.getElementById("explorer");
if (page && page.dataset.packed !== "yes") {
  start(page, new ServerSource()).then((explorer) => { globalThis.explorer = explorer; });
}
