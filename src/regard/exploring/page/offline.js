// Maps that a page brings with it: the finest that it has of each head, from which coarser ones are put together.

/** float32 out of base64 of float16, little-endian. */
export function halves(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const words = new Uint16Array(bytes.buffer);
  return Float32Array.from(words, (word) => {
    const [exponent, fraction] = [(word >> 10) & 31, word & 1023];
    const size = exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return word & 0x8000 ? -size : size;
  });
}

export class OfflineSource {
  constructor({ facts, heads }) {
    this.facts = facts;
    this.packed = heads;
    this.read = new Map();
  }

  async about() {
    return this.facts;
  }

  head(place) {
    const name = place.join(".");
    if (!this.read.has(name)) {
      const packed = this.packed[name];
      const numbers = Object.fromEntries(["mean", "max", "received", "entropy"].map((part) => [part, packed[part] ? halves(packed[part]) : null]));
      this.read.set(name, { ...packed, ...numbers, max: numbers.max ?? numbers.mean });
    }
    return this.read.get(name);
  }

  /** Heads of a map with their shares. */
  parts(map) {
    const found = [...map.matchAll(/([+-]?)(\d+)\.(\d+)\.(\d+)/g)];
    const count = (sign) => found.filter((each) => (each[1] === "-") === (sign === "-")).length;
    return found.map(([, sign, ...place]) => [(sign === "-" ? -1 : 1) / count(sign), this.head(place)]);
  }

  async ask(what, question, onFrame) {
    const answer = this[`answer_${what}`];
    if (!answer) throw new Error("This page has no server: open it with regard explore to ask that.");
    answer.call(this, question, onFrame);
  }

  answer_heads({ heads }, onFrame) {
    for (const place of heads) {
      const head = this.head(place);
      const maps = Object.fromEntries(["mean", "max"].map((reduce) => {
        const [rows, columns] = head.shape;
        const by = Math.max(Math.ceil(Math.log2(Math.max(rows, columns) / 64)), 0);
        return [reduce, pooled(head, reduce, [by, by], [0, 0, rows, columns])];
      }));
      onFrame({ facts: { head: place, numbers: head.numbers }, arrays: maps });
    }
  }

  answer_tiles({ map, reduce, tiles }, onFrame) {
    const parts = this.parts(map);
    tiles.forEach(([down, across, row, column], number) => {
      let sum = null;
      for (const [share, head] of parts) {
        const by = [down - head.levels[0], across - head.levels[1]];
        const step = by.map((level) => this.facts.side << level);
        const [top, left] = [row * step[0], column * step[1]];
        const area = [top, left, Math.min(top + step[0], head.shape[0]), Math.min(left + step[1], head.shape[1])];
        const found = pooled(head, parts.length > 1 && reduce === "max" ? "mean" : reduce, by, area);
        sum = sum ? { ...sum, values: sum.values.map((value, at) => value + share * found.values[at]) }
          : { ...found, values: found.values.map((value) => share * value) };
      }
      onFrame({ facts: { number }, arrays: { values: sum } });
    });
  }

  answer_tracks({ map }, onFrame) {
    const parts = this.parts(map);
    const mean = (name) => parts.map(([share, head]) => head[name].map((value) => Math.abs(share) * value))
      .reduce((one, two) => one.map((value, at) => value + two[at]));
    onFrame({ facts: {}, arrays: Object.fromEntries(["received", "entropy"].map((name) => [name, { values: mean(name) }])) });
  }

  answer_profile({ map, axis, at }, onFrame) {
    const parts = this.parts(map);
    const [, { cells, levels, shape }] = parts[0];
    const count = cells[axis === "query" ? 1 : 0];
    const values = Float32Array.from({ length: count }, (_, other) => {
      const [row, column] = axis === "query" ? [at, other] : [other, at];
      const place = (row >> levels[0]) * shape[1] + (column >> levels[1]);
      return parts.reduce((sum, [share, head]) => sum + share * head.mean[place], 0);
    });
    onFrame({ facts: { axis, at }, arrays: { values: { values, shape: [count] } } });
  }

