// What is asked of a map: the profile of a row or a column, the strongest places, where a token is, shares of parts.

import { written } from "./colour.js";
import { shownToken } from "./edges.js";
import { askOne } from "./source.js";
import { say } from "./words.js";

const TOP = 8; // keys that a profile lists, and that lines go to
const AROUND = 80; // tokens of the running text before and behind what is picked

export class Asking {
  constructor(explorer) {
    this.explorer = explorer;
    this.of = explorer.of;
    this.axis = "query";
    this.of("profile-axis").addEventListener("change", () => { this.axis = this.of("profile-axis").value; this.profile(); });
    this.of("unpick").addEventListener("click", () => explorer.pick(null));
    this.of("strongest-go").addEventListener("click", () => this.strongest());
    this.of("shares-go").addEventListener("click", () => this.shares());
    this.of("band-kind").addEventListener("change", () => this.bands());
    this.of("find-form").addEventListener("submit", (event) => { event.preventDefault(); this.find(); });
  }

  get view() {
    return this.explorer.maps[0];
  }

  get labels() {
    return { query: this.view.shown.queries.labels, key: this.view.shown.keys.labels };
  }

  /** Another map: what was asked of the one before is asked again, or gone. */
  renew() {
    this.of("strongest").replaceChildren();
    this.of("shares").replaceChildren();
    this.explorer.maps.forEach((view) => { view.marks.places = []; });
    if (this.picked) this.profile();
  }

  pick(cell) {
    this.picked = cell;
    this.of("profile").hidden = !cell;
    if (!cell) this.explorer.media?.show(null, -1);
    if (cell) this.profile();
  }

  async asked(what, question) {
    this.controllers ??= {};
    this.controllers[what]?.abort();
    const controller = new AbortController();
    this.controllers[what] = controller;
    try {
      return await askOne(this.explorer.source, what, { map: this.view.shown.map.replace("~distance", ""), ...question }, controller.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.explorer.trouble(error.message);
      return null;
    }
  }

  async profile() {
    const { axis, picked } = this;
    const at = axis === "query" ? picked.row : picked.column;
    const found = await this.asked("profile", { axis, at });
    if (!found || this.picked !== picked || this.axis !== axis) return;
    const { values } = found.arrays.values;
    const across = axis === "query" ? "key" : "query";
    this.of("profile-title").textContent = say(`${axis}Title`, at, shownToken(this.labels[axis][at]));
    this.drawProfile(values);
    this.explorer.media?.show(values, at);
    const best = [...values.keys()].filter((place) => values[place] > 0 || values[place] < 0)
      .sort((one, two) => Math.abs(values[two]) - Math.abs(values[one])).slice(0, TOP);
    this.of("profile-top").replaceChildren(...best.map((place) => this.entry(written(values[place]), `${place} “${shownToken(this.labels[across][place])}”`,
      () => this.go(axis === "query" ? { row: at, column: place } : { row: place, column: at }))));
    this.run(values, across, best, at);
    if (axis === "query") this.rank(values, picked);
  }

  /** The rank of the weight that is picked belongs into the sentence. */
  rank(values, { row, column }) {
    const names = [row, shownToken(this.labels.query[row]), column, shownToken(this.labels.key[column])];
    if (Number.isNaN(values[column])) {
      this.of("sentence").textContent = say("hoverMasked", ...names);
      return;
    }
    const seen = values.filter((value) => !Number.isNaN(value));
    const rank = seen.filter((value) => value > values[column]).length + 1;
    this.of("sentence").textContent = say("hoverOne", ...names, written(values[column])) + say("hoverRank", rank, seen.length);
  }

  entry(number, text, action) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const [cell, from] = ["span", "span"].map((tag) => document.createElement(tag));
    [cell.className, from.className] = ["bar-cell", "from"];
    [cell.textContent, from.textContent] = [number, text];
    button.append(cell, from);
    button.addEventListener("click", action);
    item.append(button);
    return item;
  }

