// Colours and scales: from a weight to a place between 0 and 1, and from there to a colour.
// Viridis and cividis are even in lightness and safe for the colour-blind; differences go from blue over grey to orange.

const VIRIDIS = "440154481b6d46327e3f4788365c8d2e6e8e277f8e21918c1fa1872db27d4ac16d73d056a0da39d0e11cfde725";
const CIVIDIS = "00224e0a2e6f2a3f6d414d6b53596a63666d74747172807b8a8779a4977497a56cc8b866dfc758f6d746fee838";
const DIFFERENCE = "08519c2b76b84f97ce7fb5dfb0d2eddde8f0eeeeeef6e3d3f6c99af0ab62e38b33c96a149e4a0c";

function table(stops) {
  const colours = stops.match(/.{6}/g).map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const found = new Uint8ClampedArray(256 * 4);
  for (let step = 0; step < 256; step += 1) {
    const place = (step / 255) * (colours.length - 1);
    const low = Math.min(Math.floor(place), colours.length - 2);
    for (let channel = 0; channel < 3; channel += 1) {
      const [from, to] = [colours[low][channel], colours[low + 1][channel]];
      found[4 * step + channel] = Math.round(from + (to - from) * (place - low));
    }
    found[4 * step + 3] = 255;
  }
  return found;
}

const TABLES = { viridis: table(VIRIDIS), cividis: table(CIVIDIS), difference: table(DIFFERENCE) };

/** Scales by name: what is even in colour is even in this. */
const FORWARD = {
  linear: (value) => value,
  sqrt: (value) => Math.sign(value) * Math.sqrt(Math.abs(value)),
  log: (value) => Math.log10(value),
};

/** How values are coloured: `kind`, `low` and `high`, and whether they go both ways from a middle. */
export class Scale {
  constructor({ kind = "sqrt", low = 0, high = 1, both = false, ratio = false, colours = "viridis" } = {}) {
    Object.assign(this, { kind: both && kind === "log" ? "sqrt" : kind, low, high, both, ratio, colours });
    if (ratio) this.kind = "log";
    this.table = TABLES[both || ratio ? "difference" : colours] ?? TABLES.viridis;
    const forward = FORWARD[this.kind];
    this.from = forward(this.kind === "log" ? Math.max(low, 1e-38) : low);
    this.to = forward(this.kind === "log" ? Math.max(high, 1e-37) : high);
    this.forward = forward;
  }

  /** The place of a value, from 0 to 1, beyond them where it is clipped. */
  place(value) {
    if (this.kind === "log" && value <= 0) return -1;
    return (this.forward(value) - this.from) / (this.to - this.from || 1);
  }

  /** The value at a place. */
  value(place) {
    const there = this.from + (this.to - this.from) * place;
    if (this.kind === "log") return 10 ** there;
    return this.kind === "sqrt" ? Math.sign(there) * there * there : there;
  }

  /** Writes the colours of values into pixels; `masked` is the colour of NaN, as are weights that are not finite. */
  paint(values, pixels, masked, wrong = [220, 30, 120, 255]) {
    const { table: colours } = this;
    for (let at = 0; at < values.length; at += 1) {
      const value = values[at];
      const to = 4 * at;
      if (Number.isFinite(value)) {
        const step = 4 * Math.min(Math.max(Math.round(this.place(value) * 255), 0), 255);
        for (let channel = 0; channel < 4; channel += 1) pixels[to + channel] = colours[step + channel];
      } else {
        pixels.set(Number.isNaN(value) ? masked : wrong, to);
      }
    }
  }

  css(value) {
    const step = 4 * Math.min(Math.max(Math.round(this.place(value) * 255), 0), 255);
    return `rgb(${this.table[step]},${this.table[step + 1]},${this.table[step + 2]})`;
  }

  get signature() {
    return [this.kind, this.low, this.high, this.both, this.ratio, this.colours].join();
  }
}

/** Limits by percentile of values that are seen: `[low, high]`. */
export function limits(values, { kind, both, ratio, percentile = 99.5 }) {
  const shown = Array.from(values).filter((value) => Number.isFinite(value) && (both || value > 0));
  if (!shown.length) return ratio ? [0.5, 2] : [both ? -1 : 0, 1];
  if (ratio) {
    const logs = shown.map((value) => Math.abs(Math.log2(value))).sort((one, two) => one - two);
    const most = Math.min(Math.max(rank(logs, percentile), 0.5), 10);
    return [2 ** -most, 2 ** most];
  }
  if (both) {
    const sizes = shown.map(Math.abs).sort((one, two) => one - two);
    const most = rank(sizes, percentile) || 1e-6;
    return [-most, most];
  }
  shown.sort((one, two) => one - two);
  const high = rank(shown, percentile) || shown.at(-1);
  return [kind === "log" ? Math.max(rank(shown, 2), high * 1e-5) : 0, high];
}

function rank(sorted, percentile) {
  return sorted[Math.min(Math.floor((percentile / 100) * sorted.length), sorted.length - 1)];
}

/** A number in few digits. */
export function written(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return "∞";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return size >= 0.001 ? String(Number(value.toPrecision(3))) : value.toExponential(1).replace("e-", "e−");
}