  /** Blocks of what the page has: the largest that is in none before it, and what touches and is half as large. */
  answer_strongest({ map, count, band }, onFrame) {
    const parts = this.parts(map);
    const [, { levels, shape }] = parts[0];
    const values = this.candidates(parts, band);
    const order = [...values.keys()].filter((at) => values[at]).sort((one, two) => Math.abs(values[two]) - Math.abs(values[one]));
    const places = [];
    for (const at of order) {
      if (places.length === count) break;
      if (!values[at]) continue;
      const weight = values[at];
      const block = connected(values, shape, at);
      const spans = [block.map((each) => Math.floor(each / shape[1])), block.map((each) => each % shape[1])].map((along, axis) => [
        along.reduce((one, two) => Math.min(one, two)) << levels[axis], (along.reduce((one, two) => Math.max(one, two)) + 1) << levels[axis]]);
      const total = block.reduce((sum, each) => sum + values[each], 0);
      for (const each of block) values[each] = 0;
      places.push({ query: Math.floor(at / shape[1]) << levels[0], key: (at % shape[1]) << levels[1], weight, queries: spans[0], keys: spans[1], count: block.length, total });
    }
    onFrame({ facts: { places }, arrays: {} });
  }

  /** The largest weight of each rectangle off the diagonal and without sinks, 0 elsewhere. */
  candidates(parts, band) {
    const [, { cells, levels, shape }] = parts[0];
    const { apart } = this.facts.views[0];
    return Float32Array.from({ length: shape[0] * shape[1] }, (_, at) => {
      const [query, key] = [Math.floor(at / shape[1]) << levels[0], (at % shape[1]) << levels[1]];
      if (Math.abs(key - query - cells[1] + cells[0]) <= Math.max(band, (1 << levels[0]) - 1) || apart.includes(key)) return 0;
      return parts.reduce((sum, [share, head]) => sum + share * head.max[at], 0) || 0;
    });
  }
}

function connected(values, [rows, columns], at) {
  const [sign, least] = [Math.sign(values[at]), Math.abs(values[at]) / 2];
  const found = new Set([at]);
  for (const place of found) {
    const [row, column] = [Math.floor(place / columns), place % columns];
    for (let i = Math.max(row - 2, 0); i < Math.min(row + 3, rows); i += 1) {
      for (let j = Math.max(column - 2, 0); j < Math.min(column + 3, columns); j += 1) {
        if (values[i * columns + j] * sign >= least) found.add(i * columns + j);
      }
    }
  }
  return [...found];
}

/** Rectangles of a head's rectangles: their mean by how many weights each has, their sum, or the largest. */
function pooled({ mean, max, shape, cells, levels }, reduce, by, [top, left, bottom, right]) {
  const [rows, columns] = [Math.ceil((bottom - top) / 2 ** by[0]), Math.ceil((right - left) / 2 ** by[1])];
  const values = new Float32Array(rows * columns).fill(NaN);
  const counts = new Float32Array(rows * columns);
  const size = (at, level, most) => Math.min((at + 1) << level, most) - (at << level);
  for (let i = top; i < bottom; i += 1) {
    for (let j = left; j < right; j += 1) {
      const into = ((i - top) >> by[0]) * columns + ((j - left) >> by[1]);
      const count = size(i, levels[0], cells[0]) * size(j, levels[1], cells[1]);
      counts[into] += count;
      const value = (reduce === "max" ? max : mean)[i * shape[1] + j];
      if (Number.isNaN(value)) continue;
      const before = Number.isNaN(values[into]) ? 0 : values[into];
      values[into] = reduce === "max" ? Math.max(before, value) : before + value * count;
    }
  }
  if (reduce === "mean") values.forEach((value, at) => { values[at] = value / counts[at]; });
  return { values, shape: [rows, columns] };
}
