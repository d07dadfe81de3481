"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const root = byId("explorer");
  if (!root) return;

  // ---- what the page carries -------------------------------------------------------------------------------------

  const whole = [...document.querySelectorAll("script.example")].map((node) => JSON.parse(node.textContent));
  let examples = whole; // what is shown of them
  const blocks = [...document.querySelectorAll("script.weights")];
  const decoded = new Map();

  function halfToNumber(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }

  // One example's weights as a Float32Array of layers x heads x n x n.
  function weightsOf(index) {
    if (decoded.has(index)) return decoded.get(index);
    const binary = atob(blocks[index].textContent), bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    let weights;
    if (examples[index].format === "uint8") {
      weights = Float32Array.from(bytes, (byte) => byte / 255);
    } else {
      weights = new Float32Array(bytes.length / 2);
      for (let i = 0; i < weights.length; i++) weights[i] = halfToNumber(bytes[2 * i] | (bytes[2 * i + 1] << 8));
    }
    decoded.set(index, weights);
    return weights;
  }

  // Shows all tokens, or those alone that are no marks of a tokeniser; `keep` has their places among all.
  function showTokens(hidden) {
    examples = whole.map((example) => {
      const all = [...example.tokens.keys()], words = all.filter((i) => !example.special[i]);
      const keep = hidden && words.length ? words : all;
      return { ...example, keep, tokens: keep.map((i) => example.tokens[i]), joined: keep.map((i) => example.joined[i]) };
    });
  }

  // The weights among the tokens that are shown.
  function matrixOf(index, layer, head) {
    const { keep } = examples[index], n = whole[index].tokens.length, all = wholeMatrixOf(index, layer, head);
    if (keep.length === n) return all;
    return Float32Array.from({ length: keep.length ** 2 }, (_, i) => all[keep[Math.floor(i / keep.length)] * n + keep[i % keep.length]]);
  }

  // What each token that is shown gives to those that are not.
  function lostOf(index, layer, head) {
    const { keep } = examples[index], n = whole[index].tokens.length, all = wholeMatrixOf(index, layer, head);
    const hidden = [...Array(n).keys()].filter((i) => !keep.includes(i));
    return keep.map((row) => hidden.reduce((sum, column) => sum + all[row * n + column], 0));
  }

  // The mean over the chosen layers and heads: one n x n matrix.
  function wholeMatrixOf(index, layer, head) {
    const { layers, heads, tokens } = whole[index], size = tokens.length ** 2, all = weightsOf(index);
    const wanted = [];
    for (let l = 0; l < layers; l++)
      for (let h = 0; h < heads; h++)
        if ((layer < 0 || l === layer) && (head < 0 || h === head)) wanted.push((l * heads + h) * size);
    if (wanted.length === 1) return all.subarray(wanted[0], wanted[0] + size);
    const mean = new Float32Array(size);
    for (const start of wanted) for (let i = 0; i < size; i++) mean[i] += all[start + i] / wanted.length;
    return mean;
  }

  // ---- colours: the scheme's ramp, by the square root of the weight so that small weights can be seen -------------

  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const ramps = {
    light: [[255, 255, 255], [205, 224, 238], [107, 165, 206], [28, 101, 153], [6, 39, 78]],
    dark: [[27, 30, 33], [24, 62, 92], [42, 112, 163], [120, 182, 228], [232, 244, 253]],
  };

  function colour(share) {
    const ramp = ramps[dark.matches && !printing ? "dark" : "light"];
    const place = Math.sqrt(Math.min(1, Math.max(0, share))) * (ramp.length - 1), low = Math.min(Math.floor(place), ramp.length - 2);
    return ramp[low].map((value, i) => Math.round(value + (ramp[low + 1][i] - value) * (place - low)));
  }
  const css = (rgb) => `rgb(${rgb.join(" ")})`;

  function inkOn(rgb) {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.19 ? "#14130f" : "#ffffff";
  }

  // ---- state, and its copy in the address ------------------------------------------------------------------------

  const usual = byId("explorer").dataset.marks;
  const state = { example: 0, layer: 0, head: -1, token: 0, direction: "given", marks: usual };
  let matrix = null, top = 1, preview = -1;

  const within = (text, low, high, otherwise) => {
    const number = Number.parseInt(text, 10);
    return number >= low && number < high ? number : otherwise;
  };

  function readAddress() {
    const said = new URLSearchParams(location.hash.slice(1));
    if (["shown", "hidden"].includes(said.get("marks"))) state.marks = said.get("marks");
    showTokens(state.marks === "hidden");
    if (said.has("example")) state.example = within(said.get("example"), 0, examples.length, state.example);
    const { layers, heads, tokens } = examples[state.example];
    const every = (text) => (text === "mean" ? "-1" : text);
    if (said.has("layer")) state.layer = within(every(said.get("layer")), -1, layers, state.layer);
    if (said.has("head")) state.head = within(every(said.get("head")), -1, heads, state.head);
    if (said.has("token")) state.token = within(said.get("token"), 0, tokens.length, state.token);
    if (["given", "received"].includes(said.get("direction"))) state.direction = said.get("direction");
    return ["example", "layer", "head", "token", "direction", "marks"].some((name) => said.has(name));
  }

  function writeAddress() {
    const name = (index) => (index < 0 ? "mean" : index);
    const hash = `#example=${state.example}&layer=${name(state.layer)}&head=${name(state.head)}&token=${state.token}&direction=${state.direction}${state.marks === usual ? "" : `&marks=${state.marks}`}`;
    try { history.replaceState(null, "", hash); } catch { /* some viewers forbid it; the page works without */ }
  }

  function change(values) {
    Object.assign(state, values);
    const { layers, heads, tokens } = examples[state.example];
    state.layer = Math.min(state.layer, layers - 1);
    state.head = Math.min(state.head, heads - 1);
    state.token = Math.min(state.token, tokens.length - 1);
    preview = -1;
    writeAddress();
    draw("example" in values);
  }

  // ---- words -----------------------------------------------------------------------------------------------------

  const translations = JSON.parse(byId("translations").textContent);
  const told = (message, values = {}) => (translations[message] ?? message).replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const fine = () => examples[state.example].format !== "uint8";
  const digits = () => (fine() ? 3 : 2);
  function write(weight) {
    const least = 10 ** -digits();
    return weight > 0 && weight < least / 2 ? `<${least}` : weight.toFixed(digits());
  }
  const short = (weight) => (weight < 0.005 ? "0" : weight.toFixed(2).replace(/^0/, ""));
  const quoted = (index) => `“${examples[state.example].tokens[index].trim() || "␣"}”`;
  const layerName = (layer) => (layer < 0 ? told("mean of all layers") : told("layer {number}", { number: layer }));
  const headName = (head) => (head < 0 ? told("mean of all heads") : told("head {number}", { number: head }));

  function valuesOf(token) {
    const n = examples[state.example].tokens.length;
    return Float32Array.from({ length: n }, (_, i) => matrix[state.direction === "given" ? token * n + i : i * n + token]);
  }

  function say(token, values) {
    const order = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 4).filter((i) => values[i] > 0);
    const list = order.map((i) => `${quoted(i)} ${write(values[i])}`).join(", ") || told("nothing");
    const where = `${layerName(state.layer)}, ${headName(state.head)}`;
    const total = values.reduce((sum, value) => sum + value, 0);
    const start = where[0].toUpperCase() + where.slice(1);
    const said = { where: start, token: quoted(token), list, total: total.toFixed(fine() ? 2 : 1), count: values.length };
    if (state.direction === "given") return told("{where}: {token} attends most to {list}.", said) + hiddenShare(token);
    return fine()
      ? told("{where}: {token} is attended most by {list}. In all it receives {total} of the {count} units given.", said)
      : told("{where}: {token} is attended most by {list}. In all it receives about {total} of the {count} units given.", said);
  }

  function hiddenShare(token) {
    const lost = state.marks === "hidden" ? lostOf(state.example, state.layer, state.head)[token] : 0;
    return lost ? " " + told("The marks that are hidden get {share}.", { share: write(lost) }) : "";
  }

  // ---- drawing ---------------------------------------------------------------------------------------------------

  function options(select, names, chosen) {
    select.replaceChildren(...names.map(([value, text]) => new Option(text, value, false, value === chosen)));
  }

  function drawControls() {
    const { layers, heads } = examples[state.example];
    const count = (n, word) => Array.from({ length: n }, (_, i) => [i, `${word} ${i}`]);
    options(byId("layer"), [[-1, told("mean of all")], ...count(layers, told("Layer"))], state.layer);
    options(byId("head"), [[-1, told("mean of all")], ...count(heads, told("Head"))], state.head);
    for (const input of root.querySelectorAll("input[name=direction]")) input.checked = input.value === state.direction;
  }

  function drawExample() {
    const { truth, predicted, confidence, tokens, joined, layers, heads, block, tokenCount, notFinite } = examples[state.example];
    options(byId("example"), examples.map(({ text }, i) => [i, `${i + 1}. ${text.replace(/\s+/g, " ").slice(0, 90)}`]), state.example);
    byId("truth").textContent = truth;
    byId("truth").parentElement.hidden = truth === ""; // a text of one's own has none
    byId("predicted").textContent = predicted;
    byId("predicted-box").className = `verdict ${truth === predicted || truth === "" ? "right" : "wrong"}`;
    byId("confidence").textContent = confidence;
    byId("tokens").replaceChildren(...tokens.map((text, i) => {
      const button = document.createElement("button"), piece = document.createElement("span"), weight = document.createElement("span");
      button.type = "button";
      button.className = joined[i] ? "token joined" : "token";
      button.dataset.index = i;
      piece.className = "piece";
      piece.textContent = text;
      weight.className = "weight";
      button.append(piece, weight);
      return button;
    }));
    const notes = [told("Colour grows with the square root of the weight, so that small weights can be seen."), told("Layers and heads are counted from 0, as in code."), fine()
      ? told("Weights are stored on this page as 16-bit numbers, right to three digits.")
      : told("Weights are stored on this page in one byte each: quantised to 1/255, so right to ±0.002.")];
    const marked = whole[state.example].special.some(Boolean);
    byId("hide-box").hidden = !marked;
    byId("hide").checked = state.marks === "hidden";
    if (marked) notes.unshift(told("Tokens in brackets are marks that the model's tokeniser adds; many heads look at them when they find nothing better."));
    const warnings = [];
    if (block > 1) warnings.push(told("This input has {count} tokens, too many to show one by one: each box stands for {block} in a row. A row of weights is the mean of its tokens' rows, a column the sum of its tokens' columns.", { count: tokenCount, block }));
    if (notFinite) warnings.push(told("{count} weights are not finite numbers and are shown as 0.", { count: notFinite }));
    byId("warnings").textContent = warnings.join(" ");
    byId("warnings").hidden = !warnings.length;
    byId("reading-notes").replaceChildren(...notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
    drawGrid(layers, heads);
  }

  function drawGrid(layers, heads) {
    const table = byId("grid"), headRow = document.createElement("tr"), overRow = document.createElement("tr");
    const cell = (name, text, scope) => {
      const node = document.createElement(name);
      if (text !== undefined) node.textContent = text;
      if (scope) node.scope = scope;
      return node;
    };
    const over = cell("th", told("head →"), "colgroup");
    over.colSpan = heads;
    overRow.append(cell("td"), over);
    headRow.append(cell("td"), ...Array.from({ length: heads }, (_, h) => cell("th", h, "col")));
    const head = document.createElement("thead"), body = document.createElement("tbody");
    head.append(overRow, headRow);
    for (let layer = 0; layer < layers; layer++) {
      const row = document.createElement("tr"), name = cell("th", layer, "row");
      name.title = layerName(layer);
      row.append(name);
      for (let h = 0; h < heads; h++) row.append(thumbnail(layer, h));
      body.append(row);
    }
    table.replaceChildren(head, body);
    table.style.minWidth = `${2 + heads * 1.65}rem`;
  }

  function thumbnail(layer, head) {
    const data = document.createElement("td"), button = document.createElement("button"), canvas = document.createElement("canvas");
    button.type = "button";
    button.className = "thumb";
    button.dataset.layer = layer;
    button.dataset.head = head;
    button.title = `${layerName(layer)}, ${headName(head)}`;
    button.setAttribute("aria-label", button.title);
    paint(canvas, matrixOf(state.example, layer, head));
    button.append(canvas);
    data.append(button);
    return data;
  }

  // One pixel a weight; the browser scales the canvas.
  // Up to the largest weight, but not below twice the even share: nearly even weights are drawn in the middle of the ramp.
  const largestOf = (values) => values.reduce((a, b) => Math.max(a, b), 0);
  const even = () => 1 / whole[state.example].tokens.length;
  const topOf = (values) => Math.max(largestOf(values), Math.min(1, 2 * even()));

  function paint(canvas, values, most) {
    const n = Math.sqrt(values.length), context = canvas.getContext("2d");
    most = most || topOf(values);
    canvas.width = canvas.height = n;
    const image = context.createImageData(n, n);
    values.forEach((value, i) => image.data.set([...colour(value / most), 255], 4 * i));
    context.putImageData(image, 0, 0);
  }

  function drawStrip() {
    const chosen = preview >= 0 ? preview : state.token, values = valuesOf(chosen);
    [...byId("tokens").children].forEach((button, i) => {
      const [piece, weight] = button.children, rgb = colour(values[i] / top);
      piece.style.background = css(rgb);
      piece.style.color = inkOn(rgb);
      weight.textContent = short(values[i]);
      button.classList.toggle("faint", values[i] < 0.005);
      button.title = `${write(values[i])}`;
      button.setAttribute("aria-pressed", String(i === chosen));
      button.setAttribute("aria-label", `${piece.textContent}, weight ${write(values[i])}`);
      button.tabIndex = i === state.token ? 0 : -1;
    });
    byId("saying").textContent = say(chosen, values);
  }

  const map = { left: 0, top: 0, cell: 1, n: 1 };

  function drawMap() {
    const canvas = byId("map"), { tokens } = examples[state.example], n = tokens.length;
    const width = canvas.parentElement.clientWidth || 480, ratio = Math.min(3, devicePixelRatio || 1);
    const style = getComputedStyle(document.documentElement);
    const font = Math.max(9, Math.min(13, (width * 0.8) / n)), every = Math.ceil((font * 1.05) / ((width * 0.8) / n));
    const context = canvas.getContext("2d");
    const fontName = `${font}px ${style.getPropertyValue("--sans")}`;
    context.font = fontName;
    const clip = (text) => (text.length > 12 ? `${text.slice(0, 11)}…` : text);
    const room = Math.ceil(Math.max(...tokens.map((token, i) => (i % every ? 0 : context.measureText(clip(token)).width)))) + 10;
    const side = width - room - 2, cell = side / n;
    Object.assign(map, { left: room, top: room, cell, n });
    canvas.width = width * ratio;
    canvas.height = (room + side + 2) * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = fontName;
    context.textBaseline = "middle";
    const chosen = preview >= 0 ? preview : state.token, given = state.direction === "given";
    const soft = printing ? "#444" : style.getPropertyValue("--soft"), ink = printing ? "#000" : style.getPropertyValue("--ink");
    const mark = printing ? "#96400a" : style.getPropertyValue("--miss-ink");
    const label = (i, row) => {
      const shown = i % every === 0 || i === chosen;
      const near = every > 1 && i !== chosen && Math.abs(i - chosen) < every && (row === given);
      if (!shown || near) return;
      const marked = i === chosen && row === given;
      context.fillStyle = marked ? mark : i === chosen ? ink : soft;
      context.font = marked ? `bold ${fontName}` : fontName;
      context.save();
      context.translate(row ? room - 5 : room + (i + 0.5) * cell, row ? room + (i + 0.5) * cell : room - 5);
      if (!row) context.rotate(-Math.PI / 2);
      context.textAlign = row ? "right" : "left";
      context.fillText(clip(tokens[i]), 0, 0);
      context.restore();
    };
    for (let i = 0; i < n; i++) { label(i, true); label(i, false); }
    const pixels = document.createElement("canvas");
    paint(pixels, matrix, top);
    context.imageSmoothingEnabled = false;
    context.drawImage(pixels, room, room, side, side);
    context.strokeStyle = printing ? "#bbb" : style.getPropertyValue("--rule");
    context.strokeRect(room - 0.5, room - 0.5, side + 1, side + 1);
    context.strokeStyle = mark;
    context.lineWidth = 2;
    const thick = Math.max(cell, 3);
    if (given) context.strokeRect(room, room + chosen * cell, side, thick);
    else context.strokeRect(room + chosen * cell, room, thick, side);
    const where = `${layerName(state.layer)}, ${headName(state.head)}`;
    byId("map-title").textContent = `${where[0].toUpperCase()}${where.slice(1)}.`;
    canvas.setAttribute("aria-label", told("Heat map of the weights of {count} by {count} tokens, {where}; the token buttons above give every number.", { count: n, where }));
  }

  function drawRamp() {
    const canvas = byId("ramp"), context = canvas.getContext("2d");
    for (let x = 0; x < 256; x++) { context.fillStyle = css(colour((x / 255) ** 2)); context.fillRect(x, 0, 1, 1); }
    const largest = largestOf(matrix), said = { top: write(top), largest: write(largest), even: write(even()) };
    byId("ramp-top").textContent = largest < top
      ? told("{top} (twice the even share; the largest weight here is {largest}; even would be {even})", said)
      : told("{top} (the largest weight here; even would be {even})", said);
  }

  function draw(newExample) {
    if (newExample) drawExample();
    drawControls();
    matrix = matrixOf(state.example, state.layer, state.head);
    top = topOf(matrix);
    const buttons = [...root.querySelectorAll(".thumb")];
    const chosen = buttons.filter((b) => (state.layer < 0 || +b.dataset.layer === state.layer) && (state.head < 0 || +b.dataset.head === state.head));
    for (const button of buttons) {
      const on = chosen.includes(button);
      button.classList.toggle("on", on && chosen.length === 1);
      button.setAttribute("aria-pressed", String(on && chosen.length === 1));
      button.tabIndex = button === chosen[0] ? 0 : -1;
    }
    drawRamp();
    drawStrip();
    drawMap();
  }

  // ---- hands -----------------------------------------------------------------------------------------------------

  function look(token) {
    if (token === preview) return;
    preview = token;
    drawStrip();
    drawMap();
  }

  byId("example").addEventListener("change", (event) => change({ example: +event.target.value, token: 0 }));
  byId("layer").addEventListener("change", (event) => change({ layer: +event.target.value }));
  byId("head").addEventListener("change", (event) => change({ head: +event.target.value }));
  byId("hide").addEventListener("change", (event) => {
    const place = examples[state.example].keep[state.token];
    state.marks = event.target.checked ? "hidden" : "shown";
    showTokens(event.target.checked);
    change({ example: state.example, token: Math.max(0, examples[state.example].keep.indexOf(place)) });
  });
  root.querySelector("fieldset").addEventListener("change", (event) => change({ direction: event.target.value }));

  const tokenOf = (event) => event.target.closest(".token");
  byId("tokens").addEventListener("pointerover", (event) => { if (event.pointerType === "mouse" && tokenOf(event)) look(+tokenOf(event).dataset.index); });
  byId("tokens").addEventListener("pointerleave", () => look(-1));
  byId("tokens").addEventListener("click", (event) => { if (tokenOf(event)) change({ token: +tokenOf(event).dataset.index }); });
  byId("tokens").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !tokenOf(event)) return;
    event.preventDefault();
    const last = examples[state.example].tokens.length - 1;
    change({ token: Math.max(0, Math.min(last, state.token + step)) });
    byId("tokens").children[state.token].focus();
  });

  const thumbOf = (event) => event.target.closest(".thumb");
  byId("grid").addEventListener("click", (event) => {
    const thumb = thumbOf(event);
    if (thumb) change({ layer: +thumb.dataset.layer, head: +thumb.dataset.head });
  });
  byId("grid").addEventListener("keydown", (event) => {
    const thumb = thumbOf(event);
    const [down, right] = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key] || [0, 0];
    if (!thumb || (!down && !right)) return;
    event.preventDefault();
    const next = root.querySelector(`.thumb[data-layer="${+thumb.dataset.layer + down}"][data-head="${+thumb.dataset.head + right}"]`);
    if (!next) return;
    change({ layer: +next.dataset.layer, head: +next.dataset.head });
    next.focus();
  });

  function cellAt(event) {
    const box = byId("map").getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - map.top) / map.cell), column = Math.floor((event.clientX - box.left - map.left) / map.cell);
    return row >= 0 && column >= 0 && row < map.n && column < map.n ? [row, column] : null;
  }
  byId("map").addEventListener("pointermove", (event) => {
    const found = cellAt(event);
    byId("map-reading").textContent = found ? `${quoted(found[0])} → ${quoted(found[1])}: ${write(matrix[found[0] * map.n + found[1]])}` : "\u00a0";
  });
  byId("map").addEventListener("pointerleave", () => { byId("map-reading").textContent = "\u00a0"; });
  byId("map").addEventListener("click", (event) => {
    const found = cellAt(event);
    if (found) change({ token: found[state.direction === "given" ? 0 : 1] });
  });

  const redraw = () => draw(true);
  dark.addEventListener("change", redraw);
  addEventListener("resize", () => drawMap());
  addEventListener("beforeprint", () => { printing = true; redraw(); });
  addEventListener("afterprint", () => { printing = false; redraw(); });
  addEventListener("hashchange", () => { if (readAddress()) redraw(); });

  root.hidden = false;
  state.layer = examples[0].layers - 1;
  const linked = readAddress();
  redraw();
  if (linked) byId("attention").scrollIntoView({ behavior: "instant" });
})();
