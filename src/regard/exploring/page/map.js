// One map with what stands along its edges. Leaflet moves and zooms it by wheel, touch and keyboard; what is seen is
// drawn on one canvas: each rectangle of weights as one colour, at least a pixel of the screen large, so that none is lost.

import { Scale, limits } from "./colour.js";
import { drawAlong } from "./edges.js";
import { Tiles } from "./tiles.js";

const L = globalThis.L;
const DEEPEST = 72; // pixels of a cell, zoomed in as far as it goes
const NUMBERS = 36; // pixels of a cell from which on it says its number

export class MapView {
  constructor(box, source, { side, onView, onHover, onPick, onDrawn, onFail }) {
    Object.assign(this, { box, source, side, onView, onHover, onPick, onDrawn, onFail });
    box.innerHTML = '<div class="map-title"></div><div class="map-corner"></div><canvas class="map-top"></canvas>'
      + '<canvas class="map-left"></canvas><div class="map-middle"><canvas class="map-canvas"></canvas></div>';
    [this.title, this.corner, this.top, this.left, this.middle] = box.children;
    this.canvas = this.middle.firstChild;
    this.crs = L.extend({}, L.CRS.Simple, { transformation: new L.Transformation(1, 0, 1, 0) });
    this.leaflet = L.map(this.middle, {
      crs: this.crs, zoomSnap: 0, zoomDelta: 0.5, zoomAnimation: false, fadeAnimation: false, attributionControl: false,
      zoomControl: false, wheelDebounceTime: 12, wheelPxPerZoomLevel: 90, maxBoundsViscosity: 0.7, center: [0, 0], zoom: 0,
      doubleClickZoom: false,
    });
    this.leaflet.on("move zoom resize", () => {
      if (!this.fitting) this.whole = false; // until somebody moves, it stays as large as there is room
      this.later();
      this.draw();
      if (!this.quiet) this.onView?.(this);
    });
    this.leaflet.on("mousemove", (event) => this.onHover?.(this, this.cellAt(event.containerPoint)));
    this.leaflet.on("mouseout", () => this.onHover?.(this, null));
    this.leaflet.on("click", (event) => this.onPick?.(this, this.cellAt(event.containerPoint)));
    this.leaflet.on("dblclick", (event) => this.leaflet.setZoomAround(event.containerPoint, this.leaflet.getZoom() + 1.5));
    this.scaling = { kind: "sqrt", percentile: 99.5, hand: null, locked: false, colours: "viridis" };
    this.scale = new Scale();
    this.marks = { picked: null, hovered: null, places: [], found: [] };
    this.tracks = {};
    new ResizeObserver(() => {
      if (!this.shown) return;
      const { whole } = this;
      this.limit();
      this.leaflet.invalidateSize({ animate: false });
      if (whole) this.fit();
    }).observe(this.middle);
  }

  /** Shows a map: its name, its shape, what is drawn, the labels and bands of its axes. */
  show({ map, title, shape, least = [0, 0], reduce, both, ratio, surplus, queries, keys }) {
    const same = this.shown && this.shown.shape.join() === shape.join();
    this.shown = { map, title, shape, least, reduce, both, ratio, surplus, queries, keys };
    this.title.textContent = title;
    this.tiles?.stop();
    this.tiles = new Tiles(this.source, {
      map, reduce, shape, side: this.side, changed: () => { this.settle(); this.draw(); }, failed: this.onFail,
    });
    this.settled = "";
    if (!same) this.fit();
    this.draw();
  }

  /** Makes the whole map as large as there is room; a narrow one is stretched. */
  fit() {
    const [rows, columns] = this.shown.shape;
    [this.fitting, this.whole] = [true, true];
    const size = this.leaflet.getSize();
    const [width, height] = [Math.max(size.x, 50), Math.max(size.y, 50)];
    this.stretched(Math.max(rows / columns, columns / rows) > 3 ? (height / rows) / (width / columns) : 1);
    this.leaflet.setView([rows / 2, columns / 2], this.limit(), { animate: false });
    this.fitting = false;
  }

  /** How far one can zoom and move, which depends on the room; returns the zoom that shows the whole map. */
  limit() {
    const [rows, columns] = this.shown.shape;
    const { x, y } = this.leaflet.getSize();
    const deepest = Math.log2(DEEPEST / Math.min(1, this.stretch));
    const whole = Math.min(Math.log2(Math.min(Math.max(x, 50) / columns, Math.max(y, 50) / rows / this.stretch)), deepest);
    // Side by side, maps may have less room than one that they shall follow: they can always be smaller than it is.
    this.leaflet.options.minZoom = whole - 3;
    this.leaflet.options.maxZoom = Math.max(deepest, whole);
    this.leaflet.options.maxBounds = L.latLngBounds([[-rows, -columns], [2 * rows, 2 * columns]]); // any place can be in the middle
    return whole;
  }