  go(cell) {
    this.view.goTo(cell.row, cell.column);
    this.explorer.pick(cell);
  }

  drawProfile(values) {
    const { context, width, height } = this.view.context(this.of("profile-canvas"));
    const { accent, line } = this.view.colours;
    let [most, least] = [0, 0];
    for (const value of values) {
      if (value > most) most = value;
      if (value < least) least = value;
    }
    const y = (value) => height - 2 - ((Math.sign(value) * Math.sqrt(Math.abs(value)) + Math.sqrt(-least)) / (Math.sqrt(most) + Math.sqrt(-least) || 1)) * (height - 6);
    context.fillStyle = line;
    context.fillRect(0, y(0), width, 1);
    context.fillStyle = accent;
    const step = width / values.length;
    for (let x = 0; x < Math.min(width, values.length); x += 1) {
      const [low, high] = values.length > width ? [Math.floor((x * values.length) / width), Math.floor(((x + 1) * values.length) / width)] : [x, x + 1];
      let best = 0;
      for (let at = low; at < high; at += 1) if (Math.abs(values[at]) > Math.abs(best)) best = values[at];
      const [left, wide] = values.length > width ? [x, 1] : [x * step, Math.max(step - 0.5, 0.5)];
      context.fillRect(left, Math.min(y(best), y(0)), wide, Math.abs(y(best) - y(0)) + 0.5);
    }
  }

  /** The running text around what is picked, shaded by weight, with lines to the strongest. */
  run(values, across, best, at) {
    const labels = this.labels[across];
    this.of("running").hidden = this.explorer.facts.views[0].kind !== "text";
    if (this.of("running").hidden) return;
    const same = this.view.shown.queries === this.view.shown.keys;
    const middle = same ? at : best[0] ?? 0;
    const [first, last] = [Math.max(middle - AROUND, 0), Math.min(middle + AROUND / 2, labels.length)];
    const most = Math.sqrt(Math.max(...best.map((place) => Math.abs(values[place])), 1e-9));
    const box = this.of("running");
    const spans = [];
    const marked = labels.some((label) => /^[Ġ▁]/.test(label)); // then what has no mark goes on with a word
    for (let place = first; place < last; place += 1) {
      const span = document.createElement("span");
      span.textContent = textOf(labels[place], place > first && !marked);
      const share = Number.isNaN(values[place]) ? 0 : Math.sqrt(Math.abs(values[place])) / most;
      span.style.background = `color-mix(in srgb, var(--accent) ${Math.round(Math.min(share, 1) * 75)}%, transparent)`;
      if (same && place === at) span.className = "picked";
      span.title = `${place}: ${written(values[place])}`;
      span.addEventListener("click", () => this.explorer.pick(this.axis === "query" ? { row: place, column: place } : { row: place, column: place }));
      spans.push(span);
    }
    box.replaceChildren(...spans);
    if (same) this.lines(box, spans, best.filter((place) => place >= first && place < last && place !== at), at - first, first, values, most);
  }

