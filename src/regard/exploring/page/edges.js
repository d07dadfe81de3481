// What stands along a map's edges: a curve, tokens as soon as they fit, and bands of parts.

const LABELS = 11; // pixels of a cell from which on it says its token

export function drawAlong(context, { colours, size, depth, from, step, axis, values, turned, marks, at }) {
  const bands = axis.bands ?? [];
  const band = bands.length ? 13 : 0;
  const text = step >= LABELS;
  const room = depth - band - 2;
  if (values) drawCurve(context, values, { size, from, step, bottom: room, depth: text ? 18 : room - 4, colours, shift: text });
  if (text) drawTokens(context, axis, { size, from, step, bottom: room, turned, colours, picked: marks.picked?.[at],
    hovered: marks.hovered?.[at], curve: values ? 20 : 0 });
  if (band) drawBands(context, bands, { size, from, step, top: depth - band, turned, colours });
}

function drawCurve(context, values, { size, from, step, bottom, depth, colours, shift }) {
  const first = Math.max(Math.floor(-from / step), 0);
  const last = Math.min(Math.ceil((size - from) / step), values.length);
  const columns = Math.max(Math.ceil(Math.min(last - first, size)), 1);
  const heights = [];
  for (let column = 0; column < columns; column += 1) {
    const [low, high] = [column, column + 1].map((at) => first + Math.floor((at * (last - first)) / columns));
    let best = 0;
    for (let position = low; position < Math.max(high, low + 1) && position < values.length; position += 1) {
      best = Math.max(best, values[position]);
    }
    heights.push(best);
  }
  const sorted = [...heights].sort((one, two) => one - two);
  const most = (sorted[Math.floor(sorted.length * 0.995)] || sorted.at(-1) || 1) * 1.02;
  const base = shift ? depth : bottom;
  context.fillStyle = colours.accent;
  context.globalAlpha = 0.75;
  context.beginPath();
  context.moveTo(from + first * step, base);
  const each = ((last - first) * step) / columns;
  heights.forEach((value, column) => {
    const x = from + first * step + column * each;
    const y = base - Math.min(value / most, 1) * (depth - 2);
    context.lineTo(x, y);
    context.lineTo(x + each, y);
  });
  context.lineTo(from + first * step + columns * each, base);
  context.fill();
  context.globalAlpha = 1;
}

function drawTokens(context, axis, { size, from, step, bottom, turned, colours, picked, hovered, curve }) {
  const first = Math.max(Math.floor(-from / step), 0);
  const last = Math.min(Math.ceil((size - from) / step), axis.labels.length);
  const font = Math.min(step * 0.82, 13);
  for (let at = first; at < last; at += 1) {
    const place = from + (at + 0.5) * step;
    const strong = at === picked || at === hovered;
    context.save();
    context.font = `${strong ? "600 " : ""}${font}px ui-sans-serif, system-ui, sans-serif`;
    context.fillStyle = strong ? colours.mark : axis.special?.has(at) ? colours.soft : colours.ink;
    context.textBaseline = "middle";
    context.textAlign = turned ? "right" : "left";
    const label = fitted(context, shownToken(axis.labels[at]), bottom - curve - 4);
    context.translate(place, bottom - 2);
    // Along the keys text reads upwards; beside the queries, whose axes are mirrored, it reads from left to right.
    if (turned) context.transform(0, 1, 1, 0, 0, 0);
    else context.rotate(-Math.PI / 2);
    context.fillText(label, 0, 0);
    context.restore();
  }
}

function drawBands(context, bands, { size, from, step, top, turned, colours }) {
  bands.forEach(([name, start, stop], number) => {
    const [low, high] = [from + start * step, from + stop * step];
    if (high < 0 || low > size) return;
    context.fillStyle = number % 2 ? colours.line : colours.soft;
    context.globalAlpha = number % 2 ? 1 : 0.45;
    context.fillRect(low, top, Math.max(high - low - 0.5, 0.5), 12);
    context.globalAlpha = 1;
    if (high - low < 42 || turned) return;
    context.save();
    context.beginPath();
    context.rect(Math.max(low, 0), top, Math.min(high, size) - Math.max(low, 0), 12);
    context.clip();
    context.fillStyle = colours.ink;
    context.font = "10px ui-sans-serif, system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText(name, Math.max(low, 0) + 4, top + 6.5);
    context.restore();
  });
}

/** A token as a reader writes it: marks of tokenizers for spaces and line ends become signs. */
export function shownToken(token) {
  return token.replace(/^[Ġ▁ ]/, "").replace(/^##/, "").replace(/[Ċ\n]/g, "↵").replace(/\t/g, "⇥") || "␣";
}

function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > room) length -= 1;
  return `${text.slice(0, length)}…`;
}