  /** How many times as high as wide a cell is. */
  stretched(stretch) {
    this.stretch = stretch;
    this.crs.transformation = new L.Transformation(1, 0, stretch, 0);
  }

  get place() {
    const { lat, lng } = this.leaflet.getCenter();
    return [lat, lng, this.leaflet.getZoom()];
  }

  set place([row, column, zoom]) {
    this.quiet = true;
    this.leaflet.setView([row, column], zoom, { animate: false });
    this.quiet = false;
  }

  /** Zooms so that so many queries around a cell are seen. */
  goTo(row, column, around = 24) {
    const size = this.leaflet.getSize();
    const zoom = Math.log2(Math.min(size.x, size.y / this.stretch) / around);
    this.leaflet.setView([row + 0.5, column + 0.5], Math.min(zoom, this.leaflet.getMaxZoom()), { animate: false });
  }

  /** Where the map lies on the screen: its first corner, and the pixels of a query and a key. */
  get lie() {
    const origin = this.leaflet.latLngToContainerPoint([0, 0]);
    const across = 2 ** this.leaflet.getZoom();
    return { x: origin.x, y: origin.y, across, down: across * this.stretch };
  }

  cellAt(point) {
    const lie = this.lie;
    const [row, column] = [Math.floor((point.y - lie.y) / lie.down), Math.floor((point.x - lie.x) / lie.across)];
    const [rows, columns] = this.shown?.shape ?? [0, 0];
    return row >= 0 && column >= 0 && row < rows && column < columns ? { row, column } : null;
  }

  /** The level whose rectangles are the smallest that are not smaller than a pixel. */
  get levels() {
    const lie = this.lie;
    const ratio = window.devicePixelRatio || 1;
    return [lie.down, lie.across].map((size, axis) => Math.max(Math.ceil(-Math.log2(size * ratio) - 1e-9), this.shown.least[axis]));
  }

  /** Tiles of a level in view, the nearest to the middle first. */
  inView(levels) {
    const lie = this.lie;
    const size = this.leaflet.getSize();
    const [rows, columns] = this.shown.shape;
    const spans = [[-lie.y / lie.down, (size.y - lie.y) / lie.down, rows, levels[0]],
      [-lie.x / lie.across, (size.x - lie.x) / lie.across, columns, levels[1]]].map(([from, to, most, level]) => {
      const step = this.side * 2 ** level;
      return [Math.max(Math.floor(from / step), 0), Math.min(Math.floor(to / step), Math.ceil(most / step) - 1)];
    });
    const found = [];
    for (let row = spans[0][0]; row <= spans[0][1]; row += 1) {
      for (let column = spans[1][0]; column <= spans[1][1]; column += 1) found.push([...levels, row, column]);
    }
    const middle = spans.map(([low, high]) => (low + high) / 2);
    const away = ([, , row, column]) => Math.hypot(row - middle[0], column - middle[1]);
    return found.sort((one, two) => away(one) - away(two));
  }

  draw() {
    if (!this.shown || this.drawing) return;
    this.drawing = true;
    this.box.dataset.ready = "no";
    requestAnimationFrame(() => {
      this.drawing = false;
      this.drawNow();
    });
  }

  drawNow() {
    if (!this.shown) return;
    const tiles = this.inView(this.levels);
    this.tiles.want(tiles);
    this.drawMap(tiles);
    this.drawTop();
    this.drawLeft();
    const ready = !this.tiles.waiting && tiles.every(([k, l, row, column]) => this.tiles.get([k, l], row, column));
    this.box.dataset.ready = ready ? "yes" : "no";
    if (ready) this.onDrawn?.(this);
  }

  /** Sets limits by what is in view, unless they are set by hand or locked. */
  settle() {
    const { kind, percentile, hand, locked, colours } = this.scaling;
    const { both, ratio } = this.shown;
    if (locked && this.settled) return;
    const found = this.valuesInView();
    if (!found.length) return;
    const [low, high] = hand ?? limits(found, { kind, both, ratio, percentile });
    this.scale = new Scale({ kind, low, high, both, ratio, colours });
    this.settled = "yes";
    const clipped = found.filter((value) => value > high * (1 + 1e-6) || (both && value < low * (1 + 1e-6))).length;
    this.clipped = clipped / found.length;
  }

  /** Finite values in view, thinned out where there are many. */
  valuesInView() {
    const { values } = this.numbersInView();
    const step = Math.max(Math.floor(values.length / 65536), 1);
    return values.filter((value, at) => at % step === 0 && Number.isFinite(value));
  }