  lines(box, spans, best, from, first, values, most) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("width", "100%");
    svg.setAttribute("height", box.scrollHeight);
    const middle = (span) => [span.offsetLeft + span.offsetWidth / 2, span.offsetTop + span.offsetHeight / 2];
    const [x, y] = middle(spans[from]);
    for (const place of best) {
      const [right, bottom] = middle(spans[place - first]);
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M${x},${y} C${x},${(y + bottom) / 2 - 14} ${right},${(y + bottom) / 2 - 14} ${right},${bottom}`);
      path.setAttribute("fill", "none");
      path.setAttribute("stroke", "var(--mark)");
      path.setAttribute("stroke-width", String(0.6 + 2.4 * (Math.sqrt(Math.abs(values[place])) / most)));
      path.setAttribute("opacity", "0.6");
      svg.append(path);
    }
    box.append(svg);
    box.scrollTop = spans[from].offsetTop - box.clientHeight / 2;
  }

  async strongest() {
    this.of("strongest").textContent = say("waiting");
    const found = await this.asked("strongest", { count: 20, band: Number(this.of("band").value) || 0, apart: true });
    if (!found) return;
    const { places } = found.facts;
    this.explorer.maps.forEach((view) => { view.marks.places = places; view.draw(); });
    this.of("strongest").replaceChildren(...places.map((place) => this.entry(written(place.weight), this.told(place), () => this.goTo(place))));
  }

  /** A place in words: where it is strongest and, of more than one weight, how many, and the share of its queries. */
  told({ query, key, queries, keys, count, total }) {
    const at = `${query} “${shownToken(this.labels.query[query])}” → ${key} “${shownToken(this.labels.key[key])}”`;
    if (count === 1) return at;
    const span = ([first, behind]) => (behind - first > 1 ? `${first}–${behind - 1}` : first);
    return `${at} · ${say("block", count, span(queries), span(keys), written((100 * total) / (queries[1] - queries[0])))}`;
  }

  /** A place with as much around it. */
  goTo({ query, key, queries, keys }) {
    const far = Math.max(query - queries[0], queries[1] - query, key - keys[0], keys[1] - key);
    this.view.goTo(query, key, Math.max(24, 3 * far));
    this.explorer.pick({ row: query, column: key });
  }

  async shares() {
    const band = this.of("band-kind").value;
    const found = await this.asked("shares", { band });
    if (!found) return;
    const { values, shape } = found.arrays.values;
    const names = (axis) => (axis.allBands[band] ?? []).map(([name]) => name);
    const [rows, columns] = [names(this.view.shown.queries), names(this.view.shown.keys)];
    const table = document.createElement("table");
    const cell = (tag, text, share = 0) => {
      const found = Object.assign(document.createElement(tag), { textContent: text, title: text });
      if (share) found.style.background = `color-mix(in srgb, var(--accent) ${Math.round(Math.min(share, 1) * 70)}%, transparent)`;
      return found;
    };
    const line = (cells) => { const row = document.createElement("tr"); row.append(...cells); table.append(row); };
    line([cell("th", ""), ...columns.map((name) => cell("th", name))]);
    rows.forEach((name, i) => line([cell("th", name), ...columns.map((_, j) => {
      const share = values[i * shape[1] + j];
      return cell("td", share.toFixed(2), share);
    })]));
    this.of("shares").replaceChildren(table);
  }

  bands() {
    const kind = this.of("band-kind").value;
    const { ofTokens, ofWords } = this.explorer;
    for (const axes of [...ofTokens.axes, ...ofWords.axes]) for (const axis of axes) axis.bands = axis.allBands[kind] ?? [];
    this.explorer.maps.forEach((view) => view.draw());
  }

  find() {
    const wanted = this.of("find").value.trim().toLowerCase();
    const labels = this.labels.key;
    const found = wanted ? [...labels.keys()].filter((at) => shownToken(labels[at]).toLowerCase().includes(wanted)) : [];
    this.explorer.maps.forEach((view) => { view.marks.found = found; view.draw(); });
    const told = Object.assign(document.createElement("p"), { className: "note", textContent: say("found", found.length) });
    this.of("found").replaceChildren(told, ...found.slice(0, 100).map((at) => {
      const entry = this.entry(String(at), labels.slice(Math.max(at - 2, 0), at + 3).map((label) => shownToken(label)).join(" "),
        () => this.go({ row: Math.min(at, this.labels.query.length - 1), column: at }));
      return entry.firstChild;
    }));
  }
}

/** A token as running text: with the space that its tokenizer's mark stands for. */
function textOf(token, behind) {
  if (/^##/.test(token)) return token.slice(2);
  const text = token.replace(/[Ċ]/g, "\n").replace(/[Ġ▁]/g, " ");
  return behind && !/^[\s]/.test(text) && !/[Ġ▁]/.test(token) && /^\w/.test(text) ? ` ${text}` : text;
}
