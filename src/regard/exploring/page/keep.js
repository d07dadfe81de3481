// What can be kept of a view: its address, a picture, its numbers.

import { written } from "./colour.js";

/** The state of a page in the fragment of its address, and back. */
export function toAddress(state) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value !== null && value !== undefined && value !== "") found.set(name, String(value));
  }
  return `#${found}`;
}

export function fromAddress(hash) {
  return Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
}

export function download(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Maps side by side with their edges, titles, the sentence and the scale, on one canvas. */
export function pictureOf(views, legend, sentence) {
  const ratio = window.devicePixelRatio || 1;
  const boxes = views.map((view) => view.box.getBoundingClientRect());
  const width = boxes.reduce((sum, box) => sum + box.width, 0);
  const height = Math.max(...boxes.map((box) => box.height)) + 46;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const { paper, ink } = views[0].colours;
  context.fillStyle = paper;
  context.fillRect(0, 0, width, height);
  let left = 0;
  views.forEach((view, number) => {
    context.fillStyle = ink;
    context.font = "600 12px system-ui, sans-serif";
    context.fillText(view.shown.title, left + 8, 15);
    for (const part of [view.top, view.left, view.canvas]) {
      const box = part.getBoundingClientRect();
      context.drawImage(part, left + box.left - boxes[number].left, box.top - boxes[number].top, box.width, box.height);
    }
    left += boxes[number].width;
  });
  context.fillStyle = ink;
  context.font = "11px system-ui, sans-serif";
  const top = height - 40;
  context.fillText(written(legend.low), 10, top + 10);
  context.drawImage(legend.canvas, 70, top, 180, 12);
  context.fillText(`${written(legend.high)}  (${legend.told})`, 256, top + 10);
  context.fillText(sentence.slice(0, 200), 10, top + 30);
  return canvas;
}

const MOST_DRAWN = 20_000; // rectangles that are drawn one by one

/** The same as SVG: all that is written as text; a map's rectangles one by one, or where they are many, as one picture. */
export function svgOf(views, legend, sentence) {
  const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const boxes = views.map((view) => view.box.getBoundingClientRect());
  const width = boxes.reduce((sum, box) => sum + box.width, 0);
  const height = Math.max(...boxes.map((box) => box.height)) + 46;
  const { paper, ink } = views[0].colours;
  const parts = [`<rect width="100%" height="100%" fill="${paper}"/>`];
  let left = 0;
  views.forEach((view, number) => {
    parts.push(`<text x="${left + 8}" y="15" font-weight="600">${escape(view.shown.title)}</text>`);
    const drawn = rectanglesOf(view);
    for (const part of [view.top, view.left, ...(drawn ? [] : [view.canvas])]) {
      const box = part.getBoundingClientRect();
      parts.push(`<image x="${left + box.left - boxes[number].left}" y="${box.top - boxes[number].top}" width="${box.width}" `
        + `height="${box.height}" href="${part.toDataURL("image/png")}" style="image-rendering:pixelated"/>`);
    }
    if (drawn) {
      const box = view.canvas.getBoundingClientRect();
      const at = `x="${left + box.left - boxes[number].left}" y="${box.top - boxes[number].top}" width="${box.width}" height="${box.height}"`;
      parts.push(`<svg ${at} overflow="hidden" shape-rendering="crispEdges">${drawn}</svg>`);
    }
    left += boxes[number].width;
  });
  const top = height - 40;
  parts.push(`<text x="10" y="${top + 10}" font-size="11">${written(legend.low)}</text>`,
    `<image x="70" y="${top}" width="180" height="12" preserveAspectRatio="none" href="${legend.canvas.toDataURL()}"/>`,
    `<text x="256" y="${top + 10}" font-size="11">${escape(`${written(legend.high)}  (${legend.told})`)}</text>`,
    `<text x="10" y="${top + 30}" font-size="11">${escape(sentence)}</text>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" `
    + `font-family="system-ui, sans-serif" font-size="12" fill="${ink}">${parts.join("")}</svg>`;
}

/** The rectangles of a map in view, those of one colour beside each other as one; nothing where they are too many. */
function rectanglesOf(view) {
  const { values, shape: [rows, columns], first, steps } = view.numbersInView();
  if (values.length > MOST_DRAWN) return "";
  const { lie, scale } = view;
  const [mostRows, mostColumns] = view.shown.shape;
  const { masked } = view.colours;
  const edge = (from, at, most, step) => (from + Math.min(at, most) * step).toFixed(2);
  const colour = (value) => (Number.isNaN(value) ? masked : Number.isFinite(value) ? scale.css(value) : "rgb(220,30,120)");
  const found = [];
  for (let i = 0; i < rows; i += 1) {
    const [top, bottom] = [i, i + 1].map((row) => edge(lie.y, first[0] + row * steps[0], mostRows, lie.down));
    for (let j = 0, next; j < columns; j = next) {
      const fill = colour(values[i * columns + j]);
      next = j + 1;
      while (next < columns && colour(values[i * columns + next]) === fill) next += 1;
      const [start, stop] = [j, next].map((column) => edge(lie.x, first[1] + column * steps[1], mostColumns, lie.across));
      found.push(`<rect x="${start}" y="${top}" width="${(stop - start).toFixed(2)}" height="${(bottom - top).toFixed(2)}" fill="${fill}"/>`);
    }
  }
  return found.join("");
}

/** Numbers in view as a table: the first column and line say which query and key each begins with. */
export function csvOf({ values, shape, first, steps }, queries, keys) {
  const cell = (text) => `"${String(text).replace(/"/g, '""').replace(/^([=+\-@\t\r])/, "'$1")}"`;
  const label = (labels, at, step) => cell(step === 1 ? `${at} ${labels[at]}` : `${at}-${Math.min(at + step, labels.length) - 1}`);
  const head = ["", ...Array.from({ length: shape[1] }, (_, j) => label(keys, first[1] + j * steps[1], steps[1]))];
  const lines = [head.join(",")];
  for (let i = 0; i < shape[0]; i += 1) {
    const row = Array.from(values.subarray(i * shape[1], (i + 1) * shape[1]), (value) => (Number.isNaN(value) ? "" : String(value)));
    lines.push([label(queries, first[0] + i * steps[0], steps[0]), ...row].join(","));
  }
  return `${lines.join("\n")}\n`;
}

/** The same for NumPy: `weights`, `first` and `steps` in a file of `numpy.load`. */
export function npzOf({ values, shape, first, steps }) {
  const files = [["weights", npy("<f4", shape, new Uint8Array(values.buffer, values.byteOffset, values.byteLength))],
    ["first", npy("<i4", [2], new Uint8Array(Int32Array.from(first).buffer))],
    ["steps", npy("<i4", [2], new Uint8Array(Int32Array.from(steps).buffer))]];
  return zip(files.map(([name, data]) => [`${name}.npy`, data]));
}

function npy(type, shape, data) {
  const told = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  const padded = `${told}${" ".repeat(63 - ((told.length + 10) % 64))}\n`;
  const head = new Uint8Array(10 + padded.length);
  head.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  head.set(new TextEncoder().encode(padded), 10);
  return joined([head, data]);
}

const CRC = Uint32Array.from({ length: 256 }, (_, at) => {
  let value = at;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

function crc(data) {
  let value = 0xffffffff;
  for (const byte of data) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** Files stored as they are. */
function zip(files) {
  const [parts, index] = [[], []];
  let at = 0;
  for (const [name, data] of files) {
    const text = new TextEncoder().encode(name);
    const fields = [20, 0, 0, 0, 0x21]; // version, flags, stored, time, date
    const common = (view, from) => {
      fields.forEach((value, place) => view.setUint16(from + 2 * place, value, true));
      [crc(data), data.length, data.length].forEach((value, place) => view.setUint32(from + 10 + 4 * place, value, true));
      view.setUint16(from + 22, text.length, true);
    };
    const local = new DataView(new ArrayBuffer(30));
    local.setUint32(0, 0x04034b50, true);
    common(local, 4);
    const entry = new DataView(new ArrayBuffer(46));
    entry.setUint32(0, 0x02014b50, true);
    entry.setUint16(4, 20, true);
    common(entry, 6);
    entry.setUint32(42, at, true);
    parts.push(new Uint8Array(local.buffer), text, data);
    index.push(new Uint8Array(entry.buffer), text);
    at += 30 + text.length + data.length;
  }
  const size = index.reduce((sum, part) => sum + part.length, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, size, true);
  end.setUint32(16, at, true);
  return joined([...parts, ...index, new Uint8Array(end.buffer)]);
}

function joined(parts) {
  const found = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    found.set(part, at);
    at += part.length;
  }
  return found;
}