  /** Limits follow the view once it rests. */
  later() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => { if (this.shown) { this.settle(); this.draw(); } }, 250);
  }

  rescale(change) {
    Object.assign(this.scaling, change);
    this.settled = "";
    this.settle();
    this.draw();
  }

  get colours() {
    const style = getComputedStyle(this.box);
    const of = (name) => style.getPropertyValue(name).trim();
    return { ink: of("--ink"), soft: of("--soft"), line: of("--line"), paper: of("--paper"), masked: of("--masked"),
      accent: of("--accent"), mark: of("--mark") };
  }

  context(canvas) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width, height, ratio };
  }

  drawMap(tiles) {
    const { context, width, height, ratio } = this.context(this.canvas);
    const [lie, [rows, columns], colours] = [this.lie, this.shown.shape, this.colours];
    const masked = rgba(colours.masked);
    context.imageSmoothingEnabled = false;
    context.save();
    context.beginPath();
    context.rect(lie.x, lie.y, columns * lie.across, rows * lie.down);
    context.clip();
    context.fillStyle = colours.line;
    context.fillRect(0, 0, width, height);
    for (const tile of tiles) this.drawTile(context, tile, lie, masked, ratio);
    if (lie.across >= NUMBERS && lie.down >= NUMBERS / 2) this.drawNumbers(context, tiles, lie);
    context.restore();
    context.strokeStyle = colours.line;
    context.strokeRect(lie.x - 0.5, lie.y - 0.5, columns * lie.across + 1, rows * lie.down + 1);
    this.drawMarks(context, lie, colours, width, height);
  }

  /** A tile, or as long as it is not there, what is known of its place from coarser ones. */
  drawTile(context, [down, across, row, column], lie, masked, ratio) {
    const own = this.tiles.get([down, across], row, column);
    if (own) {
      this.lay(context, own, [down, across, row, column], lie, masked, ratio);
      return;
    }
    for (let up = 1; up < 12; up += 1) {
      const at = [down + up, across + up, row >> up, column >> up];
      const found = this.tiles.get(at.slice(0, 2), at[2], at[3]);
      if (found) {
        context.save();
        context.beginPath();
        const [y, x] = [row * this.side * 2 ** down * lie.down, column * this.side * 2 ** across * lie.across];
        context.rect(lie.x + x, lie.y + y, this.side * 2 ** across * lie.across, this.side * 2 ** down * lie.down);
        context.clip();
        this.lay(context, found, at, lie, masked, ratio);
        context.restore();
        return;
      }
    }
  }

  lay(context, tile, [down, across, row, column], lie, masked, ratio) {
    // Edges fall on whole pixels of the screen: no seams between tiles. The last rectangles may be cut off by the map's end.
    const edge = (value) => Math.round(value * ratio) / ratio;
    const x = edge(lie.x + column * this.side * 2 ** across * lie.across);
    const y = edge(lie.y + row * this.side * 2 ** down * lie.down);
    const right = edge(lie.x + (column * this.side + tile.columns) * 2 ** across * lie.across);
    const bottom = edge(lie.y + (row * this.side + tile.rows) * 2 ** down * lie.down);
    context.drawImage(this.tiles.painted(tile, this.scale, masked), x, y, right - x, bottom - y);
  }

  drawNumbers(context, tiles, lie) {
    context.font = `${Math.min(lie.across / 4.2, 12)}px ui-monospace, monospace`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const size = this.leaflet.getSize();
    for (const [down, across, row, column] of tiles) {
      const tile = down === 0 && across === 0 && this.tiles.get([0, 0], row, column);
      if (!tile) continue;
      const [top, left] = [row * this.side, column * this.side];
      const from = (start, origin, step) => Math.max(Math.floor(-origin / step) - start, 0);
      for (let i = from(top, lie.y, lie.down); i < tile.rows; i += 1) {
        const y = lie.y + (top + i + 0.5) * lie.down;
        if (y > size.y + lie.down) break;
        for (let j = from(left, lie.x, lie.across); j < tile.columns; j += 1) {
          const x = lie.x + (left + j + 0.5) * lie.across;
          if (x > size.x + lie.across) break;
          const value = tile.values[i * tile.columns + j];
          if (Number.isNaN(value)) continue;
          const place = this.scale.place(value);
          const dark = this.shown.both || this.shown.ratio ? Math.abs(place - 0.5) > 0.36 : place < 0.62;
          context.fillStyle = dark ? "#fff" : "#111";
          context.fillText(short(value), x, y);
        }
      }
    }
  }

  drawMarks(context, lie, colours, width, height) {
    const { picked, hovered, places, found } = this.marks;
    context.lineWidth = 1;
    if (hovered) this.cross(context, hovered, lie, width, height, colours.soft, 0.35);
    if (picked) this.cross(context, picked, lie, width, height, colours.mark, 1);
    context.strokeStyle = colours.mark;
    context.lineWidth = 1.5;
    for (const { queries, keys } of places) {
      const spans = [[lie.x, keys, lie.across], [lie.y, queries, lie.down]].map(([from, [first, behind], step]) => {
        const size = Math.max((behind - first) * step + 4, 14);
        return [from + ((first + behind) / 2) * step - size / 2, size];
      });
      const [[x, wide], [y, high]] = spans;
      if (x + wide < 0 || y + high < 0 || x > width || y > height) continue;
      context.beginPath();
      context.roundRect(x, y, wide, high, Math.min(wide, high, 14) / 2);
      context.stroke();
    }
    context.fillStyle = colours.mark;
    context.globalAlpha = 0.25;
    for (const at of found.slice(0, 400)) {
      context.fillRect(lie.x + at * lie.across, Math.max(lie.y, 0), Math.max(lie.across, 1), height);
      context.fillRect(Math.max(lie.x, 0), lie.y + at * lie.down, width, Math.max(lie.down, 1));
    }
    context.globalAlpha = 1;
  }

  cross(context, { row, column }, lie, width, height, colour, alpha) {
    context.save();
    context.globalAlpha = alpha;
    context.strokeStyle = colour;
    const [x, y] = [lie.x + column * lie.across, lie.y + row * lie.down];
    if (lie.across < 4) {
      context.beginPath();
      context.moveTo(x + lie.across / 2, 0);
      context.lineTo(x + lie.across / 2, height);
      context.moveTo(0, y + lie.down / 2);
      context.lineTo(width, y + lie.down / 2);
      context.stroke();
    } else {
      context.strokeRect(x - 0.5, -2, lie.across + 1, height + 4);
      context.strokeRect(-2, y - 0.5, width + 4, lie.down + 1);
    }
    context.restore();
  }

  /** Along the keys: what they receive as a curve, bands, and tokens as soon as they fit. */
  drawTop() {
    const { context, width, height } = this.context(this.top);
    drawAlong(context, { colours: this.colours, size: width, depth: height, from: this.lie.x, step: this.lie.across, axis: this.shown.keys,
      values: this.tracks.received, turned: false, marks: this.marks, at: "column" });
  }

  drawLeft() {
    const { context, width, height } = this.context(this.left);
    context.save();
    // The same as along the keys, mirrored at the diagonal.
    context.transform(0, 1, 1, 0, 0, 0);
    drawAlong(context, { colours: this.colours, size: height, depth: width, from: this.lie.y, step: this.lie.down, axis: this.shown.queries,
      values: this.tracks.divergence ?? this.tracks.entropy, turned: true, marks: this.marks, at: "row" });
    context.restore();
  }

  /** What is known here of the block that a cell is in: its value, and which queries and keys it has. */
  valueAt({ row, column }) {
    const levels = this.levels;
    const [i, j] = [row >> levels[0], column >> levels[1]];
    const tile = this.tiles.get(levels, Math.floor(i / this.side), Math.floor(j / this.side));
    const [rows, columns] = this.shown.shape;
    const span = (at, level, most) => [(at >> level) << level, Math.min(((at >> level) + 1) << level, most)];
    return {
      value: tile ? tile.values[(i % this.side) * tile.columns + (j % this.side)] : undefined,
      rows: span(row, levels[0], rows),
      columns: span(column, levels[1], columns),
    };
  }

  /** The numbers in view: a matrix of rectangles with their places. */
  numbersInView() {
    const levels = this.levels;
    const lie = this.lie;
    const size = this.leaflet.getSize();
    const [rows, columns] = this.shown.shape;
    const span = (origin, step, extent, level, most) => [Math.max(Math.floor(-origin / step), 0) >> level,
      ((Math.min(Math.ceil((extent - origin) / step), most) - 1) >> level) + 1];
    const [top, bottom] = span(lie.y, lie.down, size.y, levels[0], rows);
    const [left, right] = span(lie.x, lie.across, size.x, levels[1], columns);
    const values = new Float32Array((bottom - top) * (right - left)).fill(NaN);
    for (let i = top; i < bottom; i += 1) {
      for (let j = left; j < right; j += 1) {
        const tile = this.tiles.get(levels, Math.floor(i / this.side), Math.floor(j / this.side));
        if (tile) values[(i - top) * (right - left) + j - left] = tile.values[(i % this.side) * tile.columns + (j % this.side)];
      }
    }
    return { values, shape: [bottom - top, right - left], first: [top << levels[0], left << levels[1]],
      steps: [1 << levels[0], 1 << levels[1]] };
  }
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 10) return value.toFixed(0);
  if (size >= 0.0095 || size === 0) return value.toFixed(2).replace(/^(-?)0\./, "$1.");
  return size < 1e-9 ? "~0" : value.toExponential(0).replace("e-", "e−");
}

const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

function rgba(colour) {
  probe.fillStyle = colour;
  probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data];
}
