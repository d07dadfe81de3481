// All heads as small maps, in the order of a number of theirs, and filtered by such numbers.

import { Scale, limits, written } from "./colour.js";
import { say } from "./words.js";

const TOGETHER = 12; // heads that are asked for at once

export class Overview {
  constructor({ grid, progress, source, view, number, onOpen, onChange, onFail }) {
    Object.assign(this, { grid, progress, source, view, number, onOpen, onChange, onFail });
    this.heads = view.layers.flatMap((layer, at) => Array.from({ length: layer.heads }, (_, head) => ({ layer: at, head })));
    this.sort = "order";
    this.filter = "";
    this.reduce = "mean";
    for (const each of this.heads) this.make(each);
    this.arrange();
    this.grid.addEventListener("keydown", (event) => this.step(event));
    this.ask();
  }

  make(each) {
    const button = document.createElement("button");
    button.className = "thumb";
    button.setAttribute("role", "option");
    button.dataset.head = `${each.layer}.${each.head}`;
    const [canvas, name, number] = ["canvas", "span", "em"].map((tag) => document.createElement(tag));
    name.textContent = `${each.layer}·${each.head}`;
    number.hidden = true;
    button.append(canvas, name, number);
    button.addEventListener("click", () => this.onOpen(each.layer, each.head));
    Object.assign(each, { button, canvas, label: number, numbers: null, maps: null });
    this.name(each);
  }

  name(each) {
    const told = each.numbers && this.sort !== "order" ? `, ${say(wordOf(this.sort))} ${written(each.numbers[this.sort])}` : "";
    each.button.setAttribute("aria-label", say("headTitle", each.layer, each.head) + told);
    each.button.title = `${say("headTitle", each.layer, each.head)}${told}`;
    each.label.hidden = !told;
    each.label.textContent = told ? written(each.numbers[this.sort]) : "";
  }

  /** Asks for a few heads at a time, those that are opened and listed first. */
  async ask() {
    this.running = true;
    for (;;) {
      const missing = [...this.listed, ...this.heads].filter((each, at, all) => !each.numbers && all.indexOf(each) === at).slice(0, TOGETHER);
      if (!missing.length || this.stopped) break;
      try {
        await this.source.ask("heads", { heads: missing.map(({ layer, head }) => [this.number, layer, head]) }, ({ facts, arrays }) => {
          const each = this.heads.find(({ layer, head }) => layer === facts.head[1] && head === facts.head[2]);
          Object.assign(each, { numbers: facts.numbers, maps: arrays });
          this.paint(each);
          this.name(each);
          this.tell();
        });
      } catch (error) {
        this.onFail(error.message);
        break;
      }
      if (this.sort !== "order" || this.filter) this.arrange();
    }
    this.running = false;
    this.tell();
    this.onChange();
  }

  tell() {
    const done = this.heads.filter((each) => each.numbers).length;
    this.progress.textContent = done < this.heads.length ? say("computing", done, this.heads.length) : "";
    this.grid.dataset.ready = done < this.heads.length ? "no" : "yes";
  }

  paint(each) {
    if (!each.maps) return;
    const { values, shape } = each.maps[this.reduce];
    const [, high] = limits(values, { kind: "log", percentile: 99 });
    each.canvas.width = shape[1];
    each.canvas.height = shape[0];
    const context = each.canvas.getContext("2d");
    const image = context.createImageData(shape[1], shape[0]);
    // Logarithms show what is beside sinks, too.
    new Scale({ kind: "log", low: high * 1e-3, high, colours: this.colours ?? "viridis" }).paint(values, image.data, [128, 136, 145, 60]);
    context.putImageData(image, 0, 0);
  }

  repaint(change) {
    Object.assign(this, change);
    this.heads.forEach((each) => { this.paint(each); this.name(each); });
    this.arrange();
  }

  /** Puts the heads that fit the filter in order. */
  arrange() {
    const fits = reader(this.filter);
    this.listed = this.heads.filter((each) => fits(each));
    if (this.sort !== "order") {
      const value = (each) => each.numbers?.[this.sort] ?? -Infinity;
      this.listed = [...this.listed].sort((one, two) => value(two) - value(one));
    }
    this.grid.replaceChildren(...this.listed.map((each) => each.button));
    this.heads.forEach((each) => { each.button.tabIndex = -1; });
    (this.listed.find((each) => each.button.getAttribute("aria-selected") === "true") ?? this.listed[0])?.button.setAttribute("tabindex", "0");
  }

  select(layer, head) {
    for (const each of this.heads) {
      const chosen = each.layer === layer && each.head === head;
      each.button.setAttribute("aria-selected", String(chosen));
      if (chosen) each.button.scrollIntoView({ block: "nearest" });
    }
  }

  step(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.across, ArrowUp: -this.across }[event.key];
    const at = this.listed.findIndex((each) => each.button === document.activeElement);
    if (!by || at < 0) return;
    event.preventDefault();
    this.listed[Math.min(Math.max(at + by, 0), this.listed.length - 1)].button.focus();
  }

  get across() {
    return getComputedStyle(this.grid).gridTemplateColumns.split(" ").length;
  }
}

export function wordOf(column) {
  return column === "distance" ? "distanceNumber" : column;
}

/** Reads a filter such as `first > 0.3, layer = 5`: conditions that all hold; what is no condition is left out. */
export function reader(filter) {
  const conditions = filter.split(/[,;&]/).map((part) => part.trim().match(/^([a-z_ ]+?)\s*(<=|>=|<|>|=)\s*(-?[\d.]+)$/i)).filter(Boolean);
  return (each) => conditions.every(([, name, sign, number]) => {
    const key = name.trim().replace(/ /g, "_");
    const value = key === "layer" || key === "head" ? each[key] : each.numbers?.[key];
    if (value === undefined || value === null) return false;
    const limit = Number(number);
    return { "<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit, "=": value === limit }[sign];
  });
}
